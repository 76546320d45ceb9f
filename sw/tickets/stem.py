"""The patch embedding of a network, ours or yours: where it is, and where tokens lie in its output.

It is named by the path of its module ("patch_embed"), or found by the names that such modules have.
Nothing of the network is changed: tokens are counted and taken by a hook on that module, so that
whatever follows must take fewer of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.tokens import take
from .classifier import Classifier

STEMS = ("stem", "patch_embed", "patch_embedding", "patch_embeds", "sps")
"""Names of patch embeddings, in lower case."""


class _Embedded(Exception):
    """The tokens are made; nothing else is wanted of this run."""


@dataclass(frozen=True)
class TokenStem:
    """path: of the module. axes: of the tokens in its output [T, B, ...], counted from the end, as
    `sw.nets.token_gate.TokenGate` has them. grid: rows and columns of tokens."""

    path: str
    axes: tuple[int, ...]
    grid: tuple[int, int]

    @property
    def tokens(self) -> int:
        """N, without a gate."""
        return self.grid[0] * self.grid[1]

    def of(self, net: Classifier) -> nn.Module:
        """The patch embedding of a network."""
        return net.module.get_submodule(self.path)

    def rows(self, out: Tensor) -> Tensor:
        """[T, B, D, N] of the output."""
        return out.transpose(-1, -2) if self.axes == (-2,) else out.flatten(3)

    def taken(self, out: Tensor, kept: Tensor) -> Tensor:
        """The output with the tokens `kept`, int64 [B, keep], alone."""
        rows = take(self.rows(out), kept)
        if self.axes == (-2,):
            return rows.transpose(-1, -2)
        return rows.unsqueeze(-2) if self.axes == (-2, -1) else rows

    def embed(self, net: Classifier, x: Tensor) -> Tensor:
        """Token values [T, B, D, N] of prepared samples."""
        made: list[Tensor] = []

        def stop(out: Tensor) -> None:
            made.append(out)
            raise _Embedded
        try:
            self.hooked(net, x, stop)
        except _Embedded:
            pass
        return self.rows(made[0])

    def hooked(self, net: Classifier, x: Tensor,
               change: Callable[[Tensor], Tensor | None]) -> Tensor:
        """Logits of prepared samples, where `change` is done to the output of the embedding."""
        handle = self.of(net).register_forward_hook(lambda _module, _inputs, out: change(out))
        try:
            return net(x)
        finally:
            handle.remove()


@torch.no_grad()
def find_stem(net: Classifier, path: str | None = None) -> TokenStem:
    """The patch embedding at `path`, or the first module of a usual name. Raises SpikeTicketError
    where there is none, and where what follows it does not take fewer tokens."""
    name = type(net.module).__name__
    modules = dict(net.module.named_modules())
    if path is None:
        path = next((p for p in modules if p.rpartition(".")[2].lower() in STEMS), None)
        if path is None:
            raise SpikeTicketError(f"{name} has no module called {', '.join(STEMS)}; name its "
                                   "patch embedding: stem PATH")
    elif path not in modules or not path:
        raise SpikeTicketError(f"stem {path!r}: {name} has no module of that name; there are "
                               f"{', '.join([p for p in modules if p and '.' not in p][:12])}")
    was_training, shapes = net.training, []
    net.eval()
    device = next(net.parameters()).device
    x = torch.rand((2, *net.shape), device=device)
    probe = TokenStem(path, (-1,), (1, 1))
    maps: list[tuple[int, ...]] = []
    convs = [m.register_forward_hook(lambda _m, _i, out: maps.append(tuple(out.shape)))
             for m in modules[path].modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    try:
        probe.hooked(net, x, lambda out: shapes.append(_shape(out)))
        stem = _stem(name, path, net.timesteps, shapes, maps)
        if stem.tokens > 1:
            one = torch.zeros((2, 1), dtype=torch.int64, device=device)
            try:
                stem.hooked(net, x, lambda out: stem.taken(out, one))
            except Exception as error:      # whatever a foreign forward function raises
                raise SpikeTicketError(
                    f"{name} does not run on fewer tokens than the {stem.tokens} of its stem "
                    f"{path!r} ({' '.join(str(error).split())[:150]}); patches are dropped where "
                    "what follows takes any number of them") from error
    finally:
        for hook in convs:
            hook.remove()
        net.train(was_training)
    return stem


def _shape(out: object) -> tuple[int, ...]:
    return tuple(out.shape) if isinstance(out, Tensor) else ()


def _stem(name: str, path: str, steps: int, shapes: list[tuple[int, ...]],
          maps: list[tuple[int, ...]]) -> TokenStem:
    """The stem whose output has these shapes, one per call; maps: those of its layers."""
    if len(shapes) != 1 or shapes[0][:2] != (steps, 2) or len(shapes[0]) not in (4, 5):
        raise SpikeTicketError(
            f"{name}: stem {path!r} gives {list(shapes[0]) if shapes else 'nothing'} for 2 samples "
            f"over {steps} timesteps; tokens [T, B, D, H, W], [T, B, D, N] or [T, B, N, D] are "
            "expected, in one call of step mode 'm'")
    shape = shapes[0]
    if len(shape) == 5:
        return TokenStem(path, (-2, -1), (shape[3], shape[4]))
    channels = maps[-1][-1] if maps and len(maps[-1]) == 2 else maps[-1][-3] if maps and len(
        maps[-1]) > 3 else maps[-1][1] if maps else shape[2]
    axes = (-2,) if shape[3] == channels != shape[2] else (-1,)
    tokens = shape[2] if axes == (-2,) else shape[3]
    side = next((m[-2:] for m in reversed(maps) if len(m) > 3 and m[-1] * m[-2] == tokens), None)
    if side is None:
        root = round(tokens ** 0.5)
        side = (root, root)
        if root * root != tokens:
            raise SpikeTicketError(f"{name}: the {tokens} tokens of stem {path!r} are no square "
                                   "grid; give them as [T, B, D, H, W]")
    return TokenStem(path, axes, tuple(side))
