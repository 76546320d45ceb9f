"""One search from a configuration to a ticket file with its measured figures."""

from __future__ import annotations

import contextlib
import json
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import ticket
from ..data import datasets
from ..data.datasets import Images
from ..errors import SpikeTicketError
from ..integer.network import Network
from ..integer.trainee import NetworkTrainee
from . import checkpoint, export, methods, parallel
from .config import GIVEN, RunConfig, from_dict, same_search
from .cost import forecast
from .ecpt import ecpt
from .found import Found, gated
from .masks import Masks, sparsity_of
from .measure import sparsity
from .networks import Networks
from .scores import connections
from .trainer import Trainer
from .trim import trimmed

SEARCHES = {"dense": methods.dense, "imp": methods.imp, "scores": methods.scores,
            "random": methods.random, "obs": methods.obs, "patches": methods.patches, "ecpt": ecpt}


def run(config: RunConfig | dict, out: str | Path) -> dict:
    """Search as `config` says, or go on with the search in folder `out`; returns the result.

    Writes OUT/config.yaml, OUT/log.jsonl, OUT/masks.safetensors, OUT/ticket.safetensors (where the
    core supports the network) and OUT/result.json. A finished search is not run again.
    """
    if isinstance(config, dict):
        config = from_dict(config)
    train, test = load_data(config)
    return search(config, train, test, out)


def find(module: nn.Module, train: Images, test: Images, out: str | Path, *,
         trained: bool = False, **settings: object) -> dict:
    """Search the ticket of a module of one's own, which stays as it is; returns the result.

    train, test: samples, see `sw.data.datasets`. trained: the module's weights are those of the
    dense network (else the search trains it from them). settings: of `RunConfig`.
    """
    if not isinstance(module, nn.Module):
        raise SpikeTicketError(f"{type(module).__name__} is not a torch module")
    name = type(module).__name__
    config = from_dict({"model": name, "data": train.source or "given samples",
                        **({"weights": GIVEN} if trained else {}), **settings})
    return search(config, train, test, out, module)


def load_data(config: RunConfig) -> tuple[Images, Images]:
    """Training and test samples of a configuration."""
    sets = []
    for split, count in (("train", config.train_images), ("test", config.test_images)):
        sets.append(datasets.load(config.data, split, config.data_root, limit=count,
                                  timesteps=config.timesteps))
    return sets[0], sets[1]


def search(config: RunConfig, train: Images, test: Images, out: str | Path,
           module: nn.Module | None = None) -> dict:
    """`run` on given samples, and of the given module. No stage sees the test samples."""
    classes = _check_samples(config, train, test)
    train, held = split(train, config.validation, config.seed)
    networks = Networks(config, train.images.shape[1:], classes, module)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint.locked(folder) if parallel.RANK == 0 else contextlib.nullcontext():
        _same_configuration(folder / "config.yaml", config)
        trainer = Trainer(config, train, held, networks, folder,
                          len(train) * sum(stage_epochs(config)))
        began = time.monotonic()
        try:
            found = SEARCHES[config.method](trainer)
            integer, dense = _integer(trainer, found), None
            if config.dense_integer and not isinstance(integer, str):
                dense = Found(trainer.dense(),
                                      gate=found.gate if config.dense_gate else None)
                dense = dense, export.to_integers(trainer, dense, "dense integer")
            return _finish(trainer, found, integer, dense, test, began)
        finally:
            trainer.close()
            parallel.leave()


def _check_samples(config: RunConfig, train: Images, test: Images) -> int:
    """The number of classes. Raises SpikeTicketError for samples that do not go together."""
    if test.images.shape[1:] != train.images.shape[1:]:
        raise SpikeTicketError(f"{test.source}: test samples are {list(test.images.shape[1:])}, "
                               f"training samples {list(train.images.shape[1:])}")
    if not len(train):
        raise SpikeTicketError(f"{train.source}: holds no training sample")
    classes = len(train.names) or int(train.labels.max()) + 1
    for what, labels, source in (("training", train.labels, train.source),
                                 ("test", test.labels, test.source)):
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            bad = labels.max() if labels.max() >= classes else labels.min()
            raise SpikeTicketError(f"{source}: label {bad} of a {what} sample is not among the "
                                   f"{classes} classes of the training samples")
    if train.images.ndim == 5 and train.images.shape[1] < config.timesteps:
        raise SpikeTicketError(f"timesteps {config.timesteps}: {train.source} has "
                               f"{train.images.shape[1]} frames per sample; make more frames")
    return classes


