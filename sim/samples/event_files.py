"""Writers of small event files and CIFAR batches, byte by byte as the formats say."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def sample(count: int = 40, sensor: tuple[int, int] = (34, 34), seed: int = 0) -> dict:
    """Random events x, y, t, p in order of time."""
    rng = np.random.default_rng(seed)
    return {"x": rng.integers(0, sensor[0], count), "y": rng.integers(0, sensor[1], count),
            "t": np.sort(rng.integers(0, 100_000, count)), "p": rng.integers(0, 2, count)}


def atis_bin(e: dict) -> bytes:
    t = e["t"]
    rows = np.stack([e["x"], e["y"], e["p"] << 7 | t >> 16, t >> 8 & 255, t & 255], 1)
    return rows.astype(np.uint8).tobytes()


def aedat2(e: dict, chip: str = "") -> bytes:
    """DVS128 addresses (the picture upright is swapped and mirrored), or a DAVIS's."""
    if "davis" in chip.lower():
        address = e["x"] << 12 | e["y"] << 22 | e["p"] << 11
    else:
        address = (127 - e["x"]) << 8 | (127 - e["y"]) << 1 | (1 - e["p"])
    head = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n"
    if chip:
        head += f"# AEChip: eu.seebetter.ini.chips.davis.{chip}\r\n".encode()
    return head + np.stack([address, e["t"]], 1).astype(">u4").tobytes()


def aedat3(e: dict, packet: int = 16, overflow: int = 0) -> bytes:
    data = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    word = (e["x"] << 17 | e["y"] << 2 | e["p"] << 1 | 1).astype("<u4")
    rows = np.stack([word, e["t"].astype("<u4")], 1)
    for first in range(0, len(rows), packet):
        part = rows[first:first + packet]
        data += struct.pack("<HHIIIIII", 1, 0, 8, 4, overflow, len(part), len(part), len(part))
        data += part.astype("<u4").tobytes()
    return data


def aedat4(e: dict, sensor: tuple[int, int] = (34, 34), compression: int = 0,
           pack=lambda body: body, table: bytes = b"") -> bytes:
    """AEDAT 4: FlatBuffers laid out by hand; `table` stands behind the packets."""
    node = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        '<node name="0" path="/mainloop/Recorder/outInfo/0/">'
        '<attr key="compression" type="string">NONE</attr>'
        '<attr key="originalOutputName" type="string">events</attr>'
        '<attr key="typeIdentifier" type="string">EVTS</attr>'
        '<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        f'<attr key="sizeX" type="int">{sensor[0]}</attr>'
        f'<attr key="sizeY" type="int">{sensor[1]}</attr>'
        '<attr key="source" type="string">camera</attr></node></node></node></dv>').encode()
    head = (struct.pack("<I4s", 20, b"IOHE") + struct.pack("<5H2x", 10, 20, 4, 12, 8)
            + struct.pack("<iiIqI", 12, compression, 12, -1, len(node)) + node + b"\0")
    head += b"\0" * (-len(head) % 8)
    body = struct.pack("<I4s", 16, b"EVTS") + struct.pack("<3H2x", 6, 8, 4)
    body += struct.pack("<iI4xI", 8, 8, len(e["t"]))
    for x, y, t, p in zip(e["x"], e["y"], e["t"], e["p"], strict=True):
        body += struct.pack("<qhhb3x", t, x, y, p)
    body = pack(struct.pack("<I", len(body)) + body)
    if table:
        end = 26 + len(head) + len(body)
        head = head.replace(struct.pack("<q", -1), struct.pack("<q", end))
    return (b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(head)) + head
            + struct.pack("<ii", 0, len(body)) + body + table)


def structured(e: dict) -> np.ndarray:
    array = np.zeros(len(e["t"]), [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")])
    for name in array.dtype.names:
        array[name] = e[name]
    return array


def pack(path: Path, recordings: list[dict], labels: list[int], **more) -> None:
    """An .npz pack of recordings."""
    fields = {key: np.concatenate([r[key] for r in recordings]).astype(np.uint8)
              for key in ("x", "y", "p")}
    dt = np.concatenate([np.diff(r["t"], prepend=0) for r in recordings]).astype(np.uint32)
    off = np.cumsum([0, *(len(r["t"]) for r in recordings)]).astype(np.uint32)
    np.savez(path, **{**fields, "dt": dt, "off": off, "label": np.array(labels, np.int16),
                      "sensor": np.array([34, 34, 2]), **more})


def python2_batch(images: np.ndarray, labels: list[int], label_key: str = "labels") -> bytes:
    """A CIFAR batch as Python 2 pickled it (protocol 2), opcode by opcode."""
    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    raw = images.astype(np.uint8).tobytes()
    call = (b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85"
            + text(b"b") + b"\x87R(K\x01" + b"J" + struct.pack("<i", len(labels))
            + b"M\x00\x0c\x86cnumpy\ndtype\nq\x04" + text(b"u1") + b"K\x00K\x01\x87R(K\x03"
            + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
            + b"T" + struct.pack("<i", len(raw)) + raw + b"tb")
    listed = b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    return (b"\x80\x02}q\x01(" + text(b"batch_label") + text(b"batch 1")
            + text(label_key.encode()) + listed + text(b"data") + call + b"u.")
