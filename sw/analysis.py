"""What a ticket is made of: sparsity, spikes, operations and energy by layer, which patches it
keeps, and whether two searches found the same ticket.

For every ticket, on the images of its own data set (or --data):

* sparsity of each layer, and of all;
* spike rate (mean of the spike map over images, neurons, timesteps) and active neurons (at least
  one spike in four timesteps);
* synaptic operations per image: executed (spikes through surviving weights;
  `sw.integer.reference.sop`), the same spikes through all weights, removed ones too, as
  SpikingJelly's `SynOpCounter` counts them (only where the input is spikes), and dense (all
  weights, all neurons firing);
* analytic energy of these operations (published 45 nm costs, `sw.core.energy`; memory traffic needs
  a board, see `spiketicket run`);
* with a patch gate: how often each patch is kept, by class.

Between tickets of the same shape: survivors of both over survivors of either (Jaccard), by layer,
beside what two random masks of these sparsities would share.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import bundled, ticket
from .core import energy
from .data import datasets
from .errors import BadInput
from .integer import reference
from .integer.network import Layer, Network
from .overlap import Masks, masks_of, overlap

BATCH = 25

@dataclass(frozen=True, eq=False)
class Subject:
    """One ticket to look at. network: None where the search exported none. info: its metadata."""

    name: str
    masks: Masks
    network: Network | None = None
    info: dict = field(default_factory=dict)


def open_subject(path: str | Path) -> Subject:
    """A ticket (file or bundled name), or a search's folder with ticket.safetensors,
    masks.safetensors or both.

    A folder's masks are those of the search, before quantisation rounds any weight to 0.
    """
    path = Path(path)
    if not path.is_dir():
        path = bundled.find(str(path))
        found = ticket.load(path)
        name = path.parent.name if path.name == "ticket.safetensors" else path.stem
        return Subject(name, masks_of(found.network), found.network, found.metadata)
    tickets, masks = path / "ticket.safetensors", path / "masks.safetensors"
    found = ticket.load(tickets) if tickets.is_file() else None
    if masks.is_file():
        from .tickets import checkpoint
        groups, _ = checkpoint.load(masks)
        held = {name: mask.numpy().astype(bool) for name, mask in groups.get("mask", {}).items()}
    elif found is not None:
        held = masks_of(found.network)
    else:
        raise BadInput(f"{path}: holds neither ticket.safetensors nor masks.safetensors; "
                       "give a ticket or the folder of a finished search")
    return Subject(path.resolve().name, held, found.network if found else None,
                   found.metadata if found else {})


def open_subjects(paths: Iterable[str | Path]) -> list[Subject]:
    """Tickets by distinct names: one whose name was there already goes by its path."""
    subjects: list[Subject] = []
    for path in paths:
        subject = open_subject(path)
        if subject.name in {other.name for other in subjects}:
            subject = replace(subject, name=str(path))
        subjects.append(subject)
    return subjects


# -- activity ---------------------------------------------------------------------------------


def data_of(subject: Subject, data: str | None, root: str | None, images: int) -> datasets.Images:
    """The first test images for a network, in its input's shape."""
    name = data or subject.info.get("data")
    if not name:
        raise BadInput(f"{subject.name}: does not say its data set; give --data")
    return datasets.for_network(subject.network, name, "test", root, images)


def activity(network: Network, data: datasets.Images) -> dict:
    """Figures by layer and in total, per image; see the module's text."""
    shapes, steps = network.shapes(), network.timesteps
    layers = [layer for layer in network.layers if isinstance(layer, Layer)]
    work = {layer.name: reference.Work() for layer in layers}
    rates = dict.fromkeys((layer.name for layer in layers if layer.neuron), 0.0)
    active, kept, correct = dict.fromkeys(rates, 0.0), {}, 0
    counted: dict[str, int] = {}
    for start in tqdm(range(0, len(data), BATCH), desc=network.name, unit="batch", leave=False,
                      disable=None):
        part = data.images[start:start + BATCH]
        run = reference.run(network, part)
        correct += int((run.labels == data.labels[start:start + BATCH]).sum())
        for name, done in reference.sop(network, run.spikes).items():
            for key, value in vars(done).items():
                setattr(work[name], key, getattr(work[name], key) + value)
        for name in rates:
            spikes = run.spikes[name]
            rates[name] += float(spikes.mean()) * len(part)
            active[name] += len(part) * float(np.mean(
                [spikes[t:t + reference.GROUP].any(0).mean()
                 for t in range(0, steps, reference.GROUP)]))
        for name, tokens in getattr(run, "kept", {}).items():
            kept.setdefault(name, []).append(tokens)
        for name, count in synops(network, part).items():
            counted[name] = counted.get(name, 0) + count
    count, table = len(data), {}
    for layer in layers:
        total = sum(syn.weight.size for syn in layer.synapses)
        alive = sum(int(np.count_nonzero(syn.weight)) for syn in layer.synapses)
        done, executed = work[layer.name], work[layer.name].executed / count
        out, (height, width) = shapes[layer.name], (shapes[layer.name].height,
                                                    shapes[layer.name].width)
        if layer.pool is not None and layer.pool.mode == "or":  # every position has a neuron
            height, width = network.conv_size(layer.name, layer.synapses[0], shapes)
        updates = out.channels * height * width * steps if layer.neuron else 0
        table[layer.name] = {
            "weights": total, "surviving": alive, "sparsity": 1 - alive / total if total else None,
            "spike_rate": rates[layer.name] / count if layer.neuron else None,
            "active": active[layer.name] / count if layer.neuron else None,
            "sop_executed": executed, "sop_all_weights": counted.get(layer.name, 0) / count,
            "sop_dense": done.dense / count,
            "energy_uj": (executed * energy.ACCUMULATE_PJ
                          + updates * energy.MULTIPLY_ACCUMULATE_PJ) / 1e6}
    totals = {key: sum(row[key] for row in table.values())
              for key in ("sop_executed", "sop_all_weights", "sop_dense", "energy_uj")}
    return {"images": count, "accuracy": correct / count, "timesteps": steps, **totals,
            "layers": table, "patches": patches(network, kept, data)}


