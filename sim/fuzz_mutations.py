"""Mutations of valid files that stay whole where it matters: archives, headers, checksums, trees.

A random byte hardly ever gets past a checksum. These functions take a file apart, change a part and
put it together again, checksums and lengths right, so that what reads the part is what is tested.
`rng` is a `random.Random` (or hypothesis's), so that a seed gives the same file again.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import yaml

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
Mutation = Callable[[random.Random, bytes], bytes]

NUMBERS = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 65535, 65536, 1 << 20, (1 << 31) - 1,
           1 << 31, -(1 << 31), (1 << 32) - 1, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, 1 << 63,
           -(1 << 63), (1 << 64) - 1, 1 << 70)
VALUES = (None, True, False, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "input", "x" * 300,
          "\x1b[2J\r\nnext", "\0", "é", [], {}, [0] * 50, {"": 0}, [[[[]]]])


def any_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to four changes that know nothing of the format."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(out))
        match rng.randrange(8):
            case 0 if out:
                out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                del out[at:]
            case 2:
                del out[at:at + rng.randint(1, 16)]
            case 3:
                out[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 16)))
            case 4:
                out[at:at] = out[at:at + rng.randint(1, 64)]
            case 5:
                form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
                top = 1 << 8 * struct.calcsize(form)
                word = struct.pack(form, rng.choice(NUMBERS) % top)
                out[at:at + len(word)] = word
            case 6:
                length = rng.randint(1, 32)
                out[at:at + length] = bytes([rng.choice((0, 255, 128))]) * length
            case _:
                other = rng.randint(0, len(out))
                out[at:at + 8] = out[other:other + 8]
    return bytes(out)


def tree(rng: random.Random, value: object) -> object:
    """A copy of a JSON value with one to three of its nodes changed."""
    root = {"": json.loads(json.dumps(value))}
    for _ in range(rng.randint(1, 3)):
        holder: dict | list = root
        key: object = ""
        while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.85:
            holder = holder[key]
            key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        old = holder[key]
        match rng.randrange(8):
            case 0 | 1 | 2:
                holder[key] = rng.choice(NUMBERS)
            case 3 if type(old) in (int, float):
                holder[key] = old + rng.choice((-1, 1, 0.5, 1 << 31))
            case 3 | 4:
                holder[key] = json.loads(json.dumps(rng.choice(VALUES)))
            case 5 if isinstance(holder, list):
                holder[key:key] = [old] * rng.randint(1, 40)
            case 6 if holder is not root:
                del holder[key]
            case _:
                deep = rng.randint(1, 60)
                holder[key] = rng.choice((json.loads("[" * deep + "]" * deep), [old]))
    return root[""]


def json_text(rng: random.Random, data: bytes) -> bytes:
    """A JSON file."""
    try:
        return json.dumps(tree(rng, json.loads(data))).encode()
    except (ValueError, RecursionError):
        return any_bytes(rng, data)


def yaml_text(rng: random.Random, data: bytes) -> bytes:
    """A YAML file: its tree, or its text with what YAML has beyond JSON."""
    if rng.random() < 0.5:
        try:
            return yaml.safe_dump(tree(rng, yaml.safe_load(data))).encode()
        except Exception:  # mutated before; the constructors raise a dozen types
            return any_bytes(rng, data)
    text = data.decode("utf-8", "replace")
    words = ("&a ", "*a", "!!python/object/apply:os.getcwd []", "!!binary x", "!!int ''",
             "!!timestamp x", "!!set {a}", "2001-13-45", "2001-01-01", "1" * 5000, "1:1:1:1",
             "<<: ", "? ", "- ", "[", "{", "|\n", "%TAG ! x\n", "---\n", "...\n", ".nan",
             ".inf", "~", "0x", "1e400", "\t", "\ufeff", "key: &k [*k]\n")
    parts = re.split(r"(?<=[\s:,\[\]{}])", text)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(parts))
        parts[at:at + rng.randrange(2)] = [rng.choice(words)]
    return "".join(parts).encode()


def npy(rng: random.Random, data: bytes) -> bytes:
    """An .npy file: a number or a type of its header (kept in length or not), or any bytes."""
    if rng.random() < 0.3 or data[:6] != b"\x93NUMPY" or len(data) < 12:
        return any_bytes(rng, data)
    size = int.from_bytes(data[8:10], "little")
    head, body = data[10:10 + size].decode("latin-1"), data[10 + size:]
    if rng.random() < 0.6:
        spans = [m.span() for m in re.finditer(r"\d+", head)] or [(0, 0)]
        first, last = rng.choice(spans)
        head = head[:first] + str(rng.choice(NUMBERS)) + head[last:]
    else:
        kinds = ("|O", "<f8", "|b1", "<U9", "|V0", "<U0", "<M8[us]", "<c16", ">i8", "|S1000000000",
                 "<i4,<i4", "(9999999,9999999)<i4")
        head = re.sub(r"'[<>|=][^']*'", repr(rng.choice(kinds)), head, count=1)
    if rng.random() < 0.3:
        body = any_bytes(rng, body)
    head = head.rstrip() + " " * (-(11 + len(head.rstrip())) % 64) + "\n"
    raw = head.encode("latin-1", "replace")
    return data[:8] + struct.pack("<H", len(raw)) + raw + body


@dataclass(frozen=True)
class Npz:
    """An .npz: one member by `member`, its name, or what the archive says of its size."""

    member: Mutation = npy

    def __call__(self, rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.15:
            return any_bytes(rng, data)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                members = {info.filename: archive.read(info) for info in archive.infolist()}
        except Exception:  # mutated before; zipfile raises a dozen types
            return any_bytes(rng, data)
        if not members:
            return any_bytes(rng, data)
        name = rng.choice(sorted(members))
        match rng.randrange(8):
            case 0:
                del members[name]
            case 1:
                members[rng.choice(("x.npy", "off.npy", "../../x.npy", "\x1b[2J.npy"))] = \
                    members.pop(name)
            case _:
                members[name] = self.member(rng, members[name])
        out = pack_zip(members, rng.choice(METHODS))
        if rng.random() < 0.1:
            out = any_bytes(rng, out)
        if rng.random() < 0.15:  # sizes in the directory that are not so
            at = out.find(b"PK\x01\x02") + rng.choice((20, 24, 42))
            out = out[:at] + struct.pack("<I", rng.choice(NUMBERS) % (1 << 32)) + out[at + 4:]
        return out


def pack_zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Files as a zip archive without times, so that it is always the same."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def gzipped(rng: random.Random, data: bytes) -> bytes:
    """A gzip file: what it holds, or itself."""
    if rng.random() < 0.3:
        return any_bytes(rng, data)
    try:
        return gzip.compress(any_bytes(rng, gzip.decompress(data)), 1, mtime=0)
    except (OSError, EOFError, zlib.error):
        return any_bytes(rng, data)


@dataclass(frozen=True)
class Safetensors:
    """A safetensors file: its header, JSON inside its metadata, or its arrays; then `sign` makes
    checksums right again: (metadata, bytes of the arrays' part) -> metadata."""

    sign: Callable[[dict, bytes], dict] | None = None

    def __call__(self, rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.15:
            return any_bytes(rng, data)
        size = int.from_bytes(data[:8], "little")
        try:
            head = json.loads(data[8:8 + size])
            meta = dict(head.get("__metadata__") or {})
        except (ValueError, AttributeError, TypeError):
            return any_bytes(rng, data)
        body = data[8 + size:]
        choice = rng.random()
        if choice < 0.25:
            head = tree(rng, head)
        elif choice < 0.4:
            body = any_bytes(rng, body)[:len(body)].ljust(len(body), b"\0")
        else:
            inner = [key for key, text in meta.items()
                     if isinstance(text, str) and text[:1] in ("{", "[")]
            if inner:
                key = rng.choice(inner)
                meta[key] = json_text(rng, meta[key].encode()).decode("latin-1")
            elif meta:
                meta[rng.choice(sorted(meta))] = rng.choice(("", "x", "é", "{", "1" * 5000))
            head["__metadata__"] = meta
        return self.joined(head, body)

    def joined(self, head: object, body: bytes) -> bytes:
        def packed() -> bytes:
            text = json.dumps(head).encode()
            return struct.pack("<Q", len(text)) + text + body
        if self.sign is not None and isinstance(head, dict) \
                and isinstance(head.get("__metadata__"), dict):
            head["__metadata__"] = self.sign(head["__metadata__"], packed())
        return packed()
