"""Iterative magnitude pruning with rewinding (Frankle et al. 1912.05671; for spiking networks
Kim et al. 2207.01382), then fine-tuning in the integer network's arithmetic.

Stage 0 trains the dense network and remembers its whole state after `rewind_epoch`. Each of
`rounds` rounds removes the smallest surviving weights, globally over all weight tensors (first
convolution and classifier included; batch norms stay), returns the survivors and the
batch norms to the remembered state, and trains again. The last round trains longer. Then the batch
norms are folded, weights quantised, and the surviving weights and biases fine-tuned with the
integer network in the forward pass. Every stage after the dense one can have the dense network as
a teacher (`distil`).

Every epoch ends with a checkpoint. A search that was interrupted continues with the numbers it
would have had; only safetensors are read, never pickle.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import parametrize
from tqdm import tqdm

from ..data.datasets import Images
from ..errors import SpikeTicketError
from ..models import CNNConfig, SpikingCNN
from . import checkpoint, training
from .integer_training import IntegerTrainee, RoundedWeight
from .masks import global_masks

WARMUP_STEPS = 100


@dataclass(frozen=True)
class SearchOptions:
    """Everything that determines a search; the checkpoint of another search is refused.

    prune_rate: fraction of the survivors removed per round; None spreads `sparsity` evenly over
    `rounds`. rewind_epoch: epochs of the dense training before the remembered state.
    epochs_*: of the dense network, each middle round, the last round, the ticket with weights
    rounded to `bits` and its batch norms, the integer fine-tuning, and the last ones of the latter
    that train on unshifted (but still flipped) images.
    distil: share of the dense network's soft labels in the loss of every later stage, 0..1;
    distil_integer: the same of the integer fine-tuning alone (None: `distil`).
    """

    network: str = "32p-64p-128-128"
    timesteps: int = 4
    tau: float = 2.0
    rounds: int = 4
    prune_rate: float | None = None
    sparsity: float = 0.9
    rewind_epoch: int = 2
    epochs_dense: int = 14
    epochs_round: int = 3
    epochs_final: int = 10
    epochs_rounded: int = 0
    epochs_integer: int = 6
    epochs_unshifted: int = 4
    distil: float = 0.0
    distil_integer: float | None = None
    bits: int = 4
    lr: float = 5e-3
    lr_integer: float = 2e-3
    batch_size: int = 64
    seed: int = 0
    augment: bool = True
    bf16: bool = True

    def __post_init__(self):
        def need(ok: bool, what: str) -> None:
            if not ok:
                raise SpikeTicketError(what)
        need(self.rounds >= 1, f"--rounds {self.rounds} is below 1")
        need(0 < self.sparsity < 1, f"--sparsity {self.sparsity} is outside 0..1 (0.9 keeps 10 %)")
        need(self.prune_rate is None or 0 < self.prune_rate < 1,
             f"--prune-rate {self.prune_rate} is outside 0..1")
        for name in ("epochs_dense", "epochs_round", "epochs_final", "epochs_integer"):
            need(getattr(self, name) >= 1,
                 f"--{name.replace('_', '-')} {getattr(self, name)} is below 1")
        need(self.epochs_rounded >= 0, f"--epochs-rounded {self.epochs_rounded} is below 0")
        need(0 <= self.epochs_unshifted <= self.epochs_integer,
             f"--epochs-unshifted {self.epochs_unshifted} is outside 0..{self.epochs_integer} "
             "integer epochs")
        need(0 <= self.rewind_epoch <= self.epochs_dense,
             f"--rewind-epoch {self.rewind_epoch} is outside 0..{self.epochs_dense} dense epochs")
        need(2 <= self.bits <= 8, f"--bits {self.bits} is outside 2..8")
        need(0 <= self.distil <= 1, f"--distil {self.distil} is outside 0..1")
        need(self.distil_integer is None or 0 <= self.distil_integer <= 1,
             f"--distil-integer {self.distil_integer} is outside 0..1")
        need(min(self.lr, self.lr_integer) > 0, "learning rates must be above 0")
        need(self.batch_size >= 1, f"--batch-size {self.batch_size} is below 1")
        need(self.density(self.rounds) <= 1 - self.sparsity + 1e-9,
             f"{self.rounds} rounds of --prune-rate {self.prune_rate} reach a sparsity of "
             f"{1 - self.density(self.rounds):.3f}, not {self.sparsity}; give more --rounds")

    def density(self, after_round: int) -> float:
        """Fraction of weights left after a round (0: dense)."""
        keep = 1 - self.sparsity
        if self.prune_rate is None:
            return keep ** (after_round / self.rounds)
        return max(keep, (1 - self.prune_rate) ** after_round)

    def config(self, data: Images) -> CNNConfig:
        """The network's shape for images and labels like those of `data`."""
        classes = len(data.names) or int(data.labels.max()) + 1
        return CNNConfig.parse(self.network, input=tuple(data.images.shape[1:]), classes=classes,
                               timesteps=self.timesteps, tau=self.tau)

    def stages(self) -> list[tuple[str, int]]:
        """(name, epochs) of every stage: dense, rounds, rounded weights, integer fine-tuning."""
        middle = [(f"round {r}", self.epochs_round) for r in range(1, self.rounds)]
        rounded = [("rounded", self.epochs_rounded)] if self.epochs_rounded else []
        return [("dense", self.epochs_dense), *middle,
                (f"round {self.rounds}", self.epochs_final), *rounded,
                ("integer", self.epochs_integer)]


