"""Images/s of a pool, and how many times as fast as its first board it is (`spiketicket bench
pool`).

The ratio is taken side by side: in each round the same images go to the first board alone, then to
all of them, and the median of the rounds' ratios counts. Simulated boards need a processor each, so
the processor time of this process is there too: an image should cost the same alone and together,
and the processors that the rounds had tell whether others kept the computer busy. Where they did,
wall time tells little; "by processor time" is the ratio with a free processor for each board, if
the boards never wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
from tqdm import tqdm

from . import bundled, ticket
from .board.inference import Inference
from .data import datasets
from .pool import Pool


def measure(members: Sequence[str], name: str, data: str | None, images: int,
            ray: str | None = None, rounds: int = 0) -> dict:
    """Run a ticket's first samples on a pool: images/s, labels right, and who did how many.

    members, ray: of `Pool`. data: None for bundled samples. rounds: with the first board alone, for
    "scaling"; see the module. Raises SpikeTicketError.
    """
    found = ticket.load(bundled.find(name))
    loaded = datasets.for_network(found.network, data or bundled.data_for(found),
                                  limit=images).first(images)
    with Pool(members, ray=ray) as pool:
        pool.load(found)
        with tqdm(total=len(loaded), unit="image", disable=None, leave=False) as bar:
            result, seconds, _ = _timed(
                lambda: pool.infer(loaded.images, progress=bar.update))
        values = {"images": len(loaded), "seconds": round(seconds, 3),
                  "images_per_s": round(len(loaded) / seconds, 1),
                  "right": int((result.labels == loaded.labels).sum()), "boards": pool.boards}
        if rounds:
            values["scaling"] = _scaling(pool, loaded.images, rounds)
    return values


def _timed(act: Callable[[], Inference]) -> tuple[Inference, float, float]:
    """What `act` gives, and its seconds: of the wall, and of this process's processors."""
    wall, processor = time.monotonic(), time.process_time()
    result = act()
    return result, time.monotonic() - wall, time.process_time() - processor


def _scaling(pool: Pool, images: np.ndarray, rounds: int) -> dict:
    """See the module. "speedup": of the wall's time; "speedup_processor": by processor time;
    "ms_alone", "ms_together": processor time an image; "processors_alone", "processors_together":
    that the rounds had."""
    alone, together = [], []
    for _ in range(rounds):
        alone.append(_timed(lambda: pool.alone(images))[1:])
        together.append(_timed(lambda: pool.infer(images))[1:])
    cost = [sum(processor for _, processor in times) / rounds / len(images)
            for times in (alone, together)]
    had = [sum(processor for _, processor in times) / sum(wall for wall, _ in times)
           for times in (alone, together)]
    return {"rounds": rounds,
            "speedup": round(median(one[0] / all_[0]
                                    for one, all_ in zip(alone, together, strict=True)), 2),
            "speedup_processor": round(len(pool.boards) * cost[0] / cost[1], 2),
            "ms_alone": round(1e3 * cost[0], 3), "ms_together": round(1e3 * cost[1], 3),
            "processors_alone": round(had[0], 2), "processors_together": round(had[1], 2)}


def show(values: dict) -> None:
    """Print what `measure` returned."""
    print(f"{values['images']} images in {values['seconds']:.1f} s of this computer's time "
          f"({values['images_per_s']} images/s), {values['right']} labels right")
    for name, done in values["boards"].items():
        print(f"  {name:<24} {done} images")
    if found := values.get("scaling"):
        print(f"{found['speedup']:.2f} times as fast as the first board alone, median of "
              f"{found['rounds']} rounds side by side; by processor time "
              f"{found['speedup_processor']:.2f} times")
        print(f"  processor time an image  {found['ms_alone']:.2f} ms alone, "
              f"{found['ms_together']:.2f} ms together")
        print(f"  processors that it had   {found['processors_alone']:.2f} alone, "
              f"{found['processors_together']:.2f} together")
