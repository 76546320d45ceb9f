"""CIFAR-10 and CIFAR-100 from disk: torchvision's folders and the binary version.

torchvision keeps the authors' Python batches (`cifar-10-batches-py/data_batch_1`, ...), which are
pickles. They are never unpickled here: `batch_fields` walks the opcodes with the standard library's
`pickletools`, which executes nothing, and understands only the dozen that such a file needs.
Whatever the file asks to call or to import stays an inert tuple.
"""

from __future__ import annotations

import pickletools
from pathlib import Path

import numpy as np

from ..errors import BadInput, SpikeTicketError
from .arrays import read_bytes

CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship",
                  "truck")
PIXELS = 3 * 32 * 32

Arrays = tuple[np.ndarray, np.ndarray]
"""Images uint8 [N, 3, 32, 32], labels int64 [N]."""

_MARK = object()
_SAFE_PUSH = {"BININT", "BININT1", "BININT2", "INT", "LONG1", "BINSTRING", "SHORT_BINSTRING",
              "BINBYTES", "SHORT_BINBYTES", "BINUNICODE", "SHORT_BINUNICODE", "STRING"}


def batch_fields(data: bytes, path: Path) -> dict[str, object]:
    """Entries of a pickled dictionary of lists, strings and bytes; anything else is inert.

    Arrays arrive as ("call", arguments, state) tuples. Raises SpikeTicketError for opcodes that no
    CIFAR batch holds, and for damage.
    """
    stack: list = []
    memo: dict[int, object] = {}

    def to_mark() -> list:
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError("no mark")
        items = stack[at + 1:]
        del stack[at:]
        return items

    def keyed(value: object) -> str:
        if not isinstance(value, bytes | str):
            raise TypeError("a key is no text")
        return value.decode("latin-1") if isinstance(value, bytes) else value

    try:
        for opcode, argument, _ in pickletools.genops(data):
            name = opcode.name
            if name in _SAFE_PUSH:
                text = isinstance(argument, str) and "STRING" in name
                stack.append(argument.encode("latin-1") if text else argument)
            elif name in ("PROTO", "FRAME"):
                pass
            elif name == "MARK":
                stack.append(_MARK)
            elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
            elif name in ("NEWFALSE", "NEWTRUE", "NONE"):
                stack.append({"NEWFALSE": False, "NEWTRUE": True, "NONE": None}[name])
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                if name == "STACK_GLOBAL":
                    del stack[-2:]
                stack.append("call")
            elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(memo[argument])
            elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
                if name == "TUPLE":
                    items = to_mark()
                else:
                    items = [stack.pop() for _ in range(int(name[-1]))][::-1]
                stack.append(tuple(items))
            elif name in ("REDUCE", "BUILD"):
                argument, first = stack.pop(), stack.pop()
                stack.append(("call", first, argument))
            elif name in ("APPEND", "APPENDS"):
                items = to_mark() if name == "APPENDS" else [stack.pop()]
                stack[-1].extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = to_mark() if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
                stack[-1].update(zip(map(keyed, items[::2]), items[1::2], strict=True))
            elif name == "STOP":
                break
            else:
                raise BadInput(f"{path}: opcode {name} belongs in no CIFAR batch; it is "
                               "not read")
        result = stack.pop()
    except SpikeTicketError:
        raise
    except Exception as error:  # a damaged stream: index, key, type, value, attribute, ...
        raise BadInput(f"{path}: not a readable CIFAR batch ({type(error).__name__}); "
                       "fetch it again") from error
    if not isinstance(result, dict):
        raise BadInput(f"{path}: not a CIFAR batch (no dictionary); fetch it again")
    return result


def _largest_bytes(value: object) -> bytes:
    """The longest string of bytes in nested inert tuples: an array's content.

    Walked with a list: a hostile file may nest deeper than Python recurses, or contain itself.
    """
    best, left, seen = b"", [value], 0
    while left and seen < 1000:
        seen += 1
        item = left.pop()
        if isinstance(item, bytes) and len(item) > len(best):
            best = item
        elif isinstance(item, tuple):
            left.extend(item)
    return best


