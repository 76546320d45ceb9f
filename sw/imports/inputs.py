"""What a module takes: time first, batch first, one image, or one timestep per call; and its copy.

`find` tries these forms by running the module on each with two batch sizes, and looks at what its
neurons see: the form is right if every neuron sees all timesteps of all samples. That also finds
the timesteps of a module that repeats its image itself.
"""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import dataclass

import torch
from spikingjelly.activation_based import base
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import SpikeTicketError, note
from .grouping import COMPARISONS
from .neurons import is_neuron
from .recorder import at_rest, one_tensor, paths
from .refusals import NEAREST, unsupported
from .tape import Op, Tape, float64, lines

STATED = ("T", "timesteps", "time_steps", "num_steps")
"""Attributes of a module that hold its number of timesteps."""

TRIED = 4
"""Timesteps in trials of a module whose timesteps are not known."""

Size = tuple[int, int, int]


class _NoNetwork(SpikeTicketError):
    """The module runs, but is no spiking network in any form."""


@dataclass(frozen=True)
class Feed:
    """How values [T or 1, B, *dims] become the arguments of the module's calls.

    form: "image" (one call with one image), "time" ([T, B, ...]), "batch" ([B, T, ...]) or "step"
    (a call for every timestep). steps: T. dims: of one timestep and sample, (C, H, W) or all its
    values as one vector.
    """

    form: str
    steps: int
    dims: tuple[int, ...]

    @property
    def order(self) -> str:
        """For `sw.imports.recording.Axes.of`."""
        return {"batch": "bt", "step": "s"}.get(self.form, "tb")

    @property
    def input_steps(self) -> int:
        """Timesteps of the input in a recording; one timestep per call needs one call only."""
        return 1 if self.form == "image" else self.steps

    def __call__(self, x: Tensor) -> list[Tensor]:
        x = x.reshape(*x.shape[:2], *self.dims)
        if self.form == "image":
            return [x[0]]
        x = x.expand(self.steps, *x.shape[1:])
        if self.form == "step":
            return list(x)
        return [x.transpose(0, 1) if self.form == "batch" else x]


def find(model: nn.Module, shape: Size, timesteps: int | None, static: bool) -> Feed:
    """The form of input that `model`, a copy of `prepared`, takes. Raises SpikeTicketError."""
    _one_input(model)
    tried: dict[str, str] = {}
    empty: list[_NoNetwork] = []
    own, one_by_one = stated_steps(model), None
    for dims in _dims(shape):
        for form in ("image", "time", "batch"):
            feed = Feed(form, timesteps or own or TRIED, dims)
            try:
                steps = _steps(model, feed)
            except _NoNetwork as error:         # in this form; axes taken for others hide neurons
                empty.append(error)
                continue
            except Exception as error:      # whatever a foreign forward function raises
                tried.setdefault(form, " ".join(str(error).split())[:160])
                continue
            if steps is None:
                tried.setdefault(form, "its neurons do not see all timesteps of all samples")
            elif form == "image" and steps == 1:    # so do some that take them over time
                one_by_one = one_by_one or Feed("step", timesteps or own or 0, dims)
            elif form == "image" and not static:
                tried["image"] = f"it takes one image and repeats it {steps} times; static=True"
            else:
                return _settled(Feed(form, steps, dims), timesteps, own)
        if one_by_one is not None:
            return _settled(one_by_one, timesteps, own)
    if empty:
        raise empty[0]
    raise SpikeTicketError(_why_not(model, shape, static, tried))


def _dims(shape: Size) -> tuple[tuple[int, ...], ...]:
    """What a sample may look like: [C, H, W], [C, L] (a map of one row), all of it as [F]."""
    flat = (math.prod(shape),)
    if shape[1:] == (1, 1):
        return flat, shape
    return (shape, (shape[0], shape[2]), flat) if shape[1] == 1 else (shape, flat)