def synops(network: Network, images: np.ndarray) -> dict[str, int]:
    """SpikingJelly's `SynOpCounter` on the integer network: operations by layer, over the images.

    It counts spikes through every weight, also removed ones, and only where the operand is binary.
    """
    import torch
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

    from .integer.spikingjelly import IntegerNetwork
    model = IntegerNetwork(network)
    x = torch.from_numpy(images.astype(np.int64))
    counter = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        model(x if network.input.static else x.transpose(0, 1))
    result: dict[str, int] = {}
    places = {name: module.layer.name for name, module in model.named_modules()
              if hasattr(module, "layer")}
    for scope, counts in counter.get_counts().items():
        layer = next((places[name] for name in sorted(places, key=len, reverse=True)
                      if scope.split(".", 1)[-1] == name), None)
        if layer is not None:
            result[layer] = result.get(layer, 0) + sum(counts.values())
    return result


def patches(network: Network, kept: dict[str, list[np.ndarray]], data: datasets.Images) -> dict:
    """How often each patch was kept, by gate and class.

    {gate: {"grid": [rows, columns], "keep": n, "by_class": {class: [rows][columns] of shares},
    "mean_image": {class: [H][W], 0..1, channels and timesteps added up}}}.
    """
    result = {}
    names = network.labels or data.names or [str(i) for i in range(int(data.labels.max()) + 1)]
    for name, parts in kept.items():
        gate, tokens = network.gates[name], np.concatenate(parts)
        chosen = np.zeros((len(tokens), gate.tokens))
        np.put_along_axis(chosen, tokens, 1.0, axis=1)
        shares, means = {}, {}
        for label in np.unique(data.labels):
            which = data.labels == label
            shares[names[label]] = chosen[which].mean(0).reshape(gate.grid).tolist()
            picture = data.images[which].astype(np.float64)
            picture = picture.mean(axis=tuple(range(picture.ndim - 2)))
            means[names[label]] = (picture / max(picture.max(), 1e-9)).round(3).tolist()
        result[name] = {"grid": list(gate.grid), "keep": gate.keep, "by_class": shares,
                        "mean_image": means}
    return result


def analyse(subjects: list[Subject], data: str | None = None, root: str | None = None,
            images: int = 200) -> dict:
    """Everything about some tickets: {"tickets": {name: ...}, "overlap": [...]}."""
    found: dict[str, dict] = {}
    for subject in subjects:
        entry = {"sparsity": 1 - sum(int(m.sum()) for m in subject.masks.values())
                 / sum(m.size for m in subject.masks.values()),
                 "sparsity_by_layer": {n: 1 - float(m.mean()) for n, m in subject.masks.items()}}
        if subject.network is not None and images:
            entry |= activity(subject.network, data_of(subject, data, root, images))
        found[subject.name] = entry
    pairs = []
    for a, b in itertools.combinations(subjects, 2):
        shared = overlap(a.masks, b.masks)
        pairs.append({"a": a.name, "b": b.name, **(shared or {"not_comparable": (
            "their layers differ in number or size")})})
    return {"tickets": found, "overlap": pairs}


def show(result: dict) -> None:
    """Print what `analyse` returned."""
    for name, entry in result["tickets"].items():
        print(f"\n{name}: {100 * entry['sparsity']:.2f} % of the weights removed by its masks")
        if "layers" not in entry:
            for layer, value in entry["sparsity_by_layer"].items():
                print(f"  {layer:24} {100 * value:6.2f} % removed")
            continue
        print(f"  {100 * entry['accuracy']:.2f} % of {entry['images']} images, "
              f"T = {entry['timesteps']}, {entry['energy_uj']:.2f} µJ per image (analytic, "
              "without memory)")
        print(f"  {'layer':20}{'weights':>10}{'removed':>9}{'rate':>8}{'active':>8}"
              f"{'SOP':>12}{'all weights':>13}{'dense':>14}{'µJ':>8}")
        for layer, row in entry["layers"].items():
            part = [f"{100 * row[key]:.1f} %" if row[key] is not None else ""
                    for key in ("sparsity", "active")]
            rate = f"{row['spike_rate']:.3f}" if row["spike_rate"] is not None else ""
            print(f"  {layer:20}{row['weights']:>10,}{part[0]:>9}{rate:>8}{part[1]:>8}"
                  f"{row['sop_executed']:>12,.0f}{row['sop_all_weights']:>13,.0f}"
                  f"{row['sop_dense']:>14,.0f}{row['energy_uj']:>8.2f}")
        for gate, found in entry["patches"].items():
            rows, columns = found["grid"]
            print(f"  {gate}: {found['keep']} of {rows * columns} patches kept")
    for pair in result["overlap"]:
        note = pair.get("not_comparable")
        print(f"\n{pair['a']} and {pair['b']}: " + (note or (
            f"{100 * pair['jaccard']:.1f} % of the survivors shared, "
            f"{100 * pair['chance']:.1f} % by chance")))
