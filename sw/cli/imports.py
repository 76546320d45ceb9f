"""`spiketicket import`."""

from __future__ import annotations

import json as jsons
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from .. import bundled
from ..imports.dialects import DIALECTS
from .app import verb, written
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
    put,
)

ANY = Group("To a ticket", sort_key=1)
MODULE = Group("Network to ticket", sort_key=2)
GRAPH = Group("Graph to ticket", sort_key=3)
BACK = Group("Ticket to graph", sort_key=4)


def _of(group: Group, help: str, **more) -> Parameter:
    return Parameter(help=help, group=group, **more)


def _in(group: Group, how: Parameter) -> Parameter:
    return Parameter.combine(how, Parameter(group=group))


def import_(source: Annotated[str, Parameter(
                help="a graph that nir.write made, a network (FILE.py:NAME: a class, a function or "
                     "a module in FILE), or a ticket")], *,
            out: Annotated[Path, out_file("ticket to write (.safetensors), or graph (.nir, .h5)")],
            json: Json = False,
            timesteps: Annotated[int | None, _in(ANY, number(
                "graphs hold none; networks may", 1))] = None,
            bits: Annotated[int | None, _in(ANY, number(
                "of the weights (default: 4)", 1, 8))] = None,
            static: Annotated[bool | None, _of(ANY, "the input is one image, the same at every "
                                               "timestep (default: for networks)",
                                               negative=None)] = None,
            input_bits: Annotated[int | None, _in(ANY, number(
                "of the input: the upper ones of a pixel's 8, or of event counts (default: 8)", 1,
                8))] = None,
            input_scale: Annotated[float | None, _of(
                ANY, "value of one integer input unit in the source (default: with --static that "
                "of the upper bits of a pixel whose 255 is 1: 1/255 for 8; else 1)")] = None,
            name: Annotated[str | None, _of(ANY, "of the ticket's network")] = None,
            data: Annotated[str | None, _of(
                ANY, f"to compare float and integers on: {DATA}")] = None,
            data_root: Annotated[DataRoot, _of(
                ANY, "folder that data sets are looked for in")] = None,
            images: Annotated[int, _in(ANY, number(
                "of --data's test split to compare on", 0))] = 200,
            calibrate: Annotated[int, _in(ANY, number(
                "correct biases on so many inputs of --data's train split", 0))] = 0,
            weights: Annotated[str | None, _of(
                MODULE, "of the network: .safetensors, or what torch.save wrote of "
                "net.state_dict() (default: what NAME makes)")] = None,
            shape: Annotated[str | None, _of(
                MODULE, "of the input, C,H,W; features: F or F,1,1")] = None,
            dialect: Annotated[one_of(DIALECTS) | None, _of(
                GRAPH, "the library that wrote the graph; nir is the words of its specification "
                "(default: nir)")] = None,
            dt: Annotated[float | None, _of(
                GRAPH, "timestep in the graph's unit of tau, instead of the dialect's")] = None,
            fires: Annotated[one_of((">", ">=")) | None, _of(
                GRAPH, "comparison with the threshold, instead of the dialect's")] = None,
            reset: Annotated[one_of(("value", "subtract")) | None, _of(
                GRAPH, "reset, instead of the dialect's")] = None,
            norm_input: Annotated[bool | None, _of(
                GRAPH, "norm_input of sinabs' LIF neurons", negative=None)] = None,
            confirm: Annotated[bool | None, _of(
                GRAPH, "what the notes say about things that the file does not hold is right",
            )] = None,
            pools: Annotated[one_of(("sum", "avg")) | None, _of(
                BACK, "nodes for pools: sum (Norse, sinabs), avg (SpikingJelly, snnTorch) "
                "(default: sum)")] = None) -> None:
    """Turn a NIR graph or a SpikingJelly network into a ticket, or a ticket into a NIR graph.

    What the source is says what is done. docs/imports.md has the tables of what
    is supported.

    examples:
      spiketicket import model.nir --timesteps 4 --dialect snntorch --out ticket.safetensors
      spiketicket import model.nir --timesteps 4 --dialect spikingjelly --static \\
          --data fashion-mnist --images 500 --calibrate 200 --out ticket.safetensors
      spiketicket import nets.py:CSNN --weights csnn.pth --shape 1,28,28 --timesteps 4 \\
          --out ticket.safetensors
      spiketicket import fmnist-scnn --out scnn.nir
    """
    from ..imports import convert
    values = convert.convert(convert.ImportRequest(
        source, str(out), timesteps=timesteps, bits=bits, static=static, input_bits=input_bits,
        input_scale=input_scale, name=name, data=data, data_root=data_root, images=images,
        calibrate=calibrate, weights=weights, shape=shape, dialect=dialect, dt=dt, fires=fires,
        reset=reset, norm_input=norm_input, confirm=confirm, pools=pools), written())
    put(values, json, convert.show)


app = verb("import", import_)


