"""What the row decoder must answer: plain Python from `docs/core.md`, not from the gateware."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from sim.units.layers import Layer
from sw.compile import rice


@dataclass
class Row:
    """One row before it is encoded. indices: stream indices of the weights; values: the weights."""

    channel: int
    bias: int
    threshold: int
    indices: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    @property
    def header(self) -> dict[str, int]:
        return {"channel": self.channel, "bias": self.bias, "threshold": self.threshold}


def row_widths(rows: Sequence[Row]) -> dict[str, int]:
    """Header fields of a layer: fewest bits that an engine's rows need."""
    gaps = rice.channel_gaps([row.channel for row in rows])
    return {"channel_bits": max((gap.bit_length() for gap in gaps), default=0),
            "neuron_bits": rice.neuron_width(n for row in rows for n in (row.bias, row.threshold))}


def encode_rows(rows: Sequence[Row], layer: Layer, channels: Sequence[int]) -> list[int]:
    """Weight-memory words of an engine's rows; channels: TAP.channels of every tap.

    The rows of an attention layer are headers alone.
    """
    bits = []
    for row, gap in zip(rows, rice.channel_gaps([row.channel for row in rows]), strict=True):
        bits.append(rice.header_bits(gap, row.bias, row.threshold, layer["channel_bits"],
                                     layer["neuron_bits"]))
        if not layer["attention"]:
            bits.append(rice.encode_row(
                np.array(row.indices, np.int64), np.array(row.values, np.int64), sum(channels),
                layer["value_bits"], layer["rice_k"]))
    return [int(word) for word in rice.to_words(bits)]


def passes(rows: Sequence[Row], layer: Layer) -> Iterator[tuple[Row, dict, dict]]:
    """Passes of an engine: the row, its header on the way to the drain, what its items share."""
    for row in rows:
        for strip, group in np.ndindex(layer["n_strips"], layer["n_groups"]):
            last_strip = strip == layer["n_strips"] - 1
            last_group = group == layer["n_groups"] - 1
            yield row, {
                "row": row.header, "first": int(strip == group == 0),
                "last": int(last_strip and last_group), "first_group": int(group == 0),
                "last_group": int(last_group), "last_strip": int(last_strip)}, {
                "end": 0, "strip_word": strip * layer["strip_step"],
                "last_strip": int(last_strip), "group": group}


def decode_rows(rows: Sequence[Row], layer: Layer,
                channels: Sequence[int]) -> tuple[list[dict], list[list[dict]]]:
    """What the decoder must emit: headers and items of every pass, ends included."""
    starts = np.cumsum([0, *channels])
    headers, items = [], []
    for row, header, shared in passes(rows, layer):
        places = [(int(np.searchsorted(starts, i, side="right")) - 1, i) for i in row.indices]
        headers.append(header)
        items.append([shared | {
            "tap": tap, "channel": index - int(starts[tap]), "value": value, "timesteps": 15}
            for (tap, index), value in zip(places, row.values, strict=True)])
    return headers, items


def attend_rows(rows: Sequence[Row], layer: Layer,
                sums: Sequence[Sequence[dict]]) -> tuple[list[dict], list[list[dict]]]:
    """The same for an attention layer; sums: `hw.attention.attention_item`s of every pass."""
    headers, items = [], []
    for (_, header, shared), mine in zip(passes(rows, layer), sums, strict=True):
        headers.append(header)
        items.append([shared | {"tap": 0} | item for item in mine])
    return headers, items


def count_codes(row: Row, layer: Layer, channels: Sequence[int]) -> int:
    """Codes (skips and weights) of one pass over a row, without the filler bit."""
    step, at, codes = 1 << layer["rice_k"], 0, 0
    for index in row.indices:
        codes += (index - at) // step + 1
        at = index + 1
    return codes + -(-(sum(channels) - at) // step)
