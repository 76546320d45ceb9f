"""Find a ticket by any method: one configuration, YAML or options, to one folder.

Writes OUT/ticket.safetensors (the integer network, where the core supports it), OUT/result.json,
OUT/masks.safetensors, OUT/log.jsonl (one line per epoch), OUT/config.yaml and checkpoints. The same
command goes on after an interrupt, with the numbers it would have had. Options go before the
lines of --config.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import typing
from pathlib import Path

from ..errors import command

EXAMPLES = """\
examples:
  python -m sw.tickets --network my_network.py:Net --weights trained.pth --timesteps 4 \\
      --data fashion-mnist --sparsity 0.9 --prune-rate 0.44 --distil 0.5 --out runs/mine
  python -m sw.tickets --method imp --model vgg9 --data cifar10 --sparsity 0.95 --early-time
  python -m sw.tickets --method scores --binary --model resnet19 --data cifar10 --sparsity 0.5
  python -m sw.tickets --method ecpt --model spikeformer-2-96 --data fashion-mnist \\
      --sparsity 0.5 --patch-sparsity 0.3
  torchrun --nproc-per-node 4 -m sw.tickets --model vgg9 --data cifar10 --bf16   # 4 GPUs
  python -m sw.tickets --config runs/a/config.yaml --seed 1 --out runs/b
  python -m sw.tickets --model 16p-32p --train-images 2000 --test-images 500 --epochs 1 \\
      --epochs-round 1 --epochs-final 1 --rewind-epoch 0 --out runs/quick     # a minute
"""


def parser() -> argparse.ArgumentParser:
    """One option per field of `RunConfig`."""
    from .config import RunConfig
    p = argparse.ArgumentParser(prog="python -m sw.tickets", description=__doc__, epilog=EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", metavar="YAML", help="settings, one a line: 'method: imp'")
    p.add_argument("--out", default="runs/search", help="folder of the search "
                   "(default: %(default)s)")
    p.add_argument("--threads", type=int, default=2, help="CPU threads; sums may differ in the "
                   "last bit with another number (default: %(default)s)")
    p.add_argument("--json", action="store_true", help="print the result as one JSON object")
    p.add_argument("--show", action="store_true", help="print the whole configuration and stop")
    group = p.add_argument_group("settings", "what they mean: pydoc sw.tickets.config.RunConfig")
    hints = typing.get_type_hints(RunConfig)
    for field in dataclasses.fields(RunConfig):
        option = "--" + field.name.replace("_", "-")
        names = ("--network", option) if field.name == "model" else (option,)
        note = "" if field.default is None else f"default: {field.default}"
        if hints[field.name] is bool:
            group.add_argument(*names, dest=field.name, default=None,
                               action=argparse.BooleanOptionalAction,
                               help=note)
        else:
            kind = next(t for t in (*typing.get_args(hints[field.name]), hints[field.name])
                        if t in (int, float, str))
            group.add_argument(*names, dest=field.name, type=kind, default=None, help=note)
    return p


@command
def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code (2: bad input, 130: interrupted)."""
    from . import config as settings
    args = parser().parse_args(argv)
    values = settings.read(args.config) if args.config else {}
    values |= {f.name: getattr(args, f.name) for f in dataclasses.fields(settings.RunConfig)
               if getattr(args, f.name) is not None}
    config = settings.from_dict(values, args.config or "options")
    if args.show:
        print(config.to_yaml(), end="")
        return 0
    import torch

    from . import parallel, training
    from .run import run
    torch.set_num_threads(max(1, args.threads))
    training.keep_freed_memory()
    try:
        result = run(config, Path(args.out))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on after the last finished epoch",
              file=sys.stderr)
        return 130
    if parallel.RANK:
        return 0
    if args.json:
        print(json.dumps(result))
        return 0
    for key, value in result.items():
        if not isinstance(value, dict) and key != "config":
            print(f"{key:20} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
