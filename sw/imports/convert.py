"""A NIR graph or a SpikingJelly network becomes a ticket, a ticket a NIR graph.

`spiketicket import`: what the source is says what is done. docs/imports.md has the tables of what
is supported.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .. import bundled
from ..errors import BadInput

CALIBRATION_BATCH = 25
GRAPHS = (".nir", ".h5", ".hdf5")
WEIGHTS = (".pth", ".pt", ".ckpt", ".tar", ".bin")
OWNERS = {"weights": "network", "shape": "network", "pools": "ticket",
          **dict.fromkeys(("dialect", "fires", "reset", "norm_input", "confirm"), "graph")}
"""The kind of source that an option is for."""


@dataclass(frozen=True)
class ImportRequest:
    """What to make of what, and how; `sw.cli.imports` says what each is. None: not given."""

    source: str
    out: str
    timesteps: int | None = None
    bits: int | None = None
    static: bool | None = None
    input_bits: int | None = None
    input_scale: float | None = None
    name: str | None = None
    data: str | None = None
    data_root: str | None = None
    images: int = 200
    calibrate: int = 0
    weights: str | None = None
    shape: str | None = None
    dialect: str | None = None
    dt: float | None = None
    fires: str | None = None
    reset: str | None = None
    norm_input: bool | None = None
    confirm: bool | None = None
    pools: str | None = None


def convert(options: ImportRequest, command: str) -> dict:
    """Write the ticket or the graph; what it is, JSON-ready. command: kept in the ticket.

    Raises SpikeTicketError.
    """
    return _to_graph(options) if _kind(options) == "ticket" else _to_ticket(options, command)


def _kind(options: ImportRequest) -> str:
    """What the source is; raises BadInput where --out or an option does not fit it."""
    from .load_module import is_module_name
    source, made = Path(options.source), Path(options.out).suffix
    if is_module_name(options.source):
        kind = "network"
    elif source.suffix == ".safetensors" or options.source in bundled.names():
        kind = "ticket"
    elif source.suffix in WEIGHTS:
        raise BadInput(f"{source}: weights without their network; name its class, "
                       f"FILE.py:NAME --weights {source}")
    else:
        kind = "graph"
    wanted = GRAPHS if kind == "ticket" else (".safetensors",)
    if made not in wanted:
        becomes = "NIR graph" if kind == "ticket" else "ticket"
        raise BadInput(f"--out {options.out}: a {kind} becomes a {becomes}; let its name "
                       f"end in {wanted[0]}")
    for name, owner in OWNERS.items():
        if getattr(options, name) is not None and kind != owner:
            raise BadInput(f"--{name.replace('_', '-')} is for a {owner} as the source; "
                           f"{options.source} is a {kind}")
    return kind


def _to_graph(options: ImportRequest) -> dict:
    from .. import ticket
    from .nir_write import to_nir
    found = ticket.load(bundled.find(options.source))
    graph = to_nir(found.network, options.out, dt=options.dt or 1e-4, pools=options.pools or "sum")
    return {"out": options.out, "nodes": len(graph.nodes), "edges": len(graph.edges),
            "weights": found.network.weights_surviving, "sparsity": found.network.sparsity}


def _to_ticket(options: ImportRequest, command: str) -> dict:
    from ..data import datasets
    from .calibration import calibrate
    from .floats import compare
    from .load_module import is_module_name
    if options.calibrate and not options.data:
        raise BadInput(f"--calibrate {options.calibrate} needs --data to take inputs from")
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
    imported.save(options.out, command=command,
                  **{k: values[k] for k in ("agreement",) if k in values})
    return values


def _given(options: ImportRequest, *names: str) -> dict:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def _graph(options: ImportRequest):
    from .nir_graph import from_nir
    return from_nir(options.source, **_given(
        options, "timesteps", "dt", "fires", "reset", "norm_input", "confirm", "bits", "static",
        "input_bits", "input_scale", "name"), dialect_of=options.dialect or "nir")


def _network(options: ImportRequest):
    from .load_module import load_module
    from .spikingjelly import from_spikingjelly
    if options.shape is None:
        raise BadInput(f"{options.source} does not say what it takes; give --shape C,H,W")
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
        raise BadInput(f"--shape {text}: give channels, height and width, as 1,28,28")
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


def show(values: dict) -> None:
    """Print what `convert` returned."""
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
