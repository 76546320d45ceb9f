"""What a search found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from .masks import Masks
from .patches import PatchGate


@dataclass
class Found:
    """A ticket: the network with plain weights (removed ones are 0), the masks by layer name, and
    the gate it runs behind. frozen: path of the part whose weights must stay as they are, with a
    dot behind it ("": all of them; None: none)."""

    model: nn.Module
    masks: Masks = field(default_factory=dict)
    gate: PatchGate | None = None
    frozen: str | None = None

    @property
    def forward(self) -> Callable[[Tensor], Tensor]:
        """Prepared samples -> logits, behind the gate if there is one."""
        return gated(self.model, self.gate)


def gated(model: nn.Module, gate: PatchGate | None) -> Callable[[Tensor], Tensor]:
    """Prepared samples -> logits."""
    return model if gate is None else lambda x: gate(model, x)
