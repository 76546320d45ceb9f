"""What a ticket costs on a core: cycles, estimated for training and pruning, and exactly.

An engine walks, for every surviving weight, the words of the map that the weight reads, and skips
words without a spike. A word takes a cycle, or more where a unit has more than one of its spikes;
meanwhile the drains visit every neuron. So for a connection, with e = engines::

    word      = max(any spike over T, positions that spike at any of T / units)
    synapses  = sum over surviving weights of the words of their input channel / e
    neurons   = neurons / (drains * lanes)
    estimate  = sqrt(synapses² + neurons²)        between their maximum and their sum

"Any spike over T" is the largest activity over timesteps and word, so gradients flow: the spikes of
a word share the pressure, which is largest where a single one keeps it from being skipped. What the
estimate leaves out (queues, strips, several groups of timesteps) the cycle model has: `forecast`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from hw.boards import BOARDS

from ..compile.compiler import DoesNotFit, compile_network
from ..core import cores, cycles
from ..integer.network import Network
from . import export, pruning
from .classifier import Classifier
from .found import Found
from .masks import Masks
from .patches import PatchGate
from .places import marked, places
from .scores import connections
from .trainer import Trainer
from .trim import trimmed
from .words import Words

SAMPLES = 16
"""Validation samples (training samples where there are none) that the cycle model runs on."""

SEEN = 128
"""The same, on which the words with spikes are counted that pruning goes by."""


class CycleCost:
    """Cycles of a search's tickets on the core that its configuration names.

    gate: of the tickets. Raises SpikeTicketError for a network that cannot be imported.
    """

    def __init__(self, run: Trainer, gate: PatchGate | None):
        c, self.run = run.config, run
        found = marked(Found(run.build("places"), gate=gate))
        spec = export.planned_spec(run)
        layers, network = export.imported(run, found, spec)[:2]
        self.core = cores.choose(BOARDS[c.board], network, c.preset)[1]
        self.samples = (run.held or run.data).images[:SEEN]
        sample = found.model.prepare(torch.from_numpy(self.samples[:1].copy()))
        self.places = places(found, layers, network, sample)

    def words(self, found: Found) -> dict[str, Tensor]:
        """Mean word cycles of every input of every connection, see `Words`; the model is left in
        evaluation."""
        model = found.model.to(self.run.device).eval()
        seen = Words(found.model, self.places, self.core)
        self.run.generator.manual_seed(0)
        with torch.no_grad(), seen.watched():
            x = torch.from_numpy(self.samples.copy()).to(self.run.device)
            found.forward(model.prepare(x))
        return seen.words

    def estimate(self, words: Mapping[str, Tensor], masks: Masks) -> Tensor:
        """Estimated cycles of all layers, as a number that gradients flow through."""
        total = torch.zeros(())
        for name, place in self.places.items():
            mask = masks[name].to(words[name])
            kept = mask.reshape(*mask.shape[:2], -1).sum(2)
            synapses = (words[name] * kept).sum() / self.core.engines
            rows = mask.flatten(1).any(1).sum() if place.removable else len(mask)
            neurons = rows * place.neurons / (self.core.drains * self.core.lanes)
            total = total + torch.hypot(synapses, torch.as_tensor(float(neurons)))
        return total

    def prune(self, found: Found, within: Masks, target: float) -> Masks:
        """The masks after removing what is worth least per cycle, until the estimate is at most
        `target` cycles; `within`, the masks so far, where it is already."""
        words = self.words(found)
        weights = connections(found.model)
        layers = [pruning.PrunedLayer(
            name, weights[name].weight.detach().cpu().numpy(), mask.cpu().numpy(),
            words[name].cpu().numpy() / self.core.engines,
            self.places[name].neurons / (self.core.drains * self.core.lanes),
            self.places[name].removable) for name, mask in within.items()]
        pruning.remove(layers, target)
        return {layer.name: torch.from_numpy(layer.mask) for layer in layers}

    def silent(self, model: nn.Module, masks: Masks) -> Callable[[], None]:
        """A function that keeps channels without a weight silent: their bias, or scale and shift
        of the batch norm behind, are set to 0. For after every update."""
        layers, chosen = connections(model), []
        for name, mask in masks.items():
            rows = ~mask.flatten(1).any(1)
            if self.places[name].removable and rows.any():
                norm = self.places[name].norm
                parts = [layers[name].bias, *(model.get_submodule(norm).parameters(False)
                                              if norm else ())]
                chosen += [(p, rows.to(p.device)) for p in parts if p is not None]

        @torch.no_grad()
        def keep() -> None:
            for parameter, rows in chosen:
                parameter[rows] = 0
        return keep

    @contextmanager
    def pressing(self, model: Classifier, masks: Masks) -> Iterator[Callable[[], Tensor] | None]:
        """Within it, a function (None where `cost_weight` is 0) that gives what the batch that the
        model ran last adds to the loss: `cost_weight` times its share of the estimate that the
        masks have when every neuron is active."""
        share = self.run.config.cost_weight
        if not share:
            yield None
            return
        seen, most = Words(model, self.places, self.core), {}
        for name, layer in connections(model).items():
            channels, *grid = self.places[name].inputs
            columns = layer.weight.shape[1]
            flat = isinstance(layer, nn.Linear) and columns != channels
            most[name] = torch.full((1, columns), 1.0 if flat else
                                    math.prod(grid) / self.core.units)
        whole = float(self.estimate(most, masks))
        with seen.watched():
            yield lambda: share * self.estimate(seen.words, masks) / whole


def forecast(run: Trainer, found: Found, network: Network | None = None) -> int | None:
    """Cycles of a ticket on the core that the configuration names, by the cycle model: mean of
    validation samples. network: its integers (None: without further training). None where it does
    not fit the core."""
    c = run.config
    if network is None:
        clean = run.build()             # an importer refuses a module that is watched
        clean.load_state_dict(found.model.state_dict())
        clean = replace(found, model=clean)
        network = trimmed(export.imported(run, clean, export.planned_spec(run))[1])
    try:
        image = compile_network(network, cores.choose(BOARDS[c.board], network, c.preset)[1])
    except DoesNotFit:
        return None
    samples = torch.from_numpy((run.held or run.data).images[:SAMPLES].copy())
    run.generator.manual_seed(0)
    x, _, masks = export.host_side(found, samples, network.timesteps, network.input)
    kept = [None] * len(x) if masks is None else masks.numpy()
    totals = [cycles.simulate(image, one, mask).total
              for one, mask in zip(x.numpy(), kept, strict=True)]
    return round(sum(totals) / len(totals))
