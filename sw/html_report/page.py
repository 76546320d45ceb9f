"""Facts and pictures of a run into one page; see `page.html` for its layout."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hw import registers

from .. import bundled
from ..board.throughput import line_name
from ..errors import SpikeTicketError
from ..integer.network import Layer
from ..report import Checked, RunReport
from . import facts, pictures

FOLDER = Path(__file__).parent
SHOWN = 12
"""Inputs that the page shows: the first ones; and as many of those answered wrong."""
OPEN = 4
"""Layers whose spikes are unfolded at first."""


def check_name(path: str) -> None:
    """Raises SpikeTicketError if the page cannot be written there."""
    folder = Path(path).parent
    if Path(path).suffix not in (".html", ".htm"):
        raise SpikeTicketError(f"--report {path}: the name must end in .html")
    if not folder.is_dir():
        raise SpikeTicketError(f"--report {path}: there is no folder {folder}; make it first")


def write(path: str, run: RunReport, checked: Checked, command: str = "",
          progress: bool = True) -> None:
    """Write the page of a run; it appears whole or not at all.

    run, checked: as `sw.run_inference.run` returns them. command: that made the run, as shown.
    progress: bars on standard error. Raises SpikeTicketError where the file cannot be written.
    """
    check_name(path)
    with tqdm(total=5 + bool(checked.network.gates), desc="computing the report", unit="step",
              disable=None if progress else True, leave=False) as bar:
        text = render(collect(run, checked, command, bar.update))
    part = Path(f"{path}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SpikeTicketError(f"--report {path}: cannot be written ({error})") from error


def collect(run: RunReport, checked: Checked, command: str,
            progress: Callable[[], object] = lambda: None) -> dict:
    """Everything the page shows, by the names that `page.html` uses."""
    causes = facts.by_cause(checked)
    progress()
    return {
        "v": run, "place": run.place, "agrees": run.agrees,
        "causes": causes, "cause_text": facts.CAUSE_TEXT, "slots": facts.used_slots(checked),
        "spread": facts.histogram(checked.result.cycles), "confusion": facts.confusion(checked),
        "ladder": facts.climb(checked, progress), "memory": facts.memory(checked),
        "link": facts.link(run), "examples": _examples(checked), "layers": _layers(checked),
        "traced": len(checked.traces), "made": _made(run, checked, command), "open": OPEN,
        "css": (FOLDER / "page.css").read_text(), "js": (FOLDER / "page.js").read_text(),
    }


def render(page: dict) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "percent": _percent, "duration": _duration,
                            "signed": "{:,}".format, "mbaud": line_name}
    return environment.get_template("page.html").render(page)


def _examples(checked: Checked) -> dict:
    """Inputs with answers; `first` ones and `wrong` ones."""
    right = checked.result.labels == checked.data.labels
    names = facts.confusion(checked)["names"]

    def one(index: int) -> dict:
        logits = checked.result.logits[index]
        answer, truth = int(checked.result.labels[index]), int(checked.data.labels[index])
        low, high = int(logits.min()), int(logits.max())
        gate = checked.image.gate
        cover = (pictures.of_patches(gate.grid, checked.kept[index])
                 if gate is not None and checked.kept is not None else None)
        picture = pictures.of_input(checked.data.images[index], checked.image.input_bits)
        return {"index": index, "picture": picture,
                "cover": cover, "right": bool(right[index]), "answer": names[answer],
                "truth": names[truth] if truth < len(names) else str(truth),
                "cycles": int(checked.result.cycles[index]),
                "bars": [{"name": names[i], "value": int(value), "answer": i == answer,
                          "share": (int(value) - low) / max(1, high - low)}
                         for i, value in enumerate(logits)]}
    first = range(min(SHOWN, len(checked.data)))
    wrong = [int(i) for i in np.flatnonzero(~right) if i >= len(first)][:SHOWN]
    return {"first": [one(i) for i in first], "wrong": [one(i) for i in wrong],
            "events": not checked.data.static}


def _layers(checked: Checked) -> list[dict]:
    """Spikes of every map that the board stored: one image as pictures, all traced as a raster."""
    if not checked.traces:
        return []
    kinds = {layer.name: layer for layer in checked.network.layers}
    result = []
    for name, spikes in checked.traces[0].items():
        layer = kinds.get(name)
        kind = ("patches kept" if not isinstance(layer, Layer) else
                "attention" if layer.attention is not None else "synapses")
        rates = checked.rates.get(name, np.zeros(0))
        result.append({
            "name": name, "kind": kind, "shape": spikes.shape[1:],
            "rate": float(np.mean(rates)) if len(rates) else float(spikes.mean()),
            "steps": [{"picture": pictures.of_spikes(step), "rate": float(step.mean()),
                       "count": int(step.sum())} for step in spikes],
            "raster": pictures.raster([trace[name] for trace in checked.traces])})
    return result


def _made(run: RunReport, checked: Checked, command: str) -> dict:
    """Identity, configuration and origin of the run."""
    config = checked.image.config
    ticket = bundled.find(run.ticket)
    known = checked.identity
    identity = known.id if known is not None else registers.identity(config)
    rows = {"board identity": f"{identity:016x}"}
    if known is not None and known.build:
        rows["build of its bitstream"] = f"{known.build:016x}"
    if run.transport == "simulated board":
        from sim.board import build_key
        rows["gateware, simulated build"] = build_key(config)
    rows |= {
        "ticket": f"{ticket.name}, SHA-256 {hashlib.sha256(ticket.read_bytes()).hexdigest()}",
        "data": run.data,
        "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "host": f"Python {platform.python_version()}, NumPy {np.__version__}, "
                f"SpikeTicket {_version()}",
        "time for the results": f"{_duration(checked.host_seconds)} on the host",
    }
    return {"command": command, "rows": rows, "config": config.as_dict()}


def _version() -> str:
    try:
        return metadata.version("spiketicket")
    except metadata.PackageNotFoundError:
        return "from its folder"


def _number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}\u202f%"


def _duration(seconds: float) -> str:
    """With a unit that suits."""
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale or unit == "µs":
            return f"{seconds / scale:,.3g} {unit}"
    raise AssertionError