def _settled(feed: Feed, timesteps: int | None, own: int | None) -> Feed:
    if feed.form == "image":
        if timesteps not in (None, feed.steps):
            raise SpikeTicketError(f"timesteps {timesteps} are given, but the forward function "
                                   f"repeats its input {feed.steps} times; give {feed.steps}")
        return feed
    if timesteps is None and own is None:
        raise SpikeTicketError("timesteps are not in the module; give timesteps=T")
    if own not in (None, timesteps) and timesteps is not None:
        raise SpikeTicketError(f"timesteps {timesteps} are given, but the module's own are {own}")
    return feed


def stated_steps(model: nn.Module) -> int | None:
    """Timesteps that the module itself names."""
    found = {getattr(model, name) for name in STATED
             if isinstance(getattr(model, name, None), int)}
    return found.pop() if len(found) == 1 and min(found) > 0 else None


def _why_not(model: nn.Module, shape: Size, static: bool, tried: dict[str, str]) -> str:
    kind = type(model).__name__
    modes = {m.step_mode for m in model.modules() if is_neuron(m) and hasattr(m, "step_mode")}
    if len(modes) > 1:
        return ("neurons are in step modes 's' and 'm'; set one with functional.set_step_mode(net, "
                "'m')")
    reason = tried["time" if modes == {"m"} and not static else "image"]
    if tried["image"].startswith("it takes"):
        reason = tried["image"]
    if "cuda" in reason.lower():
        return (f"{kind}: forward wants a GPU ({reason}); make its tensors on the input's device, "
                "x.device")
    return (f"{kind}: does not run on random inputs of {'x'.join(map(str, shape))} ({reason}); are "
            "input_shape and static right?")


def _one_input(model: nn.Module) -> None:
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [p.name for p in parameters if p.default is p.empty
              and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(needed) > 1:
        raise SpikeTicketError(f"forward takes a second input {needed[1]!r}; only one input can be "
                               "imported")
    if not needed and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise SpikeTicketError(f"{type(model).__name__}: forward takes no input")


def _steps(model: nn.Module, feed: Feed) -> int | None:
    """Timesteps that the neurons see, None where they do not see all samples."""
    found = {_seen(model, feed, batch) for batch in (3, 5)}
    return found.pop() if len(found) == 1 else None


def _seen(model: nn.Module, feed: Feed, batch: int) -> int | None:
    """Timesteps that the neurons see of this many samples."""
    calls: list[tuple] = []

    def compared(op: Op) -> None:
        if op.name in COMPARISONS and not stated & set(tape.path):
            shape = tape.tensor(len(tape.ops) - 1).shape
            if batch not in shape[:2] and (not shape or shape[0] % batch):
                return                      # of something else than all samples' values
            if batch != shape[0] and (len(shape) < 2 or shape[1] % batch):
                shape = shape[0] // batch, batch        # time and batch in one axis
            calls.append(((tape.module, lines()), "s" if shape[:1] == (batch,) else "m", shape, 0))
    stated = {p for p, m in model.named_modules() if is_neuron(m)}
    tape = Tape(compared)
    hooks = [module.register_forward_pre_hook(lambda m, args, path=path: calls.append(
        (path, getattr(m, "step_mode", "m"), tuple(args[0].shape), at_rest(m))))
        for path, module in model.named_modules() if is_neuron(module)]
    generator = torch.Generator().manual_seed(0)
    steps = 1 if feed.form == "image" else feed.steps
    x = torch.rand((steps, batch, *feed.dims), generator=generator, dtype=torch.float64)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), float64(), (
                paths(model, tape)):
            for raw in feed(x):
                tape.mark(raw)
                with tape:
                    out = model(raw)
                _one_output(out, model)
    finally:
        for hook in hooks:
            hook.remove()
        rest(model)
    if not calls:
        for path, module in model.named_modules():
            if type(module).__name__ in NEAREST:
                raise _NoNetwork(str(unsupported(path, type(module).__name__)))
        raise _NoNetwork(f"{type(model).__name__} has no SpikingJelly neuron and compares nothing "
                         "with a threshold; use neuron.LIFNode or neuron.IFNode")
    return _counted(calls, batch, feed)


