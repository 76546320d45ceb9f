"""Turn a NIR graph into a ticket, or a ticket into a NIR graph.

Which of the two the name of --out says. docs/imports.md has the tables of what is supported.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..errors import SpikeTicketError, command

EXAMPLES = """\
examples:
  python -m sw.imports model.nir --timesteps 4 --dialect snntorch --out ticket.safetensors
  python -m sw.imports model.nir --timesteps 4 --dialect spikingjelly --static \\
      --data fashion-mnist --images 500 --calibrate 200 --out ticket.safetensors
  python -m sw.imports bundled/fmnist-scnn.safetensors --out scnn.nir
"""

CALIBRATION_BATCH = 25


def parser() -> argparse.ArgumentParser:
    from .dialects import DIALECTS
    p = argparse.ArgumentParser(prog="python -m sw.imports", description=__doc__, epilog=EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", help="a graph that nir.write made, or a ticket (.safetensors)")
    p.add_argument("--out", required=True, metavar="FILE",
                   help="ticket to write (.safetensors), or graph (.nir, .h5)")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")
    g = p.add_argument_group("graph to ticket")
    g.add_argument("--dialect", choices=DIALECTS, default="nir", help="the library that wrote the "
                   "graph; nir is the words of its specification (default: %(default)s)")
    g.add_argument("--timesteps", type=int, metavar="T", help="1 to 16; graphs hold none")
    g.add_argument("--dt", type=float, help="timestep in the graph's unit of tau, instead of the "
                   "dialect's")
    g.add_argument("--fires", choices=(">", ">="), help="comparison with the threshold, instead "
                   "of the dialect's")
    g.add_argument("--reset", choices=("value", "subtract"), help="reset, instead of the "
                   "dialect's")
    g.add_argument("--bits", type=int, metavar="B", help="of the weights, 1 to 8 (default: 4)")
    g.add_argument("--static", action="store_true", default=None,
                   help="the input is one image, the same at every timestep")
    g.add_argument("--input-bits", type=int, metavar="B", help="of the input (default: 8)")
    g.add_argument("--input-scale", type=float, metavar="X", help="value of one integer input "
                   "unit in the graph (default: 1/255 with --static, else 1)")
    g.add_argument("--name", help="of the ticket's network")
    g.add_argument("--data", metavar="DATA", help="data set to compare float and integers on "
                   "(docs/data.md)")
    g.add_argument("--data-root", metavar="FOLDER", help="where data sets are looked for")
    g.add_argument("--images", type=int, metavar="N", default=200,
                   help="of --data's test split to compare on (default: %(default)s)")
    g.add_argument("--calibrate", type=int, metavar="N", default=0,
                   help="correct biases on N inputs of --data's train split (default: not)")
    g = p.add_argument_group("ticket to graph")
    g.add_argument("--pools", choices=("sum", "avg"), default="sum", help="nodes for pools: sum "
                   "(Norse, sinabs), avg (SpikingJelly, snnTorch) (default: %(default)s)")
    return p


@command
def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    to_graph = Path(options.source).suffix == ".safetensors"
    if to_graph == (Path(options.out).suffix == ".safetensors"):
        raise SpikeTicketError(f"{options.source} to {options.out}: one of the two must be a ticket"
                               " (.safetensors), the other a NIR graph (.nir)")
    values = _to_graph(options) if to_graph else _to_ticket(options)
    if options.json:
        print(json.dumps(values, indent=2))
    else:
        _print(values)
    return 0


def _to_graph(options: argparse.Namespace) -> dict:
    from .. import ticket
    from .nir_write import to_nir
    found = ticket.load(options.source)
    graph = to_nir(found.network, options.out, dt=options.dt or 1e-4, pools=options.pools)
    return {"out": options.out, "nodes": len(graph.nodes), "edges": len(graph.edges),
            "weights": found.network.weights_surviving, "sparsity": found.network.sparsity}


def _to_ticket(options: argparse.Namespace) -> dict:
    from ..data import datasets
    from .calibration import calibrate
    from .floats import compare
    from .nir_graph import from_nir
    if options.calibrate and not options.data:
        raise SpikeTicketError(f"--calibrate {options.calibrate} needs --data to take inputs from")
    for name in ("images", "calibrate"):
        if getattr(options, name) < 0:
            raise SpikeTicketError(f"--{name} {getattr(options, name)} is below 0")
    imported = from_nir(
        options.source, timesteps=options.timesteps, dialect_of=options.dialect, dt=options.dt,
        fires=options.fires, reset=options.reset, bits=options.bits, static=options.static,
        input_bits=options.input_bits, input_scale=options.input_scale, name=options.name)
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


def _progress(total: int):
    from tqdm import tqdm
    return tqdm(total=total, desc="float and integers", unit="input", disable=None, leave=False)


def _described(imported) -> dict:
    network = imported.network
    shapes = network.shapes()
    layers = [{"name": layer.name, "shape": [*vars(shapes[layer.name]).values()],
               "bits": [s.bits for s in layer.synapses],
               "weights": sum(int((s.weight != 0).sum()) for s in layer.synapses)}
              for layer in network.layers]
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
        print("exact: integers give the spikes of the graph")
    if "biases_corrected" in values:
        print(f"{values['biases_corrected']} biases corrected on {values['calibrated_on']} inputs")
    if "agreement" in values:
        a = values["agreement"]
        print(f"{a['inputs']} inputs: {a['equal_labels']:.1%} equal labels; accuracy "
              f"{a['accuracy_float']:.1%} float, {a['accuracy_integer']:.1%} integers")
    print(f"wrote {values['out']}, sparsity {values['sparsity']:.1%}")


if __name__ == "__main__":
    sys.exit(main())
