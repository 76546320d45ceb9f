"""The network that a ticket is searched in: a name of ours, a class in the user's file, a module.

    vgg9, 32p-64p-128, spikeformer-2-96     a network of `sw.nets`
    FILE.py:NAME                            a class or function (called without arguments, or with
                                            `network_args`), or a module object, in a file of yours
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .. import nets
from ..errors import SpikeTicketError
from ..imports.inputs import Feed, copied
from ..imports.load_module import is_module_name, load_weights, maker
from .classifier import Classifier
from .config import GIVEN, RunConfig, key_values
from .scores import connections
from .zeros import check_zeros_stay

Make = Callable[[], nn.Module]
"""Makes the network anew; its weights are drawn from torch's global generator."""


class Networks:
    """Makes the network of one search, for samples of `shape`, (C, H, W) or (F, C, H, W).

    module: the user's own, instead of what `config.model` names; it is never changed. Raises
    SpikeTicketError for what is no network, or none for such samples.
    """

    def __init__(self, config: RunConfig, shape: tuple[int, ...], classes: int,
                 module: nn.Module | None = None):
        self.config, self.shape, self.classes = config, shape, classes
        self._found: tuple[Feed, int | None] | tuple[()] = ()
        self.fixed = module is not None     # its weights are as they are, not drawn
        if module is not None:
            self.make: Make | None = lambda: copied(module)
        elif is_module_name(config.model):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(config.seed)      # of a module that the file itself makes
                make, self.fixed = maker(config.model, key_values(config.network_args))
            self.make = (lambda: copied(make())) if self.fixed else make
        else:
            self.make = None
        if config.weights == GIVEN and not self.fixed:
            raise SpikeTicketError(f"weights {GIVEN!r} are those of a module object; model "
                                   f"{config.model!r} is made anew, so give a file of weights")
        with torch.random.fork_rng(devices=[]):
            self.given() if config.weights else self.fresh()

    def fresh(self, timesteps: int | None = None, again: bool = False) -> Classifier:
        """The network with weights from torch's global generator, for T timesteps (None: those of
        the configuration). A module object keeps its weights, unless they are the trained ones, or
        are drawn `again`."""
        c = self.config
        timesteps = timesteps or c.timesteps
        if self.make is None:
            net = nets.build(nets.NetConfig(
                c.model, tuple(int(n) for n in self.shape[-3:]), self.classes, timesteps, c.decay,
                c.theta, c.surrogate))
            feed = Feed("image" if len(self.shape) == 3 else "batch", timesteps,
                        tuple(self.shape[-3:]))
            return Classifier(net, timesteps, self.shape, self.classes, feed,
                              per_timestep=c.loss_per_timestep, blocks=c.fused)
        module = self.make()
        if self.fixed and (again or c.weights):
            draw_anew(module)
        return self._classifier(module).at(timesteps)

    def given(self) -> Classifier:
        """The trained network of `config.weights`."""
        if self.make is None:
            net = self.fresh()
        else:
            net = self._classifier(self.make())
        if self.config.weights != GIVEN:
            load_weights(net.module, self.config.weights, self.config.model)
        return net

    def _classifier(self, module: nn.Module) -> Classifier:
        computed = [name for name, m in connections(module).items()
                    if not isinstance(m._parameters.get("weight"), nn.Parameter)]
        if computed:
            raise SpikeTicketError(
                f"{computed[0]} is computed from other tensors (weight_norm, a mask of "
                "torch.nn.utils.prune, a parametrization), so pruning it would be undone; make it "
                "a parameter: prune.remove(layer, 'weight'), remove_weight_norm(layer), or "
                "parametrize.remove_parametrizations(layer, 'weight')")
        net = Classifier(module, self.config.timesteps, self.shape, self.classes,
                         *(self._found or (None, None)), self.config.loss_per_timestep,
                         self.config.fused)
        if not self._found:
            check_zeros_stay(net)
        self._found = net.feed, net.time
        return net.to(memory_format=torch.channels_last)    # faster, and fused neurons keep it


def draw_anew(module: nn.Module) -> None:
    """Draw the weights of a module's layers again, by their own `reset_parameters`."""
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
