"""Training that can be killed at any moment: the one loop under every ticket search.

A search is a plain function that calls `Trainer.train` for one stage after the other. Each stage
ends with a snapshot, each epoch with a checkpoint. Started again, the function runs from its
beginning: finished stages are read from their snapshots, the interrupted one goes on, and since
all that is random comes from (seed, stage, epoch), the numbers are those of an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.datasets import Images
from ..errors import SpikeTicketError
from . import checkpoint, parallel, training
from .classifier import Classifier
from .config import RunConfig, same_search
from .early import EarlyBird
from .masks import Masks, keeper
from .measure import accuracy_and_rates, sparsity
from .networks import Networks
from .scores import connections

WARMUP_STEPS = 100
MANY = 1 << 30
"""Epochs that no stage has."""


class Trainer:
    """Data, folder, and the loop of one search.

    train: what all stages train on; held: validation samples, which the figures of every epoch are
    on (None: there are none). networks: makes the network. folder: gets state.safetensors
    (checkpoint), STAGE.safetensors (snapshots), log.jsonl. planned: samples that all stages
    together train on, for the progress bar's estimate.
    """

    def __init__(self, config: RunConfig, train: Images, held: Images | None, networks: Networks,
                 folder: str | Path, planned: int = 0):
        self.config, self.data, self.held, self.networks = config, train, held, networks
        self.classes = networks.classes
        self.folder = Path(folder)
        self.device = parallel.join(_device(config.device))
        self.history: list[dict] = []
        self.notes: dict[str, object] = {}
        self.generator = torch.Generator()  # of everything random in a forward pass
        self._teacher: Classifier | None = None
        self.planned = planned
        self._bar = tqdm(total=None if config.seconds else planned or None, unit="img",
                         unit_scale=True, smoothing=0.02, mininterval=0.2 if os.isatty(2) else 30.0,
                         disable=not planned or parallel.RANK > 0)
        self._board = (_tensorboard(self.folder) if config.tensorboard and parallel.RANK == 0
                       else None)
        if self._board is not None:
            self._board.add_text("settings", f"```yaml\n{config.to_yaml()}```")

    # -- building blocks of a search ------------------------------------------------------------

    @contextlib.contextmanager
    def seeded(self, what: str) -> Iterator[None]:
        """Draw from torch's global generator as (seed, what) says; it is left as it was."""
        plain = what == "weights" and self.config.draws == "numbers"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed if plain else self._seed(what, 0))
            yield

    def build(self, what: str = "weights", timesteps: int | None = None) -> Classifier:
        """The configured network with fresh weights; `what` names the draw."""
        with self.seeded(what):
            net = self.networks.fresh(timesteps, again=what != "weights")
        return net.to(self.device)

    def dense(self) -> Classifier:
        """The trained dense network: the one that was given, or that of the finished stage."""
        if self.config.weights:
            return self.networks.given().to(self.device)
        net = self.build()
        net.load_state_dict(self.ended("dense"))
        return net

    def train(self, stage: str, module: nn.Module, epochs: int, *,
              forward: Callable[[Tensor], Tensor] | None = None,
              parameters: Sequence[nn.Parameter] | None = None, lr: float | None = None,
              masks: Masks | None = None, frozen: Sequence[nn.Module] = (),
              remember: int | None = None, bird: EarlyBird | None = None,
              mask_now: Callable[[], Masks] | None = None, exact: bool = False,
              distil: float = 0.0, unshifted: int = 0,
              penalty: Callable[[], Tensor] | None = None,
              hold: Callable[[], None] | None = None,
              at_end: Callable[[], dict] | None = None) -> None:
        """Train `module` for one stage, or load what the stage ended with.

        forward: prepared samples -> logits [B, classes] (default: the module). parameters: what is
        trained (default: all that require gradients). masks: weights that stay 0, by the names of
        `connections(module)`. frozen: parts kept in evaluation. remember: save the state after this
        epoch, see `remembered`. bird: ends the stage when the masks that `mask_now` draws settle.
        exact: no mixed precision. distil: share of the dense network's soft labels in the loss.
        unshifted: in the last epochs, as many, no image is shifted. penalty: added to the loss of
        the batch that was just run. hold: called after every update, as the masks are applied.
        at_end: what it returns is recorded with the last epoch. With the setting `seconds` the
        stage ends by the clock instead, and `epochs` is only its part of all epochs.
        """
        c = self.config
        forward = forward or module
        if self._finished(stage, module):
            self._bar.update(epochs * len(self.data))
            return
        params = [p for p in parameters or module.parameters() if p.requires_grad]
        optimizer = _optimizer(c, params, lr or c.lr, exact)
        parallel.add_gradients(optimizer, params)
        call = torch.compile(forward, dynamic=False) if c.compile and not exact else forward
        teacher = self._taught() if distil else None

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            x, y, share = parallel.part(x, y)
            logits, y = self._forward(module, call, x, exact), y.to(self.device)
            more = penalty() if penalty is not None else 0.0
            if teacher is None:
                return (training.loss(c.loss, logits, y) + more) * share
            with torch.no_grad():
                soft = self._forward(teacher, teacher, x)
            return (training.loss(c.loss, logits, y, soft, distil) + more) * share
        done = self._resume(stage, module, optimizer, bird)
        self._bar.update(done * len(self.data))
        if done == 0 and remember == 0:
            self._save(f"{stage}.start", module)
        per_epoch, steps = self.updates(1), self.updates(epochs)
        warmup = min(WARMUP_STEPS, steps // 4)
        masked = keeper(connections(module), masks or {})

        def keep() -> None:
            masked()
            if hold is not None:
                hold()
        keep()
        clock = self._clock(stage, epochs)
        limit, stop = epochs if clock is None else MANY, False
        over = done >= limit or (clock is not None and clock.share == 1)
        while not over and not stop:
            self._bar.set_description(f"{stage} epoch {done + 1}" + f"/{epochs}" * (clock is None))
            gone = done / epochs if clock is None else clock.share
            module.train()
            for part in frozen:
                part.eval()
            self.generator.manual_seed(self._seed(stage, done + 1))
            began, start = time.monotonic(), done * per_epoch
            loss, part = training.train_epoch(
                loss_of, optimizer, self.data, batch_size=c.batch_size,
                generator=self._order(stage, done),
                flip=c.flip, shift=c.shift and gone < 1 - unshifted / epochs, after_step=keep,
                rate=lambda step, start=start: clock.rate(lr or c.lr) if clock else (
                    training.learning_rate(lr or c.lr, start + step, steps, warmup)),
                progress=lambda count, first=not done: self._goes_on(stage, count, clock, first))
            loss, seconds = parallel.total(loss), time.monotonic() - began
            parallel.average_statistics(module)
            done += 1
            stop = bird is not None and bird.settled(mask_now()) and done > (remember or 0)
            over = done >= limit or (clock is not None and clock.share == 1)
            self._record(stage, done, loss, seconds, module, forward, exact or over, part)
            if clock is not None:
                clock.start(seconds)
            if done == remember:
                self._save(f"{stage}.start", module)
            self._save("state", module, optimizer, bird,
                       {"stage": stage, "epoch": str(limit if stop else done)})
        if stop:
            self.spare(epochs - done)
        if clock is not None and done < (remember or 0):
            raise SpikeTicketError(f"seconds {c.seconds:g}: stage {stage!r} ended in epoch {done}, "
                                   f"before rewind_epoch {remember}; give more seconds")
        if at_end is not None:
            self.history[-1] |= at_end()
            self._tell(self.history[-1])
        self._save(stage, module)

    def spare(self, epochs: int) -> None:
        """So many epochs of the planned ones are not needed."""
        self._bar.total = self._bar.total and self._bar.total - epochs * len(self.data)

    def remembered(self, stage: str) -> dict[str, Tensor]:
        """The state after the epoch that `train(stage, remember=...)` was to remember."""
        return checkpoint.load(self._path(f"{stage}.start"))[0]["model"]

    def ended(self, stage: str) -> dict[str, Tensor]:
        """The state at the end of a finished stage."""
        return checkpoint.load(self._path(stage))[0]["model"]

    def validation_accuracy(self, stage: str) -> float:
        """That of the last epoch of a finished stage."""
        return [r["validation_accuracy"] for r in self.history if r["stage"] == stage][-1]

    def updates(self, epochs: int) -> int:
        """Updates of a stage of as many epochs."""
        return epochs * -(-len(self.data) // self.config.batch_size)

    def measure(self, module: nn.Module, data: Images,
                forward: Callable[[Tensor], Tensor] | None = None,
                exact: bool = True) -> tuple[float, dict[str, float]]:
        """Accuracy (fraction of the samples) and mean spike rate of every neuron layer."""
        self.generator.manual_seed(self._seed("test", 0))
        return accuracy_and_rates(
            module, lambda x: self._forward(module, forward or module, x, exact), data)

    def close(self) -> None:
        """End the progress bar and the TensorBoard log."""
        self._bar.close()
        if self._board is not None:
            self._board.close()

    # -- inside -----------------------------------------------------------------------------------

    def _taught(self) -> Classifier:
        if self._teacher is None:
            self._teacher = self.dense().requires_grad_(False).eval()
        return self._teacher

    def _clock(self, stage: str, epochs: int) -> training.Clock | None:
        """Of a stage that has its part of the setting `seconds`."""
        c = self.config
        if c.seconds is None:
            return None
        if parallel.SIZE > 1:
            raise SpikeTicketError("seconds is for one process, whose clock all would have to "
                                   "follow; give epochs")
        planned = self.planned or epochs * len(self.data)
        spent = sum(r["train_seconds"] for r in self.history if r["stage"] == stage)
        return training.Clock(c.seconds * epochs * len(self.data) / planned, spent)

    def _goes_on(self, stage: str, count: int, clock: training.Clock | None, first: bool) -> bool:
        """Whether to go on after `count` samples of an epoch, which `first` says is the stage's
        first. Raises SpikeTicketError where that one does not fit into the time."""
        self._bar.update((count - 1) % self.config.batch_size + 1)
        if clock is None:
            return True
        takes = clock.epoch_takes(count / len(self.data)) if first else None
        if takes:
            raise SpikeTicketError(
                f"seconds {self.config.seconds:g}: stage {stage!r} has {clock.budget:.3g} of them, "
                f"and an epoch takes about {takes:.3g}; give "
                f"{math.ceil(1.2 * self.config.seconds * takes / clock.budget)} or more")
        return clock.share < 1

    def _forward(self, module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor,
                 exact: bool = False) -> Tensor:
        half = self.config.bf16 and not exact
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            return forward(module.prepare(x.to(self.device))).float()

    def _record(self, stage: str, epoch: int, loss: float, seconds: float, module: nn.Module,
                forward: Callable[[Tensor], Tensor], exact: bool, part: float) -> None:
        record = {"stage": stage, "epoch": epoch, "loss": round(loss, 5)}
        if part < 1:    # the clock ended it
            record["part"] = round(part, 3)
        if self.held is not None:
            accuracy, rates = self.measure(module, self.held, forward, exact)
            record["validation_accuracy"] = round(accuracy, 5)
            if rates:
                record |= {"spike_rate": round(sum(rates.values()) / len(rates), 5),
                           "spike_rates": {n: round(r, 5) for n, r in rates.items()}}
        record |= {"sparsity": round(sparsity(module), 5), "train_seconds": round(seconds, 1)}
        self.history.append(record)
        self._bar.set_postfix({k: f"{record[k]:.4f}" for k in record
                               if isinstance(record[k], float) and k != "train_seconds"})
        self._tell(record)
        if self._board is not None:
            self._plot(record)

    def _tell(self, record: dict) -> None:
        """A line about an epoch, above the progress bar."""
        if not self._bar.disable:
            self._bar.write(json.dumps({k: v for k, v in record.items() if k != "spike_rates"}),
                            file=sys.stderr)

    def _plot(self, record: dict) -> None:
        """One epoch in TensorBoard: over the whole search, by stage, by layer; where a stage
        begins."""
        stage, at = record["stage"], len(self.history)
        if at == 1 or self.history[-2]["stage"] != stage:
            self._board.add_text("stages", f"{stage} begins with epoch {at} of the search", at)
        for key in ("loss", "validation_accuracy", "sparsity", "spike_rate"):
            if key in record:
                self._board.add_scalar(f"search/{key}", record[key], at)
                self._board.add_scalar(f"{stage}/{key}", record[key], record["epoch"])
        for layer, rate in record.get("spike_rates", {}).items():
            self._board.add_scalar(f"spike rate by layer/{layer}", rate, at)

    def _seed(self, what: str, number: int) -> int:
        return training.batch_generator(self.config.seed, zlib.crc32(what.encode()),
                                        number % (1 << 31)).initial_seed()

    def _order(self, stage: str, done: int) -> torch.Generator:
        """Of the order and the augmentation of a stage's next epoch."""
        if self.config.draws == "names":
            return torch.Generator().manual_seed(self._seed(stage, -done - 1))
        before = dict.fromkeys(r["stage"] for r in self.history if r["stage"] != stage)
        return training.batch_generator(self.config.seed, len(before), done)

    # -- checkpoints ------------------------------------------------------------------------------

    def _path(self, stage: str) -> Path:
        return self.folder / f"{stage.replace(' ', '-')}.safetensors"

    def _identity(self) -> dict[str, str | int]:
        return {"config": self.config.to_yaml(), "train": len(self.data)}

    def _save(self, name: str, module: nn.Module, optimizer: torch.optim.Optimizer | None = None,
              bird: EarlyBird | None = None, extra: dict[str, str] | None = None) -> None:
        if parallel.RANK:
            return parallel.wait()
        groups = {"model": module.state_dict()}
        if optimizer is not None:
            groups["optimizer"] = checkpoint.optimizer_state(optimizer)
        if bird is not None:
            groups["bird"] = bird.state()
        checkpoint.save(self._path(name), groups, {
            "search": json.dumps(self._identity()), "history": json.dumps(self.history),
            **(extra or {})})
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        checkpoint.replace(self.folder / "log.jsonl", lambda part: part.write_text(lines))
        parallel.wait()

    def _load(self, name: str) -> tuple[checkpoint.Groups, dict[str, str]] | None:
        path = self._path(name)
        if not path.exists():
            return None
        groups, meta = checkpoint.load(path)
        with _explained(path):
            its, mine = json.loads(meta["search"]), self._identity()
            text, my_text = its.pop("config"), mine.pop("config")
        if its != mine or not same_search(text, my_text):
            raise SpikeTicketError(f"{path}: belongs to a search with another configuration; give "
                                   f"that one ({self.folder}/config.yaml), or another --out")
        late = meta.get("stage", name).endswith("integer")
        return (groups, meta) if same_search(text, my_text, late) else None

    def _finished(self, stage: str, module: nn.Module) -> bool:
        loaded = self._load(stage)
        if loaded is None:
            return False
        with _explained(self._path(stage)):
            module.load_state_dict(loaded[0]["model"])
            self.history = json.loads(loaded[1]["history"])
        return True

    def _resume(self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer,
                bird: EarlyBird | None) -> int:
        loaded = self._load("state")
        if loaded is None or loaded[1].get("stage") != stage:
            return 0
        groups, meta = loaded
        with _explained(self._path("state")):
            module.load_state_dict(groups["model"])
            checkpoint.restore_optimizer(optimizer, groups.get("optimizer", {}))
            self.history = json.loads(meta["history"])
            if bird is not None:
                bird.restore(groups.get("bird", {}))
            return int(meta["epoch"])


def _optimizer(c: RunConfig, params: Sequence[nn.Parameter], lr: float,
               exact: bool) -> torch.optim.Optimizer:
    """As configured; of the integer stages (exact) Adam without decay."""
    if exact:
        return torch.optim.Adam(params, lr=lr)
    weights, others = ([p for p in params if (p.dim() > 1) == large] for large in (True, False))
    groups = [{"params": group, "weight_decay": decay}
              for group, decay in ((weights, c.weight_decay), (others, 0.0)) if group]
    if c.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=lr)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise SpikeTicketError(f"{path}: does not hold this search's state "
                               f"({type(error).__name__}); remove it to start again") from error


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise SpikeTicketError("device 'cuda': torch sees no GPU; give --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SpikeTicketError("tensorboard: not installed; pip install tensorboard, or drop the "
                               "setting") from error
    return SummaryWriter(str(folder / "tensorboard"))
