"""What the page says, from a run: JSON-like values, no layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np

from hw.registers import COUNTERS

from ..board.throughput import line_seconds
from ..compile.image import MapLayout
from ..core import cycles
from ..ladder import measure
from ..ladder.result import PHASES
from ..report import Checked, RunReport

CAUSES = (*cycles.CAUSES, "sequencer")
CAUSE_TEXT = {
    "synapses": "updates of membranes: the useful slots",
    "event_scan": "fewer active positions in a word than units",
    "queue_stall": "another unit's queue was full",
    "neuron_update": "neurons fire, leak and are written; waiting for that",
    "port_stall": "the map port was taken by a write",
    "weight_decode": "no weight yet (skip codes, row headers; in attention k and v)",
    "imbalance": "this engine was done, others were not",
    "program": "loading the layer's program words",
    "gate": "choosing the patches",
    "sequencer": "steps between layers",
}
MODELLED = 4
"""Images that cycle model and ladder take: the first ones."""

BINS = 30
WORST = 8


def by_cause(checked: Checked, images: int = MODELLED) -> dict:
    """Cycles by layer and cause, mean of the first images, from the cycle model; and whether the
    model's cycles of every layer are those that the board counted."""
    image, values, masks = checked.image, checked.data.images, checked.masks
    count = min(images, len(values))
    layers: dict[str, dict[str, float]] = {}
    agree, logged = True, len(image.logged)
    for index in range(count):
        found = cycles.simulate(image, values[index], None if masks is None else masks[index])
        counted = checked.result.counters[index, :logged, COUNTERS.index("cycles")]
        agree &= [layer.cycles for layer in found.layers[:logged]] == counted.tolist()
        for layer in found.layers:
            row = layers.setdefault(layer.name, dict.fromkeys(CAUSES, 0.0))
            for cause, value in layer.by_cause.items():
                row[cause] += value / count
            row["sequencer"] += cycles.STEP_OVERHEAD / count
    total = sum(sum(row.values()) for row in layers.values())
    rows, start = [], 0.0
    for name, row in layers.items():
        width = sum(row.values())
        rows.append({"name": name, "cycles": width, "start": start / total, "width": width / total,
                     "causes": row, "useful": row["synapses"] / width})
        start += width
    return {"images": count, "agree": bool(agree), "total": total, "layers": rows,
            "causes": [cause for cause in CAUSES if any(row[cause] for row in layers.values())]}


def used_slots(checked: Checked) -> list[dict]:
    """Share of the accumulate slots that did an update, layer by layer as they run: the board's
    counters, mean over all images; with where the layer begins, as a share of the cycles."""
    counted = checked.result.counters.mean(axis=0)
    spent, updates = (counted[:, COUNTERS.index(name)] for name in ("cycles", "updates"))
    ends = np.cumsum(spent)
    return [{"name": info.name, "start": float((end - own) / ends[-1]),
             "width": float(own / ends[-1]), "cycles": float(own),
             "useful": float(done / max(1.0, own) / checked.image.config.slots)}
            for info, own, end, done in zip(checked.image.logged, spent, ends, updates,
                                            strict=True) if own]


def histogram(values: np.ndarray) -> dict:
    """Counts of equal bins, and the quantiles that people ask for."""
    values = np.asarray(values, float)
    low, high = float(values.min()), float(values.max())
    counts, edges = np.histogram(values, bins=min(BINS, max(1, round(high - low))))
    p50, p99 = np.percentile(values, [50, 99])
    return {"low": low, "high": high, "p50": float(p50), "p99": float(p99),
            "mean": float(values.mean()), "top": int(counts.max()),
            "bins": [{"count": int(n), "from": float(a), "to": float(b)}
                     for n, a, b in zip(counts, edges, edges[1:], strict=False)]}


