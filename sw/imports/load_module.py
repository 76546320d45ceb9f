"""A network of the user's from the command line: `FILE.py:NAME` and, beside it, its weights.

NAME is a class, a function without arguments, or a module that FILE made. FILE is run, as Python
runs it, with its own folder first on the path. Weights are numbers only: a `.safetensors` file, or
a file of torch.save read with `weights_only`, which runs nothing that the file holds.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import SpikeTicketError, did_you_mean

STATE_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
"""Names under which checkpoints keep the state dict, the likeliest first."""

COUNTED = "num_batches_tracked"
"""A batch norm's counter, which evaluation does not read: files of old versions lack it."""

HARMLESS = [argparse.Namespace, np._core.multiarray.scalar, np.dtype,
            *(type(np.dtype(t)) for t in (np.float32, np.float64, np.int64))]
"""What training scripts keep beside the weights (arguments, the best accuracy); numbers only."""


def load_module(network: str, weights: str | Path | None = None) -> nn.Module:
    """The module that `network`, "FILE.py:NAME", names, with `weights` loaded into it, in
    evaluation.

    Every weight of the module must be in the file with its shape, and the file may hold no others;
    prefixes that all its names share ("module." of DataParallel) are dropped. Raises
    SpikeTicketError, one line, for everything that goes wrong, in FILE's own code too.
    """
    model = maker(network)[0]()
    if weights is not None:
        load_weights(model, weights, network)
    return model.eval()


def maker(network: str, arguments: Mapping[str, object] | None = None) -> tuple[
        Callable[[], nn.Module], bool]:
    """(what makes the module that `network` names, again and again; whether it is one object, the
    same each time). arguments: for a class or a function. FILE is run now."""
    path, name = _split(network)
    file = _run(path)
    return (lambda: _made(file, path, name, arguments or {}),
            isinstance(getattr(file, name, None), nn.Module))


def load_weights(model: nn.Module, weights: str | Path, network: str) -> None:
    """Load a file of weights into a module; `network` names it in errors."""
    _load(model, read_weights(weights), str(weights), network)


def is_module_name(text: str) -> bool:
    """Whether a source is FILE.py or FILE.py:NAME."""
    return text.partition(":")[0].endswith(".py") or text.rpartition(":")[0].endswith(".py")


def _split(network: str) -> tuple[Path, str]:
    file, _, name = network.rpartition(":")
    if not file.endswith(".py"):
        file, name = network, ""
    path = Path(file)
    if not file.endswith(".py"):
        raise SpikeTicketError(f"{network}: a network is given as FILE.py:NAME, NAME a class, a "
                               "function or a module in it")
    if not path.is_file():
        raise SpikeTicketError(f"{path}: there is no such file")
    return path, name


