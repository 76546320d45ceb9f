"""What every loader gives: `Images`, pictures or frames with their labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import BadInput


@dataclass(frozen=True, eq=False)
class Images:
    """images: uint8 [N, C, H, W], or frames of event counts [N, T, C, H, W]; labels: int64 [N];
    names: class names, may be empty; source: file or folder; notes: what a loader repaired or
    decided, one line each."""

    images: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        if self.images.ndim not in (4, 5) or self.images.dtype != np.uint8:
            raise BadInput(f"{self.source}: images must be uint8 [N, C, H, W] or "
                           f"[N, T, C, H, W], not {self.images.dtype} "
                           f"{list(self.images.shape)}")
        if min(self.images.shape[1:]) < 1:
            raise BadInput(f"{self.source}: images of shape {list(self.images.shape[1:])} "
                           "hold nothing")
        if self.labels.shape != (len(self.images),):
            raise BadInput(f"{self.source}: {len(self.images)} images but labels of shape "
                           f"{list(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def static(self) -> bool:
        """Whether one array stands for every timestep (images, not frames of events)."""
        return self.images.ndim == 4

    def first(self, count: int) -> Images:
        """The first `count` images."""
        if count < 1:
            raise BadInput(f"{self.source}: {count} images asked for; give 1 or more")
        if count > len(self):
            raise BadInput(f"{self.source}: {count} images asked for, it holds {len(self)}")
        return replace(self, images=self.images[:count], labels=self.labels[:count])
