"""Runs the ladder of a ticket, and prints it (`spiketicket bench ladder`)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tqdm import tqdm

from hw.boards import BOARDS, DEFAULT_BOARD

from .. import bundled, ticket
from ..core import cores
from ..data import datasets, depth
from ..errors import BadInput
from ..plots.run import check_format
from .measure import climb, steps
from .result import PHASES, SCALING, Ladder


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


def run(name: str, data: str | None = None, *, images: int = 4, board: str = DEFAULT_BOARD,
        preset: str | None = None, plot: str | None = None, patches: str | None = None,
        progress: bool = True) -> Ladder:
    """The ladder of a ticket's first samples on a board's core; plot, patches: files to draw.

    data: samples (None: bundled ones that suit). Raises SpikeTicketError.
    """
    for path in (plot, patches):
        if path:
            check_format(path)
    found = ticket.load(bundled.find(name))
    if patches and not found.network.gates:
        raise BadInput(f"--patches {patches}: ticket {name!r} has no patch gate")
    samples = datasets.for_network(found.network, data or bundled.data_for(found),
                                   limit=images).first(images)
    _, config = cores.choose(BOARDS[board], found.network, preset)
    masks = None
    if any(gate.mode == "host" for gate in found.network.gates.values()):
        gate = next(iter(found.network.gates.values()))
        order = np.random.default_rng(0).random((len(samples), gate.tokens)).argsort(1)
        masks = order < gate.keep
    with tqdm(total=steps(found.network), desc="networks on the cycle model", unit="network",
              disable=not progress) as bar:
        ladder = climb(found.network, config, samples.images, masks, name, bar.update)
    from ..plots import ladder as ladder_plots
    if plot:
        ladder_plots.plot_ladder(plot, ladder)
    if patches:
        gate = next(iter(found.network.gates.values()))
        if samples.static:
            samples = replace(samples, images=depth.shown(samples.images,
                                                          found.network.input.bits))
        ladder_plots.plot_patches(patches, samples, gate, ladder.kept[0])
    return ladder
