"""Shape of a Spikeformer, checked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ..integer.attention import HEAD_WIDTHS, MAX_TOKENS
from ..integer.gate import MODES
from ..integer.network import MAX_TIMESTEPS, Pool
from ..integer.shapes import require

POOLS = {"": None, "p": Pool("or", 2), "m": Pool("max", 3, 2, 1)}
"""By the letter behind a stage of the stem. p: OR of 2x2 spikes; m: SpikingJelly's maximum of 3x3
currents with stride 2, before the neuron."""


@dataclass(frozen=True)
class SpikeformerConfig:
    """Shape of a Spikeformer.

    stem: channels of its convolutions with a letter of `POOLS` each, e.g. "24-48-96p-96p"; the last
    are the channels of every token. blocks, heads, mlp_ratio: of the encoder.
    input: (channels, height, width). static: an image for all timesteps; else event frames.
    tau: the membranes keep 1 - 1/tau per timestep. theta: threshold.
    gate: None or a mode of `sw.integer.gate`; keep: tokens that stay.
    """

    stem: str = "24-48-96p-96p"
    blocks: int = 2
    heads: int = 6
    mlp_ratio: int = 4
    input: tuple[int, int, int] = (1, 32, 32)
    static: bool = True
    classes: int = 10
    timesteps: int = 4
    tau: float = 2.0
    theta: float = 1.0
    gate: str | None = None
    keep: int | None = None
    affine: bool = True

    def __post_init__(self):
        object.__setattr__(self, "input", tuple(self.input))    # a list in YAML
        require(len(self.input) == 3 and min(self.input) >= 1,
                f"input {self.input} is not (channels, height, width)")
        require(self.blocks >= 1, f"blocks {self.blocks} are below 1")
        require(self.heads >= 1 and self.width % self.heads == 0,
                f"{self.width} channels do not divide into {self.heads} heads")
        require(self.width // self.heads in HEAD_WIDTHS,
                f"heads of {self.width // self.heads} channels are outside {HEAD_WIDTHS[0]}.."
                f"{HEAD_WIDTHS[-1]}; change heads or the stem's last channels")
        require(self.mlp_ratio >= 1, f"mlp_ratio {self.mlp_ratio} is below 1")
        require(self.classes >= 2, f"classes {self.classes} are below 2")
        require(1 <= self.timesteps <= MAX_TIMESTEPS,
                f"timesteps {self.timesteps} are outside 1..{MAX_TIMESTEPS}")
        require(self.tau > 1, f"tau {self.tau} must be above 1 (2 keeps half the membrane)")
        require(self.theta > 0, f"theta {self.theta} must be above 0")
        require(min(self.grid) >= 1, f"the pools of stem {self.stem} leave nothing of "
                                     f"{self.input[1]}x{self.input[2]}; drop one")
        require(self.tokens <= MAX_TOKENS, f"stem {self.stem} leaves {self.tokens} tokens; "
                                           f"{MAX_TOKENS} are the most, add a pool")
        require(self.gate is None or self.gate in MODES,
                f"gate {self.gate!r} is not one of {', '.join(MODES)}")
        require((self.gate is None) == (self.keep is None),
                f"gate {self.gate!r} with keep {self.keep}: give both or neither")
        require(self.keep is None or 1 <= self.keep <= self.tokens,
                f"keep {self.keep} is outside 1..{self.tokens} tokens")
        rows, columns = self.grid
        require(self.gate != "input" or (self.input[1] % rows, self.input[2] % columns) == (0, 0),
                f"gate 'input': {self.input[1]}x{self.input[2]} pixels do not divide into "
                f"{rows}x{columns} patches")

    def stages(self) -> list[tuple[int, Pool | None]]:
        """(channels, pool) of every convolution of the stem. Raises SpikeTicketError."""
        stages = []
        for part in self.stem.split("-"):
            number = part.rstrip("pm")
            letter = part[len(number):]
            require(number.isdecimal() and 1 <= int(number) <= 4096 and letter in POOLS,
                    f"stem {self.stem!r}: {part!r} is not channels 1..4096 with an optional p or "
                    "m; give e.g. 24-48-96p-96p")
            stages.append((int(number), POOLS[letter]))
        return stages

    @property
    def width(self) -> int:
        """D, the channels of a token."""
        return self.stages()[-1][0]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        height, width = self.input[1:]
        for _, pool in self.stages():
            if pool is not None:
                height, width = pool.outputs(height, width)
        return height, width

    @property
    def tokens(self) -> int:
        """N, before the gate."""
        return self.grid[0] * self.grid[1]

    def to_dict(self) -> dict:
        return {**dataclasses.asdict(self), "input": list(self.input)}
