"""A compiled network as a plain text file, for hosts in other languages (`examples/c_host`).

    spiketicket export flat fmnist-scnn --out scnn.txt --inputs 5

The file holds what `docs/link.md` ("What to write") tells of, words separated by blanks, in this
order; numbers are decimal, words of memories hexadecimal::

    spiketicket-flat 2
    identity HEX clock_hz N name NAME
    timesteps T static 0|1
    input C H W bits B lanes L
    layouts N, then for each: base copies planes bits_a_mask factor channels channel_words pitch
        window height width, and the copy of every group of 4 timesteps
    results WORD classes N max_cycles N
    memories N, then for each: SPACE ADDRESS COUNT and COUNT words
    end CRC                    of every byte before the word "end", hexadecimal (CRC-32)

`--inputs N` also writes OUT.inputs, N inputs (bytes, one after another, in C order), and
OUT.logits, the reference's logits of each, a line for each input.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np

from hw import registers
from hw.boards import BOARDS, DEFAULT_BOARD

from . import bundled, ticket
from .board.jobs import cycle_limit, memories
from .compile.compiler import compile_network
from .compile.image import Image
from .core import cores
from .data import datasets
from .errors import BadInput
from .integer import reference

WORDS_A_LINE = 12


def to_text(image: Image) -> str:
    """The file of an image. Raises SpikeTicketError where inputs need more than their values."""
    if image.gate is not None and image.gate.mode in ("host", "input"):
        raise BadInput(f"network {image.name!r}: its patch gate (mode {image.gate.mode}) "
                       "needs a host that chooses patches; use sw.Accelerator")
    channels, height, width = image.input_shape
    name = re.sub(r"[^\w.-]", "_", image.name, flags=re.ASCII)[:60] or "network"
    config, lanes = image.config, registers.map_lanes(image.config)
    lines = [
        "spiketicket-flat 2",
        f"identity {registers.identity(config):016x} clock_hz {config.clock_hz} name {name}",
        f"timesteps {image.timesteps} static {int(image.static)}",
        f"input {channels} {height} {width} bits {image.input_bits} lanes {lanes}",
        f"layouts {len(image.inputs)}"]
    for at in image.inputs:
        numbers = (at.base, at.copies, at.planes, at.bits_a_mask, at.factor, at.channels,
                   at.channel_words, at.pitch, at.window, at.height, at.width, *at.copy_of_group)
        lines.append(" ".join(map(str, numbers)))
    limit = min(cycle_limit(image), (1 << 32) - 1)
    lines.append(f"results {image.results} classes {image.classes} max_cycles {limit}")
    parts = memories(image)
    lines.append(f"memories {len(parts)}")
    for space, address, words in parts:
        lines.append(f"{int(space)} {address} {len(words)}")
        lines += [" ".join(f"{int(word):x}" for word in words[i:i + WORDS_A_LINE])
                  for i in range(0, len(words), WORDS_A_LINE)]
    text = "\n".join(lines) + "\n"
    return f"{text}end {zlib.crc32(text.encode()):08x}\n"


def write(image: Image, out: str | Path) -> None:
    """Write the file; it appears whole or not at all."""
    _replace(Path(out), to_text(image).encode())


def write_inputs(values: np.ndarray, logits: np.ndarray, out: str | Path) -> None:
    """Write OUT.inputs (uint8 [N, ...]) and OUT.logits (integers [N, classes])."""
    _replace(Path(f"{out}.inputs"), np.ascontiguousarray(values, np.uint8).tobytes())
    lines = "".join(" ".join(map(str, row)) + "\n" for row in logits.tolist())
    _replace(Path(f"{out}.logits"), lines.encode())


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another "
                       "--out") from error


def export(name: str, out: Path, *, board: str = DEFAULT_BOARD, preset: str | None = None,
           inputs: int = 0, data: str | None = None) -> str:
    """Write a ticket's file for a board, and so many inputs; returns what was written, in words.

    name: of a ticket, or its file. data: where inputs come from (None: the bundled samples).
    Raises SpikeTicketError.
    """
    found = ticket.load(bundled.find(name))
    _, config = cores.choose(BOARDS[board], found.network, preset)
    image = compile_network(found.network, config)
    write(image, out)
    if inputs:
        loaded = datasets.for_network(found.network, data or bundled.data_for(found),
                                      limit=inputs).first(inputs)
        run = reference.run(found.network, loaded.images)
        write_inputs(loaded.images, run.logits, out)
    words = sum(len(part) for *_, part in memories(image))
    return (f"{out}: {image.name}, {words:,} words to load, for identity "
            f"{registers.identity(config):016x}")
