"""Several processes on one search, one per GPU, as torchrun starts them.

Every process holds the same network and takes its part of each batch; gradients are added up before
each update, statistics of batch norms averaged after each epoch. The first process alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

SIZE = int(os.environ.get("WORLD_SIZE", "1"))
RANK = int(os.environ.get("RANK", "0"))


def join(device: torch.device) -> torch.device:
    """Meet the other processes; returns this one's device."""
    if SIZE == 1:
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def leave() -> None:
    """Part from the other processes."""
    if SIZE > 1 and dist.is_initialized():
        dist.destroy_process_group()


def wait() -> None:
    """Until all processes are here."""
    if SIZE > 1:
        dist.barrier()


def part(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """This process' samples of a batch, and what its mean loss counts in the sum over processes.

    A batch too small for batch norms in every process is done by all of them.
    """
    if len(y) < 2 * SIZE:
        return x, y, 1 / SIZE
    mine = slice(RANK, None, SIZE)
    return x[mine], y[mine], len(y[mine]) / len(y)


def add_gradients(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Before each update of `optimizer`, sum the gradients of all processes."""
    if SIZE == 1:
        return

    def hook(*_) -> None:
        for p in parameters:
            if p.grad is not None:
                dist.all_reduce(p.grad)
    optimizer.register_step_pre_hook(hook)


def total(value: float) -> float:
    """The sum over all processes."""
    if SIZE == 1:
        return value
    number = torch.tensor(value, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(number)
    return float(number)


@torch.no_grad()
def average_statistics(module: nn.Module) -> None:
    """Give all processes the mean of their running statistics."""
    for buffer in module.buffers() if SIZE > 1 else ():
        if buffer.is_floating_point():
            dist.all_reduce(buffer.div_(SIZE))
