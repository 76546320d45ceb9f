"""Checkpoints of a search: safetensors files that appear whole or not at all, never pickle."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import SpikeTicketError

FORMAT = "spiketicket-search-1"

Groups = dict[str, dict[str, Tensor]]
"""Tensors by what they belong to ("model", "mask", ...), then by name."""


def save(path: Path, groups: Groups, meta: dict[str, str]) -> None:
    """Write tensors and metadata."""
    tensors = {f"{kind}.{name}": value.detach().clone(memory_format=torch.contiguous_format)
               for kind, group in groups.items() for name, value in group.items()}
    replace(path, lambda part: save_file(tensors, part, {"format": FORMAT, **meta}))


def load(path: Path) -> tuple[Groups, dict[str, str]]:
    """Read what `save` wrote. Raises SpikeTicketError for anything else."""
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise SpikeTicketError(f"{path}: not a readable checkpoint ({error}); remove it to "
                               "start again") from error
    if meta.get("format") != FORMAT:
        raise SpikeTicketError(f"{path}: not a checkpoint of a ticket search; remove it to "
                               "start again")
    groups: Groups = {}
    for key, value in tensors.items():
        kind, _, name = key.partition(".")
        groups.setdefault(kind, {})[name] = value
    return groups, meta


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimizer has learnt about its parameters, as a group of tensors."""
    return {f"{i}.{k}": torch.as_tensor(v)
            for i, state in optimizer.state_dict()["state"].items() for k, v in state.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, group: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_state`, for a fresh optimizer of the same parameters."""
    whole = optimizer.state_dict()
    for key, value in group.items():
        index, _, field = key.partition(".")
        whole["state"].setdefault(int(index), {})[field] = value
    optimizer.load_state_dict(whole)


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write a file under another name, then move it into place."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, so that two searches never write the same checkpoint."""
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SpikeTicketError(f"{folder}: another search is running there; wait for it, or "
                                   "give another --out") from error
        yield
