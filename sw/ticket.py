"""Ticket files: an integer network and how it was found, in one `.safetensors`.

Layout (formats "spiketicket-1" and "spiketicket-2"), for synapses j of layer i::

    layer.i.synapses.j.mask    uint8, one bit per weight in C order of [C_out, C_in, kh, kw],
                               first weight in the least significant bit; 1 = survives
    layer.i.synapses.j.values  int8, the surviving weights in the same order, none of them zero
    layer.i.bias, .threshold   int64 [C_out]
    layer.i.mask               uint8, one bit per token: a gate's static choice

The file's metadata holds `format`, `network` (JSON: everything but the arrays), `info` (JSON: a
free dictionary: command, seed, accuracies, ...) and `sha256` over all of these, so a damaged
ticket is never run. Nothing is unpickled. Names and texts come out of a file with escapes in place
of characters that a terminal would obey.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as _decode
from safetensors.numpy import save as _encode

from . import bounded
from .errors import BadInput, SpikeTicketError, shown
from .integer.attention import MAX_TOKENS, Attention, ColumnAttention
from .integer.gate import Gate, Select
from .integer.network import InputSpec, Layer, Network, Neuron, Pool, Synapses
from .integer.shapes import Pair

TORCH = (b"PK\x03\x04", b"\x80\x02")
"""How files of torch.save begin, new and old ones."""

BECOMES = ("a network and its weights become one with spiketicket import, or with a search: "
           "spiketicket find --network FILE.py:NAME --weights FILE")

FORMAT = "spiketicket-1"
WIDER = "spiketicket-2"
"""The same with T above 16, or windows, strides or paddings of two numbers, [rows, columns]."""

MAX_FILE_BYTES = 256 << 20
ATTENTION_KINDS = {Attention: "self", ColumnAttention: "column"}

MAX_WEIGHTS = 1 << 26
"""Weights of one tensor, checked before anything of that size is allocated."""


@dataclass(frozen=True, eq=False)
class Ticket:
    """network: the integer network; metadata: JSON-serialisable facts about how it was found."""

    network: Network
    metadata: dict = field(default_factory=dict)


def to_bytes(network: Network, metadata: dict | None = None) -> bytes:
    """The ticket as the bytes of a file."""
    tensors: dict[str, np.ndarray] = {}
    layers = []
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Gate):
            layers.append({"name": layer.name, "gate": {
                "mode": layer.mode, "keep": layer.keep, "grid": list(layer.grid),
                "scores": list(layer.scores)}})
            if layer.mask is not None:
                tensors[f"layer.{i}.mask"] = np.packbits(layer.mask, bitorder="little")
            continue
        if isinstance(layer, Select):
            layers.append({"name": layer.name,
                           "select": {"source": layer.source, "gate": layer.gate}})
            continue
        synapses = []
        for j, syn in enumerate(layer.synapses):
            alive = syn.weight.reshape(-1) != 0
            tensors[f"layer.{i}.synapses.{j}.mask"] = np.packbits(alive, bitorder="little")
            tensors[f"layer.{i}.synapses.{j}.values"] = syn.weight.reshape(-1)[alive]
            synapses.append({"shape": list(syn.weight.shape), "sources": list(syn.sources),
                             "stride": _short(syn.stride), "padding": _short(syn.padding),
                             "sum_pool": _short(syn.sum_pool), "bits": syn.bits})
        tensors[f"layer.{i}.bias"] = layer.bias
        tensors[f"layer.{i}.threshold"] = layer.threshold
        layers.append({"name": layer.name, "synapses": synapses,
                       "neuron": layer.neuron and vars(layer.neuron),
                       "pool": layer.pool and _described_pool(layer.pool)})
        if layer.attention is not None:
            layers[-1]["attention"] = {"kind": ATTENTION_KINDS[type(layer.attention)],
                                       **vars(layer.attention)}
    described = {"name": network.name, "timesteps": network.timesteps,
                 "labels": list(network.labels), "input": vars(network.input), "layers": layers}
    meta = {"format": _format(network), "network": json.dumps(described, sort_keys=True),
            "info": json.dumps(metadata or {}, sort_keys=True)}
    meta["sha256"] = _digest(meta, tensors)
    data = _encode({k: np.ascontiguousarray(v) for k, v in tensors.items()}, meta)
    # safetensors writes the metadata in random order; the same ticket shall be the same file.
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:8 + length]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length:]


def _described_pool(pool: Pool) -> dict:
    """Fields of a pool; stride and padding only where the windows do not tile the map."""
    fields = {"mode": pool.mode, "size": _short(pool.size)}
    if not pool.tiles:
        fields |= {"stride": _short(pool.stride), "padding": _short(pool.padding)}
    return fields


def _short(values: Pair) -> int | list[int]:
    """One number where rows and columns have the same."""
    return values[0] if values[0] == values[1] else list(values)


def _format(network: Network) -> str:
    """The oldest format that holds the network."""
    pairs = [values for _, syn in network.synapses()
             for values in (syn.stride, syn.padding, syn.sum_pool)]
    for layer in network.layers:
        if isinstance(layer, Layer) and layer.pool is not None:
            pairs += [layer.pool.size, layer.pool.stride, layer.pool.padding]
    wide = network.timesteps > 16 or any(rows != columns for rows, columns in pairs)
    return WIDER if wide else FORMAT


def save(path: str | Path, network: Network, metadata: dict | None = None) -> None:
    """Write a ticket; the file appears whole or not at all."""
    path = Path(path)
    data = to_bytes(network, metadata)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise BadInput(f"{path}: ticket cannot be written ({error})") from error


def load(path: str | Path) -> Ticket:
    """Read a ticket.

    Raises SpikeTicketError naming the file and the reason when it is missing, truncated, damaged,
    no ticket, or describes no valid network.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: no such ticket; spiketicket run --list "
                       "names the bundled ones")
    return from_bytes(bounded.read(path, MAX_FILE_BYTES, "a ticket"), str(path))


