"""One search from a configuration to a ticket file with its measured figures."""

from __future__ import annotations

import contextlib
import json
import time
from importlib import metadata
from pathlib import Path

import torch

from .. import ticket
from ..data import datasets
from ..data.datasets import Images
from ..errors import SpikeTicketError
from ..integer.network import Network
from . import checkpoint, export, methods, parallel
from .config import RunConfig, from_dict, same_search
from .ecpt import ecpt
from .masks import Masks, sparsity_of
from .measure import sparsity
from .patches import kept_count
from .scores import connections
from .trainer import Trainer

SEARCHES = {"dense": methods.dense, "imp": methods.imp, "scores": methods.scores,
            "random": methods.random, "patches": methods.patches, "ecpt": ecpt}


def run(config: RunConfig | dict, out: str | Path) -> dict:
    """Search as `config` says, or go on with the search in folder `out`; returns the result.

    Writes OUT/config.yaml, OUT/log.jsonl, OUT/masks.safetensors, OUT/ticket.safetensors (where the
    core supports the network) and OUT/result.json. A finished search is not run again.
    """
    if isinstance(config, dict):
        config = from_dict(config)
    train, test = load_data(config)
    return search(config, train, test, out)


def load_data(config: RunConfig) -> tuple[Images, Images]:
    """Training and test samples of a configuration."""
    sets = []
    for split, count in (("train", config.train_images), ("test", config.test_images)):
        sets.append(datasets.load(config.data, split, config.data_root, limit=count,
                                  timesteps=config.timesteps))
    return sets[0], sets[1]


def search(config: RunConfig, train: Images, test: Images, out: str | Path) -> dict:
    """`run` on given samples."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoint.locked(folder) if parallel.RANK == 0 else contextlib.nullcontext():
        _same_configuration(folder / "config.yaml", config)
        trainer = Trainer(config, train, test, folder, len(train) * sum(stage_epochs(config)))
        began = time.monotonic()
        try:
            found = SEARCHES[config.method](trainer)
            return _finish(trainer, found, began)
        finally:
            trainer.close()
            parallel.leave()


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
    rounds = [c.epochs_round] * (len(c.rounds()) - 1) + [c.epochs_final] * bool(c.rounds())
    selector = [c.epochs_connections] * (c.ranking == "selector" and c.patch_sparsity > 0)
    integer = [] if c.method == "scores" else [c.epochs_integer] * (1 + c.dense_integer)
    return {"imp": [c.epochs, *rounds], "random": [c.epochs_final], "ecpt": [
        c.epochs_connections, c.epochs, *(rounds if c.layers == "all" else [])]}.get(
            c.method, [c.epochs]) + selector + integer


def _finish(trainer: Trainer, found: methods.Found, began: float) -> dict:
    """Measure in floats and integers, write masks, ticket and result."""
    c = trainer.config
    accuracy, rates = trainer.measure(found.model, found.forward)
    masks = found.masks or {n: m.weight.detach() != 0 for n, m in connections(found.model).items()}
    masks = {n: m.cpu() for n, m in masks.items()}
    dense = [r["test_accuracy"] for r in trainer.history if r["stage"] in ("dense", "encoder")]
    info = {
        "method": c.method, "model": c.model, "data": c.data, "seed": c.seed,
        "images_train": len(trainer.data), "images_test": len(trainer.test),
        "accuracy_dense": dense[-1] if dense else None,
        "accuracy_ticket": accuracy,
        "sparsity_mask": sparsity_of(masks),
        "spike_rate": sum(rates.values()) / max(1, len(rates)), "spike_rates": rates,
        **trainer.notes,
    }
    if found.gate is not None:
        tokens = found.model.config.tokens
        info |= {"gate": export.gate_mode(found.gate), "tokens": tokens,
                 "tokens_kept": kept_count(tokens, found.gate.patch_sparsity)}
    info |= _integer(trainer, found)
    info |= trainer.notes
    network = info.pop("network", None)
    if c.dense_integer and network is not None:
        _write(trainer, info, network, masks, began)  # the ticket need not wait for what follows
        info |= _dense_integer(trainer, found)
    return _write(trainer, info, network, masks, began)


def _write(trainer: Trainer, info: dict, network: Network | None, masks: Masks,
           began: float) -> dict:
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
        ticket.save(info["ticket"], network, {k: v for k, v in info.items() if k != "ticket"})
    lines = json.dumps(info, indent=1) + "\n"
    checkpoint.replace(folder / "result.json", lambda part: part.write_text(lines))
    return info


def _integer(trainer: Trainer, found: methods.Found) -> dict:
    """Fine-tune in integers and measure; or the reason why there is no integer network."""
    try:
        network = export.to_integers(trainer, found).to_network(trainer.folder.name,
                                                                trainer.data.names)
    except SpikeTicketError as error:
        return {"ticket": None, "not_exported": str(error), "sparsity": sparsity(found.model)}
    count = _integer_images(trainer)
    accuracy, activity = export.measure(trainer, found, network, count)
    return {"ticket": str(trainer.folder / "ticket.safetensors"), "network": network,
            "accuracy_integer": accuracy, "integer_images": count,
            "activity_by_layer": activity, "sparsity": network.sparsity,
            "sparsity_by_layer": {layer.name: round(1 - syn.density, 5)
                                  for layer, syn in network.synapses()}}


def _dense_integer(trainer: Trainer, found: methods.Found) -> dict:
    """Accuracy of the dense network in integers: what the ticket's accuracy is to be held against.

    Converted, fine-tuned and measured as the ticket is, behind the gate that it was trained with.
    """
    model = trainer.build()
    model.load_state_dict(trainer.ended("dense"))
    dense = methods.Found(model, gate=found.gate if trainer.config.dense_gate else None)
    network = export.to_integers(trainer, dense, "dense integer").to_network("dense")
    accuracy, _ = export.measure(trainer, dense, network, _integer_images(trainer))
    return {"accuracy_dense_integer": accuracy}


def _integer_images(trainer: Trainer) -> int:
    """Test images that integer networks are measured on."""
    return min(trainer.config.integer_images or len(trainer.test), len(trainer.test))