class Search:
    """One search in `folder`: checkpoints in state.safetensors, log in log.jsonl.

    `run()` starts or continues it and leaves `trainee`, the fine-tuned integer network.
    """

    def __init__(self, options: SearchOptions, train: Images, test: Images, folder: str | Path):
        self.options, self.train, self.test = options, train, test
        self.folder = Path(folder)
        self.stages = options.stages()
        self.stage = 0
        self.epoch = 0  # epochs finished in this stage
        self.history: list[dict] = []
        self.masks: dict[str, Tensor] = {}
        self.rewind: dict[str, Tensor] = {}
        torch.manual_seed(options.seed)
        self.model = SpikingCNN(options.config(train))
        if test.images.shape[1:] != train.images.shape[1:]:
            raise SpikeTicketError(f"{test.source}: test images are {list(test.images.shape[1:])}, "
                                   f"training images {list(train.images.shape[1:])}")
        if test.labels.max() >= self.model.config.classes:
            raise SpikeTicketError(f"{test.source}: label {test.labels.max()} is not among the "
                                   f"{self.model.config.classes} classes of the training images")
        self.trainee: IntegerTrainee | None = None
        self.optimizer = self._new_optimizer()

    @property
    def now(self) -> str:
        """Name of the stage that runs; "" after the last."""
        return self.stages[self.stage][0] if self.stage < len(self.stages) else ""

    # -- one search from start to end ---------------------------------------------------------

    def run(self) -> IntegerTrainee:
        """Run every stage that is not finished; returns the fine-tuned integer network."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with checkpoint.locked(self.folder):
            self._resume()
            self._run()
        return self.trainee

    def _run(self) -> None:
        images = len(self.train)
        total = sum(epochs for _, epochs in self.stages) * images
        done = (sum(e for _, e in self.stages[:self.stage]) + self.epoch) * images
        quiet = 30.0 if not os.isatty(2) else 0.2
        with tqdm(total=total, initial=done, unit="img", unit_scale=True, mininterval=quiet,
                  smoothing=0.02) as bar:
            while self.stage < len(self.stages):
                name, epochs = self.stages[self.stage]
                bar.set_description(f"{name} epoch {self.epoch + 1}/{epochs}")
                if self.epoch == 0 and self.stage == 0 and self.options.rewind_epoch == 0:
                    self._remember()
                self._epoch(bar)
                if self.epoch == epochs:
                    self._finish_stage()
                self._save()

    @property
    def network(self):
        """The module in training: the float network, then the integer one."""
        return self.model if self.trainee is None else self.trainee

    def _epoch(self, bar: tqdm) -> None:
        o = self.options
        name, epochs = self.stages[self.stage]
        integer = self.trainee is not None
        per_epoch = -(-len(self.train) // o.batch_size)
        start, steps = self.epoch * per_epoch, epochs * per_epoch
        warmup = min(WARMUP_STEPS, steps // 4)
        peak = o.lr_integer if integer or name == "rounded" else o.lr
        # A sparse network that has seen shifts long enough gains by what the test images look like.
        unshifted = integer and self.epoch >= epochs - o.epochs_unshifted
        share = o.distil_integer if integer and o.distil_integer is not None else o.distil
        teacher = self._teacher() if share and self.stage > 0 else None
        network = self.network.train()

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.bf16 and not integer):
                logits = network(network.prepare(x))
            if teacher is None:
                return training.cross_entropy(logits, y)
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.bf16):
                target = teacher(teacher.prepare(x))
            return training.distillation(logits, y, target, share)

        began = time.monotonic()
        loss = training.train_epoch(
            loss_of, self.optimizer, self.train, batch_size=o.batch_size,
            generator=training.batch_generator(o.seed, self.stage, self.epoch),
            flip=o.augment, shift=o.augment and not unshifted, after_step=self._after_step,
            rate=lambda step: training.learning_rate(peak, start + step, steps, warmup),
            progress=lambda n, _: bar.update(n))
        seconds = time.monotonic() - began
        self.epoch += 1
        if self.stage == 0 and self.epoch == o.rewind_epoch:
            self._remember()
        last = self.epoch == epochs
        accuracy, rates = training.evaluate(
            network, self.test, bf16=o.bf16 and not integer and not last)
        record = {"stage": name, "epoch": self.epoch, "loss": round(loss, 5),
                  "test_accuracy": round(accuracy, 5), "sparsity": round(self.sparsity(), 5),
                  "spike_rates": [round(r, 5) for r in rates], "train_seconds": round(seconds, 1)}
        self.history.append(record)
        bar.set_postfix(acc=f"{accuracy:.4f}", sparsity=f"{record['sparsity']:.3f}",
                        rate=f"{sum(rates) / len(rates):.3f}", loss=f"{loss:.3f}")
        bar.write(json.dumps(record))

    def _finish_stage(self) -> None:
        """Move on to the next stage: prune and rewind, or fold and quantise."""
        o = self.options
        name = self.now.replace(" ", "-")
        checkpoint.save(self.folder / f"{name}.safetensors", {"model": self.network.state_dict()},
                        {"stage": name})
        self.stage, self.epoch = self.stage + 1, 0
        if not self.now:
            return
        if self.now == "rounded":
            self._round_weights()
        elif self.now == "integer":
            self.trainee = IntegerTrainee.from_float(self.model, self.masks, o.bits,
                                                     self._settle_weights())
        else:
            self.masks = global_masks(self.model.weights(), o.density(self.stage))
            self.model.load_state_dict(self.rewind)
            self._apply_masks()
        self.optimizer = self._new_optimizer()

    def _teacher(self) -> SpikingCNN:
        """The trained dense network, from the snapshot of its stage."""
        teacher = SpikingCNN(self.model.config)
        groups, _ = checkpoint.load(self.folder / "dense.safetensors")
        teacher.load_state_dict(groups["model"])
        return teacher.eval()

    def sparsity(self) -> float:
        """Fraction of all weights that are zero now."""
        if self.trainee is not None:
            return self.trainee.sparsity()
        weights = self.model.weights().values()
        alive = sum(int(torch.count_nonzero(w.detach())) for w in weights)
        return 1 - alive / sum(w.numel() for w in weights)

    def _round_weights(self) -> None:
        """Train integers times a step from here on, masks included."""
        for name, layer in self.model.layers().items():
            parametrize.register_parametrization(layer, "weight", RoundedWeight(
                layer.weight, self.masks[name], self.options.bits, name != "readout"))

    def _settle_weights(self) -> dict[str, Tensor]:
        """Plain weights again, as trained before rounding; the steps by layer name."""
        steps = {}
        for name, layer in self.model.layers().items():
            if parametrize.is_parametrized(layer, "weight"):
                steps[name] = layer.parametrizations.weight[0].step
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        return steps

    def _apply_masks(self) -> None:
        if self.now.startswith("round "):
            with torch.no_grad():
                weights = self.model.weights()
                for name, mask in self.masks.items():
                    weights[name].mul_(mask)

    def _after_step(self) -> None:
        self._apply_masks()

    def _remember(self) -> None:
        self.rewind = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def _new_optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.network.parameters(), lr=self.options.lr)

    # -- checkpoints --------------------------------------------------------------------------

    def _save(self) -> None:
        groups = {"model": self.model.state_dict(), "rewind": self.rewind, "mask": self.masks,
                  "adam": checkpoint.adam_state(self.optimizer)}
        if self.trainee is not None:
            groups["trainee"] = self.trainee.state_dict()
        checkpoint.save(self.folder / "state.safetensors", groups, {
            "options": self._identity(), "stage": str(self.stage), "epoch": str(self.epoch),
            "history": json.dumps(self.history)})
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        checkpoint.replace(self.folder / "log.jsonl", lambda part: part.write_text(lines))

    def _identity(self) -> str:
        return json.dumps({**dataclasses.asdict(self.options), "train": len(self.train),
                           "test": len(self.test)}, sort_keys=True)

    def _resume(self) -> None:
        path = self.folder / "state.safetensors"
        if not path.exists():
            return
        groups, meta = checkpoint.load(path)
        if meta.get("options") != self._identity():
            raise SpikeTicketError(f"{path}: belongs to a search with other options "
                                   f"({meta.get('options')}); give those, or another --out")
        try:
            self.stage, self.epoch = int(meta["stage"]), int(meta["epoch"])
            self.history = json.loads(meta["history"])
            self.masks, self.rewind = groups.get("mask", {}), groups.get("rewind", {})
            if self.now == "rounded":
                self._round_weights()
            self.model.load_state_dict(groups["model"])
            if "trainee" in groups:
                self.trainee = IntegerTrainee(self.model.config, self.options.bits)
                self.trainee.load_state_dict(groups["trainee"])
            self.optimizer = self._new_optimizer()
            checkpoint.restore_adam(self.optimizer, groups.get("adam", {}))
        except (KeyError, ValueError, RuntimeError) as error:
            raise SpikeTicketError(f"{path}: does not hold this search's state "
                                   f"({type(error).__name__}); remove it to start again") from error
