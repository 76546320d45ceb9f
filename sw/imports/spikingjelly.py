"""From a trained SpikingJelly network, a tree of modules in either step mode, to integers.

The module is traced by torch.fx; what cannot be traced is taken in the order of its modules. Either
reading is then run against the module itself, in float64 on random inputs, so that a forward
function that does something else is refused instead of imported wrongly.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from spikingjelly.activation_based import base, functional, neuron
from spikingjelly.activation_based.model import spikformer
from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.floats import FloatOperation
from ..integer.folding import fold
from ..integer.network import InputSpec
from ..models import SpikingCNN, cnn_layers
from ..nets.parts import SpikingNet
from ..nets.spikeformer_layers import float_layers as spikeformer_layers
from ..nets.spikeformer_model import Spikeformer
from ..nets.spikingjelly_spikformer import spikingjelly_layers
from .floats import FloatNetwork
from .integers import Imported, build
from .lowering import Bits, Size
from .tracing import Tracer, makes_time, read, step_mode

CHECKED = 1e-6
"""Largest difference of logits, relative to the largest, in the run against the module."""

def from_spikingjelly(model: nn.Module, input_shape: Size, timesteps: int | None = None, *,
                      bits: Bits = 4, input_bits: int = 8, static: bool = True,
                      input_scale: float | None = None, name: str = "network",
                      labels: tuple[str, ...] = (), check: bool = True) -> Imported:
    """Import a trained SpikingJelly network.

    model: Sequential or custom, step mode "s" or "m"; it is not changed. Networks of this project
        and SpikingJelly's Spikformer are taken as they are.
    input_shape: (channels, height, width) of the input, (features, 1, 1) for vectors.
    timesteps: may be left out where the forward function repeats its input T times.
    bits: of the weights, 1 to 8, or one width by layer name. Layers are named as their neuron's
        module, the last one "readout".
    input_bits, static: see `sw.integer.network.InputSpec`; static means the same image at every
    timestep. input_scale: float value of one integer input unit; 1/255 for static inputs, 1 for
    others. check: run the imported float network against the module (not for networks of this
    project
        and Spikformers, which are not traced).

    Raises SpikeTicketError, naming the module, for what is not supported (docs/imports.md).
    """
    if input_scale is None:
        input_scale = 1 / 255 if static else 1.0
    spec = InputSpec(*input_shape, bits=input_bits, static=static)
    model = _rested_copy(model).cpu().eval()
    layers, found = _known(model, bits, spec)
    checked = check and layers is None
    if layers is None:
        layers, found = read(model, input_shape, bits)
    timesteps = timesteps or found
    if timesteps is None:
        raise SpikeTicketError("timesteps are not in the module; give timesteps=T")
    if found not in (None, timesteps):
        raise SpikeTicketError(f"timesteps {timesteps} are given, but the forward function repeats "
                               f"its input {found} times")
    imported = build(layers, spec, timesteps, input_scale=input_scale, name=name, labels=labels)
    if checked:
        _check(model, imported)
    facts = {"source": "spikingjelly", "module": type(model).__name__}
    return replace(imported, facts=facts)


def _rested_copy(model: nn.Module) -> nn.Module:
    """A copy whose neurons are at rest; membranes with a gradient could not be copied."""
    memories = base.extract_memories(model)
    functional.reset_net(model)
    try:
        return copy.deepcopy(model)
    finally:
        base.load_memories(model, memories)


def _known(model: nn.Module, bits: Bits,
           spec: InputSpec) -> tuple[list[FloatOperation] | None, int | None]:
    """(layers, timesteps) of the networks that come with their own lists."""
    if isinstance(model, SpikingCNN):
        return fold(cnn_layers(model, bits), spec), model.config.timesteps
    if isinstance(model, SpikingNet):
        return fold(model.float_layers(bits), spec), model.config.timesteps
    if isinstance(model, Spikeformer):
        return fold(spikeformer_layers(model, bits), spec), model.config.timesteps
    if isinstance(model, spikformer.Spikformer):
        return fold(spikingjelly_layers(model, bits), spec), None
    return None, None


@torch.no_grad()
def _check(model: nn.Module, imported: Imported) -> None:
    """Raise unless the imported float network gives the module's output on random inputs."""
    spec, steps = imported.network.input, imported.network.timesteps
    generator = torch.Generator().manual_seed(0)
    shape = (2, spec.channels, spec.height, spec.width)
    shape = shape if spec.static else (steps, *shape)
    x = torch.randint(0, 1 << spec.bits, shape, generator=generator)
    try:
        expected = run_module(model, x, imported)
    except Exception as error:      # whatever a foreign forward function raises
        raise SpikeTicketError(
            f"{type(model).__name__}: does not run on random inputs {list(shape)} "
            f"({' '.join(str(error).split())[:120]}); are input_shape and static right?") from error
    found = FloatNetwork(imported)(x).reshape(expected.shape)
    # The module averages over time or positions, the readout sums.
    factor = float((found * expected).sum() / found.square().sum().clamp_min(1e-300))
    apart = float((found * factor - expected).abs().max())
    if apart > CHECKED * float(expected.abs().max()) or (factor <= 0 and bool(found.any())):
        raise SpikeTicketError(
            f"{type(model).__name__}: the modules, read in order, do not give what its forward "
            "function gives; write it with modules, sums, pools, flatten and means only")


@torch.no_grad()
def run_module(model: nn.Module, x: Tensor, imported: Imported,
               spikes: dict[str, Tensor] | None = None) -> Tensor:
    """Run a SpikingJelly network in float64 on integers, as the integer network takes them.

    Returns its output summed over timesteps, [B, classes]; `spikes` receives every neuron's
    spikes, [T, B, ...], by module name. The module is not changed.
    """
    spec, steps = imported.network.input, imported.network.timesteps
    model = _rested_copy(model).cpu().double().eval()
    record: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, neuron.BaseNode):
            record[name] = []
            module.register_forward_hook(
                lambda _m, _i, out, made=record[name]: made.append(out.detach()))
    x = x.double() * imported.input_scale
    if (spec.height, spec.width) == (1, 1) and not _takes_maps(model):
        x = x.flatten(-3)
    multi = step_mode(model) == "m"
    if not multi:
        x = x.expand(steps, *x.shape) if spec.static else x
        out = sum(model(step) for step in x)
    else:
        out = model(x if not spec.static or _repeats_input(model) else x.expand(steps, *x.shape))
        out = out.sum(0) if out.dim() > 2 and out.shape[0] == steps else out
    if spikes is not None:
        spikes.update((name, made[0] if multi else torch.stack(made))
                      for name, made in record.items() if made)
    return out.flatten(1)


def _takes_maps(model: nn.Module) -> bool:
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)), None)
    return isinstance(first, nn.Conv2d)


def _repeats_input(model: nn.Module) -> bool:
    """The forward function makes the time axis itself."""
    try:
        return makes_time(Tracer().trace(model))
    except Exception:               # as in `read`: then in order, with time from outside
        return False