def split(data: Images, fraction: float, seed: int) -> tuple[Images, Images | None]:
    """(what is trained on, validation samples): `fraction` of every class, drawn from `seed`; of a
    class of few samples at least one stays in training. None where fraction is 0."""
    if not fraction:
        return data, None
    rng = np.random.default_rng([seed, 1])
    held = []
    for label in np.unique(data.labels):
        own = rng.permutation(np.flatnonzero(data.labels == label))
        held.append(own[:min(round(fraction * len(own)), len(own) - 1)])
    held = np.sort(np.concatenate(held))
    if not len(held):
        raise SpikeTicketError(f"validation {fraction} of {len(data)} training samples in "
                               f"{len(np.unique(data.labels))} classes is none; give more samples "
                               "or a larger fraction (0: no validation)")
    rest = np.setdiff1d(np.arange(len(data)), held)
    return tuple(Images(data.images[chosen], data.labels[chosen], data.names, data.source)
                 for chosen in (rest, held))


def _same_configuration(path: Path, config: RunConfig) -> None:
    """Write the configuration into a folder; refuse the folder of another search."""
    text = config.to_yaml()
    if path.exists() and not same_search(path.read_text(), text):
        raise SpikeTicketError(f"{path}: belongs to a search with another configuration; give that "
                               "one, or another --out")
    if parallel.RANK == 0:
        checkpoint.replace(path, lambda part: part.write_text(text))


def stage_epochs(config: RunConfig) -> list[int]:
    """Epochs of the stages to come, for the progress bar."""
    c = config
    rounds = ([c.epochs_round] * (len(c.rounds()) - (c.floor is None))
              + [c.epochs_final] * bool(c.rounds()))
    selector = [c.epochs_connections] * (c.ranking == "selector" and c.patch_sparsity > 0)
    rounds += [c.epochs_rounded] * bool(c.epochs_rounded and c.rounds())
    integer = [] if c.method == "scores" else [c.epochs_integer] * (1 + c.dense_integer)
    return {"imp": [c.epochs * c.fresh, *rounds], "obs": [c.epochs * (c.weights is None)],
            "random": [c.epochs_final], "ecpt": [
        c.epochs_connections, c.epochs, *(rounds if c.layers == "all" else [])]}.get(
            c.method, [c.epochs]) + selector + integer


