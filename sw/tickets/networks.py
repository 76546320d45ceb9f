"""The network that a ticket is searched in: a name of ours, a class in the user's file, a module.

    vgg9, 32p-64p-128, spikeformer-2-96     a network of `sw.nets`
    FILE.py:NAME                            a class or function (called without arguments, or with
                                            `network_args`), or a module object, in a file of yours
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import nets
from ..errors import SpikeTicketError
from .classifier import Classifier, Way, rested_copy
from .config import GIVEN, RunConfig, is_file, key_values

HOLDERS = ("state_dict", "model_state_dict", "model", "net", "module", "network")
"""Keys under which a checkpoint may keep the weights."""

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
        self.way: Way | None = None
        self.fixed = module is not None     # its weights are as they are, not drawn
        if module is not None:
            self.make: Make | None = lambda: rested_copy(module)
        elif is_file(config.model):
            self.make, self.fixed = from_file(config.model, key_values(config.network_args))
        else:
            self.make = None
        self.state = None
        if config.weights not in (None, GIVEN):
            self.state = read_weights(config.weights)
        elif config.weights == GIVEN and not self.fixed:
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
                c.theta, c.surrogate, static=len(self.shape) == 3))
            way = Way("image" if len(self.shape) == 3 else "batch first")
            return Classifier(net, timesteps, self.shape, self.classes, way)
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
        if self.state is not None:
            load_weights(net.module, self.state, self.config.weights)
        return net

    def _classifier(self, module: nn.Module) -> Classifier:
        net = Classifier(module, self.config.timesteps, self.shape, self.classes, self.way)
        self.way = net.way
        return net.to(memory_format=torch.channels_last)    # faster, and fused neurons keep it


def from_file(text: str, arguments: dict[str, object] | None = None) -> tuple[Make, bool]:
    """(the maker of FILE.py:NAME; whether it is a module object, whose weights are not drawn). The
    file is run: it is the user's own program.

    Raises SpikeTicketError where there is no such file or name, or the name is no module.
    """
    file, colon, name = text.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise SpikeTicketError(f"network {text!r} is not FILE.py:NAME; give e.g. my_network.py:Net")
    path = Path(file)
    if not path.is_file():
        raise SpikeTicketError(f"network {text!r}: no such file {file}")
    found = _namespace(path)
    if name not in found:
        near = difflib.get_close_matches(name, found, 1)
        raise SpikeTicketError(f"network {text!r}: {file} has no {name!r}"
                               + (f"; did you mean {near[0]}?" if near else ""))
    thing, arguments = found[name], arguments or {}
    if isinstance(thing, nn.Module):
        if arguments:
            raise SpikeTicketError(f"network {text!r} is a module already; network arguments are "
                                   "for a class or a function")
        return lambda: rested_copy(thing), True
    if not callable(thing):
        raise SpikeTicketError(f"network {text!r} is {type(thing).__name__}, not a module, a class "
                               "or a function that makes one")

    def make() -> nn.Module:
        try:
            module = thing(**arguments)
        except Exception as error:      # whatever a foreign constructor raises
            raise SpikeTicketError(f"network {text!r}: cannot be made "
                                   f"({_short(error)}); give its arguments as network "
                                   "arguments, KEY=VALUE") from error
        if not isinstance(module, nn.Module):
            raise SpikeTicketError(f"network {text!r} gives {type(module).__name__}, not a "
                                   "torch module")
        return module
    return make, False


def _namespace(path: Path) -> dict[str, object]:
    """What a file defines; its folder is where it imports from."""
    key = f"spiketicket network {path.resolve()}"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module               # dataclasses look their module up
        folder = str(path.resolve().parent)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[key]
            if isinstance(error, KeyboardInterrupt):
                raise
            raise SpikeTicketError(f"{path}: cannot be imported ({_short(error)})") from error
    return vars(sys.modules[key])


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a .pth, .pt or .safetensors file; only tensors are unpickled.

    A dict of a checkpoint with the weights under a usual key is understood, and the prefix
    "module." of DataParallel. Raises SpikeTicketError for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise SpikeTicketError(f"weights {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError, KeyError,
            *_pickle_errors()) as error:
        raise SpikeTicketError(
            f"weights {path}: not a file of tensors alone ({_short(error)}); save "
            "module.state_dict() with torch.save, or safetensors") from error
    for holder in HOLDERS:
        if isinstance(state, dict) and isinstance(state.get(holder), dict):
            state = state[holder]
            break
    if not isinstance(state, dict) or not state or not all(
            isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise SpikeTicketError(f"weights {path}: holds no state dict (names with tensors); save "
                               "module.state_dict()")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def load_weights(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Put a state dict into a module. Raises SpikeTicketError naming the first keys that differ."""
    held = module.state_dict()
    missing = [k for k in held if k not in state]
    extra = [k for k in state if k not in held]
    shapes = [k for k in held if k in state and held[k].shape != state[k].shape]
    if missing or extra or shapes:
        parts = [f"{what} {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
                 for what, keys in (("lacks", missing), ("has besides", extra),
                                    ("has another shape for", shapes)) if keys]
        if shapes:
            first = shapes[0]
            parts[-1] += f" ({list(state[first].shape)} for {list(held[first].shape)})"
        raise SpikeTicketError(f"weights {source}: of another network than "
                               f"{type(module).__name__}: {'; '.join(parts)}")
    try:
        module.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        raise SpikeTicketError(f"weights {source}: do not go into {type(module).__name__} "
                               f"({_short(error)})") from error


def draw_anew(module: nn.Module) -> None:
    """Draw the weights of a module's layers again, by their own `reset_parameters`."""
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()


def _pickle_errors() -> tuple[type[Exception], ...]:
    import pickle
    return pickle.UnpicklingError, AttributeError, ModuleNotFoundError, IndexError, TypeError


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
