"""`spiketicket find`, which `python -m sw.tickets` is, too."""

from __future__ import annotations

import dataclasses
import inspect
import json as jsons
import sys
import typing
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from ..errors import BadInput
from ..tickets.config import CHOICES, RunConfig, from_dict, helps, read
from .app import verb
from .options import (
    DATA,
    DataRoot,
    Json,
    Listing,
    Seed,
    Ticket,
    flag,
    number,
    one_of,
    out_file,
    out_folder,
)

SETTINGS = Group("Settings of the search", sort_key=1)


def find(*, config: Annotated[str | None, Parameter(
             help="YAML file of settings, one a line: 'method: imp'; options go "
                  "before them")] = None,
         out: Annotated[Path, out_folder("folder of the search")] = Path("runs/search"),
         threads: Annotated[int, number("CPU threads; sums may differ in the last bit with another "
                                        "number", 1)] = 2,
         json: Json = False,
         show: Annotated[bool, flag("print the whole configuration and stop")] = False,
         **settings) -> int:
    """Find a ticket by any method.

    Writes OUT/ticket.safetensors (the integer network, where the core supports
    it), OUT/result.json, OUT/masks.safetensors, OUT/log.jsonl (one line per
    epoch), OUT/config.yaml and checkpoints. The same command goes on after an
    interrupt, with the numbers it would have had.

    examples:
      spiketicket find --network my_network.py:Net --weights trained.pth --timesteps 4 \\
          --data fashion-mnist --sparsity 0.9 --prune-rate 0.44 --distil 0.5 --out runs/mine
      spiketicket find --method imp --model vgg9 --data cifar10 --sparsity 0.95 --early-time
      spiketicket find --method scores --binary --model resnet19 --data cifar10 --sparsity 0.5
      spiketicket find --method ecpt --model spikeformer-2-96 --data fashion-mnist \\
          --sparsity 0.5 --patch-sparsity 0.3
      torchrun --nproc-per-node 4 -m sw.tickets --model vgg9 --data cifar10 --bf16  # 4 GPUs
      spiketicket find --config runs/a/config.yaml --seed 1 --out runs/b
      spiketicket find --model 16p-32p --train-images 2000 --test-images 500 --epochs 1 \\
          --epochs-round 1 --epochs-final 1 --rewind-epoch 0 --out runs/quick  # a minute
    """
    values = read(config) if config else {}
    values |= {name: value for name, value in settings.items() if value is not None}
    wanted = from_dict(values, config or "options")
    if show:
        print(wanted.to_yaml(), end="")
        return 0
    import torch

    from ..tickets import parallel, training
    from ..tickets import run as searches
    torch.set_num_threads(threads)
    training.keep_freed_memory()
    try:
        result = searches.run(wanted, out)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on after the last finished epoch",
              file=sys.stderr)
        return 130
    if parallel.RANK:
        return 0
    if json:
        print(jsons.dumps(result))
        return 0
    for key, value in result.items():
        if not isinstance(value, dict) and key != "config":
            print(f"{key:20} {value}")
    return 0


def _settings() -> list[inspect.Parameter]:
    """An option for every field of `RunConfig`; None where it is not given."""
    hints = typing.get_type_hints(RunConfig)
    said = helps() | {"data": DATA, "data_root": "folder that data sets are looked for in"}
    options = []
    for field in dataclasses.fields(RunConfig):
        kind = next(t for t in (*typing.get_args(hints[field.name]), hints[field.name])
                    if t in (bool, int, float, str))
        if field.name in CHOICES:
            kind = one_of(CHOICES[field.name])
        default = "" if field.default is None else f" (default: {field.default})"
        names = {"model": ("--model", "--network")}.get(field.name)
        how = Parameter(names, help=said[field.name] + default, group=SETTINGS,
                        negative=None if kind is bool else (), allow_leading_hyphen=kind in (
                            int, float))
        options.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None,
                                         annotation=Annotated[kind | None, how]))
    return options


find.__signature__ = inspect.Signature([
    *(p for p in inspect.signature(find, eval_str=True).parameters.values()
      if p.kind is p.KEYWORD_ONLY), *_settings()], return_annotation=int)

app = verb("find", find)