def read_python_batch(path: str | Path, label_key: str = "labels") -> Arrays:
    """One file of `cifar-10-batches-py` or `cifar-100-python` ("fine_labels")."""
    path = Path(path)
    fields = batch_fields(read_bytes(path), path)
    labels, pixels = fields.get(label_key), _largest_bytes(fields.get("data"))
    if not isinstance(labels, list) or not all(type(n) is int for n in labels):
        raise BadInput(f"{path}: no list of numbers {label_key!r}; it holds "
                       f"{', '.join(sorted(fields)) or 'nothing'}")
    if not labels or len(pixels) != len(labels) * PIXELS:
        raise BadInput(f"{path}: {len(pixels)} bytes of pixels for {len(labels)} labels; "
                       f"an image has {PIXELS}")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 3, 32, 32)
    return images, _labels(labels, path)


def _labels(labels, path: Path) -> np.ndarray:
    try:
        return np.array(labels, np.int64)
    except OverflowError as error:
        raise BadInput(f"{path}: a label exceeds 64 bits") from error


def read_binary_batch(path: str | Path, label_bytes: int = 1) -> Arrays:
    """One file of `cifar-10-batches-bin` (1 label byte) or `cifar-100-binary` (2, fine last)."""
    path = Path(path)
    data = read_bytes(path)
    row = label_bytes + PIXELS
    if not data or len(data) % row:
        raise BadInput(f"{path}: {len(data)} bytes are no multiple of {row}, an image's "
                       "size; fetch it again")
    raw = np.frombuffer(data, np.uint8).reshape(-1, row)
    return raw[:, label_bytes:].reshape(-1, 3, 32, 32), raw[:, label_bytes - 1].astype(np.int64)


_FOLDERS = {
    # name: split -> [(folder, files)] in the order they are tried
    "cifar10": {
        "train": [("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)]),
                  ("cifar-10-batches-bin", [f"data_batch_{i}.bin" for i in range(1, 6)])],
        "test": [("cifar-10-batches-py", ["test_batch"]),
                 ("cifar-10-batches-bin", ["test_batch.bin"])]},
    "cifar100": {
        "train": [("cifar-100-python", ["train"]), ("cifar-100-binary", ["train.bin"])],
        "test": [("cifar-100-python", ["test"]), ("cifar-100-binary", ["test.bin"])]},
}


def find(name: str, split: str, roots: list[Path]) -> list[Path]:
    """Files of a split below the first root that has all of them; [] where none has."""
    for root in roots:
        for folder, files in _FOLDERS[name][split]:
            for base in (root / folder, root):
                paths = [base / file for file in files]
                if all(path.is_file() for path in paths):
                    return paths
    return []


def expected(name: str, split: str) -> str:
    """The files that `find` looks for, in words."""
    return " or ".join(f"{folder}/{{{','.join(files)}}}"
                       for folder, files in _FOLDERS[name][split])


def read_files(name: str, paths: list[Path]) -> Arrays:
    """The images of all files of a split, in order."""
    parts = []
    for path in paths:
        if path.suffix == ".bin":
            parts.append(read_binary_batch(path, 2 if name == "cifar100" else 1))
        else:
            parts.append(read_python_batch(
                path, "fine_labels" if name == "cifar100" else "labels"))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def class_names(name: str, paths: list[Path]) -> tuple[str, ...]:
    """Class names; CIFAR-100's are read from the `meta` file beside the batches, if it is there."""
    if name == "cifar10":
        return CIFAR10_LABELS
    meta = paths[0].parent / "meta"
    if meta.is_file():
        names = batch_fields(read_bytes(meta), meta).get("fine_label_names")
        if isinstance(names, list) and len(names) == 100:
            return tuple(n.decode("latin-1") if isinstance(n, bytes) else str(n) for n in names)
    return tuple(str(i) for i in range(100))
