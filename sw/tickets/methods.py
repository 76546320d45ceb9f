"""The searches, each a function that reads from top to bottom; `ecpt.py` has Algorithm 1.

Every function takes a `Trainer` and returns what it found. All can be killed and started again:
see `sw.tickets.trainer`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError
from . import checkpoint, surgeon
from .config import RunConfig
from .cost import CycleCost, forecast
from .early import EarlyBird, search_timesteps
from .found import Found, gated
from .masks import Masks, by_score, random_masks
from .patches import PatchGate
from .rounding import add_rounding, last_run, settle_rounding
from .scores import add_scores, connections, freeze_all_but, norms, rate, settle
from .signs import add_signs, settle_signs
from .stem import TokenStem, find_stem
from .trainer import Trainer

KL_SAMPLES = 500
"""Training samples that the early-time rule looks at."""


def dense(run: Trainer) -> Found:
    """The network without a ticket; with `binary`, its weights trained as +-alpha."""
    model, gate = run.build(), gate_of(run)
    binary = connections(model) if run.config.binary else {}
    add_signs(binary)
    run.train("dense", model, run.config.epochs, forward=gated(model, gate))
    settle_signs(binary)
    return Found(model, gate=gate, frozen="" if binary else None)


def imp(run: Trainer) -> Found:
    """Iterative magnitude pruning with rewinding (Frankle et al. 1912.05671, Kim et al.
    2207.01382), with their early-time tickets and with early-bird stopping."""
    c = run.config
    gate = gate_of(run)
    if c.fresh:
        model = run.build()
        bird, mask_now = _bird(c, model, dict.fromkeys(prunable(model, c)), c.rounds()[:1])
        run.train("dense", model, c.epochs, forward=gated(model, gate if c.dense_gate else None),
                  remember=c.rewind_epoch, bird=bird, mask_now=mask_now)
        start = run.remembered("dense")
    else:
        model = run.dense()
        start = {name: value.clone() for name, value in model.state_dict().items()}
    timesteps = c.timesteps
    if c.early_time:
        timesteps = c.search_timesteps or early_timesteps(run, model, gate)
    cost = CycleCost(run, gate) if c.cost == "cycles" else None
    return prune_and_rewind(run, model, start, gate, timesteps, cost=cost)


def prune_and_rewind(run: Trainer, model: nn.Module, start: dict[str, Tensor],
                     gate: PatchGate | None, timesteps: int, fixed: Masks | None = None,
                     frozen: Callable[[nn.Module], list[nn.Module]] = lambda model: [],
                     cost: CycleCost | None = None) -> Found:
    """The rounds of imp: prune the trained `model`, set the survivors back to `start`, train.

    timesteps: of all rounds but the last, which has the configured T. fixed: masks of layers that
    are not searched; frozen(model): parts that do not train. cost: what is pruned by; None:
    magnitudes. With a floor, the ticket has the masks of the last round that was above it.
    """
    c = run.config
    sparsities = c.rounds()
    masks: Masks | None = None
    fixed, parts = fixed or {}, []
    above, dense = None, 0.0
    if c.floor is not None:
        _check_floor(run, model, gate)
    for r, target in enumerate(sparsities, 1):
        last = r == len(sparsities) and c.floor is None
        weights = {n: w for n, w in prunable(model, c).items() if n not in fixed}
        if cost is None:
            masks = by_score(weights, target, c.scope, within=masks)
        else:
            seen = Found(model, gate=gate)
            if masks is None:
                masks = {n: torch.ones_like(w, dtype=torch.bool).cpu() for n, w in weights.items()}
                dense = float(cost.estimate(cost.words(seen), masks))
            masks = cost.prune(seen, masks, (1 - target) * dense)
        model = run.build(timesteps=c.timesteps if last else timesteps)
        model.load_state_dict(start)
        parts = frozen(model)
        bird, mask_now = _bird(c, model, masks, sparsities[r:r + 1])
        _train_ticket(run, f"round {r}", Found(model, {**fixed, **masks}, gate), parts, cost,
                      c.epochs_final if last else c.epochs_round, bird=bird, mask_now=mask_now)
        if c.floor is not None:
            if run.validation_accuracy(f"round {r}") < c.floor:
                run.spare((len(sparsities) - r) * c.epochs_round)
                break
            above = masks
    if c.floor is not None and sparsities:
        if above is None:
            raise SpikeTicketError(
                f"floor {c.floor}: after round 1 {run.validation_accuracy('round 1'):.4f} of the "
                "validation samples are right; give a lower floor, more epochs_round, or a lower "
                "prune_rate")
        masks, model = above, run.build()
        model.load_state_dict(start)
        parts = frozen(model)
        _train_ticket(run, "final", Found(model, {**fixed, **masks}, gate), parts, cost,
                      c.epochs_final)
    found = Found(model, {**fixed, **(masks or {})}, gate)
    if c.epochs_rounded and masks:
        rounded(run, found, parts)
    return found


def _train_ticket(run: Trainer, stage: str, found: Found, frozen: list[nn.Module],
                  cost: CycleCost | None, epochs: int, **early: object) -> None:
    """Train the survivors of a round, under the pressure of `cost` if there is one, and count the
    cycles of what comes out."""
    c, model = run.config, found.model
    for part in frozen:
        part.requires_grad_(False)
    with (cost.pressing(model, found.masks) if cost else contextlib.nullcontext()) as penalty:
        run.train(stage, model, epochs, forward=found.forward, masks=found.masks, frozen=frozen,
                  distil=c.distil, penalty=penalty,
                  hold=cost.silent(model, found.masks) if cost else None,
                  at_end=(lambda: {"cycles": forecast(run, found)}) if c.board else None, **early)


def _check_floor(run: Trainer, model: nn.Module, gate: PatchGate | None) -> None:
    c = run.config
    right = (run.validation_accuracy("dense") if c.fresh
             else run.measure(model, run.held, gated(model, gate))[0])
    if right < c.floor:
        raise SpikeTicketError(f"floor {c.floor}: of the dense network {right:.4f} of the "
                               "validation samples are right; give a lower floor, or more epochs")


def rounded(run: Trainer, found: Found, frozen: list[nn.Module]) -> None:
    """Train a ticket on with the weights that the search chose rounded to their bits."""
    c, model = run.config, found.model
    still = {id(m) for part in frozen for m in part.modules()}
    layers = {n: m for n, m in connections(model).items()
              if n in found.masks and id(m) not in still}
    sample = model.prepare(torch.from_numpy(run.data.images[:1].copy())).to(run.device)
    add_rounding(layers, found.masks, c.bits, last_run(model, connections(model), sample))
    run.train("rounded", model, c.epochs_rounded, forward=found.forward, frozen=frozen,
              lr=c.lr_integer, distil=c.distil)
    settle_rounding(layers)


def scores(run: Trainer) -> Found:
    """Connection tickets of arXiv 2311.12060: weights as drawn, scores trained."""
    c = run.config
    model, gate = run.build(), gate_of(run)
    chosen = connections(model)
    with run.seeded("scores"):
        trained = add_scores(chosen, c.sparsity, c.binary, c.scope)
    plain = gated(model, gate)
    forward = lambda x: spread(plain(x), c.logit_spread)    # noqa: E731
    if c.logit_spread is None:
        first = torch.from_numpy(run.data.images[:c.batch_size].copy()).to(run.device)
        model.to(run.device).train()
        with torch.no_grad():
            deviation = plain(model.prepare(first)).std().clamp_min(1e-6)
        model.log_scale = nn.Parameter(-deviation.log())
        forward = lambda x: plain(x) * model.log_scale.exp()    # noqa: E731
        trained.append(model.log_scale)
    model.to(run.device)
    freeze_all_but(model, trained + (norms(model) if c.learn_norms else []))
    run.train("scores", model, c.epochs, forward=forward,
              lr=c.lr_scores or rate(run.updates(c.epochs)), distil=c.distil)
    if c.logit_spread is None:
        del model.log_scale
    return Found(model, settle(chosen), gate, frozen="")


def random(run: Trainer) -> Found:
    """The control, trained like the last round of imp: fresh weights under a mask that looked at
    nothing, or (`masks`) under that of another search: what it is worth without its weights."""
    c = run.config
    model, gate = run.build("fresh"), gate_of(run)
    weights = {n: w.cpu() for n, w in prunable(model, c).items()}
    masks = (read_masks(c.masks, weights) if c.masks
             else random_masks(weights, c.sparsity, c.seed, c.scope))
    run.train("random", model, c.epochs_final, forward=gated(model, gate), masks=masks,
              distil=c.distil)
    return Found(model, masks, gate)


def obs(run: Trainer) -> Found:
    """One-shot tickets: optimal brain surgeon on the dense network, `surgeon.operate`."""
    c, gate = run.config, gate_of(run)
    if c.weights is None:
        model = run.build()
        run.train("dense", model, c.epochs, forward=gated(model, gate))
    model = run.dense()
    forward = gated(model, gate)
    samples = torch.from_numpy(run.data.images[:surgeon.SAMPLES].copy()).split(c.batch_size)

    def calibrate() -> None:
        run.generator.manual_seed(0)
        for part in samples:
            forward(model.prepare(part.to(run.device)))
    layers = {n: m for n, m in connections(model).items() if n in prunable(model, c)}
    masks = surgeon.operate(model, layers, calibrate, c.sparsity, c.scope)
    return Found(model, masks, gate)


def patches(run: Trainer) -> Found:
    """Patch tickets: from scratch on the kept patches (for ViTs: arXiv 2211.01484)."""
    model, gate = run.build(), gate_of(run)
    run.train("patches", model, run.config.epochs, forward=gated(model, gate))
    return Found(model, gate=gate)


# -- parts ----------------------------------------------------------------------------------------


def gate_of(run: Trainer) -> PatchGate | None:
    """The configured patch gate; trains its selector where it needs one."""
    c = run.config
    if c.patch_sparsity == 0 and c.method != "patches":
        return None
    stem, selector = find_stem(run.build(), c.stem), None
    if c.ranking == "selector":
        chooser = StemClassifier(run, stem, "selector")
        run.train("selector", chooser, c.epochs_connections)
        net = chooser.requires_grad_(False).eval().model

        def selector(x: Tensor) -> Tensor:
            return stem.embed(net, x.to(run.device)).to(x.device)
    return PatchGate(stem, c.patch_sparsity, c.ranking, c.place, selector, run.generator)


def spread(logits: Tensor, deviation: float) -> Tensor:
    """Logits of this standard deviation, for the cross-entropy: those of frozen weights have no
    scale that training could set. Labels stay as they are."""
    return logits * (deviation / logits.detach().std().clamp_min(1e-6))


class StemClassifier(nn.Module):
    """The patch embedding of a network with a linear head of its own, on the mean of the token
    spikes over timesteps and tokens. What follows the embedding is carried along untouched."""

    def __init__(self, run: Trainer, stem: TokenStem, what: str = "weights"):
        super().__init__()
        self.model, self.stem = run.build(what), stem
        self.prepare = self.model.prepare
        sample = torch.from_numpy(run.data.images[:1].copy()).to(run.device)
        with run.seeded(f"{what} head"), torch.no_grad():
            width = stem.embed(self.model.eval(), self.prepare(sample)).shape[2]
            self.linear_head = nn.Linear(width, run.classes).to(run.device)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_head(self.stem.embed(self.model, x).float().mean((0, 3)))


def stem_connections(model: nn.Module, stem: TokenStem) -> dict[str, nn.Module]:
    """Connections of the patch embedding, by their names in the whole model."""
    return {n: m for n, m in connections(model).items() if n.startswith(f"{stem.path}.")}


def read_masks(path: str, weights: dict[str, Tensor]) -> Masks:
    """The masks.safetensors of a search, for layers like `weights`."""
    if not Path(path).exists():
        raise SpikeTicketError(f"masks {path}: no such file; give a search's masks.safetensors")
    masks = checkpoint.load(Path(path))[0].get("mask", {})
    if {n: m.shape for n, m in masks.items()} != {n: w.shape for n, w in weights.items()}:
        raise SpikeTicketError(f"masks {path}: belong to another network; its layers are "
                               f"{', '.join(masks) or 'none'}")
    return {n: masks[n].bool() for n in weights}


def prunable(model: nn.Module, config: RunConfig) -> dict[str, Tensor]:
    """Weights that the search may remove, by layer name."""
    chosen = connections(model)
    if config.layers == "stem":
        chosen = stem_connections(model, find_stem(model, config.stem))
    return {n: m.weight.detach() for n, m in chosen.items()}


@torch.no_grad()
def early_timesteps(run: Trainer, model: nn.Module, gate: PatchGate | None) -> int:
    """T' of the KL rule, on the first training samples; noted in `run.notes`."""
    x = torch.from_numpy(run.data.images[:KL_SAMPLES].copy()).to(run.device)
    outputs = []
    for t in range(1, run.config.timesteps + 1):
        at_t = run.build(timesteps=t).eval()
        at_t.load_state_dict(model.state_dict())
        run.generator.manual_seed(0)
        outputs.append(gated(at_t, gate)(at_t.prepare(x)))
    run.notes["timesteps_search"] = search_timesteps(outputs)
    return run.notes["timesteps_search"]


def _bird(c: RunConfig, model: nn.Module, within: dict, following: list[float]):
    """Early-bird stopping on the mask that the next round would draw; nothing before the end."""
    if not c.early_bird or not following:
        return None, None
    known = None if None in within.values() else within

    def mask_now() -> Masks:
        weights = {n: w for n, w in prunable(model, c).items() if n in within}
        return by_score(weights, following[0], c.scope, within=known)
    return EarlyBird(), mask_now