@app.command
def zoo(*, only: Annotated[list[str] | None, Parameter(
            help="networks whose name contains one of these", consume_multiple=True)] = None,
        quick: Annotated[bool, flag(
            "one kind of neuron each, and not near whole numbers")] = False,
        listing: Listing = False, json: Json = False,
        rows: Annotated[Path | None, out_file(
            "keep every finished row here; a later run with it leaves those out")] = None,
        page: Annotated[Path | None, out_file(
            "write the table as a page of Markdown")] = None) -> int:
    """Import every network of the zoo and compare it with its own run.

    SpikingJelly's model classes, small, and networks written the ways people
    write them, with random weights: on whole numbers every spike must be the
    module's. Exit code 1 where one is not, or where something is refused that
    should not be.

    examples:
      spiketicket import zoo --quick                    # one kind of neuron each
      spiketicket import zoo --only spikformer --json
      spiketicket import zoo --page docs/zoo.md  # the table of the documentation
    """
    from ..imports.zoo import page as pages
    from ..imports.zoo import run
    if listing:
        for entry in run.chosen(only):
            print(f"{entry.name:28} {', '.join(entry.neurons) or 'its own neurons':16} {entry.way}")
        return 0
    found = run.run(only, quick=quick, rows=rows, page=page, progress=not json)
    put([row.as_dict() for row in found], json,
        lambda _: print(pages.table(found), pages.summary(found), sep="\n"))
    return 0 if all(row.right for row in found) else 1


@app.command
def widths(*, data: Annotated[str, Parameter(help=f"images: {DATA}")] = "fashion-mnist",
           data_root: DataRoot = None,
           train_images: Annotated[int, number("images to train on", 1)] = 2000,
           test_images: Annotated[int, number("images to compare on", 1)] = 200,
           epochs: Annotated[int, number("of training", 1)] = 2, seed: Seed = 0,
           json: Json = False) -> None:
    """Train a small SpikingJelly network and import it: how near are the integers, by width?

    Prints, for weights of 2 to 8 bits, the labels that float and integer network
    share, both accuracies, and the same with corrected biases (--calibrate).
    About a minute on one core.

    example: spiketicket import widths --train-images 20000 --epochs 5 --test-
    images 2000 --json
    """
    from ..imports import example
    rows = example.run(data, data_root, train_images, test_images, epochs, seed, show=not json)
    if json:
        print(jsons.dumps(rows, indent=2))


@app.command
def typical(ticket: Ticket, *, data: Annotated[str, Parameter(
                help=f"{DATA}; its training part is taken")],
            data_root: DataRoot = None) -> None:
    """Give a ticket from elsewhere the typical inputs that plan forecasts on; it is written anew.

    A few training samples whose cycles on a core are those of all
    (docs/numerics.md); a search adds them by itself.

    example: spiketicket import typical my.safetensors --data fashion-mnist
    """
    from .. import typical as inputs
    print(inputs.add(bundled.find(ticket), data, data_root))


@app.command
def drawn(*, out: Annotated[Path, out_file("the ticket")],
          model: Annotated[str | None, Parameter(
              help="a network of ours, as vgg9 or 32p-64p-128 (default: a Spikformer)")] = None,
          theta: Annotated[float | None, number(
              "threshold of such a network (default: 1)", 0.01)] = None,
          depth: Annotated[int | None, number("encoder blocks (default: 4)", 1)] = None,
          width: Annotated[int | None, number("channels of a token (default: 384)", 1)] = None,
          heads: Annotated[int | None, number("heads of the attention (default: 12)", 1)] = None,
          side: Annotated[int, number("pixels of the input's side", 1)] = 32,
          channels: Annotated[int, number("channels of the input", 1)] = 3,
          classes: Annotated[int, number("classes", 1)] = 10,
          timesteps: Annotated[int, number("T", 1)] = 4,
          patch: Annotated[int | None, number(
              "pixels of a token's side, 4 or 16 (default: 4)", 1)] = None,
          bits: Annotated[int, number("of the weights", 1, 8)] = 4, seed: Seed = 0,
          keep: Annotated[int | None, number(
              "tokens behind a gate by spike counts (default: no gate)", 1)] = None,
          sparsity: Annotated[float, number(
              "fraction of every layer's weights removed", 0, 1)] = 0.95,
          embedding: Annotated[float | None, number(
              "the same of a Spikformer's patch embedding (default: as --sparsity)", 0, 1)] = None,
          data: Annotated[str | None, Parameter(
              help="images for the batch norms and the activity (default: noise)")] = None) -> None:
    """SpikingJelly's Spikformer with drawn weights, or another network, as a ticket.

    What would such a network need? Nothing is trained: the weights are the initial ones,
    the smallest magnitudes of every layer removed; the batch norms have seen some images,
    so that the neurons fire. For sizes, cycles and exactness, never for accuracy.

    examples:
      spiketicket import drawn --sparsity 0.95 --out spikformer-4-384.safetensors
      spiketicket plan spikformer-4-384.safetensors --board arty_a7_100
      spiketicket import drawn --model vgg9 --bits 1 --sparsity 0.5 --out vgg9.safetensors
      spiketicket import drawn --depth 2 --width 96 --heads 6 --keep 44 --out small.safetensors
    """
    from .. import drawn as networks
    print(networks.write(
        out, data, depth=depth, width=width, heads=heads, side=side, channels=channels,
        model=model, theta=theta, classes=classes, timesteps=timesteps, patch=patch, bits=bits,
        seed=seed, keep=keep, sparsity=sparsity, embedding=embedding))