def _one_output(out: object, model: nn.Module) -> None:
    try:
        one_tensor(out, model)
    except SpikeTicketError as error:
        raise _NoNetwork(str(error)) from error


def _counted(calls: list[tuple], batch: int, feed: Feed) -> int | None:
    if any(isinstance(path, str) for path, *_ in calls):
        calls = [call for call in calls if isinstance(call[0], str)]    # comparisons see spikes
    totals: dict[object, int] = {}
    for path, mode, shape, _ in calls:
        place = 1 if mode == "m" else 0
        if len(shape) <= place or shape[place] % batch:
            return None
        totals[path] = totals.get(path, 0) + (shape[0] if mode == "m" else 1)
    counts = list(totals.values())
    if feed.form != "image":
        return feed.steps if all(n % feed.steps == 0 for n in counts) else None
    if not any(isinstance(path, str) for path in totals) and min(counts) > 1 and all(
            n % feed.steps == 0 for n in counts):
        return feed.steps           # one line of code may be several neurons
    return min(counts)


class _Copying(TorchFunctionMode):
    """Tensors that are results of other tensors (masked weights, membranes with a gradient) cannot
    be copied; here they are copied as numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            copied = args[0].detach().clone()
            args[1][id(args[0])] = copied
            return copied
        return func(*args, **(kwargs or {}))


def prepared(model: nn.Module) -> nn.Module:
    """A copy in float64, in evaluation mode, at rest, on the CPU, without gradients.

    Raises SpikeTicketError for what is no module or cannot be copied.
    """
    if not isinstance(model, nn.Module):
        what = ("a state dict; make its module and load it with load_state_dict"
                if isinstance(model, dict) else
                f"the class {model.__name__}; give an instance of it" if isinstance(model, type)
                else f"a {type(model).__name__}; give a torch.nn.Module")
        raise SpikeTicketError(f"the network is {what}")
    while isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        model = model.module
    model = getattr(model, "_orig_mod", model)                  # torch.compile
    if isinstance(model, torch.jit.ScriptModule):
        raise SpikeTicketError(f"{type(model).__name__} is compiled by torch.jit; give the module "
                               "it was made from")
    model = copied(model)
    model = model.cpu().double().eval().requires_grad_(False)
    for module in model.modules():
        if getattr(module, "backend", "torch") != "torch":
            module.backend = "torch"
        for key, value in vars(module).items():
            if isinstance(value, Tensor):
                setattr(module, key, _plain(value))
    return model


def copied(model: nn.Module) -> nn.Module:
    """A copy at rest; the module stays as it is. Raises SpikeTicketError where there can be none.
    """
    try:
        with _Copying():
            model = copy.deepcopy(model)
    except Exception as error:              # whatever a foreign attribute raises
        raise SpikeTicketError(f"{type(model).__name__} cannot be copied "
                               f"({' '.join(str(error).split())[:160]}); remove the attribute or "
                               "load its weights into a new one") from error
    rest(model)
    return model


def note_training(model: nn.Module) -> None:
    """A note where a module in training mode would compute otherwise than it is read."""
    kinds = sorted({type(m).__name__ for m in model.modules() if m.training and (
        isinstance(m, nn.modules.batchnorm._BatchNorm)
        or ("drop" in type(m).__name__.lower() and not list(m.children())))})
    if kinds:
        note(f"{type(model).__name__} is in training mode; {', '.join(kinds)} are read as in "
             "evaluation")


def _plain(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return value.double() if value.is_floating_point() else value


def rest(model: nn.Module) -> None:
    """Every neuron at rest."""
    for module in model.modules():
        if isinstance(module, base.MemoryModule) or callable(getattr(module, "reset", None)):
            module.reset()
