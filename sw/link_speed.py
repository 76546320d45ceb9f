"""How fast tickets load and inputs run over the link, by cycle count on the simulated board
(`spiketicket bench link`).

The gateware runs in the simulated board, and its harness gives it a byte whenever a UART would have
one, and takes one whenever a UART could send it: every 10 bit times, each way (`sim.board`). The
driver is the one for boards; its own time does not count. So cycles are exact, for a host that
answers at once.

A ticket is loaded and checked, which is timed at the highest rate, where the board has the least
time for a byte; "load, line" is what the bytes take at the rate. Frames/s are those of
`sw.board.throughput`, which `sw.run_inference` prints too; "one at a time" are those of a host
that waits for each result before it sends the next image. Payload is what the host wants to write
(inputs in the form they are sent in) and to read; its share is of all bytes, both ways. At last a
synthetic network of 100,000 surviving weights is loaded at 3 Mbaud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from hw.boards import BOARDS
from hw.config import PRESETS
from hw.registers import PROTOCOL

from . import bundled, ticket
from .board import throughput
from .board.driver import Accelerator
from .board.jobs import inference_jobs, line_bytes, load_words
from .board.packing import FORMS
from .compile.compiler import compile_network
from .compile.image import Image
from .core import cores
from .data import datasets
from .integer.network import InputSpec, Layer, Network, Synapses
from .plan import recorded_activity

BAUDS = (3_000_000, 12_000_000)

WEIGHTS, WEIGHTS_BAUD = 100_000, 3_000_000
LOAD_CONFIG = replace(PRESETS["tiny"], map_words=2048, weight_words=1 << 16, attention=False,
                      gate=False)
"""Core for loading WEIGHTS: small, with memory for them. Loading is the link's work alone, and the
link is the same in every core."""


def synthetic(weights: int = WEIGHTS, seed: int = 0) -> Network:
    """A fully connected network of 4-bit weights, of which exactly so many survive, 9.9 %."""
    rng = np.random.default_rng(seed)
    width, classes = 1000, 10
    counts = (weights * 99 // 100, weights - weights * 99 // 100)
    layers = []
    for name, outputs, shape, count in (("hidden", width, (250, 2, 2), counts[0]),
                                        ("out", classes, (width, 1, 1), counts[1])):
        weight = np.zeros(outputs * int(np.prod(shape)), np.int8)
        if count > len(weight):
            raise ValueError(f"{weights} weights are more than the network has")
        chosen = rng.choice(len(weight), count, replace=False)
        weight[chosen] = rng.choice([*range(-8, 0), *range(1, 8)], count)
        synapses = Synapses(weight.reshape(outputs, *shape),
                            ("input",) if name == "hidden" else ("hidden",))
        extra = {"neuron": None} if name == "out" else {}
        layers.append(Layer(name, (synapses,), np.zeros(outputs, np.int64),
                            np.full(outputs, 20, np.int64), **extra))
    return Network(InputSpec(250, 2, 2, bits=1, static=False), 4, tuple(layers),
                   f"{weights:,} weights")


def forms_of(image: Image, arrays: np.ndarray) -> dict[str, float]:
    """Mean bytes to the board for an input, in each form alone ("plain", "expand", "packed"; those
    that cannot be expanded go plain there) and as it is sent ("sent")."""
    def mean(forms: tuple[str, ...]) -> float:
        return float(np.mean([line_bytes(job)[0] for job in inference_jobs(
            image, arrays, None, 1, False, forms)]))
    return {form: mean((form,)) for form in FORMS} | {"sent": mean(FORMS)}


def load_speed(board: Accelerator, image: Image) -> dict:
    """Load a network, and check what the board holds: seconds, bytes there, payload share."""
    sent, received = _bytes(board)
    began = board.transport.cycles
    board.load(image)
    seconds = (board.transport.cycles - began) / image.config.clock_hz
    there, back = (now - then for now, then in zip(_bytes(board), (sent, received), strict=True))
    return {"baud": board.transport.baud, "seconds": seconds, "bytes": [there, back],
            "payload": 4 * load_words(image) / there}


def inference_speed(board: Accelerator, image: Image, inputs: np.ndarray) -> dict:
    """Run inputs one behind the other, and one at a time; see the module for what is measured."""
    clock, count = image.config.clock_hz, len(inputs)
    before, began = _bytes(board), board.transport.now()
    cycles = [int(result.cycles[0]) for result in board.stream(inputs, ahead=0)]
    alone = board.transport.now() - began
    there, back = (now - then for now, then in zip(_bytes(board), before, strict=True))
    jobs = list(inference_jobs(image, inputs, None, 1, False, frames=board.transport.frames))
    written = sum(4 * len(request.write.payload) for job in jobs for request in job
                  if request.write is not None)
    read = sum(4 * request.reply_words for job in jobs for request in job)
    line = max(there, back) / count * 10 / board.transport.baud
    core = float(np.mean(cycles)) / clock
    return {"baud": board.transport.baud,
            "frames_per_s": count / throughput.round_seconds(board, inputs),
            "frames_per_s_one_at_a_time": count / alone,
            "frames_per_s_core": 1 / core,
            "frames_per_s_line": 1 / line, "bound": "line" if line > core else "core",
            "bytes_per_image": [there / count, back / count],
            "payload": (written + read) / (there + back),
            "payload_there": written / there}


def _bytes(board: Accelerator) -> tuple[int, int]:
    return board.statistics.bytes_sent, board.statistics.bytes_received


def measure(name: str, bauds: Sequence[int], images: int, progress: bool = True) -> dict:
    """A ticket's figures: bytes by form, loading, and one entry per rate.

    Raises SpikeTicketError where it cannot be loaded or has no samples.
    """
    from sim.board import SimTransport  # only here: it needs the simulator

    found = ticket.load(bundled.find(name))
    samples = datasets.for_network(found.network, bundled.data_for(found), limit=images)
    preset, config = cores.choose(BOARDS["sim"], found.network)
    image = compile_network(found.network, config, recorded_activity(found))
    forms = forms_of(image, samples.images)
    transport = SimTransport(config, baud=max(bauds), progress=progress)
    rates = []
    bar = tqdm(total=1 + len(bauds), desc=name, leave=False, disable=None if progress else True)
    with Accelerator(transport, config) as board, bar:
        loaded = load_speed(board, image)
        bar.update()
        for baud in sorted(bauds):
            transport.set_baud(baud)
            at = inference_speed(board, image, samples.images)
            rates.append(at | {"load_line_s": 10 * loaded["bytes"][0] / baud})
            bar.update()
    return {"ticket": name, "preset": preset, "images": len(samples),
            "weights_surviving": image.surviving, "bytes_by_form": forms, "load": loaded,
            "rates": rates}


def measure_load(progress: bool = True) -> dict:
    """Loading the synthetic network."""
    from sim.board import SimTransport

    network = synthetic()
    image = compile_network(network, LOAD_CONFIG)
    transport = SimTransport(LOAD_CONFIG, baud=WEIGHTS_BAUD, progress=progress)
    with Accelerator(transport, LOAD_CONFIG) as board:
        return {"ticket": network.name, "weights_surviving": image.surviving,
                "bits_per_weight": image.bits_per_weight, "load": load_speed(board, image)}


def print_table(rows: list[dict]) -> None:
    """The figures for people."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("ticket", "Mbaud", "frames/s", "one at a time", "bound by", "core alone",
                 "bytes/image", "payload", "load, line"):
        table.add_column(name, justify="left" if name in ("ticket", "bound by") else "right",
                         no_wrap=True)
    for row in rows:
        for at in row.get("rates", ()):
            there, back = at["bytes_per_image"]
            table.add_row(
                row["ticket"], f"{at['baud'] / 1e6:g}", f"{at['frames_per_s']:,.0f}",
                f"{at['frames_per_s_one_at_a_time']:,.0f}", at["bound"],
                f"{at['frames_per_s_core']:,.0f}", f"{there:,.0f} + {back:.0f}",
                f"{100 * at['payload']:.1f} %", f"{at['load_line_s']:.3f} s")
    console = Console(highlight=False, soft_wrap=True, width=160)
    console.print(table)
    for row in rows:
        load = row["load"]
        parts = [row["ticket"] + ": loading " + (
            f"{row['weights_surviving']:,} surviving weights takes {load['seconds']:.3f} s at "
            f"{load['baud'] / 1e6:g} Mbaud, {load['bytes'][0]:,} bytes, "
            f"{100 * load['payload']:.1f} % payload")]
        if "bytes_by_form" in row:
            parts.append("bytes to the board for an image: " + ", ".join(
                f"{form} {value:,.0f}" for form, value in row["bytes_by_form"].items()))
        console.print("; ".join(parts))


def rows(tickets: Sequence[str] | None, bauds: Sequence[int] | None, images: int) -> dict:
    """The figures of some tickets (None: of every bundled one, and of loading the synthetic
    network), JSON-ready. Raises SpikeTicketError."""
    found = [measure(name, bauds or BAUDS, images) for name in tickets or bundled.names()]
    return {"protocol": PROTOCOL, "tickets": found if tickets else [*found, measure_load()]}
