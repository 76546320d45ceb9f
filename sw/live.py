"""Labels as they come (`spiketicket classify`), latency percentiles at the end.

    spiketicket classify photos/
    spiketicket classify recording.bin --ticket nmnist-spikeformer --window 50
    camera | spiketicket classify - --json

One line an input, written at once. Ctrl-C and a reader that goes away end it cleanly.
docs/report.md describes inputs, lines and figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TextIO

import numpy as np

from hw.config import CoreConfig

from . import bundled, ticket
from .board.batches import Framing, Wanted
from .board.connect import connect
from .board.driver import Accelerator, Inference
from .board.transport import Transport
from .data import class_names
from .errors import BadInput
from .integer import reference
from .integer.gate import check_masks
from .integer.network import Network
from .live_inputs import Source

KEPT = 100_000
"""Latencies that the percentiles are taken of: the last ones."""
PERCENTILES = (50, 90, 99)


@dataclass
class Tally:
    """What came so far. host: seconds from taking an input to its result; cycles: of the core."""

    clock_hz: int
    transport: str = ""
    simulated: bool = False
    inputs: int = 0
    checked: int = 0
    different: int = 0
    host: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    cycles: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT))
    began: float = field(default_factory=time.perf_counter)

    def add(self, seconds: float, cycles: int) -> None:
        self.inputs += 1
        self.host.append(seconds)
        self.cycles.append(cycles)

    def summary(self) -> dict:
        """JSON-serialisable: milliseconds on the host, cycles and microseconds of the core."""
        seconds = time.perf_counter() - self.began
        result = {"inputs": self.inputs, "seconds": seconds, "inputs_per_s": self.inputs / seconds,
                  "checked": self.checked, "different": self.different, "clock_hz": self.clock_hz,
                  "transport": self.transport, "simulated": self.simulated}
        for name, values in (("host_ms", 1e3 * np.array(self.host)),
                             ("core_cycles", np.array(self.cycles)),
                             ("core_us", 1e6 * np.array(self.cycles) / self.clock_hz)):
            result[name] = ({f"p{p}": float(np.percentile(values, p)) for p in PERCENTILES}
                            if len(values) else None)
        return result


def run_live(ticket_path: str, where: str, *, board: str, port: str | None = None,
             baud: int | None = None, preset: str | None = None, config: CoreConfig | None = None,
             masks: np.ndarray | None = None, images: int | None = None, checked: int = 0,
             window_ms: float | None = None, ahead: int = 0, as_json: bool = False,
             out: TextIO | None = None, transport: Transport | None = None) -> Tally:
    """Classify inputs as they come, one printed line each; returns the tally.

    where: image folder or file, event file or folder of them, .npy of frames, "-" for standard
        input (see `sw.live_inputs.Source`). images: end after so many.
    masks: bool [B, N] for a patch gate of mode "host", one an input.
    checked: of so many inputs the logits are compared with the reference's, after printing.
    window_ms: cut event files into inputs of that length.
    ahead: inputs sent before the result of the first has come (`Accelerator.stream`); 0 keeps the
        latency lowest, 8 the board busiest.
    out: where lines go (None: standard output). transport, config: instead of the board's own.
    Raises SpikeTicketError for bad input or a board that does not answer.
    """
    found = ticket.load(bundled.find(ticket_path))
    network, wanted = found.network, Wanted.of(found.network)
    if window_ms is not None and not 0.001 <= window_ms <= 1e9:
        raise BadInput(f"--window {window_ms:g} is outside 0.001..1e9 ms")
    if window_ms is not None and wanted.static:
        raise BadInput(f"--window cuts event files; ticket {wanted.name!r} takes images")
    source = Source(where, wanted, Framing.of(found.metadata),
                    None if window_ms is None else round(1e3 * window_ms))
    if masks is not None or any(gate.mode == "host" for gate in network.gates.values()):
        masks = check_masks(network.gates, masks, 0 if masks is None else len(masks))
    to = connect(found, board=board, preset=preset, port=port, baud=baud, transport=transport,
                 config=config)
    clock = to.image.config.clock_hz
    lines, tally = _Lines(network, found.metadata, clock, as_json, out or sys.stdout), Tally(clock)
    with to.accelerator as accelerator:
        accelerator.load(to.image)
        tally.transport = accelerator.transport.name
        tally.simulated = accelerator.transport.simulated
        print(f"{wanted.name} on {accelerator.transport.title}; {source.describe()}",
              file=sys.stderr)
        tally.began = time.perf_counter()
        try:
            for name, array, seconds, result in _results(
                    accelerator, islice(source, images), masks, ahead):
                tally.add(seconds, int(result.cycles[0]))
                lines.write(name, seconds, result)
                if tally.checked < checked:
                    _check(tally, network, array, result,
                           None if masks is None else masks[tally.inputs - 1][None])
        except KeyboardInterrupt:       # the usual end of a live stream
            pass
        except BrokenPipeError:         # whoever read the lines has gone
            lines.close()
            return tally
    lines.end(tally)
    return tally


def _results(accelerator: Accelerator, inputs: Iterator[tuple[str, np.ndarray]],
             masks: np.ndarray | None,
             ahead: int) -> Iterator[tuple[str, np.ndarray, float, Inference]]:
    """(name, input, seconds, result) of each, in order."""
    taken: deque[tuple[str, np.ndarray, float]] = deque()

    def arrays() -> Iterator[np.ndarray]:
        for index, (name, array) in enumerate(inputs):
            if masks is not None and index >= len(masks):
                raise BadInput(f"{name}: input {index + 1}, but --masks holds "
                               f"{len(masks)}; give a mask for each input")
            taken.append((name, array, time.perf_counter()))
            yield array

    for result in accelerator.stream(arrays(), masks, ahead=ahead):
        name, array, began = taken.popleft()
        yield name, array, time.perf_counter() - began, result


def _check(tally: Tally, network: Network, array: np.ndarray, result: Inference,
           mask: np.ndarray | None) -> None:
    """Compare one input's logits with the reference's."""
    expected = reference.run(network, array[None], masks=mask, maps=()).logits
    tally.checked += 1
    tally.different += not np.array_equal(expected, result.logits)


class _Lines:
    """Prints a line per input, each at once, and the summary."""

    def __init__(self, network: Network, metadata: dict, clock_hz: int, as_json: bool,
                 out: TextIO):
        self._names, self._clock = class_names.of_ticket(network, metadata), clock_hz
        self._json, self._out = as_json, out

    def write(self, name: str, seconds: float, result: Inference) -> None:
        label, cycles = int(result.labels[0]), int(result.cycles[0])
        title = self._names[label] if label < len(self._names) else None
        core = 1e6 * cycles / self._clock
        if self._json:
            text = json.dumps({
                "name": name, "label": label, "class": title, "logits": result.logits[0].tolist(),
                "cycles": cycles, "core_us": core, "host_ms": 1e3 * seconds})
        else:
            text = (f"{name:<24} {label:>3}  {title or '':<14} {cycles:>9,} cycles "
                    f"{core:>9,.1f} µs core {1e3 * seconds:>9,.2f} ms host")
        print(text, file=self._out, flush=True)

    def end(self, tally: Tally) -> None:
        """The summary: in JSON the last line of the output, else on standard error, so that the
        output holds one line an input."""
        values = tally.summary()
        if self._json:
            with contextlib.suppress(BrokenPipeError):
                print(json.dumps({"summary": values}), file=self._out, flush=True)
                return
            self.close()
            return
        print(f"{tally.inputs:,} inputs in {values['seconds']:.2f} s, "
              f"{values['inputs_per_s']:,.1f} a second", file=sys.stderr)
        if not tally.inputs:
            return
        for title, key, unit in (("latency, host wall", "host_ms", "ms"),
                                 ("latency, core", "core_us", "µs"),
                                 ("cycles, core", "core_cycles", "")):
            shown = "  ".join(f"p{p} {values[key][f'p{p}']:,.2f}" if unit else
                              f"p{p} {values[key][f'p{p}']:,.0f}" for p in PERCENTILES)
            print(f"{title:<20} {shown} {unit}".rstrip(), file=sys.stderr)
        if tally.checked:
            verdict = f"{tally.different} DIFFERENT" if tally.different else "all equal"
            print(f"{'reference':<20} logits of {tally.checked} inputs compared, {verdict}",
                  file=sys.stderr)

    def close(self) -> None:
        """Nobody reads any more: let the interpreter end without a complaint about it."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
