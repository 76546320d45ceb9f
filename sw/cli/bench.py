"""`spiketicket bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hw.boards import DEFAULT_BOARD
from hw.config import PRESETS

from .. import bundled
from .app import verb
from .options import (
    TICKET,
    Board,
    Data,
    Json,
    Preset,
    Seed,
    Ticket,
    number,
    one_of,
    out_file,
    out_folder,
    put,
)

TABLES = ("comparison", "comparison-100t", "causes", "parameters", "event-driven", "sensitivity",
          "ladder", "formats")
WORKLOADS = ("ticket", "vgg9", "spikformer-95", "spikformer-98.6", "nmnist")

app = verb("bench")


@app.command
def link(*, ticket: Annotated[list[str] | None, TICKET] = None,
         baud: Annotated[list[int] | None, number("a rate instead of 3 and 12 Mbaud, Ethernet; "
                                                  "may be repeated", 100_000, 25_000_000)] = None,
         images: Annotated[int, number("images of each ticket", 1)] = 8,
         json: Json = False) -> None:
    """How fast tickets load and inputs run over the link, by cycles of the simulated board.

    examples:
      spiketicket bench link  # every bundled ticket; 3, 12 Mbaud, Ethernet
      spiketicket bench link --ticket fmnist-scnn --baud 3000000 --images 30

    The gateware runs, and gives and takes a byte whenever a UART would. Cycles
    are exact, for a host that answers at once; docs/link.md ("Speed") says what
    each figure is.
    """
    from .. import link_speed
    rows = link_speed.rows(ticket, baud, images)
    put(rows, json, lambda found: link_speed.print_table(found["tickets"]))


@app.command
def overlap(ticket: Ticket = bundled.DEFAULT, *,
            plot: Annotated[str | None, Parameter(help="draw it: .svg, .png or .pdf")] = None,
            json: Json = False) -> None:
    """Line and core over time: how the next input arrives while one is computed.

    example: spiketicket bench overlap fmnist-scnn --plot overlap.svg

    On the simulated board, by its cycles, at 3 and 12 Mbaud and over Ethernet.
    """
    from .. import link_timeline
    from ..plots.run import check_format
    if plot:
        check_format(plot)
    found = link_timeline.measure(ticket)
    if plot:
        from ..plots.timeline import plot_timelines
        plot_timelines(plot, f"{ticket}: the first inputs", found)
    put([one.as_dict() for one in found], json, link_timeline.show)


@app.command
def host(*, ticket: Annotated[list[str] | None, TICKET] = None,
         images: Annotated[int, number("images of each ticket", 1)] = 320,
         json: Json = False) -> None:
    """What an image costs the host: processor time to encode, send, receive and decode it.

    example: spiketicket bench host --ticket fmnist-scnn

    The board is one of a few lines that answers at once, and is not counted.
    """
    from .. import host_speed
    rows = host_speed.measure(ticket, images)
    put({"tickets": rows}, json, lambda found: host_speed.show(found["tickets"]))


@app.command
def train(*, model: Annotated[list[str] | None, Parameter(
              help="a named network (docs/tickets.md) instead of four of them; may be "
                   "repeated")] = None,
          batch_size: Annotated[int, number("images of an update", 2, 4096)] = 64,
          timesteps: Annotated[int, number("T", 1, 16)] = 4,
          rounds: Annotated[int, number("updates of every way; the fastest counts", 1)] = 3,
          json: Json = False) -> None:
    """Images/s of training on one thread: SpikingJelly's own path, and ours.

    example: spiketicket bench train --model vgg9 --batch-size 128

    An update is forward, loss, backward and Adam's step on random images of
    3x32x32. The ways take turns in one run; processor time is counted.
    """
    from .. import train_speed
    rows = train_speed.measure(model, batch_size, timesteps, rounds)
    put({"models": rows}, json, lambda found: train_speed.show(found["models"]))


@app.command
def pool(members: Annotated[list[str], Parameter(
             help="sim, sim:PRESET, auto, a board's name, a port; BOARD@HOST for a board of "
                  "another computer (Ray)")], *,
         ticket: Ticket = bundled.DEFAULT, data: Data = None,
         images: Annotated[int, number("images to run", 1)] = 100,
         ray: Annotated[str | None, Parameter(
             help="Ray cluster of boards with a host (default: start one here)")] = None,
         rounds: Annotated[int, number(
             "rounds in which the first board alone runs beside all, for how many times as fast "
             "they are", 0)] = 0,
         json: Json = False) -> None:
    """A ticket on several boards at once: images/s, and who did how many.

    examples:
      spiketicket bench pool sim sim /dev/ttyUSB1 --images 200
      spiketicket bench pool sim sim --rounds 5  # twice as fast as one?
    """
    from .. import pool_speed
    values = pool_speed.measure(members, ticket, data, images, ray, rounds)
    put(values, json, pool_speed.show)


@app.command
def ladder(ticket: Ticket = bundled.DEFAULT, *, data: Data = None,
           images: Annotated[int, number("samples, the first ones", 1)] = 4,
           board: Board = DEFAULT_BOARD, preset: Preset = None,
           plot: Annotated[str | None, Parameter(
               help="ladder and sweeps: .svg, .png or .pdf")] = None,
           patches: Annotated[str | None, Parameter(
               help="samples with the patches that were kept: .svg, .png or .pdf")] = None,
           json: Json = False) -> None:
    """What spike skip, weight skip and the patch gate save in cycles, rung by rung.

    dense (every weight stored, every neuron active, every patch kept) -> spike
    skip -> weight skip -> both -> + patch gate. Then kept patches, density and
    activity are swept, each alone, with the slope of log(cycles) over log(x): 1
    means that half of it takes half the cycles. Activity: from every neuron
    active downwards, and spike rate: from the samples' own downwards. Cycles are
    those of the exact cycle model; the core's memories are made large enough for
    the dense network.

    examples:
      spiketicket bench ladder  # bundled CNN ticket
      spiketicket bench ladder fmnist-spikeformer --plot ladder.svg --patches patches.png
      spiketicket bench ladder my.safetensors --data n-mnist:size=32 --images 8 --json
    """
    from ..ladder import run
    found = run.run(ticket, data, images=images, board=board, preset=preset, plot=plot,
                        patches=patches, progress=not json)
    put(found.as_dict(), json, lambda _: run.show(found))


@app.command
def tokens(*, ticket: Annotated[list[str] | None, TICKET] = None, data: Data = None,
           keep: Annotated[list[int] | None, Parameter(
               help="tokens to keep; may be repeated (default: an eighth to all of them, and the "
                    "ticket's own number)")] = None,
           images: Annotated[int, number("samples, the first ones", 1)] = 500,
           board: Board = DEFAULT_BOARD, preset: Preset = None, seed: Seed = 0,
           plot: Annotated[Path | None, out_file(
               "accuracy against cycles: .svg, .png or .pdf")] = None,
           json: Json = False) -> None:
    """What a Spikeformer ticket is worth with fewer tokens, without any training.

    Its patch gate keeps another number of tokens, and nothing else changes:
    accuracy of the integers, cycles of the exact cycle model. The control keeps
    as many tokens, drawn at random for each image.

    examples:
      spiketicket bench tokens  # the bundled tickets that have a patch gate
      spiketicket bench tokens --ticket my.safetensors --keep 32 --keep 16 --plot tokens.svg
      spiketicket bench tokens --ticket fmnist-spikeformer --data fashion-mnist:size=32 \\
          --images 2000 --json
    """
    from ..ladder import tokens as pruning
    from ..plots.run import check_format
    if plot:
        check_format(str(plot))
    found = pruning.run(ticket, data, keeps=keep or (), images=images, board=board, preset=preset,
                        seed=seed, progress=not json)
    if plot:
        from ..plots.tokens import plot_tokens
        plot_tokens(plot, found)
    put(pruning.rows(found), json, lambda _: pruning.show(found))


@app.command
def area(*, json: Json = False) -> None:
    """Resources of the presets on the boards' 7-series FPGAs, before synthesis.

    LUTs are Yosys' estimate of logic cells plus LUTRAM and shift registers;
    placed designs differ by some per cent.
    """
    from .. import area as areas
    put(areas.presets(), json, areas.show)


@app.command
def study(*, tables: Annotated[list[one_of(TABLES)] | None, Parameter(
              help="which tables (default: all)", consume_multiple=True)] = None,
          only: Annotated[list[one_of(WORKLOADS)] | None, Parameter(
              help="which workloads (default: all)", consume_multiple=True)] = None,
          ticket: Annotated[Path | None, Parameter(
              help="ticket file of the workload of that name (default: the bundled one)")] = None,
          image: Annotated[int, number("first of four test images, or N-MNIST recording", 0)] = 0,
          nmnist: Annotated[Path | None, Parameter(
              help=".npz of N-MNIST recordings (default: synthetic events alike)")] = None,
          preset: Annotated[one_of(sorted(PRESETS)), Parameter(
              help="core of the tables that show one")] = "a35t",
          update: Annotated[Path | None, Parameter(
              help="replace the tables between `study` comments in a Markdown file")] = None,
          plot: Annotated[Path | None, out_folder("write the plots as SVG")] = None,
          json: Json = False) -> None:
    """The trade study: dataflows compared on real tickets, as docs/architecture.md shows them.

    examples:
      spiketicket bench study  # all tables, about 2 minutes
      spiketicket bench study --tables comparison --only ticket
      spiketicket bench study --update docs/architecture.md --plot docs/img
      spiketicket bench study --nmnist nmnist_test100.npz --only nmnist --tables comparison
    """
    from ..study import run
    result = run.run(tables or TABLES, only, ticket=ticket, image=image,
                     nmnist=nmnist, config=PRESETS[preset])
    if update:
        run.update(update, result)
    if plot:
        from ..study.plots import write_plots
        for path in write_plots(result, plot):
            print(f"wrote {path}", file=sys.stderr)
    put(result, json, run.show)
