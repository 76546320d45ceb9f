"""Analytic energy of an inference: counted operations and memory traffic times published costs.

Nothing here is measured. The costs are SpikingJelly's (`op_counter`, simple energy model): 32-bit
operations in 45 nm after Horowitz (ISSCC 2014), 0.9 pJ an accumulate and 4.6 pJ a
multiply-accumulate, and 3.12 pJ a bit of memory traffic. An FPGA spends more; use these figures to
compare networks and to set them beside other papers' that use the same convention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from hw.config import TIMESTEPS_PER_GROUP

from ..compile.image import Image

ACCUMULATE_PJ = 0.9
MULTIPLY_ACCUMULATE_PJ = 4.6
MEMORY_PJ_PER_BIT = 3.12


@dataclass(frozen=True)
class Energy:
    """Analytic energy of one image in microjoules, by use.

    synapses: executed synaptic operations, an accumulate each. neurons: leak and add of every
    neuron and timestep, a multiply-accumulate each. memory: weight and map words read, map words
    written (into every copy of the map memory).
    """

    synapses_uj: float
    neurons_uj: float
    memory_uj: float

    @property
    def total_uj(self) -> float:
        return self.synapses_uj + self.neurons_uj + self.memory_uj

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def analytic(image: Image, executed_sop: float, counters: Mapping[str, float]) -> Energy:
    """Energy of one image.

    executed_sop: synaptic operations of the image (`sw.integer.reference.sop`), one per spike,
    surviving
        synapse and timestep.
    counters: the core's counters of the image, summed over layers (`hw.registers.COUNTERS`).
    """
    config = image.config
    traffic = (counters["weights"] * image.bits_per_weight
               + counters["words"] * config.map_bits
               + counters["written"] * config.map_bits * config.pairs)
    return Energy(
        executed_sop * ACCUMULATE_PJ / 1e6,
        counters["neurons"] * TIMESTEPS_PER_GROUP * MULTIPLY_ACCUMULATE_PJ / 1e6,
        traffic * MEMORY_PJ_PER_BIT / 1e6)