@app.command
def sweep(*, config: Annotated[str, Parameter(help="YAML file of what is swept")],
          out: Annotated[Path, out_folder("folder of the sweep")] = Path("runs/sweep"),
          pool: Annotated[one_of(("auto", "ray", "processes")), Parameter(
              help="auto: Ray where it is installed, else a pool of processes; the results are "
                   "the same")] = "auto",
          address: Annotated[str | None, Parameter(
              help="of a Ray cluster, auto for the one of this computer; its nodes have "
                   "SpikeTicket installed and share --out")] = None,
          jobs: Annotated[int | None, number("cells at a time (default: cores / threads)",
                                             1)] = None,
          threads: Annotated[int, number("CPU threads of a cell", 1)] = 1,
          run: Annotated[str | None, Parameter(
              help="allow the file to run this function, MODULE:FUNCTION, instead of a ticket "
                   "search, when it says so (run: module:function)")] = None,
          metric: Annotated[str | None, Parameter(
              help="what the plots show, a column of the table")] = None,
          listing: Listing = False,
          plot_only: Annotated[bool, flag(
              "run nothing, draw the plots again")] = False,
          json: Json = False) -> int:
    """A search for every cell of a grid, on all cores or a Ray cluster; one table of results.

    A YAML file says what is swept:

      base:  # settings of every cell, as of spiketicket find
        model: 16p-32p-64
        data: fashion-mnist
        epochs: 4
      sweep:  # one grid (the product of its lists), or a list of grids
        - sparsity: [0.2, 0.5, 0.8]
        - timesteps: [1, 2, 4]
      seed: [0, 1, 2]                  # of every cell of every grid
      metric: accuracy_ticket  # what the plots show (default: the first accuracy there is)

    Writes OUT/results.csv (one line per cell; results.parquet too where pyarrow
    is installed), OUT/cells/ID.json and OUT/plots/*.svg. A finished cell is not
    run again: the same command goes on after an interrupt, and after more values
    were added to the file. Exit code 1: cells failed.

    examples:
      spiketicket find sweep --config sweep.yaml --out runs/sweep  # all cores
      spiketicket find sweep --config sweep.yaml --out runs/sweep --list  # which cells are done
      spiketicket find sweep --config sweep.yaml --address auto  # a Ray cluster
      spiketicket find sweep --config sweep.yaml --plot-only --metric spike_rate
    """
    from .. import sweep as sweeps
    from ..sweeps.plan import DEFAULT_RUN, read_plan
    from ..sweeps.plots import write_plots
    from ..sweeps.table import rows_of
    plan = read_plan(config)
    if listing or plot_only:
        rows = rows_of(plan, out)
    elif plan.run not in (DEFAULT_RUN, run):
        raise BadInput(f"{config}: runs {plan.run!r}, which is code; if you trust it, add --run "
                       f"{plan.run}")
    else:
        rows = sweeps.run_plan(plan, out, pool=pool, jobs=jobs, threads=threads, address=address)
    plots = [] if listing else write_plots(rows, plan.axes, out / "plots", metric or plan.metric)
    if json:
        print(jsons.dumps({"out": str(out), "rows": rows, "plots": [str(p) for p in plots]}))
    else:
        sweeps.show(rows, plan)
        if plots:
            print(f"{out / 'results.csv'}, {len(plots)} plots")
    return int(any(row["status"] == "failed" for row in rows))


@app.command
def pack(packs: Annotated[list[Path], Parameter(help=".npz event packs, in this order")], *,
         out: Annotated[Path, out_file("the new pack")], json: Json = False) -> None:
    """One event pack from a set's packs, for searches that need more test recordings.

    Every recording of all packs is taken once, training and test split alike, in
    their order. The new pack's name has no split in it, so that every fourth
    recording of a class is for testing and the others for training.

    example: spiketicket find pack nmnist_*.npz --out runs/nmnist-all.npz
             spiketicket find --data runs/nmnist-all.npz:size=16,fit=resize --model 16p-32p-64
    """
    from ..tickets import holdout
    counts = holdout.join(packs, out)
    print(jsons.dumps(counts) if json else
          f"{out}: {counts['recordings']} recordings ({counts['twice']} were there twice), "
          f"{counts['test']} of them for testing")


@app.command
def tune(ticket: Ticket, *,
         input_bits: Annotated[int, number("of the tuned ticket's input", 1, 8)],
         out: Annotated[Path, out_folder("folder of the tuned ticket")] = Path("runs/tuned"),
         data: Annotated[str | None, Parameter(
             help=f"(default: what the ticket was trained on): {DATA}")] = None,
         data_root: DataRoot = None,
         epochs: Annotated[int, number("of training, without shifts; 0: biases and thresholds are "
                                       "matched, and nothing is trained", 0)] = 2,
         lr: Annotated[float, Parameter(help="peak of Adam's learning rate")] = 1e-3,
         flip: Annotated[bool, flag("mirror half of the images")] = False,
         train_images: Annotated[int | None, number("use only the first N", 1)] = None,
         test_images: Annotated[int | None, number("use only the first N", 1)] = None,
         validation: Annotated[float, Parameter(
             help="fraction of the training samples that are not trained on")] = 0.1,
         seed: Seed = 0,
         threads: Annotated[int, number("CPU threads; sums may differ in the last bit with another "
                                        "number", 1)] = 2,
         json: Json = False) -> None:
    """A ticket at fewer input bits, fine-tuned in integers; no search is run again.

    Pictures are taken at their upper bits: four of them are half the bytes on
    the line and one mask of events instead of two. The ticket's integers are
    all that is needed. Writes OUT/ticket.safetensors, OUT/log.jsonl and
    checkpoints; the same command goes on after an interrupt.

    example: spiketicket find tune my.safetensors --input-bits 4 --flip
    """
    import torch

    from .. import bundled
    from .. import ticket as tickets
    from ..tickets import training
    from ..tickets import tune as tuning
    path = bundled.find(ticket)
    known = tickets.load(path).metadata.get("data")
    if data is None and not isinstance(known, str):
        raise BadInput(f"ticket {ticket} does not say what it was trained on; give --data")
    torch.set_num_threads(threads)
    training.keep_freed_memory()
    facts = tuning.tune(path, from_dict({
        "method": "dense", "model": ticket, "data": data or known, "data_root": data_root,
        "input_bits": input_bits, "epochs_integer": epochs, "epochs_unshifted": epochs,
        "lr_integer": lr, "flip": flip, "train_images": train_images, "test_images": test_images,
        "validation": validation, "seed": seed}), out)
    if json:
        print(jsons.dumps(facts))
        return
    for epoch in facts["tuned"]["epochs"]:
        print(f"epoch {epoch['epoch']}: loss {epoch['loss']:.4f}" + (
            f", {epoch['validation_accuracy']:.2%} of the validation samples"
            if "validation_accuracy" in epoch else ""))
    print(f"{out / 'ticket.safetensors'}: {facts['accuracy_integer']:.2%} of the test samples, "
          f"sparsity {facts['sparsity']:.2%}")