def confusion(checked: Checked) -> dict:
    """Counts by true class (rows) and answer (columns); rows also as shares."""
    classes = checked.image.classes
    names = list(checked.names[:classes])
    names += [str(n) for n in range(len(names), classes)]
    counts = np.zeros((classes, classes), int)
    truth = checked.data.labels
    known = truth < classes                      # a data set may have more classes than the ticket
    np.add.at(counts, (truth[known], checked.result.labels[known]), 1)
    totals = counts.sum(1)
    wrong = counts - np.diag(counts.diagonal())
    worst = [divmod(int(i), classes) for i in np.argsort(-wrong.ravel(), kind="stable")[:WORST]]
    # Places of the right class in the order of the logits, ties to the lower index.
    order = np.argsort(-checked.result.logits[known], axis=1, kind="stable")
    place = np.argmax(order == truth[known][:, None], axis=1)
    return {"names": names, "left_out": int((~known).sum()), "worst": [
        {"truth": names[i], "answer": names[j], "count": int(wrong[i, j]),
         "total": int(totals[i]), "share": wrong[i, j] / totals[i]}
        for i, j in worst if wrong[i, j]], "among": [
        {"first": n, "share": float((place < n).sum() / len(truth))}
        for n in (1, 2, 3) if n < classes], "rows": [
        {"name": names[i], "counts": counts[i].tolist(), "total": int(totals[i]),
         "right": int(counts[i, i]),
         "shares": (counts[i] / max(1, totals[i])).tolist()} for i in range(classes)]}


def climb(checked: Checked, progress: Callable[[], object]) -> dict:
    """The rungs of `sw.ladder` on the first images."""
    values = checked.data.images[:MODELLED]
    masks = None if checked.masks is None else checked.masks[:MODELLED]
    rungs = measure.rungs(checked.network, checked.image.config, values, masks, progress)
    dense = rungs["dense"].total
    phases = [name for name in PHASES if any(p.phases[name] for p in rungs.values())]
    return {"images": len(values), "phases": phases, "rungs": [
        {"name": name, "cycles": point.total, "fewer": dense / point.total,
         "phases": {phase: point.phases[phase] for phase in phases}}
        for name, point in rungs.items()]}


def memory(checked: Checked) -> dict:
    """What occupies which memory: tables and their use, the map memory over the program's steps,
    the weight memory by layer."""
    image = checked.image
    config = image.config
    steps = [info.name for info in image.layers]
    used = [{"name": m.name, "used": m.used, "available": m.available, "unit": m.unit,
             "share": m.used / max(1, m.available)} for m in image.memories]
    layouts = [*image.inputs, *(m for m in image.maps.values() if m not in image.inputs)]
    # A sum that is kept as bit-planes is one map from its first summand on.
    sums: dict[str, list[MapLayout]] = {}
    for m in image.maps.values():
        if m.onto:
            sums.setdefault(m.onto[0], []).append(m)
    maps = [{"name": f"{m.name} + {len(sums[m.name])} more" if m.name in sums else m.name,
             "first": m.base, "words": m.words, "from": m.born + 1,
             "to": min(max(m.born, *(one.dies for one in [m, *sums.get(m.name, ())])),
                       len(steps) - 1) + 2} for m in layouts if not m.onto]
    maps.append({"name": "logits", "first": image.results, "words": image.classes,
                 "from": len(steps), "to": len(steps) + 1})
    depth = max(m["first"] + m["words"] for m in maps)
    layers: dict[str, dict[str, int]] = {}
    for info in image.layers:
        row = layers.setdefault(info.name, {"values": 0, "indices": 0, "headers": 0, "padding": 0,
                                            "weights": 0})
        for key, bits in (("values", info.value_bits), ("indices", info.index_bits),
                          ("headers", info.header_bits), ("padding", info.padding_bits)):
            row[key] += bits
        row["weights"] += info.stored
    capacity = 32 * sum(config.weight_depths)
    stored = [{"name": name, "bits": sum(row[k] for k in ("values", "indices", "headers",
                                                           "padding")), **row}
              for name, row in layers.items()]
    stored = [row for row in stored if row["bits"]]
    taken = sum(row["bits"] for row in stored)
    return {"tables": used, "steps": ["input", *steps], "maps": maps, "depth": depth,
            "map_words": config.map_words, "word_bits": config.map_bits, "weights": stored,
            "weight_bits": capacity, "free": max(0, capacity - taken) / capacity}


def link(run: RunReport) -> dict:
    """Frames/s at each rate that was measured; beside them an image's time on the line, each way,
    and in the core."""
    sent, received = run.bytes_per_image
    core = run.cycles_per_image / run.clock_hz
    rates = []
    for one in run.link:
        to, back = (line_seconds(one.baud, size) for size in (sent, received))
        rates.append(asdict(one) | {"to": to, "from": back, "core": core,
                            "slowest": max(to, back, core),
                            "bound": "line" if core < max(to, back) else "core"})
    return {"rates": rates, "sent": sent, "received": received}
