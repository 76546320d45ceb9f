"""What a sweep consists of: from its YAML settings to cells, each one search."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import BadInput

KEYS = ("base", "sweep", "seed", "metric", "run")
DEFAULT_RUN = "sw.sweeps.pools:search"
MAX_CELLS = 100_000


@dataclass(frozen=True)
class Cell:
    """settings: of one search, defaults included. defaults: what the search would take anyway; they
    do not count in `id`, so that cells which say the same are one, today and after new settings."""

    settings: dict
    defaults: dict = field(default_factory=dict)

    @property
    def key(self) -> dict:
        """The settings that are not defaults."""
        return {name: value for name, value in self.settings.items()
                if name not in self.defaults or self.defaults[name] != value}

    @property
    def id(self) -> str:
        """12 hex digits of a hash of `key`: the cell's name on disk."""
        text = json.dumps(self.key, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def text(self, keys: Iterable[str]) -> str:
        return " ".join(f"{key}={self.settings[key]}" for key in keys if key in self.settings)


@dataclass(frozen=True)
class Plan:
    """cells: in order, none twice. axes: settings that differ between cells. run: "module:function"
    of type `Run`. metric: the result that is plotted; None: the first accuracy."""

    cells: tuple[Cell, ...]
    axes: tuple[str, ...]
    run: str = DEFAULT_RUN
    metric: str | None = None


def plan(values: dict, where: str = "sweep") -> Plan:
    """The cells of a sweep's settings. Raises SpikeTicketError naming what is wrong."""
    def need(ok: bool, what: str) -> None:
        if not ok:
            raise BadInput(f"{where}: {what}")

    for key in values:
        need(key in KEYS, f"no setting is called {key!r}; there are {', '.join(KEYS)}")
    base, grids = values.get("base") or {}, values.get("sweep") or {}
    need(isinstance(base, dict), "base must hold settings, e.g. 'model: 16p-32p'")
    grids = [grids] if isinstance(grids, dict) else grids
    need(isinstance(grids, list) and all(isinstance(grid, dict) for grid in grids),
         "sweep must be lists by setting, e.g. 'sparsity: [0.2, 0.5]', or a list of such grids")
    metric, run = values.get("metric"), values.get("run", DEFAULT_RUN)
    need(metric is None or isinstance(metric, str), f"metric {metric!r} is not a name")
    need(isinstance(run, str) and run.count(":") == 1, f"run {run!r} is not module:function")
    cells: dict[str, Cell] = {}
    for grid in grids or [{}]:
        grid = {**grid, **({"seed": values["seed"]} if "seed" in values else {})}
        lists = {key: value if isinstance(value, list) else [value] for key, value in grid.items()}
        for key, value in lists.items():
            need(bool(value), f"sweep over {key!r} has no value")
            need(not any(isinstance(v, list | dict) for v in value),
                 f"sweep over {key!r}: its values must be numbers or texts")
        need(math.prod(map(len, lists.values())) + len(cells) <= MAX_CELLS,
             f"more than {MAX_CELLS} cells; sweep over less")
        for chosen in itertools.product(*lists.values()):
            settings = {**base, **dict(zip(lists, chosen, strict=True))}
            cell = _search_cell(settings, where) if run == DEFAULT_RUN else Cell(settings)
            cells.setdefault(cell.id, cell)
    found = tuple(cells.values())
    keys = dict.fromkeys(itertools.chain(*(cell.settings for cell in found)))
    axes = tuple(key for key in keys
                 if len({json.dumps(cell.settings.get(key)) for cell in found}) > 1)
    return Plan(found, axes, run, metric)


def _search_cell(settings: dict, where: str) -> Cell:
    """The cell of a ticket search; checked now, before hours are spent on the first."""
    from ..tickets.config import RunConfig, from_dict
    text = " ".join(f"{key}={value}" for key, value in settings.items())
    return Cell(asdict(from_dict(settings, f"{where}: cell {text}")), asdict(RunConfig()))


def read_plan(path: str | Path) -> Plan:
    """The plan in a YAML file."""
    from ..tickets.config import read
    return plan(read(path), str(path))
