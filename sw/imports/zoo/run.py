"""Runs the zoo, or a part of it (`spiketicket import zoo`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ...errors import BadInput, near
from . import check
from . import page as pages
from .all import entries
from .entry import Entry


def run(only: Sequence[str] | None = None, *, quick: bool = False, rows: Path | None = None,
        page: Path | None = None, progress: bool = True) -> list[check.Verdict]:
    """Import the chosen networks (see `chosen`) and compare them; a verdict for each kind.

    rows: file of finished rows, kept and gone on with. page: file for the table, as Markdown.
    Raises SpikeTicketError.
    """
    found, kept = chosen(only), _kept(rows)
    total = sum(1 if quick else len(entry.kinds) for entry in found)
    with tqdm(total=total, unit="network", disable=not progress) as bar:
        def done(row: check.Verdict) -> None:
            bar.set_description(row.name)
            bar.update()
            if rows and (row.name, row.neuron) not in kept:
                with rows.open("a") as file:
                    file.write(json.dumps(row.as_dict()) + "\n")
        verdicts = check.rows(found, not quick, quick, done, kept)
    if page:
        page.write_text(pages.page(verdicts))
    return verdicts


def _kept(path: Path | None) -> dict[tuple[str, str], check.Verdict]:
    """Finished rows by name and neuron."""
    if path is None or not path.exists():
        return {}
    try:
        found = [check.Verdict.of(json.loads(line)) for line in path.read_text().splitlines()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"--rows {path}: not a file of finished rows ({error}); give "
                       "another name, or remove it") from error
    return {(row.name, row.neuron): row for row in found}


def chosen(only: Sequence[str] | None) -> list[Entry]:
    """Networks whose name contains one of these, all for None. Raises BadInput."""
    known = entries()
    for name in only or ():
        if not any(name in entry.name for entry in known):
            close = near(name, [entry.name for entry in known])
            hint = f"did you mean {close[0]}?" if close else "--list shows the names"
            raise BadInput(f"--only {name}: no network of the zoo has this name; {hint}")
    return [entry for entry in known if only is None or any(name in entry.name for name in only)]
