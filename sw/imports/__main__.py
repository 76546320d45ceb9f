"""Turn a NIR graph or a SpikingJelly network into a ticket, or a ticket into a NIR graph.

What the source is says what is done. docs/imports.md has the tables of what is supported.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from ..errors import SpikeTicketError, command

EXAMPLES = """\
examples:
  python -m sw.imports model.nir --timesteps 4 --dialect snntorch --out ticket.safetensors
  python -m sw.imports model.nir --timesteps 4 --dialect spikingjelly --static \\
      --data fashion-mnist --images 500 --calibrate 200 --out ticket.safetensors
  python -m sw.imports nets.py:CSNN --weights csnn.pth --shape 1,28,28 --timesteps 4 \\
      --out ticket.safetensors
  python -m sw.imports bundled/fmnist-scnn.safetensors --out scnn.nir
"""

CALIBRATION_BATCH = 25
GRAPHS = (".nir", ".h5", ".hdf5")
WEIGHTS = (".pth", ".pt", ".ckpt", ".tar", ".bin")
OWNERS = {"weights": "network", "shape": "network", "pools": "ticket",
          **dict.fromkeys(("dialect", "fires", "reset", "norm_input", "confirm"), "graph")}
"""The kind of source that an option is for."""


def parser() -> argparse.ArgumentParser:
    from .dialects import DIALECTS
    p = argparse.ArgumentParser(prog="python -m sw.imports", description=__doc__, epilog=EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", help="a graph that nir.write made, a network (FILE.py:NAME: a class, "
                   "a function or a module in FILE), or a ticket (.safetensors)")
    p.add_argument("--out", required=True, metavar="FILE",
                   help="ticket to write (.safetensors), or graph (.nir, .h5)")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")
    g = p.add_argument_group("to a ticket")
    g.add_argument("--timesteps", type=int, metavar="T", help="graphs hold none; networks may")
    g.add_argument("--bits", type=int, metavar="B", help="of the weights, 1 to 8 (default: 4)")
    g.add_argument("--static", action=argparse.BooleanOptionalAction, default=None,
                   help="the input is one image, the same at every timestep (default: for "
                   "networks)")
    g.add_argument("--input-bits", type=int, metavar="B", help="of the input (default: 8)")
    g.add_argument("--input-scale", type=float, metavar="X", help="value of one integer input "
                   "unit in the source (default: 1/255 with --static, else 1)")
    g.add_argument("--name", help="of the ticket's network")
    g.add_argument("--data", metavar="DATA", help="data set to compare float and integers on "
                   "(docs/data.md)")
    g.add_argument("--data-root", metavar="FOLDER", help="where data sets are looked for")
    g.add_argument("--images", type=int, metavar="N", default=200,
                   help="of --data's test split to compare on (default: %(default)s)")
    g.add_argument("--calibrate", type=int, metavar="N", default=0,
                   help="correct biases on N inputs of --data's train split (default: not)")
    g = p.add_argument_group("network to ticket")
    g.add_argument("--weights", metavar="FILE", help="of the network: .safetensors, or what "
                   "torch.save wrote of net.state_dict() (default: what NAME makes)")
    g.add_argument("--shape", metavar="C,H,W", help="of the input; features: F or F,1,1")
    g = p.add_argument_group("graph to ticket")
    g.add_argument("--dialect", help="the library that wrote the graph, "
                   f"{', '.join(DIALECTS)}; nir is the words of its specification (default: nir)")
    g.add_argument("--dt", type=float, help="timestep in the graph's unit of tau, instead of the "
                   "dialect's")
    g.add_argument("--fires", choices=(">", ">="), help="comparison with the threshold, instead "
                   "of the dialect's")
    g.add_argument("--reset", choices=("value", "subtract"), help="reset, instead of the "
                   "dialect's")
    g.add_argument("--norm-input", action=argparse.BooleanOptionalAction, default=None,
                   help="norm_input of sinabs' LIF neurons")
    g.add_argument("--confirm", action="store_true", default=None, help="what the notes say about "
                   "things that the file does not hold is right")
    g = p.add_argument_group("ticket to graph")
    g.add_argument("--pools", choices=("sum", "avg"), help="nodes for pools: sum (Norse, sinabs), "
                   "avg (SpikingJelly, snnTorch) (default: sum)")
    return p


@command
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    values = _to_graph(options) if _kind(options) == "ticket" else _to_ticket(options)
    if options.json:
        print(json.dumps(values, indent=2))
    else:
        _print(values)
    return 0


def _kind(options: argparse.Namespace) -> str:
    """What the source is; raises SpikeTicketError where --out or an option does not fit it."""
    from ..output import check_file
    from .load_module import is_module_name
    source, made = Path(options.source), Path(options.out).suffix
    if is_module_name(options.source):
        kind = "network"
    elif source.suffix == ".safetensors":
        kind = "ticket"
    elif source.suffix in WEIGHTS:
        raise SpikeTicketError(f"{source}: weights without their network; name its class, "
                               f"FILE.py:NAME --weights {source}")
    else:
        kind = "graph"
    wanted = GRAPHS if kind == "ticket" else (".safetensors",)
    if made not in wanted:
        becomes = "NIR graph" if kind == "ticket" else "ticket"
        raise SpikeTicketError(f"--out {options.out}: a {kind} becomes a {becomes}; let its name "
                               f"end in {wanted[0]}")
    for name, owner in OWNERS.items():
        if getattr(options, name) is not None and kind != owner:
            raise SpikeTicketError(f"--{name.replace('_', '-')} is for a {owner} as the source; "
                                   f"{options.source} is a {kind}")
    check_file(options.out)
    return kind


def _to_graph(options: argparse.Namespace) -> dict:
    from .. import ticket
    from .nir_write import to_nir
    found = ticket.load(options.source)
    graph = to_nir(found.network, options.out, dt=options.dt or 1e-4, pools=options.pools or "sum")
    return {"out": options.out, "nodes": len(graph.nodes), "edges": len(graph.edges),
            "weights": found.network.weights_surviving, "sparsity": found.network.sparsity}


def _to_ticket(options: argparse.Namespace) -> dict:
    from ..data import datasets
    from .calibration import calibrate
    from .floats import compare
    from .load_module import is_module_name
    if options.calibrate and not options.data:
        raise SpikeTicketError(f"--calibrate {options.calibrate} needs --data to take inputs from")
    for name in ("images", "calibrate"):
        if getattr(options, name) < 0:
            raise SpikeTicketError(f"--{name} {getattr(options, name)} is below 0")
    imported = _network(options) if is_module_name(options.source) else _graph(options)
    if options.calibrate:
        train = datasets.for_network(imported.network, options.data, "train", options.data_root,
                                     options.calibrate)
        imported = calibrate(imported, train.images, CALIBRATION_BATCH)
    values = {"out": options.out, **imported.facts, **_described(imported)}
    if options.data and options.images:
        test = datasets.for_network(imported.network, options.data, "test", options.data_root,
                                    options.images)
        with _progress(len(test.images)) as bar:
            values["agreement"] = compare(imported, test.images, test.labels,
                                          progress=bar.update).facts()
    imported.save(options.out, command=" ".join(sys.argv[1:]),
                  **{k: values[k] for k in ("agreement",) if k in values})
    return values


def _given(options: argparse.Namespace, *names: str) -> dict:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _graph(options: argparse.Namespace):
    from .nir_graph import from_nir
    return from_nir(options.source, **_given(
        options, "timesteps", "dt", "fires", "reset", "norm_input", "confirm", "bits", "static",
        "input_bits", "input_scale", "name"), dialect_of=options.dialect or "nir")


def _network(options: argparse.Namespace):
    from .load_module import load_module
    from .spikingjelly import from_spikingjelly
    if options.shape is None:
        raise SpikeTicketError(f"{options.source} does not say what it takes; give --shape C,H,W")
    shape = _shape(options.shape)
    model = load_module(options.source, options.weights)
    imported = from_spikingjelly(model, shape, **_given(
        options, "timesteps", "bits", "static", "input_bits", "input_scale", "name"))
    return replace(imported, facts={**imported.facts, "network": options.source})


def _shape(text: str) -> tuple[int, int, int]:
    try:
        sizes = [int(n) for n in text.replace("x", ",").split(",")]
    except ValueError:
        sizes = []
    sizes = [*sizes, 1, 1] if len(sizes) == 1 else sizes
    if len(sizes) != 3 or min(sizes) < 1:
        raise SpikeTicketError(f"--shape {text}: give channels, height and width, as 1,28,28")
    return sizes[0], sizes[1], sizes[2]


def _progress(total: int):
    from tqdm import tqdm
    return tqdm(total=total, desc="float and integers", unit="input", disable=None, leave=False)


def _described(imported) -> dict:
    network = imported.network
    shapes = network.shapes()
    layers = [{"name": layer.name, "shape": [*vars(shapes[layer.name]).values()],
               "bits": [s.bits for s in layer.synapses],
               "weights": sum(int((s.weight != 0).sum()) for s in layer.synapses)}
              for layer in network.layers if hasattr(layer, "synapses")]
    return {"timesteps": network.timesteps, "sparsity": network.sparsity, "layers": layers,
            "notes": list(imported.notes)}


def _print(values: dict) -> None:
    for layer in values.get("layers", ()):
        shape = "x".join(map(str, layer["shape"]))
        print(f"{layer['name']:24} {shape:>12} {layer['weights']:>9} weights of "
              f"{'/'.join(map(str, layer['bits']))} bits")
    for note in values.get("notes", ()):
        print(note)
    if "layers" in values and not values["notes"]:
        print("exact: integers give the spikes of the source")
    if "biases_corrected" in values:
        print(f"{values['biases_corrected']} biases corrected on {values['calibrated_on']} inputs")
    if "agreement" in values:
        a = values["agreement"]
        print(f"{a['inputs']} inputs: {a['equal_labels']:.1%} equal labels; accuracy "
              f"{a['accuracy_float']:.1%} float, {a['accuracy_integer']:.1%} integers")
    print(f"wrote {values['out']}, sparsity {values['sparsity']:.1%}")


if __name__ == "__main__":
    sys.exit(main())
