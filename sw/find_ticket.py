"""Find a ticket: train a spiking CNN, prune it by IMP with rewinding, fine-tune it in integers.

Writes OUT/ticket.safetensors (the integer network), OUT/log.jsonl (one line per epoch, the
last one the result) and checkpoints. Run the same command again to continue after an interrupt.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path

EXAMPLES = """\
examples:
  python -m sw.find_ticket --data fashion-mnist --out runs/fmnist     # the bundled ticket
  python -m sw.find_ticket --rounds 1 --rewind-epoch 1 --epochs-dense 1 --epochs-final 1 \\
      --epochs-integer 1 --epochs-unshifted 0 \\
      --train-images 6000 --test-images 1000 --out runs/quick  # a minute
  python -m sw.find_ticket --data my-pack.npz --network 16p-32p-64 --sparsity 0.95
"""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m sw.find_ticket", description=__doc__,
                                epilog=EXAMPLES,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    add = p.add_argument
    add("--data", default="fashion-mnist", help="fashion-mnist, mnist or an .npz pack with "
        "x_train y_train x_test y_test (default: %(default)s)")
    add("--data-root", help="folder of the data set's files (default: Debian's, then ./data)")
    add("--out", default="runs/ticket", help="folder for ticket, log and checkpoints "
        "(default: %(default)s)")
    add("--network", help="blocks: channels, p where a 2x2 pool follows")
    add("--timesteps", type=int, metavar="T", help="timesteps per image, 1..16")
    add("--tau", type=float, help="membrane time constant; 2 keeps half the membrane per step")
    add("--rounds", type=int, help="pruning rounds")
    add("--prune-rate", type=float, help="fraction of the survivors removed per round "
        "(default: spread the sparsity evenly over the rounds)")
    add("--sparsity", type=float, help="fraction of all weights removed in the end")
    add("--rewind-epoch", type=int, help="survivors return to the weights after this dense epoch")
    add("--epochs-dense", type=int, help="epochs of the dense network")
    add("--epochs-round", type=int, help="epochs of every round but the last")
    add("--epochs-final", type=int, help="epochs of the last round")
    add("--epochs-rounded", type=int, help="epochs of the ticket with weights rounded to "
        "--bits and batch norms still in place, before the integer fine-tuning")
    add("--epochs-integer", type=int, help="epochs of the integer fine-tuning")
    add("--epochs-unshifted", type=int, help="of these, the last ones on unshifted images")
    add("--distil", type=float, metavar="SHARE", help="share of the dense network's soft labels "
        "in the loss of the rounds and the integer fine-tuning, 0..1")
    add("--distil-integer", type=float, metavar="SHARE", help="the same in the loss of the integer "
        "fine-tuning alone (default: as --distil)")
    add("--bits", type=int, help="width of the integer weights, 2..8")
    add("--lr", type=float, help="peak learning rate of Adam")
    add("--lr-integer", type=float, help="peak learning rate with rounded weights and integers")
    add("--batch-size", type=int, help="images per update")
    add("--seed", type=int, help="of initialisation, order and augmentation")
    add("--no-augment", dest="augment", action="store_false", default=None,
        help="no flips and shifts of the training images")
    add("--no-bf16", dest="bf16", action="store_false", default=None,
        help="train the float network in float32")
    add("--train-images", type=int, metavar="N", help="use only the first N training images")
    add("--test-images", type=int, metavar="N", help="use only the first N test images")
    add("--threads", type=int, default=2, help="CPU threads (default: %(default)s); sums may "
        "differ in the last bit with another number")
    add("--json", action="store_true", help="print the result as one JSON object")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code (2: bad input, 130: interrupted)."""
    arguments = sys.argv[1:] if argv is None else argv
    p = parser()
    from .errors import SpikeTicketError
    from .tickets.imp import SearchOptions
    for field in dataclasses.fields(SearchOptions):  # the defaults live in one place
        for action in p._actions:
            if action.dest == field.name and action.help and action.nargs != 0:
                action.help += f" (default: {field.default})" * (field.default is not None)
    args = p.parse_args(arguments)
    try:
        given = {f.name: getattr(args, f.name) for f in dataclasses.fields(SearchOptions)
                 if getattr(args, f.name) is not None}
        return _search(args, SearchOptions(**given), arguments)
    except SpikeTicketError as error:
        print(f"find_ticket: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nfind_ticket: interrupted; the same command continues after the last finished "
              "epoch", file=sys.stderr)
        return 130


def _search(args: argparse.Namespace, options, arguments: list[str]) -> int:
    import torch

    from .data import datasets
    from .errors import SpikeTicketError
    from .tickets import training
    from .tickets.imp import Search
    from .tickets.result import finish
    torch.set_num_threads(max(1, args.threads))
    training.keep_freed_memory()
    train = datasets.load(args.data, "train", args.data_root)
    test = datasets.load(args.data, "test", args.data_root)
    if not train.static:
        raise SpikeTicketError(f"data {args.data!r}: event data is for python -m sw.tickets; this "
                               "command takes images")
    if args.train_images:
        train = train.first(args.train_images)
    if args.test_images:
        test = test.first(args.test_images)
    search = Search(options, train, test, Path(args.out))
    search.run()
    command = "python -m sw.find_ticket " + shlex.join(arguments)
    result = finish(search, args.data, command.strip())
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:28} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