def from_bytes(data: bytes, where: str = "ticket") -> Ticket:
    """Read a ticket from the bytes of its file; `where` begins the message of an error."""
    try:
        tensors = _decode(data)
        length = int.from_bytes(data[:8], "little")
        meta = json.loads(data[8:8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        # TypeError, KeyError, AttributeError: a dtype that numpy does not have, by version
        if data.startswith(TORCH):
            raise BadInput(f"{where}: a file of torch.save, not a ticket; "
                           f"{BECOMES}") from None
        raise BadInput(f"{where}: truncated, damaged or not a safetensors file "
                       f"({' '.join(str(error).split())})") from error
    if "format" not in meta or meta["format"] == "pt":
        raise BadInput(f"{where}: tensors without a network ({len(tensors)}, such as "
                       f"{next(iter(tensors), 'none')!r:.60}), not a ticket; {BECOMES}")
    if meta.get("format") not in (FORMAT, WIDER):
        raise BadInput(f"{where}: not a ticket of this version (format "
                       f"{meta.get('format', 'missing')!r}, expected {FORMAT!r} or "
                       f"{WIDER!r})")
    if set(meta) != {"format", "network", "info", "sha256"}:
        raise BadInput(f"{where}: metadata keys {sorted(meta)} are not a ticket's")
    if _digest(meta, tensors) != meta["sha256"]:
        raise BadInput(f"{where}: checksum mismatch, the ticket is damaged; copy it again")
    try:
        network = _network(_printable(json.loads(meta["network"])), tensors)
        if meta["format"] == FORMAT != _format(network):
            raise BadInput(f"format {FORMAT!r} has up to 16 timesteps, and one number for "
                           f"rows and columns; this network needs {WIDER!r}")
        info = _printable(json.loads(meta["info"]), _lines)
        if not isinstance(info, dict):
            raise BadInput("info is not a JSON object")
    except SpikeTicketError as error:
        raise BadInput(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise BadInput(f"{where}: the network's description is not valid "
                       f"({type(error).__name__}: {error})") from error
    return Ticket(network, info)


def _printable(value: object, text: Callable[[str], str] = shown) -> object:
    """A JSON value, its texts and keys as they may be shown."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return [_printable(item, text) for item in value]
    if isinstance(value, dict):
        return {shown(key): _printable(item, text) for key, item in value.items()}
    return value


def _lines(text: str) -> str:
    """A text of several lines, each as it may be shown."""
    return "\n".join(map(shown, text.split("\n")))


def _digest(meta: dict[str, str], tensors: dict[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for key in ("format", "network", "info"):
        part = meta[key].encode()
        sha.update(f"{key} {len(part)}\n".encode() + part)
    for name in sorted(tensors):
        array = tensors[name]
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def _int(value: object, what: str) -> int:
    if type(value) is not int or abs(value) > 1 << 31:
        raise BadInput(f"{what} is {value!r}, not an integer of 32 bits")
    return value


def _pair(value: object, what: str) -> int | Pair:
    if isinstance(value, list) and len(value) == 2:
        return _int(value[0], what), _int(value[1], what)
    return _int(value, what)


def _str(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{what} is {value!r}, not a string")
    return value


def _network(described: dict, tensors: dict[str, np.ndarray]) -> Network:
    """Rebuild the network; `tensors` is emptied on the way, so that leftovers show."""
    spec = described["input"]
    if type(spec["static"]) is not bool:
        raise BadInput(f"input static is {spec['static']!r}, not true or false")
    spec = InputSpec(*(_int(spec[k], f"input {k}")
                       for k in ("channels", "height", "width", "bits")), static=spec["static"])
    layers = []
    for i, layer in enumerate(described["layers"]):
        where = f"layer {_str(layer['name'], f'name of layer {i}')!r}"
        if "gate" in layer:
            layers.append(_gate(layer["name"], layer["gate"], f"layer.{i}.mask", where, tensors))
            continue
        if "select" in layer:
            chosen = layer["select"]
            layers.append(Select(layer["name"], *(_str(chosen[k], f"{where}: {k}")
                                                  for k in ("source", "gate"))))
            continue
        synapses = tuple(_synapses(syn, f"layer.{i}.synapses.{j}", where, tensors)
                         for j, syn in enumerate(layer["synapses"]))
        arrays = []
        for key in ("bias", "threshold"):
            array = _take(tensors, f"layer.{i}.{key}", np.int64)
            if array.size and (array.min() < -(1 << 31) or array.max() > 1 << 31):
                raise BadInput(f"{where}: {key} exceeds 32 bits")
            arrays.append(array)
        neuron, pool = layer["neuron"], layer["pool"]
        if neuron is not None:
            neuron = Neuron(_int(neuron["leak"], f"{where}: leak"), neuron["reset"],
                            _int(neuron["v_reset"], f"{where}: v_reset"))
        if pool is not None:
            pool = Pool(pool["mode"], **{k: _pair(pool[k], f"{where}: pool {k}")
                                         for k in ("size", "stride", "padding") if k in pool})
        layers.append(Layer(layer["name"], synapses, *arrays, neuron, pool,
                            _attention(layer.get("attention"), where)))
    if tensors:
        raise BadInput(f"arrays that no layer uses: {', '.join(sorted(tensors))}")
    return Network(spec, _int(described["timesteps"], "timesteps"), tuple(layers),
                   _str(described["name"], "name"),
                   tuple(_str(x, "label") for x in described["labels"]))


def _attention(described: dict | None, where: str) -> Attention | ColumnAttention | None:
    if described is None:
        return None
    kinds = {name: kind for kind, name in ATTENTION_KINDS.items()}
    kind = _str(described["kind"], f"{where}: attention")
    if kind not in kinds:
        raise BadInput(f"{where}: attention {kind!r} is not one of {', '.join(kinds)}")
    maps = (_str(described[k], f"{where}: {k}") for k in ("query", "key", "value"))
    if kind == "column":
        return ColumnAttention(*maps)
    return Attention(*maps, _int(described["heads"], f"{where}: heads"))


def _gate(name: str, described: dict, key: str, where: str,
          tensors: dict[str, np.ndarray]) -> Gate:
    rows, columns = (_int(n, f"{where}: grid") for n in described["grid"])
    if not (1 <= rows <= MAX_TOKENS and 1 <= columns <= MAX_TOKENS):
        raise BadInput(f"{where}: grid of {rows}x{columns} tokens is not a gate's")
    mask = None
    if described["mode"] == "static":
        mask = _bits(_take(tensors, key, np.uint8), rows * columns, "tokens", where)
    return Gate(name, _str(described["mode"], f"{where}: mode"),
                _int(described["keep"], f"{where}: keep"), (rows, columns),
                tuple(_str(s, f"{where}: score") for s in described["scores"]), mask)


def _bits(packed: np.ndarray, count: int, what: str, where: str) -> np.ndarray:
    """The first `count` bits as bool [count]; refuses other lengths and set bits behind them."""
    if packed.shape != ((count + 7) // 8,):
        raise BadInput(f"{where}: mask of {packed.size} bytes for {count} {what}")
    bits = np.unpackbits(packed, bitorder="little")
    if bits[count:].any():
        raise BadInput(f"{where}: mask has bits beyond its {count} {what}")
    return bits[:count].astype(bool)


def _synapses(syn: dict, key: str, where: str, tensors: dict[str, np.ndarray]) -> Synapses:
    shape = tuple(_int(n, f"{where}: weight shape") for n in syn["shape"])
    if len(shape) != 4 or min(shape) < 1:
        raise BadInput(f"{where}: weight shape {list(shape)} is not [C_out, C_in, kh, kw]")
    count = shape[0] * shape[1] * shape[2] * shape[3]
    if count > MAX_WEIGHTS:
        raise BadInput(f"{where}: {count} weights are more than {MAX_WEIGHTS}")
    packed = _take(tensors, f"{key}.mask", np.uint8)
    values = _take(tensors, f"{key}.values", np.int8)
    alive = _bits(packed, count, "weights", where)
    if values.shape != (int(alive.sum()),) or not values.all():
        raise BadInput(f"{where}: {values.size} values for {int(alive.sum())} surviving "
                       "weights, or one of them is zero")
    weight = np.zeros(count, np.int8)
    weight[alive] = values
    return Synapses(weight.reshape(shape), tuple(_str(s, f"{where}: source")
                                                 for s in syn["sources"]),
                    *(_pair(syn[k], f"{where}: {k}") for k in ("stride", "padding", "sum_pool")),
                    _int(syn["bits"], f"{where}: bits"))


def _take(tensors: dict[str, np.ndarray], key: str, dtype: type) -> np.ndarray:
    if key not in tensors:
        raise BadInput(f"array {key} is missing")
    array = tensors.pop(key)
    if array.dtype != dtype or array.ndim != 1:
        raise BadInput(f"array {key} is {array.dtype} {list(array.shape)}, "
                       f"not {np.dtype(dtype)} [n]")
    return array
