"""What sparse weights, sparse spikes and gated patches save, in cycles on the same core.

    python -m sw.ladder                                      # bundled CNN ticket
    python -m sw.ladder --ticket fmnist-spikeformer --plot ladder.svg --patches patches.png
    python -m sw.ladder --ticket my.safetensors --data n-mnist:size=32 --images 8 --json

The ladder: dense (every weight stored, every neuron active, every patch kept) -> spike skip ->
weight skip -> both -> + patch gate. Then kept patches, density and activity are swept, each alone,
with the slope of log(cycles) over log(x): 1 means that half of it takes half the cycles. Activity:
from every neuron active downwards, and spike rate: from the samples' own downwards.
Cycles are those of the exact cycle model for the ticket's spikes on real samples; the core's
memories are made large enough for the dense network.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
from tqdm import tqdm

from hw.boards import BOARDS, DEFAULT_BOARD
from hw.config import PRESETS

from .. import bundled, ticket
from ..core import cores
from ..data import datasets
from ..errors import SpikeTicketError, command
from ..plots.run import check_format
from .measure import climb, steps
from .result import PHASES, SCALING, Ladder

DEFAULT_IMAGES = 4


def show(ladder: Ladder) -> None:
    """Print tables of the ladder and the sweeps."""
    width = max(map(len, ladder.rungs))
    first = ladder.rungs["dense"].total
    core = f"{ladder.config.engines} engines x {ladder.config.units} units"
    print(f"{ladder.ticket}: {core}, mean of {ladder.images} samples")
    print(f"\n{'cycles':>{width + 10}} {'fewer':>7}  " + " ".join(f"{p:>13}" for p in PHASES))
    for name, point in ladder.rungs.items():
        print(f"{name:{width}} {point.total:9,.0f} {first / point.total:6.1f}x  "
              + " ".join(f"{point.phases[p]:13,.0f}" for p in PHASES))
    for sweep in ladder.sweeps:
        print(f"\n{sweep.name} ({sweep.layers}): slope {sweep.slope:.2f} of "
              f"{' + '.join(SCALING)}; halving it saves "
              + ", ".join(f"{h:.2f}x" for h in sweep.halvings))
        for p in sorted(sweep.points, key=lambda p: -p.x):
            print(f"{p.x:{width}.4g} {p.total:9,.0f} {p.scaling:9,.0f}  "
                  + " ".join(f"{p.phases[name]:13,.0f}" for name in PHASES))


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sw.ladder", description=__doc__.split("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=__doc__.split("\n", 1)[1])
    parser.add_argument("--ticket", default=bundled.DEFAULT, metavar="NAME",
                        help="a bundled ticket or a file (default: %(default)s)")
    parser.add_argument("--data", help="samples (default: bundled ones that suit the ticket)")
    parser.add_argument("--images", type=int, default=DEFAULT_IMAGES,
                        help="samples, the first ones (default: %(default)s)")
    parser.add_argument("--board", choices=sorted(BOARDS), default=DEFAULT_BOARD,
                        help="whose core (default: %(default)s)")
    parser.add_argument("--preset", choices=sorted(PRESETS), help="another core")
    parser.add_argument("--plot", metavar="FILE", help="ladder and sweeps: .svg, .png or .pdf")
    parser.add_argument("--patches", metavar="FILE",
                        help="samples with the patches that were kept: .svg, .png or .pdf")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    for path in (options.plot, options.patches):
        if path:
            check_format(path)
    found = ticket.load(bundled.find(options.ticket))
    if options.patches and not found.network.gates:
        raise SpikeTicketError(f"--patches {options.patches}: ticket {options.ticket!r} has no "
                               "patch gate")
    data = options.data or bundled.data_for(found)
    samples = datasets.for_network(found.network, data, limit=max(1, options.images))
    samples = samples.first(options.images)
    _, config = cores.choose(BOARDS[options.board], found.network, options.preset)
    masks = None
    if any(gate.mode == "host" for gate in found.network.gates.values()):
        gate = next(iter(found.network.gates.values()))
        order = np.random.default_rng(0).random((len(samples), gate.tokens)).argsort(1)
        masks = order < gate.keep
    with tqdm(total=steps(found.network), desc="networks on the cycle model", unit="network",
              disable=options.json) as bar:
        ladder = climb(found.network, config, samples.images, masks, options.ticket, bar.update)
    from ..plots import ladder as ladder_plots
    if options.plot:
        ladder_plots.plot_ladder(options.plot, ladder)
    if options.patches:
        gate = next(iter(found.network.gates.values()))
        ladder_plots.plot_patches(options.patches, samples, gate, ladder.kept[0])
    if options.json:
        print(json.dumps(ladder.as_dict(), indent=1))
    else:
        show(ladder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
