"""How fast tickets load and inputs run over the link, by cycle count on the simulated board
(`spiketicket bench link`).

The gateware runs in the simulated board, and its harness gives it a byte whenever a UART would have
one, and takes one whenever a UART could send it: every 10 bit times, each way (`sim.board`). The
driver is the one for boards; its own time does not count. So cycles are exact, for a host that
answers at once. On Ethernet the driver is that of UDP, its datagrams reach `hw.datagrams` when the
cable has carried all of their bytes (8 cycles each, and 66 bytes beside the payload), and replies
the host likewise.

A ticket is loaded and checked, which is timed at the highest rate, where the board has the least
time for a byte; "load, line" is what the bytes take at the rate. Frames/s are those of
`sw.board.throughput`, which `sw.run_inference` prints too; "one at a time" are those of a host
that waits for each result before it sends the next image, with microseconds from the first byte to
the label: the median, and 99 % are below the other. Payload is what the host wants to write
(inputs in the form they are sent in) and to read; its share is of all bytes, both ways, those
beside a datagram's payload included. At last a synthetic network of 100,000 surviving weights is
loaded at 3 Mbaud, and over Ethernet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from hw.boards import BOARDS
from hw.config import PRESETS, CoreConfig
from hw.registers import PROTOCOL

from . import bundled, ticket
from .board import throughput
from .board.driver import Accelerator
from .board.jobs import inference_jobs, line_bytes, load_job, load_words, memories
from .board.packing import FORMS
from .compile.compiler import compile_network
from .compile.image import Image
from .core import cores
from .data import datasets
from .integer.network import InputSpec, Layer, Network, Synapses
from .plan import recorded_activity

if TYPE_CHECKING:
    from sim.board import SimTransport
    from sim.network import SimUdpTransport

BAUDS = (3_000_000, 12_000_000)

NEARLY = 0.95
"""Of the time that the line is busy: it is what bounds the rate then, else the core is, writes of
its inputs included."""

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
    line = board.transport
    before, began = _bytes(board), line.now()
    board.load(image)
    seconds = line.now() - began
    there, back = (now - then for now, then in zip(_bytes(board), before, strict=True))
    datagrams = len(load_job(image, line.frames)) + len(memories(image))
    beside = 0 if line.baud else datagrams * throughput.DATAGRAM_OVERHEAD
    return {"baud": line.baud, "seconds": seconds, "bytes": [there, back],
            "payload": 4 * load_words(image) / (there + beside)}


def inference_speed(board: Accelerator, image: Image, inputs: np.ndarray) -> dict:
    """Run inputs one behind the other, and one at a time; see the module for what is measured."""
    line, clock, count = board.transport, image.config.clock_hz, len(inputs)
    before, times, cycles = _bytes(board), [line.now()], []
    for result in board.stream(inputs, ahead=0):
        times.append(line.now())
        cycles.append(int(result.cycles[0]))
    there, back = (now - then for now, then in zip(_bytes(board), before, strict=True))
    jobs = list(inference_jobs(image, inputs, None, 1, False, frames=line.frames))
    datagrams = sum(map(len, jobs)) / count
    written = sum(4 * len(request.write.payload) for job in jobs for request in job
                  if request.write is not None)
    read = sum(4 * request.reply_words for job in jobs for request in job)
    slowest = throughput.line_seconds(line.baud, max(there, back) / count, datagrams)
    beside = 0 if line.baud else count * datagrams * throughput.DATAGRAM_OVERHEAD
    core = float(np.mean(cycles)) / clock
    rate = count / throughput.round_seconds(board, inputs)
    return {"baud": line.baud, "line": throughput.line_name(line.baud),
            "frames_per_s": rate,
            "frames_per_s_one_at_a_time": count / (times[-1] - times[0]),
            "us_one_at_a_time": [1e6 * float(value) for value in
                                 np.percentile(np.diff(times), (50, 99))],
            "frames_per_s_core": 1 / core,
            "frames_per_s_line": 1 / slowest,
            "bound": "line" if rate * slowest > NEARLY else "core",
            "bytes_per_image": [there / count, back / count],
            "payload": (written + read) / (there + back + 2 * beside),
            "payload_there": written / (there + beside)}


def _bytes(board: Accelerator) -> tuple[int, int]:
    return board.statistics.bytes_sent, board.statistics.bytes_received


def serial_line(config: CoreConfig, baud: int, progress: bool) -> SimTransport:
    """A simulated board, its line at a rate."""
    from sim.board import SimTransport  # only here: it needs the simulator

    return SimTransport(config, baud=baud, progress=progress)


def ethernet_line(config: CoreConfig, progress: bool) -> SimUdpTransport:
    """A simulated board at the end of a cable of 100 Mbit."""
    from sim.network import CabledBoard, LocalNetwork, SimUdpTransport

    board = CabledBoard(config, progress=progress)
    board.set_cable()
    return SimUdpTransport(LocalNetwork(board))


def measure(name: str, bauds: Sequence[int], images: int, ethernet: bool = True,
            progress: bool = True) -> dict:
    """A ticket's figures: bytes by form, loading, and one entry per rate, Ethernet's at the end.

    Raises SpikeTicketError where it cannot be loaded or has no samples.
    """
    found = ticket.load(bundled.find(name))
    samples = datasets.for_network(found.network, bundled.data_for(found), limit=images)
    preset, config = cores.choose(BOARDS["sim"], found.network)
    image = compile_network(found.network, config, recorded_activity(found))
    loads, rates = [], []
    with tqdm(total=len(bauds) + ethernet, desc=name, leave=False,
              disable=None if progress else True) as bar:
        with Accelerator(serial_line(config, max(bauds), progress), config) as board:
            loads.append(load_speed(board, image))
            for baud in sorted(bauds):
                board.transport.set_baud(baud)
                rates.append(inference_speed(board, image, samples.images)
                             | {"load_line_s": 10 * loads[0]["bytes"][0] / baud})
                bar.update()
        if ethernet:
            with Accelerator(ethernet_line(config, progress), config) as board:
                loads.append(load_speed(board, image))
                rates.append(inference_speed(board, image, samples.images)
                             | {"load_line_s": loads[1]["seconds"]})
                bar.update()
    return {"ticket": name, "preset": preset, "images": len(samples),
            "weights_surviving": image.surviving,
            "bytes_by_form": forms_of(image, samples.images), "loads": loads, "rates": rates}


def measure_load(progress: bool = True) -> dict:
    """Loading the synthetic network."""
    network = synthetic()
    image, loads = compile_network(network, LOAD_CONFIG), []
    for line in (serial_line(LOAD_CONFIG, WEIGHTS_BAUD, progress),
                 ethernet_line(LOAD_CONFIG, progress)):
        with Accelerator(line, LOAD_CONFIG) as board:
            loads.append(load_speed(board, image))
    return {"ticket": network.name, "weights_surviving": image.surviving,
            "bits_per_weight": image.bits_per_weight, "loads": loads}


def print_table(rows: list[dict]) -> None:
    """The figures for people."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    words = "ticket", "line", "bound by"
    for name in ("ticket", "line", "frames/s", "one at a time", "us, median", "99 %", "bound by",
                 "core", "bytes/image", "payload", "load, line"):
        table.add_column(name, justify="left" if name in words else "right", no_wrap=True)
    for row in rows:
        for at in row.get("rates", ()):
            there, back = at["bytes_per_image"]
            median, most = at["us_one_at_a_time"]
            table.add_row(
                row["ticket"], at["line"], f"{at['frames_per_s']:,.0f}",
                f"{at['frames_per_s_one_at_a_time']:,.0f}", f"{median:,.0f}", f"{most:,.0f}",
                at["bound"],
                f"{at['frames_per_s_core']:,.0f}", f"{there:,.0f} + {back:.0f}",
                f"{100 * at['payload']:.1f} %", f"{at['load_line_s']:.3f} s")
    console = Console(highlight=False, soft_wrap=True, width=160)
    console.print(table)
    for row in rows:
        parts = [f"{row['ticket']}: {row['weights_surviving']:,} surviving weights load"]
        parts += [f"in {load['seconds']:.4f} s at {throughput.line_name(load['baud'])} "
                  f"({load['bytes'][0]:,} bytes, {100 * load['payload']:.1f} % payload)"
                  for load in row["loads"]]
        if "bytes_by_form" in row:
            parts.append("bytes to the board for an image: " + ", ".join(
                f"{form} {value:,.0f}" for form, value in row["bytes_by_form"].items()))
        console.print("; ".join(parts))


def rows(tickets: Sequence[str] | None, bauds: Sequence[int] | None, images: int) -> dict:
    """The figures of some tickets (None: of every bundled one, and of loading the synthetic
    network), JSON-ready; at rates of one's own no Ethernet. Raises SpikeTicketError."""
    found = [measure(name, bauds or BAUDS, images, not bauds)
             for name in tickets or bundled.names()]
    return {"protocol": PROTOCOL, "tickets": found if tickets else [*found, measure_load()]}
