"""How many images a second a training step takes, beside the path that SpikingJelly has for it.

    spiketicket bench train
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from . import nets
from .nets.neurons import fused
from .tickets.training import keep_freed_memory

MODELS = ("32p-64p-128", "32p-64p-128p-256", "vgg9", "spikeformer-2-96-6@24p-48p-96-96")
WAYS = {"plain": (False, False), "plain, bf16": (False, True),
        "fused": (True, False), "fused, bf16": (True, True)}
"""(norm, neurons and pool as one function, mixed precision); plain: as SpikingJelly runs it."""

SHAPE = 3, 32, 32


def measure(models: Sequence[str] | None = None, batch: int = 64, timesteps: int = 4,
            rounds: int = 3) -> list[dict]:
    """Images/s of every way, by model: forward, loss, backward and update of random images on one
    thread, by its processor time. The ways take turns, and the fastest of the rounds counts: what
    else the computer does only adds. Raises SpikeTicketError for an unknown model."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        return [_row(model, batch, timesteps, rounds) for model in models or MODELS]
    finally:
        torch.set_num_threads(threads)


def _row(model: str, batch: int, timesteps: int, rounds: int) -> dict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nets.build(nets.NetConfig(model, SHAPE, timesteps=timesteps)).train()
        images, labels = torch.rand(batch, *SHAPE), torch.randint(0, 10, (batch,))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    best = {}
    for turn in range(rounds + 1):      # the first compiles, and is not counted
        for way, (one, half) in WAYS.items():
            seconds = _step(net, optimizer, images, labels, one, half)
            if turn:
                best[way] = min(best.get(way, seconds), seconds)
    speeds = {way: batch / seconds for way, seconds in best.items()}
    return {"model": model, "batch": batch, "timesteps": timesteps, "images_per_s": speeds,
            "times": max(speeds["fused"], speeds["fused, bf16"]) / speeds["plain"]}


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor,
          labels: torch.Tensor, one: bool, half: bool) -> float:
    """Seconds of processor time of an update."""
    began = time.thread_time()
    with (fused(net, blocks=True) if one else contextlib.nullcontext(),
          torch.autocast("cpu", dtype=torch.bfloat16, enabled=half)):
        logits = net(images)
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(logits, labels).backward()
    optimizer.step()
    return time.thread_time() - began


def show(rows: Sequence[dict]) -> None:
    """As text."""
    print(f"{'images/s, one thread':34}" + "".join(f"{way:>13}" for way in WAYS)
          + "   best over plain")
    for row in rows:
        print(f"{row['model']:34}" + "".join(f"{row['images_per_s'][way]:13.1f}" for way in WAYS)
              + f"{row['times']:10.2f} x")
