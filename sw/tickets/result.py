"""From a finished search to the ticket file with its measured figures."""

from __future__ import annotations

import dataclasses
import json
import os
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from .. import ticket
from ..integer.network import entropy_bits
from ..integer.spikingjelly import evaluate


def finish(search, data: str, command: str) -> dict:
    """Measure the integer network on all test images, write OUT/ticket.safetensors.

    Returns the result that also ends OUT/log.jsonl: accuracies in fractions of all test images.
    """
    network = search.trainee.to_network(Path(search.folder).name, search.train.names)
    with tqdm(total=len(search.test), unit="img", desc="integer test",
              mininterval=0.2 if os.isatty(2) else 30.0) as bar:
        accuracy, activity = evaluate(network, search.test.images, search.test.labels,
                                      progress=bar.update)
    last = {record["stage"]: record for record in search.history}
    final = last[f"round {search.options.rounds}"]
    info = {
        "data": data,
        "images_train": len(search.train),
        "images_test": len(search.test),
        "accuracy_dense_float": last["dense"]["test_accuracy"],
        "accuracy_ticket_float": final["test_accuracy"],
        "accuracy_ticket_integer": accuracy,
        "weights_total": network.weights_total,
        "weights_surviving": network.weights_surviving,
        "sparsity": network.sparsity,
        "sparsity_by_layer": {layer.name: round(1 - syn.density, 5)
                              for layer, syn in network.synapses()},
        "entropy_bits_per_weight": entropy_bits(1 - network.sparsity, search.options.bits),
        "activity_by_layer": activity,
        "epochs": sum(epochs for _, epochs in search.stages),
        "train_seconds": round(sum(r["train_seconds"] for r in search.history), 1),
        "seed": search.options.seed,
        "command": command,
        "options": dataclasses.asdict(search.options),
        "versions": {"torch": torch.__version__, "numpy": np.__version__,
                     "spikingjelly": metadata.version("spikingjelly")},
    }
    path = search.folder / "ticket.safetensors"
    ticket.save(path, network, info)
    log = search.folder / "log.jsonl"
    lines = "".join(json.dumps(r) + "\n" for r in [*search.history, {"result": info}])
    part = log.with_name(log.name + ".part")
    part.write_text(lines)
    os.replace(part, log)
    return {"ticket": str(path), **info}
