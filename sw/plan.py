"""Does a ticket fit a board, and how fast will it be? (`spiketicket plan`)

Every memory's use, bits per surviving weight against the entropy bound, and the cycle model's
forecast: on the typical training samples that a ticket carries, or on others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hw.boards import BOARDS, DEVICES, Board
from hw.config import CoreConfig

from . import ticket, typical
from .compile import passes as compiler_passes
from .compile.compiler import DoesNotFit, compile_network
from .compile.fit import Memory
from .compile.image import Image
from .compile.least import least
from .core import cores, cycles
from .data import datasets
from .errors import SpikeTicketError
from .integer.network import Network

SAMPLE = 16
"""Samples of `--data` that the cycle model runs on."""


def plan(found: ticket.Ticket, board: Board, data: str | None = None,
         preset: str | None = None) -> dict:
    """Fit and forecast of a ticket on a board, JSON-serialisable.

    data: samples (as of `sw.data.datasets.load`) to run the cycle model on; None takes the typical
        ones that the ticket carries, else draws spikes of the activity it records, else of 25 %.
    preset: core on the board; None: its first one that has what the ticket needs.
    """
    preset, config = cores.choose(board, found.network, preset)
    device = DEVICES[board.device]
    bound = least(found.network)
    return {"board": board.name, "preset": preset} | on_core(found, config, data) | {
        "least_bits": {"weights": bound.weights, "maps": bound.maps, "layer": bound.layer,
                       "block_ram": device.ram_bits}}


def passes(found: ticket.Ticket, board: Board, preset: str | None = None) -> dict:
    """What the compiler's passes made of a ticket for a board, JSON-serialisable."""
    preset, config = cores.choose(board, found.network, preset)
    try:
        made = compiler_passes.describe(found.network, config, recorded_activity(found))
    except SpikeTicketError as error:
        made = compiler_passes.refused(found.network, error)
    return {"board": board.name, "preset": preset} | made


def on_core(found: ticket.Ticket, config: CoreConfig, data: str | None = None) -> dict:
    """The same for a core, without the names of board and preset."""
    network = found.network
    recorded = recorded_activity(found)
    inputs, source = _samples(found, data)
    result: dict[str, object] = {
        "network": network.name, "sparsity": network.sparsity, "weights": network.weights_total,
        "weights_surviving": network.weights_surviving, "activity": source}
    try:
        image = compile_network(network, config, recorded)      # as the driver does
    except SpikeTicketError as error:
        memories = error.memories if isinstance(error, DoesNotFit) else []
        return result | {"fits": False, "reason": str(error), "memories": _memories(memories),
                         "cycles_per_image": None, "frames_per_s": None}
    runs = ([cycles.forecast(image, recorded)] if inputs is None
            else [cycles.simulate(image, x, _any_mask(network)) for x in inputs])
    totals = [run.total for run in runs]
    cycles_per_image = round(sum(totals) / len(totals))

    def mean(of: Callable[[cycles.Cycles], Mapping[str, float]]) -> dict[str, float]:
        return {name: sum(of(run)[name] for run in runs) / len(runs) for name in of(runs[0])}
    updates = sum(run.counters["updates"] for run in runs) / max(1, sum(totals))
    return result | {
        "fits": True, "memories": _memories(image.memories),
        "cycles_per_image": cycles_per_image, "cycles_spread": [min(totals), max(totals)],
        "samples": 0 if inputs is None else len(runs),
        "frames_per_s": config.clock_hz / max(1, cycles_per_image),
        "cycles_by_layer": {n: round(v) for n, v in mean(lambda run: run.by_layer).items()},
        "cycles_by_cause": mean(lambda run: run.by_cause), "bound_by_layer": _bounds(runs),
        "dram_bytes_per_image": sum(4 * len(stream) for stream in image.streams),
        "useful_updates_per_cycle": updates, "useful_fraction": updates / config.slots,
        "clock_hz": config.clock_hz, "bits_per_weight": image.bits_per_weight,
        "entropy_bits_per_weight": image.entropy_bits_per_weight,
        "accumulator_bits": config.acc_bits, "layers": _layers(image)}


def _bounds(runs: Sequence[cycles.Cycles]) -> dict[str, str]:
    """Where most cycles of each layer go; of `cycles.CAUSES`."""
    spent: dict[str, Counter[str]] = {}
    for run in runs:
        for layer in run.layers:
            spent.setdefault(layer.name, Counter()).update(layer.by_cause)
    return {name: causes.most_common(1)[0][0] for name, causes in spent.items()}


def _samples(found: ticket.Ticket, data: str | None) -> tuple[np.ndarray | None, str]:
    """Inputs for the cycle model, or None, and what is said of the activity."""
    if data:
        inputs = datasets.for_network(found.network, data, limit=SAMPLE).images
        return inputs, f"that of {len(inputs)} samples of {data}"
    inputs = typical.unpack(found)
    if inputs is not None:
        return inputs, f"that of {len(inputs)} typical training samples, which the ticket carries"
    if recorded_activity(found):
        return None, ("drawn at the rates that the ticket records, so words are never silent: "
                      "cycles are too many (--data measures)")
    return None, "assumed 25 % (--data measures)"


def _any_mask(network: Network) -> np.ndarray | None:
    """Tokens for a gate that takes them from the host: any will do, the lowest."""
    for gate in network.gates.values():
        if gate.mode == "host":
            return np.arange(gate.tokens) < gate.keep
    return None


