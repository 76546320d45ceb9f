"""One event pack from a set's packs, for runs that need more test recordings than a small test
pack has.

Every recording of all packs of the set is taken once, training and test split alike, in their
order. The new pack's name has no split in it, so that `sw.data.datasets.load` takes every fourth
recording of a class for testing and the others for training (`sw.data.event_sets.load_pack`):
`spiketicket find pack`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data import events
from ..errors import BadInput
from .checkpoint import replace


def join(paths: list[str | Path], out: str | Path) -> dict:
    """Write the recordings of the packs at `paths`, each once, to the pack `out`.

    Returns {"recordings", "twice", "test"}: how many it holds, how many were left out because an
    earlier one has the same label and events, how many will be its test split. Raises
    SpikeTicketError for packs that do not fit together.
    """
    out = Path(out)
    if any(word in out.name.lower() for word in ("train", "test")):
        raise BadInput(f"{out}: a name with 'train' or 'test' in it holds that split only; "
                       "give another one, e.g. all.npz")
    if not paths:
        raise BadInput("no pack given; name .npz event packs")
    packs = [events.read_pack(path) for path in paths]
    for pack in packs[1:]:
        if (pack.sensor, pack.names) != (packs[0].sensor, packs[0].names):
            raise BadInput(f"{pack.source}: its sensor {pack.sensor} or class names are "
                           f"not those of {packs[0].source}; join packs of one set")
    seen: set[tuple] = set()
    pieces: dict[str, list[np.ndarray]] = {key: [] for key in ("x", "y", "p", "dt")}
    labels: list[int] = []
    twice = 0
    for pack in packs:
        off = pack.arrays["off"]
        for i, label in enumerate(pack.labels):
            part = {key: pack.arrays[key][off[i]:off[i + 1]] for key in pieces}
            key = (int(label), *(part[k].astype(np.int64).tobytes() for k in pieces))
            if key in seen:
                twice += 1
                continue
            seen.add(key)
            labels.append(int(label))
            for name, values in part.items():
                pieces[name].append(values)
    lengths = [len(values) for values in pieces["x"]]
    arrays = {name: np.concatenate(values) for name, values in pieces.items()}
    arrays |= {"off": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
               "label": np.array(labels, np.int64), "sensor": np.array(packs[0].sensor),
               "class_names": np.array(packs[0].names, dtype="U")}
    out.parent.mkdir(parents=True, exist_ok=True)

    def write(part: Path) -> None:
        with open(part, "wb") as file:
            np.savez_compressed(file, **arrays)
    replace(out, write)
    test = sum(int(n) // 4 for n in np.unique(labels, return_counts=True)[1])
    return {"recordings": len(labels), "twice": twice, "test": test}
