"""The monitor's readings as something rich can draw."""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..report import place

BLOCKS = "▁▂▃▄▅▆▇█"
BAR = 8
"""Columns of a bar."""
LAST = 30
"""Inputs whose cycles are drawn."""


def view(values: dict) -> RenderableType:
    """Readings (`sw.board.readings.Readings.values`) as one picture."""
    errors = _errors(values)
    title = f"[bold]{values['ticket']}[/] on {place(values)}"
    return Panel(
        Group(Columns([_run(values), _line(values)], padding=(0, 4)), Text(), _layers(values),
              Text(), errors),
        title=title, title_align="left", border_style="red" if errors.style == "red" else "green",
        padding=(1, 2), expand=False)


def spark(numbers: Sequence[float]) -> str:
    """One block a number, from the lowest to the highest of them."""
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * (n - low) / (high - low)) if high > low else top // 2]
                   for n in numbers)


def _pairs(rows: dict[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _run(values: dict) -> Table:
    recent = values["cycles_recent"][-LAST:]
    return _pairs({
        "inputs": f"{values['images']:,} in {values['seconds']:,.1f} s",
        "accuracy": f"{100 * values['accuracy']:.2f} %",
        "frames/s, core": f"{values['frames_per_s_core']:,.0f} at "
                          f"{values['clock_hz'] / 1e6:g} MHz",
        "frames/s, host": f"{values['frames_per_s_host']:,.1f}",
        "useful slots": f"{100 * values['useful_fraction']:.1f} % "
                        f"({values['useful_updates_per_cycle']:.1f} of {values['slots']})",
        "cycles per input": f"{values['cycles_per_image']:,.0f}",
        "the last ones": spark(recent)})


def _line(values: dict) -> Table:
    link = values["link"]
    to, back = link["bytes_per_image"]
    return _pairs({
        "transport": values["transport"],
        "line": f"{link['baud'] / 1e6:g} Mbaud" if link["baud"] else "no UART (simulated)",
        "bytes to the board": f"{link['bytes_sent']:,} ({to:,.0f} an input)",
        "bytes back": f"{link['bytes_received']:,} ({back:,.0f} an input)",
        "bytes a second": f"{link['bytes_per_s']:,.0f}",
        "jobs done": f"{link['jobs']:,}",
        "frames, board": f"{values['board_counts'].get('frames', 0):,}"})


def _layers(values: dict) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("layer", "cycles", "", "useful", "", "queue", "starved"):
        table.add_column(name, justify="left" if name in ("layer", "") else "right", no_wrap=True)
    longest = max(layer["cycles"] for layer in values["layers"])
    for layer in values["layers"]:
        table.add_row(
            layer["name"], f"{layer['cycles']:,.0f}",
            Bar(max(1.0, longest), 0, layer["cycles"], width=BAR, color="cyan"),
            f"{100 * layer['useful']:.1f} %",
            Bar(1.0, 0, min(1.0, layer["useful"]), width=BAR, color="green"),
            *(f"{100 * layer[name]:.1f} %" for name in ("queue_stall", "starved")))
    return table


def _errors(values: dict) -> Text:
    """Errors of the line, red if there were any."""
    counts = {"recoveries": values["link"]["recoveries"],
              **{name.replace("_", " "): values["board_counts"].get(name, 0)
                 for name in ("bad_frames", "overruns")}}
    text = "line errors: " + ", ".join(f"{n:,} {name}" for name, n in counts.items())
    return Text(text, style="red" if any(counts.values()) else "green")
