"""The zoo's rows as a table, and as the page docs/zoo.md."""

from __future__ import annotations

from collections.abc import Sequence

from .check import WIDTHS, Verdict

HEAD = """\
# The zoo: what imports

Written by `spiketicket import zoo --page docs/zoo.md`; do not edit.

Every model class of SpikingJelly 2.0.0's `activation_based.model` (names that begin with `sj/`:
small inputs, the class's own forward function, channels divided where it fixes them at up to 4,096)
and networks written the ways people write them in public repositories (`sw/imports/zoo/written`, a
family a file), with random weights and thresholds set so that every layer both fires and rests.

* **equal**: weights, norms and thresholds are whole numbers on a grid. On other inputs, every spike
  of every neuron at every timestep and the logits of the integer network are those of the module's
  own run. Anything less is an error of the importer.
* **8 bits, 4 bits**: random float weights rounded to that width, without fine-tuning: fraction of
  equal spikes, mean over the layers.
* **fits**: the smallest preset that holds the whole-number network, or what the compiler says.
  `spiketicket plan` says the same for a board.
"""


def table(rows: Sequence[Verdict]) -> str:
    """A Markdown table, a row a network and kind of neuron."""
    lines = ["| network | neurons | equal | " + " | ".join(f"{w} bits" for w in WIDTHS)
             + " | fits | s |", "|---" * (5 + len(WIDTHS)) + "|"]
    for row in rows:
        near = [f"{100 * row.near[w]:.1f} %" if w in row.near else "" for w in WIDTHS]
        lines.append(f"| {row.name} | {row.neuron} | {_verdict(row)} | " + " | ".join(near)
                     + f" | {_cell(row.fits)} | {row.seconds:.1f} |")
    return "\n".join(lines)


def _verdict(row: Verdict) -> str:
    if not row.imports:
        return f"refused: {_cell(row.line)}"
    if not row.equal:
        return f"**NO**: {_cell(row.difference)}"
    quiet = f"; quiet: {', '.join(row.quiet)}" if row.quiet else ""
    return f"{row.layers} layers{quiet}" if row.layers else "logits"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def summary(rows: Sequence[Verdict]) -> str:
    """Counts, one sentence."""
    equal = sum(bool(row.imports and row.equal) for row in rows)
    expected = sum(row.right and not row.imports for row in rows)
    wrong = [f"{row.name} ({row.neuron})" for row in rows if not row.right]
    text = (f"{len(rows)} rows: {equal} import with every spike equal, {expected} are refused "
            "because the core cannot compute them")
    return f"{text}; not as they should be: {', '.join(wrong)}." if wrong else f"{text}."


def page(rows: Sequence[Verdict]) -> str:
    """docs/zoo.md."""
    ways = dict.fromkeys((row.name, row.way) for row in rows)
    legend = "\n".join(f"* `{name}`: {way}" for name, way in ways)
    return f"{HEAD}\n{summary(rows)}\n\n{table(rows)}\n\n## What each stands for\n{legend}\n"
