"""A spiking network in floats with everything linear folded: the one form between a network of any
origin (`sw.imports`) and integers (`sw.integer.quantize`).

    operand_t = sum of the source maps, then the sum over sum_pool windows
    I_t[o]    = sum over the layer's synapses of conv2d(operand_t, weight[o]) + bias[o]
                (pool "max": then the maximum over its windows)
    v_t       = decay * v_{t-1} + I_t,                        v_{-1} = reset or 0
    s_t       = v_t >= theta  (strict: v_t > theta)
    v_t      <- reset where s_t  |  v_t - theta where s_t (reset None)
    output_t  = s_t             (pool "or": then OR over its windows)

Spike maps hold 0 and 1; the input map holds its integers times `input_scale`. Membranes are
measured from their resting potential. Batch norms, scales, input gains of neurons and average
pools' divisors are in weights and biases already.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .attention import Attention, ColumnAttention
from .gate import Gate, Select
from .network import INPUT, Pool
from .shapes import Pair


@dataclass(frozen=True, eq=False)
class FloatNeuron:
    """LIF or IF neuron; see the module's text.

    decay: of the membrane per timestep, 0..1 (1: IF). theta: float64 [C], above rest. reset:
    float64 [C], what a hard reset sets (and the membrane's start); None: theta is subtracted.
    strict: fires at v > theta. unit: float64 [C], the current that was 1 in an integer source.
    """

    decay: float
    theta: Tensor
    reset: Tensor | None
    strict: bool = False
    unit: Tensor | None = None


@dataclass(frozen=True, eq=False)
class FloatSynapses:
    """One weighted connection; weight float64 [C_out, C_in, kh, kw], 0 where one is removed."""

    weight: Tensor
    sources: tuple[str, ...] = (INPUT,)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    sum_pool: Pair = (1, 1)
    bits: int = 4


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """Synapses, bias float64 [C_out], neuron (None: the readout, summed over timesteps and
    positions), pool."""

    name: str
    synapses: tuple[FloatSynapses, ...]
    bias: Tensor
    neuron: FloatNeuron | None = None
    pool: Pool | None = None


@dataclass(frozen=True, eq=False)
class FloatAttention:
    """Attention of spike maps; its counts times `scale` are the neuron's current."""

    name: str
    attention: Attention | ColumnAttention
    neuron: FloatNeuron
    scale: float


FloatOperation = FloatLayer | FloatAttention | Gate | Select
"""Operations in order of execution; gates and selections are the same in floats and in integers."""
