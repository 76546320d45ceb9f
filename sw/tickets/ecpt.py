"""ECPT, Algorithm 1 of arXiv 2311.12060: embedding connection and patch tickets of a Spikeformer.

The names there and here:

=========== ========================= ======================================================
paper       here                      meaning
=========== ========================= ======================================================
P           samples of `run.data`     patches, the input
CPM         the module `stem`         convolution projection module, the patch embedding
w, s, M     `ScoredWeight`            frozen weights, their scores, the mask
alpha       `ScoredWeight.forward`    sum \\|M w\\| / sum M of a layer (binary tickets)
pr_c        1 - `sparsity`            fraction of the CPM's connections kept
pr_p        1 - `patch_sparsity`      fraction of the patches kept
N_c, N_sp   `epochs_connections`,     epochs of step 1, and of steps 2 and 3
            `epochs`
PatE        `stem.embed(model, x)`    token spikes [T, B, D, N]
id          `kept`                    token numbers [B, keep]
=========== ========================= ======================================================

Where the paper is silent: patches are ranked by their spikes over T and channels, ties to the lower
number; dropped patches are removed behind the CPM (`place: tokens`) or zeroed in the pixels, too.
Beyond the paper, `layers: all` prunes the encoder and the head to the same `sparsity` by
magnitude, with rewinding, while the CPM's ticket stays.
"""

from __future__ import annotations

from .found import Found, gated
from .methods import StemClassifier, gate_of, prune_and_rewind, stem_connections
from .scores import add_scores, freeze_all_but, norms, rate, settle
from .stem import find_stem
from .trainer import Trainer


def ecpt(run: Trainer) -> Found:
    """Algorithm 1. Returns the Spikeformer with its connection ticket, behind its patch gate."""
    c = run.config

    # 1. CPM with a linear head: for N_c epochs, s <- s - lr dL/ds at weights alpha (M w), where M
    #    is the top pr_c of s. Then the linear head is dropped.
    stem = find_stem(run.build(), c.stem)
    step1 = StemClassifier(run, stem)
    model = step1.model
    cpm = stem_connections(model, stem)
    with run.seeded("scores"):
        s = add_scores(cpm, c.sparsity, c.binary)
    step1.to(run.device)
    freeze_all_but(step1, [*s, *step1.linear_head.parameters(),
                           *(norms(stem.of(model)) if c.learn_norms else [])])
    run.train("connections", step1, c.epochs_connections,
              lr=c.lr_scores or rate(run.updates(c.epochs_connections)))
    masks = settle(cpm)

    # 2. For N_sp epochs: PatE = CPM(P); id = top pr_p of PatE.
    # 3. Train encoder and head on CPM(selected patches; alpha (M w)).
    model.requires_grad_(True)
    stem.of(model).requires_grad_(False)
    gate = gate_of(run)
    run.train("encoder", model, c.epochs, forward=gated(model, gate), frozen=[stem.of(model)],
              remember=c.rewind_epoch)

    # Beyond the paper: connection tickets of everything behind the CPM.
    found = Found(model, masks, gate)
    if c.layers == "all":
        found = prune_and_rewind(run, model, run.remembered("encoder"), gate, c.timesteps,
                                 fixed=masks, frozen=lambda model: [stem.of(model)])
    found.frozen = f"{stem.path}."
    return found
