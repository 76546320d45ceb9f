"""What a core can run: weights that fit its memory by density, and the bundled tickets' speed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hw.config import WORD_BITS, CoreConfig
from sw import plan, ticket
from sw.study import storage

BUNDLED = Path(__file__).parents[2] / "bundled"
SHOWN = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@cache
def _sweep(bits: int) -> list[dict]:
    return storage.sweep(bits)


def weights_that_fit(config: CoreConfig) -> list[dict]:
    """Largest number of weights by density at 1 and 4 bit: {"bits", "density", "weights",
    "surviving", "bits_per_surviving"}.

    Random masks on 128 rows of 1,152 weights, in the core's own coding with row headers, of a
    weight memory filled to the last word; a network's rows and layers fill it less evenly.
    """
    memory = sum(config.weight_depths) * WORD_BITS
    result = []
    for bits in (1, 4):
        for row in _sweep(bits):
            if row["density"] in SHOWN:
                each = row["ours (Rice)"] + row["rows' headers"]
                surviving = int(memory / each)
                result.append({"bits": bits, "density": row["density"],
                               "weights": int(surviving / row["density"]), "surviving": surviving,
                               "bits_per_surviving": round(float(each), 2)})
    return result


def forecasts(config: CoreConfig) -> list[dict]:
    """Forecast of `sw.plan` for each bundled ticket: does it fit, cycles, frames/s (core alone)."""
    result = []
    for path in sorted(BUNDLED.glob("*.safetensors")):
        found = plan.on_core(ticket.load(path), config)
        row = {"ticket": path.name, "network": found["network"],
               "sparsity": round(found["sparsity"], 4), "fits": found["fits"],
               "cycles_per_image": found["cycles_per_image"],
               "frames_per_s": round(found["frames_per_s"], 1) if found["fits"] else None}
        if not found["fits"]:
            row["reason"] = found["reason"]
        result.append(row)
    return result
