"""The report of a run: every figure `sw.run_inference` prints, and how it comes about."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

import numpy as np
from rich.console import Console
from rich.table import Table

from hw.boards import BOARDS
from hw.registers import COUNTERS

from .board import throughput
from .board.driver import Identity, Inference
from .board.throughput import Throughput
from .board.udp import MOST_BYTES
from .compile.image import Image
from .core import energy
from .data import datasets
from .integer.network import Network

TRACES = 20
"""Images whose spikes are kept for the report, of those that are traced."""

WIDTH = 200
"""Columns that a list of tickets may take; a terminal wraps longer lines, nothing is cut."""


@dataclass
class Checked:
    """What a run found, before it becomes a report. Sums are over all images."""

    network: Network
    image: Image
    data: datasets.Images
    result: Inference
    logits: np.ndarray           # of the reference, int64 [B, classes]
    executed: int = 0            # synaptic operations
    dense: int = 0
    useful: int = 0              # updates
    spikes: int = 0              # compared
    mismatches: int = 0
    rates: dict[str, np.ndarray] = field(default_factory=dict)  # map -> spikes per neuron [T]
    masks: np.ndarray | None = None     # tokens to keep that were sent, bool [B, N]
    kept: np.ndarray | None = None      # tokens that the patch gate kept, int64 [B, keep]
    # Of the first images, as the board stored them: map -> uint8 [T, C, H, W]
    traces: list[dict[str, np.ndarray]] = field(default_factory=list)
    identity: Identity | None = None
    host_seconds: float = 0.0           # that the host waited for the results
    link: tuple[Throughput, ...] = ()   # frames/s with the link, fastest rate first
    names: tuple[str, ...] = ()         # of the classes, as far as they are known


@dataclass(frozen=True)
class KeptPatches:
    """What a patch gate leaves: `kept` of `tokens`, chosen by its mode."""

    mode: str
    kept: int
    tokens: int


@dataclass(frozen=True)
class RunReport:
    """The figures of a run; see the README for what each means. `as_dict` has the same names.

    board, preset: names; preset None for a core of one's own. identity, build: what the board says,
    16 hexadecimal digits. "per_image" figures are means; bytes_per_image: to and from the board.
    frames_per_s_link: at the fastest rate of `link`, None where none was measured. sop: synaptic
    operations. slots: accumulate units of the core. accuracy_interval: of 95 %.
    """

    ticket: str
    network: str
    board: str
    preset: str | None
    slots: int
    patches: KeptPatches | None
    transport: str
    simulated: bool
    identity: str | None
    build: str | None
    data: str
    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    logits_equal: bool
    logits_compared: int
    spikes_compared: int
    spike_mismatches: int
    cycles_per_image: float
    cycles_by_layer: dict[str, float]
    counters_per_image: dict[str, float]
    clock_hz: int
    baud: int | None
    bytes_per_image: tuple[int, int]
    load_bytes: int
    load_s_link: float
    frames_per_s_core: float
    frames_per_s_link: float | None
    link: tuple[Throughput, ...]
    sop_per_s_executed: float
    sop_per_s_dense_equivalent: float
    useful_updates_per_cycle: float
    useful_fraction: float
    bits_per_weight: float
    entropy_bits_per_weight: float
    sparsity: float
    weights_surviving: int
    energy_analytic_uj: float
    energy_analytic_parts: dict[str, float]

    @property
    def agrees(self) -> bool:
        """Whether every compared logit and spike equals the reference."""
        return self.logits_equal and self.spike_mismatches == 0

    @property
    def place(self) -> str:
        """Board and core, and whether the board is a simulated one."""
        return place(self.board, self.preset, self.transport, self.simulated)

    def as_dict(self) -> dict:
        """JSON-serialisable."""
        return asdict(self)


def report(ticket_path: str, board: str, preset: str | None, transport: str, checked: Checked,
           baud: int | None, load_bytes: int) -> RunReport:
    """The report of a run on a board (a name) over a transport (its name)."""
    image, result = checked.image, checked.result
    config, count = image.config, len(result.logits)
    cycles = float(result.cycles.mean())
    seconds = cycles / config.clock_hz
    totals = dict(zip(COUNTERS, result.counters.sum(axis=(0, 1)) / count, strict=True))
    by_layer: dict[str, float] = {}
    for info, value in zip(image.logged, result.counters[:, :, 0].mean(axis=0), strict=True):
        by_layer[info.name] = by_layer.get(info.name, 0) + float(value)
    if later := len(image.layers) - len(image.logged):
        by_layer[f"{later} not logged"] = cycles - sum(by_layer.values())
    # What attention has in the place of weights is in no weight memory.
    stored = [info.kind != "attention" for info in image.logged]
    read = float(result.counters[:, stored, COUNTERS.index("weights")].sum() / count)
    used = energy.analytic(image, checked.executed / count, totals | {"weights": read})
    gate = image.gate
    right = float((result.labels == checked.data.labels).mean())
    return RunReport(
        ticket=str(ticket_path), network=checked.network.name, board=board,
        preset=preset, slots=config.slots,
        patches=gate and KeptPatches(gate.mode, gate.keep, gate.tokens),
        transport=transport,
        simulated=checked.identity is not None and checked.identity.simulated,
        identity=checked.identity and f"{checked.identity.id:016x}",
        build=checked.identity and f"{checked.identity.build:016x}",
        data=checked.data.source, images=count,
        accuracy=right, accuracy_interval=interval(right, count),
        logits_equal=bool((result.logits == checked.logits).all()),
        logits_compared=int(result.logits.size),
        spikes_compared=checked.spikes, spike_mismatches=checked.mismatches,
        cycles_per_image=cycles, cycles_by_layer=by_layer,
        counters_per_image={name: float(value) for name, value in totals.items()},
        clock_hz=config.clock_hz, baud=baud,
        bytes_per_image=(result.request_bytes, result.reply_bytes),
        load_bytes=load_bytes,
        load_s_link=throughput.line_seconds(baud, load_bytes, -(-load_bytes // MOST_BYTES)),
        frames_per_s_core=1 / seconds,
        frames_per_s_link=checked.link[0].frames_per_s if checked.link else None,
        link=checked.link,
        sop_per_s_executed=checked.executed / count / seconds,
        sop_per_s_dense_equivalent=checked.dense / count / seconds,
        useful_updates_per_cycle=checked.useful / count / cycles,
        useful_fraction=checked.useful / count / cycles / config.slots,
        bits_per_weight=image.bits_per_weight,
        entropy_bits_per_weight=image.entropy_bits_per_weight,
        sparsity=checked.network.sparsity,
        weights_surviving=checked.network.weights_surviving,
        energy_analytic_uj=used.total_uj, energy_analytic_parts=used.as_dict())


def interval(share: float, count: int) -> tuple[float, float]:
    """Where the accuracy of endless samples lies, with 95 % confidence, when `share` of `count`
    were right (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    half = z * spread / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def place(name: str, preset: str | None, transport: str, simulated: bool) -> str:
    """A board and its core in words, and whether the board is a simulated one."""
    board, core = BOARDS[name], f", core {preset}" if preset else ""
    if name != "sim":
        return ("a simulated " if simulated else "") + f"{board.title}{core}"
    if transport == "simulated board":
        return f"{board.title}{core}"
    return f"{'a simulated board' if simulated else 'the board'} at {transport}{core}"


def with_link(run: RunReport) -> str:
    """Frames/s with the link, in words: at every rate that was measured, or why none was."""
    sent, received = run.bytes_per_image
    size = f"{sent} bytes to and {received} from the board"
    if not run.link:
        what = "the far end is a simulated board" if run.simulated else "a recording"
        return f"not measured ({what}: bytes take no time); {size}"
    shown = ", ".join(f"{one.frames_per_s:,.0f} at {throughput.line_name(one.baud)}"
                      for one in run.link)
    return f"{shown}: measured on {run.link[0].images} images; {size}"


def print_table(run: RunReport) -> None:
    """The report for people."""
    table = Table(title=f"{run.network} on {run.place}", title_justify="left",
                  show_header=False, box=None, padding=(0, 2, 0, 0))
    verdict = "[green]equal[/]" if run.logits_equal else "[red]DIFFERENT[/]"
    wrong = run.spike_mismatches
    spikes = ("none compared" if not run.spikes_compared else
              f"{run.spikes_compared:,} compared, "
              + ("[green]all equal[/]" if not wrong else f"[red]{wrong:,} DIFFERENT[/]"))
    layers = ", ".join(f"{name} {value:,.0f}" for name, value in run.cycles_by_layer.items())
    clock, rate = f"{run.clock_hz / 1e6:g} MHz", throughput.line_name(run.baud)
    patches = run.patches
    low, high = run.accuracy_interval
    rows = {
        "accuracy": f"{100 * run.accuracy:.2f} % of {run.images} images, 95 % interval "
                    f"{100 * low:.1f} to {100 * high:.1f} %",
        "logits": f"{verdict} to the integer reference ({run.logits_compared:,})",
        "spikes": spikes,
        "cycles per image": f"{run.cycles_per_image:,.0f} ({layers})",
        "frames/s, core alone": f"{run.frames_per_s_core:,.0f} at {clock}",
        "frames/s with the link": with_link(run),
        "loading the ticket": f"{run.load_s_link:.3f} s at {rate}, "
                              f"{run.load_bytes:,} bytes",
        "SOP/s executed": f"{run.sop_per_s_executed / 1e9:.2f} G",
        "SOP/s dense-equivalent": f"{run.sop_per_s_dense_equivalent / 1e9:.2f} G",
        "useful updates a cycle": f"{run.useful_updates_per_cycle:.1f} of "
                                  f"{run.slots} slots "
                                  f"({100 * run.useful_fraction:.1f} % useful)",
        "bits per surviving weight": f"{run.bits_per_weight:.2f}, entropy bound "
                                     f"{run.entropy_bits_per_weight:.2f}",
        **({} if patches is None else {
            "patches kept": f"{patches.kept} of {patches.tokens} ({patches.mode})"}),
        "sparsity": f"{100 * run.sparsity:.2f} %, {run.weights_surviving:,} weights "
                    "survive",
        "energy per image": f"{run.energy_analytic_uj:.2f} µJ, analytic (published 45 nm "
                            "costs), not measured",
    }
    if run.build:
        rows["board says"] = f"identity {run.identity}, build {run.build}"
    for name, value in rows.items():
        table.add_row(name, value)
    Console(soft_wrap=True, highlight=False).print(table)


def print_tickets(rows: list[dict]) -> None:
    """The bundled tickets (`sw.bundled.describe`) for people."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("ticket", "data", "input", "T", "weights", "sparsity", "patches kept", "accuracy",
                 "dense"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        accuracies = (row["accuracy_integer"], row["accuracy_dense"])
        table.add_row(
            row["name"], row["data"] or "?", " x ".join(map(str, row["input"])),
            str(row["timesteps"]),
            f"{row['weights_surviving']:,} of {row['weights']:,}", f"{100 * row['sparsity']:.2f} %",
            row["patches"] or "all",
            *("?" if value is None else f"{100 * value:.2f} %" for value in accuracies))
    Console(highlight=False, width=WIDTH).print(table)