def _finish(trainer: Trainer, found: Found, integer: NetworkTrainee | str,
            dense: tuple[Found, NetworkTrainee] | None, test: Images,
            began: float) -> dict:
    """Look at the test samples, in floats and in integers; write masks, ticket and result.

    integer: the trained integer network, or why there is none. dense: the dense network, and its
    integers, if they are asked for.
    """
    c = trainer.config
    accuracy, rates = trainer.measure(found.model.to(trainer.device), test, found.forward)
    masks = found.masks or {n: m.weight.detach() != 0 for n, m in connections(found.model).items()}
    masks = {n: m.cpu() for n, m in masks.items()}
    last = _ends(trainer)
    info = {
        "method": c.method, "model": c.model, "data": c.data, "seed": c.seed,
        "images_train": len(trainer.data),
        "images_validation": len(trainer.held) if trainer.held else 0, "images_test": len(test),
        "accuracy_dense": _dense_accuracy(trainer, found, test),
        "accuracy_ticket": accuracy,
        "validation_accuracy": {stage: r.get("validation_accuracy") for stage, r in last.items()},
        "epochs_dense": last.get("dense", {}).get("epoch", 0),
        "epochs_ticket": sum(r["epoch"] for s, r in last.items()
                             if s in (_last_stage(c), "integer")),
        "sparsity_mask": sparsity_of(masks),
        "spike_rate": sum(rates.values()) / len(rates) if rates else None, "spike_rates": rates,
    }
    if found.gate is not None:
        info |= {"gate": export.gate_mode(found.gate), "tokens": found.gate.stem.tokens,
                 "tokens_kept": found.gate.keep}
    if isinstance(integer, str):
        info |= {"ticket": None, "not_exported": integer, "sparsity": sparsity(found.model)}
        return _write(trainer, found, {**info, **trainer.notes}, None, masks, began)
    network = whole = integer.to_network(trainer.folder.name, trainer.data.names)
    if c.board:
        network = trimmed(whole)
        info["cycles"] = forecast(trainer, found, network)
        info["cycles_by_stage"] = {stage: r["cycles"] for stage, r in last.items() if "cycles" in r}
    count = min(c.integer_images or len(test), len(test))
    accuracy, activity = export.measure(trainer, found, network, test.first(count))
    info |= {"ticket": str(trainer.folder / "ticket.safetensors"),
             "accuracy_integer": accuracy, "integer_images": count,
             "activity_by_layer": activity,
             "sparsity": 1 - network.weights_surviving / whole.weights_total,
             "sparsity_by_layer": {layer.name: round(1 - syn.density, 5)
                                   for layer, syn in network.synapses()}}
    if dense is not None:
        info["accuracy_dense_integer"] = export.measure(
            trainer, dense[0], dense[1].to_network("dense"), test.first(count))[0]
    return _write(trainer, found, {**info, **trainer.notes}, network, masks, began)


def _ends(trainer: Trainer) -> dict[str, dict]:
    """The last epoch of every stage."""
    return {record["stage"]: record for record in trainer.history}


def _last_stage(config: RunConfig) -> str:
    """The stage that the ticket ends in, in floats."""
    count = len(config.rounds())
    if config.epochs_rounded and count:
        return "rounded"
    if config.floor is not None and count:
        return "final"
    if config.method == "imp" or (config.method == "ecpt" and config.layers == "all"):
        return f"round {count}" if count else "dense"
    return {"ecpt": "encoder"}.get(config.method, config.method)


def _dense_accuracy(trainer: Trainer, found: Found, test: Images) -> float | None:
    """Accuracy of the dense network, behind the gate that it was trained with."""
    c = trainer.config
    if c.weights or c.method in ("imp", "obs"):
        net = trainer.dense()
        gate = found.gate if c.dense_gate and not c.weights else None
        return trainer.measure(net, test, gated(net, gate))[0]
    return trainer.measure(found.model, test, found.forward)[0] if c.method == "dense" else None


def _write(trainer: Trainer, found: Found, info: dict, network: Network | None,
           masks: Masks, began: float) -> dict:
    """The folder's masks, ticket and result; returns `info` with what every result has."""
    c, folder = trainer.config, trainer.folder
    info = {**info, "epochs": len(trainer.history),
            "train_seconds": round(sum(r["train_seconds"] for r in trainer.history), 1),
            "seconds": round(time.monotonic() - began, 1),
            "versions": {"torch": torch.__version__,
                         "spikingjelly": metadata.version("spikingjelly")},
            "config": c.to_yaml()}
    if parallel.RANK:
        return info
    checkpoint.save(folder / "masks.safetensors", {"mask": masks}, {"config": c.to_yaml()})
    if network is not None:
        facts = {k: v for k, v in info.items() if k != "ticket"}
        ticket.save(info["ticket"], network, facts | export.typical_inputs(trainer, found, network))
    lines = json.dumps(info, indent=1) + "\n"
    checkpoint.replace(folder / "result.json", lambda part: part.write_text(lines))
    return info


def _integer(trainer: Trainer, found: Found) -> NetworkTrainee | str:
    """The ticket in integers, fine-tuned; or the reason why there is none."""
    try:
        return export.to_integers(trainer, found)
    except SpikeTicketError as error:
        return str(error)