def recorded_activity(found: ticket.Ticket) -> dict[str, np.ndarray]:
    """Active fraction by layer from the ticket's metadata, {} if it has none."""
    layers = found.metadata.get("activity_by_layer")
    names = {layer.name for layer in found.network.layers[:-1]}
    if not isinstance(layers, dict):
        return {}
    return {name: np.full((1, 1), float(rates["active"])) for name, rates in layers.items()
            if name in names and isinstance(rates, dict) and "active" in rates}


def _memories(memories: tuple[Memory, ...] | list[Memory]) -> list[dict]:
    return [{"name": m.name, "used": m.used, "available": m.available, "unit": m.unit,
             "short": m.short} for m in memories]


def _layers(image: Image) -> list[dict]:
    names = ("name", "kind", "copy", "weights", "surviving", "stored", "value_width", "rice_k",
             "value_bits", "index_bits", "header_bits", "padding_bits", "entropy_bits", "taps",
             "planes", "strips", "groups", "pitch", "acc_bits",
             "streamed")
    return [{name: getattr(layer, name) for name in names} for layer in image.layers]


def report(result: dict) -> str:
    """The plan as text."""
    verdict = "fits" if result["fits"] else "does NOT fit"
    board = BOARDS[result["board"]]
    where = f"{board.name} ({board.title}), core {result['preset']}"
    lines = [f"{result['network']} on {where}: {verdict}"]
    lines.append(f"  weights {result['weights_surviving']:,} of {result['weights']:,} survive "
                 f"(sparsity {100 * result['sparsity']:.2f} %)")
    for memory in result["memories"]:
        short = f"  SHORT BY {memory['short']:,}" if memory["short"] else ""
        share = 100 * memory["used"] / memory["available"]
        lines.append(f"  {memory['name']:<16} {memory['used']:>8,} of {memory['available']:>6,} "
                     f"{memory['unit']:<7} {share:6.1f} %{short}")
    if not result["fits"]:
        return "\n".join([*lines, f"  {result['reason']}", *_least(result["least_bits"])])
    lines.append("")
    weights_in = "      weights in" if result["dram_bytes_per_image"] else ""
    lines.append(f"  {'layer':<14} {'kept of weights':>18}  {'bits (bound)':>14}  {'k':>2}  strips"
                 f"  groups {'cycles':>10}  most of them{weights_in}")
    for layer in result["layers"]:
        stored = layer["value_bits"] + layer["index_bits"] + layer["padding_bits"]
        label, kept, cost, count, bound = layer["name"], layer["kind"], "", "", ""
        if layer["kind"] == "synapses":
            kept = f"{layer['surviving']:,} of {layer['weights']:,}"
            cost = f"{stored / max(1, layer['stored']):5.2f} ({layer['entropy_bits']:5.2f})"
        if not layer["copy"]:               # whose cycles are its layer's
            count = f"{result['cycles_by_layer'][layer['name']]:,}"
            bound = result["bound_by_layer"][layer["name"]]
        if weights_in:
            bound = f"{bound:<16}  {'DRAM' if layer['streamed'] else 'block RAM'}"
        lines.append(f"  {label:<14} {kept:>18}  {cost:>14}  {layer['rice_k']:>2}  "
                     f"{layer['strips']:>6}  {layer['groups']:>6} {count:>10}  {bound}".rstrip())
    lines.append("")
    if weights_in:
        streamed = sum(layer["streamed"] for layer in result["layers"])
        rate = result["dram_bytes_per_image"] * result["frames_per_s"]
        lines.append(f"  DRAM: {result['dram_bytes_per_image']:,} bytes an image, the weights of "
                     f"{streamed} of {len(result['layers'])} layers; {rate / 1e6:,.1f} MB/s of "
                     f"{4 * result['clock_hz'] / 1e6:,.0f} that a word a cycle is")
    lines.append(f"  {result['bits_per_weight']:.2f} bits per surviving weight (entropy bound "
                 f"{result['entropy_bits_per_weight']:.2f})")
    widest = max(result["layers"], key=lambda layer: layer["acc_bits"])
    lines.append(f"  accumulators of {widest['acc_bits']} bits, for {widest['name']}; this core's "
                 f"have {result['accumulator_bits']}")
    least, most = result["cycles_spread"]
    spread = f" ({least:,} to {most:,})" if result["samples"] > 1 else ""
    lines.append(f"  forecast: {result['cycles_per_image']:,} cycles per image{spread}, "
                 f"{result['frames_per_s']:,.0f} frames/s at {result['clock_hz'] / 1e6:g} MHz, "
                 f"{result['useful_updates_per_cycle']:.1f} useful updates a cycle")
    lines.append(f"  activity: {result['activity']}")
    lines += _least(result["least_bits"])
    return "\n".join(lines)


def _least(bits: dict) -> list[str]:
    """What any core would need, and whether this device has it."""
    verdict = ": too much for any" if bits["weights"] + bits["maps"] > bits["block_ram"] else ""
    weights, maps, ram = (f"{bits[k] / 1e3:,.0f} kbit" for k in ("weights", "maps", "block_ram"))
    return [f"  least for any core: {weights} of weights (places at their entropy), {maps} of maps",
            f"  ({bits['layer']}); the device's block RAM has {ram}{verdict}"]


if __name__ == "__main__":
    from .cli.app import door
    door("plan")