@contextmanager
def _folder_first(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _run(path: Path) -> ModuleType:
    """The file as a module; it stays in sys.modules, where dataclasses look for their module."""
    name = f"_network_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        with _folder_first(path.parent.resolve()):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:    # whatever the file's own code raises
        raise SpikeTicketError(f"{path}: {_place(error, path)}{_reason(error)}") from error
    return module


def _made(file: ModuleType, path: Path, name: str,
          arguments: Mapping[str, object]) -> nn.Module:
    if not name or not hasattr(file, name):
        raise SpikeTicketError(f"{path}: {_choices(file, path, name)}")
    found = getattr(file, name)
    where = f"{path}:{name}"
    if isinstance(found, nn.Module):
        if arguments:
            raise SpikeTicketError(f"{where} is a module already; arguments "
                                   f"({', '.join(arguments)}) are for a class or a function")
        return found
    if not callable(found):
        raise SpikeTicketError(f"{where} is a {type(found).__name__}, not a torch.nn.Module, nor a "
                               "class or function that makes one")
    try:
        needed = [p.name for p in inspect.signature(found).parameters.values()
                  if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
                  and p.name not in arguments]
    except ValueError:                          # built-in callables say nothing about themselves
        needed = []
    if needed:
        raise SpikeTicketError(f"{where} needs arguments ({', '.join(needed)}); name a function of "
                               f"{path.name} that calls it with them and returns the network")
    try:
        with _folder_first(path.parent.resolve()):
            model = found(**arguments)
    except (Exception, SystemExit) as error:
        raise SpikeTicketError(f"{where}: {_place(error, path)}{_reason(error)}") from error
    if not isinstance(model, nn.Module):
        raise SpikeTicketError(f"{where} gives a {type(model).__name__}, not a torch.nn.Module")
    return model


def _choices(file: ModuleType, path: Path, name: str) -> str:
    """What NAME may be."""
    def makes(value: object) -> bool:
        if isinstance(value, nn.Module):
            return True
        own = getattr(value, "__module__", None) == file.__name__
        return own and (inspect.isfunction(value)
                        or (isinstance(value, type) and issubclass(value, nn.Module)))

    own = [key for key, value in vars(file).items() if not key.startswith("_") and makes(value)]
    if not own:
        return (f"there is no {name!r} in it, and no module, class of modules or function that "
                "makes one")
    if not name:
        return f"name the network in it, {path}:NAME; choose from {', '.join(own)}"
    return f"there is no {name!r} in it; {did_you_mean(name, own)}"


def _place(error: BaseException, path: Path) -> str:
    """The line of the user's file that raised."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__)
             if Path(f.filename) == path or Path(f.filename) == path.resolve()]
    return f"line {lines[-1]}: " if lines else ""


def _reason(error: BaseException) -> str:
    text = " ".join(str(getattr(error, "msg", None) or error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict of a `.safetensors` file or of one that torch.save wrote."""
    path = Path(path)
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise SpikeTicketError(f"{path}: cannot be read ({error.strerror})") from error
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, ValueError, OSError, MemoryError) as error:
            raise SpikeTicketError(f"{path}: damaged or not a safetensors file "
                                   f"({_reason(error)})") from error
    try:
        with torch.serialization.safe_globals(HARMLESS):
            held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:                  # pickles raise nearly every type
        kind = str(error).partition("GLOBAL ")[2].split(" ")[0]
        if kind or "TorchScript" in str(error):
            raise SpikeTicketError(f"{path}: holds more than weights ({kind or 'TorchScript'}), "
                                   "which would run code from the file; save net.state_dict()"
                                   ) from error
        raise SpikeTicketError(f"{path}: damaged or not a file of torch.save "
                               f"({_reason(error)})") from error
    return _state(held, path)


def _state(held: object, path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint."""
    for _ in range(3):                          # {"model": {"state_dict": ...}}
        if isinstance(held, Mapping) and held and all(isinstance(v, Tensor) for v in held.values()):
            return dict(held)
        inner = [key for key in STATE_KEYS if isinstance(held, Mapping)
                 and isinstance(held.get(key), Mapping)]
        if not inner:
            break
        held = held[inner[0]]
    keys = f" of {', '.join(map(str, list(held)[:6]))}" if isinstance(held, Mapping) else ""
    raise SpikeTicketError(f"{path}: holds no state dict, but a {type(held).__name__}{keys}; save "
                           "net.state_dict()")


def _load(model: nn.Module, state: dict[str, Tensor], where: str, network: str) -> None:
    own = model.state_dict()
    state = _unwrapped(state, own)
    missing = [k for k in own if k not in state and not k.endswith(COUNTED)]
    extra = [k for k in state if k not in own and not k.endswith(COUNTED)]
    other = [k for k in own if k in state and state[k].shape != own[k].shape]
    if other:
        raise SpikeTicketError(f"{where}: {other[0]} is {list(state[other[0]].shape)}, in "
                               f"{network} it is {list(own[other[0]].shape)}; other weights?")
    for what, keys in (("lacks", missing), ("holds, beyond the network's,", extra)):
        if keys:
            listed = ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
            raise SpikeTicketError(f"{where} {what} {listed}; are these the weights of {network}?")
    model.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def _unwrapped(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the names that all keys share and the network lacks: "module.", "_orig_mod."."""
    while state and not any(key in own for key in state):
        first = {key.partition(".")[0] for key in state}
        if len(first) > 1 or not all("." in key for key in state):
            break
        state = {key.partition(".")[2]: value for key, value in state.items()}
    return state
