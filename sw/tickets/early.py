"""Cheaper searches: early-bird tickets stop a search early, early-time tickets search at T' < T.

Early-bird: You et al. 1909.11957. Early-time: Kim et al. 2207.01382.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import SpikeTicketError
from .masks import Masks, distance

DISTANCE = 0.02
WINDOW = 5
KL_THRESHOLD = 0.6


class EarlyBird:
    """Says when the mask that pruning would draw has settled.

    After each epoch `settled(mask)` compares the mask with those of the `window` epochs
    before; once they are there and the largest distance is below `limit`, the search may stop.
    """

    def __init__(self, limit: float = DISTANCE, window: int = WINDOW):
        if not 0 < limit <= 1 or window < 1:
            raise SpikeTicketError(f"early bird: distance {limit} must be in 0..1 and window "
                                   f"{window} at least 1")
        self.limit, self.window = limit, window
        self.seen: list[Masks] = []

    def settled(self, mask: Masks) -> bool:
        """Take the mask of one more epoch; True when the search may stop."""
        mask = {n: m.cpu() for n, m in mask.items()}
        done = (len(self.seen) == self.window
                and max(distance(mask, old) for old in self.seen) < self.limit)
        self.seen = [*self.seen, mask][-self.window:]
        return done

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {f"{i}.{n}": m for i, mask in enumerate(self.seen) for n, m in mask.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        seen: dict[int, Masks] = {}
        for key, m in state.items():
            index, _, name = key.partition(".")
            seen.setdefault(int(index), {})[name] = m
        self.seen = [seen[i] for i in sorted(seen)]


def divergence(logits: Tensor, full: Tensor) -> float:
    """Mean KL(softmax(full) || softmax(logits)) in nats; both [B, classes]."""
    return float(F.kl_div(F.log_softmax(logits.float(), 1), F.log_softmax(full.float(), 1),
                          reduction="batchmean", log_target=True))


def search_timesteps(outputs: Sequence[Tensor], threshold: float = KL_THRESHOLD) -> int:
    """T' for the search: the first t whose output is near enough to that of all T timesteps.

    outputs[t - 1]: logits [B, classes] after t timesteps, t = 1..T. The divergences from
    outputs[T - 1] are divided by the largest of them; the first below `threshold` wins.
    """
    if not outputs:
        raise SpikeTicketError("early time needs the outputs of at least one timestep")
    if not 0 < threshold <= 1:
        raise SpikeTicketError(f"early time: threshold {threshold} is outside 0..1")
    kl = torch.tensor([divergence(o, outputs[-1]) for o in outputs])
    top = float(kl.max())
    if top <= 0:
        return 1
    return int((kl / top < threshold).nonzero()[0]) + 1
