"""Training and evaluation loops shared by the ticket searches.

Everything random in an epoch (order, flips, shifts) comes from one generator seeded by
(seed, stage, epoch), so an epoch that is repeated after an interrupt sees the same batches.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.datasets import Images

PAD = 2
"""Images are shifted by up to this many pixels in each direction when augmented."""


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks: training is 1.3 times as fast without page faults.

    Does nothing where the C library has no mallopt.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block of its own mapping
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD: never give the heap's top back
    except (OSError, AttributeError):
        pass


def batch_generator(seed: int, stage: int, epoch: int) -> torch.Generator:
    """The generator of one epoch's random choices."""
    state = np.random.SeedSequence([seed, stage, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (1 << 63) - 1)


def batches(data: Images, size: int, generator: torch.Generator, *, flip: bool,
            shift: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (uint8 [B, C, H, W] or [B, T, C, H, W], int64 [B]) in random order.

    flip: mirror half of the images; shift: move each by up to PAD pixels in both axes. All frames
    of a sample move together.
    """
    height, width = data.images.shape[-2:]
    order = torch.randperm(len(data), generator=generator)
    rows, cols = torch.arange(height), torch.arange(width)
    for start in range(0, len(order), size):
        index = order[start:start + size]
        n = len(index)
        offset = torch.randint(0, 2 * PAD + 1, (2, n, 1), generator=generator)
        mirror = torch.rand((n, 1), generator=generator) < 0.5
        if not shift:
            offset.fill_(PAD)
        if not flip:
            mirror.fill_(False)
        y = offset[0] + rows - PAD
        x = offset[1] + torch.where(mirror, width - 1 - cols, cols) - PAD
        inside = (((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :])
        y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
        images = torch.from_numpy(data.images[index.numpy()])
        planes = images.flatten(1, -3).permute(0, 2, 3, 1)
        batch = planes[torch.arange(n)[:, None, None], y[:, :, None], x[:, None, :]]
        batch = batch.mul_(inside[..., None]).permute(0, 3, 1, 2)
        yield (batch.unflatten(1, images.shape[1:-2]),
               torch.from_numpy(data.labels[index.numpy()]))


def learning_rate(peak: float, step: int, steps: int, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine down to 0 at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


WARM = 0.05
"""Share of a stage's time in which the learning rate rises, where the clock sets it."""


class Clock:
    """Time that a stage may train: `budget` seconds, of which `spent` were before."""

    def __init__(self, budget: float, spent: float):
        self.budget, self.spent = budget, spent
        self.began = time.monotonic()

    @property
    def share(self) -> float:
        """Of the budget that is gone; 1 is the end."""
        return min(1.0, (self.spent + time.monotonic() - self.began) / self.budget)

    def start(self, took: float) -> None:
        """The next epoch begins; the one before took so many seconds."""
        self.spent, self.began = self.spent + took, time.monotonic()

    def rate(self, peak: float) -> float:
        """The learning rate now: rises for `WARM` of the time, then half a cosine down to 0."""
        share = self.share
        if share < WARM:
            return peak * share / WARM
        return peak * 0.5 * (1 + math.cos(math.pi * (share - WARM) / (1 - WARM)))

    def epoch_takes(self, part: float) -> float | None:
        """Seconds of the first epoch, of which `part` is done, where it will not fit: the time is
        over, or a quarter is and it would have to become twice as fast."""
        share = self.share
        if share < 1 and not (share > 0.25 and part < share / 2):
            return None
        return share * self.budget / part if part < 1 else None


def train_epoch(loss_of: Callable[[Tensor, Tensor], Tensor], optimizer: torch.optim.Optimizer,
                data: Images, *, batch_size: int, generator: torch.Generator, flip: bool,
                shift: bool, rate: Callable[[int], float], after_step: Callable[[], None],
                progress: Callable[[int], bool]) -> tuple[float, float]:
    """One pass over `data`, or a part of it; returns the mean loss, and which part.

    rate(step) gives the learning rate of the epoch's step; after_step() runs after each update
    (it re-applies the mask); progress(images) is told how many were done after every batch, and
    says whether to go on.
    """
    total, count = 0.0, 0
    epoch = batches(data, batch_size, generator, flip=flip, shift=shift)
    for step, (x, y) in enumerate(epoch):
        now = rate(step)
        for group in optimizer.param_groups:
            group["lr"] = now
        loss = loss_of(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        after_step()
        value = loss.item()
        total, count = total + value * len(y), count + len(y)
        if not progress(count):
            break
    return total / count, count / len(data)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss without a teacher."""
    return F.cross_entropy(logits, labels)


def distillation(logits: Tensor, labels: Tensor, teacher: Tensor, share: float) -> Tensor:
    """Cross-entropy, and a `share` (0..1) of KL divergence from the teacher at temperature 2.

    Hinton et al. 1503.02531; the factor 4 keeps the gradients' size at that temperature.
    """
    soft = F.kl_div(F.log_softmax(logits / 2, 1), F.softmax(teacher.float() / 2, 1),
                    reduction="batchmean")
    return (1 - share) * F.cross_entropy(logits, labels) + share * 4 * soft


LOSSES = ("cross-entropy", "mse")
"""mse: firing rates of output neurons are drawn to 1 for the class and 0 for the others; the
cross-entropy of rates, which end at 1, has next to no slope."""


def loss(kind: str, logits: Tensor, labels: Tensor, teacher: Tensor | None = None,
         share: float = 0.0) -> Tensor:
    """The loss of LOSSES of logits [B, K], or the mean of those of every timestep, [T, B, K]; with
    `teacher`, [B, K], a `share` of it is the distance from the teacher."""
    if logits.dim() == 3:
        steps = len(logits)
        logits, labels = logits.flatten(0, 1), labels.repeat(steps)
        teacher = None if teacher is None else teacher.repeat(steps, 1)
    if kind == "mse":
        wanted = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        if teacher is None:
            return F.mse_loss(logits, wanted)
        return ((1 - share) * F.mse_loss(logits, wanted)
                + share * F.mse_loss(logits, teacher.to(logits.dtype)))
    if teacher is None:
        return cross_entropy(logits, labels)
    return distillation(logits, labels, teacher, share)
