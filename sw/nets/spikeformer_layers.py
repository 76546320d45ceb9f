"""Spikeformers as lists of layers, for `sw.integer.folding`, and in integers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import SpikeTicketError
from ..integer.attention import Attention
from ..integer.folding import Connection, ModuleAttention, ModuleLayer, ModuleOperation, fold
from ..integer.gate import Gate, Select
from ..integer.network import INPUT, InputSpec, Network, Pool
from ..integer.quantize import convert
from ..integer.trainee import NetworkTrainee
from .spikeformer_model import ATTENTION_SCALE, Spikeformer

Bits = int | Mapping[str, int]
"""Width of the weights: one number, or one by layer name."""


def width_of(bits: Bits, name: str) -> int:
    if isinstance(bits, int):
        return bits
    if name not in bits:
        raise SpikeTicketError(f"no width given for the weights of layer {name!r}; name all")
    return bits[name]


class LayerList:
    """Layers in the making; `stream` names the maps whose sum is the residual stream."""

    def __init__(self, bits: Bits):
        self.bits, self.layers, self.stream = bits, [], (INPUT,)

    def add(self, name: str, conv: nn.Conv2d | nn.Linear, norm: nn.Module | None,
            node: nn.Module | None, sources: tuple[str, ...] | None = None,
            pool: Pool | None = None) -> tuple[str]:
        connection = Connection(conv, norm, sources or self.stream, bits=width_of(self.bits, name))
        self.layers.append(ModuleLayer(name, (connection,), node, pool))
        return (name,)

    def stage(self, name: str, conv: nn.Conv2d, norm: nn.Module, node: nn.Module,
              pool: Pool | None) -> None:
        """A convolution of the stem: the stream becomes its map."""
        self.stream = self.add(name, conv, norm, node, pool=pool)

    def gate(self, gate: Gate) -> None:
        """A gate on the stream, which becomes its kept tokens."""
        self.layers += [gate] if gate.mode != "input" else []
        self.layers += [Select(f"kept.{name}", name, gate.name) for name in self.stream]
        self.stream = tuple(f"kept.{name}" for name in self.stream)

    def attention(self, name: str, heads: int, node: nn.Module, scale: float) -> None:
        """Attention of the maps name.q, name.k and name.v."""
        maps = Attention(*(f"{name}.{part}" for part in "qkv"), heads)
        self.layers.append(ModuleAttention(f"{name}.attention", maps, node, scale))


def float_layers(model: Spikeformer, bits: Bits = 4) -> list[ModuleOperation]:
    """The layers of a `Spikeformer`, its gate included, for `sw.integer.folding.fold`."""
    config, b = model.config, LayerList(bits)
    for i, block in enumerate(model.stem.convs, 1):
        b.stage(f"stem{i}", block.conv, block.norm, block.node, block.pool)
    rpe = model.stem.rpe
    b.stream += b.add("rpe", rpe.conv, rpe.norm, rpe.node)
    if config.gate is not None:
        gate = model.gate.gate("gate", b.stream)
        if config.gate == "input":
            b.layers.insert(0, gate)
        b.gate(gate)
    for i, block in enumerate(model.blocks, 1):
        def add(name: str, sources: tuple[str, ...] | None = None, i=i, block=block) -> tuple[str]:
            part = getattr(block, name)
            return b.add(f"block{i}.{name}", part.fc, part.norm, part.node, sources)
        for name in "qkv":
            add(name)
        b.attention(f"block{i}", block.heads, block.attention_node, ATTENTION_SCALE)
        b.stream += add("proj", (f"block{i}.attention",))
        b.stream += add("fc2", add("fc1"))
    b.add("head", model.head, None, None)
    return b.layers


def input_spec(model: Spikeformer, bits: int = 8) -> InputSpec:
    """The integer network's input: values of `bits` bits."""
    return InputSpec(*model.config.input, bits=bits, static=model.config.static)


def to_network(model: Spikeformer, bits: Bits = 4, *, input_bits: int = 8,
               name: str = "spikeformer", labels: tuple[str, ...] = ()) -> Network:
    """Quantise a trained Spikeformer to the integer network (no further training)."""
    spec = input_spec(model, input_bits)
    return convert(fold(float_layers(model, bits), spec), spec, model.config.timesteps,
                   input_scale=model.input_scale, name=name, labels=labels)


def trainee(model: Spikeformer, masks: Mapping[str, Tensor] | None = None, bits: Bits = 4, *,
            input_bits: int = 8) -> NetworkTrainee:
    """The Spikeformer in integer arithmetic, for training on; masks by name of `weights()`."""
    spec = input_spec(model, input_bits)
    return NetworkTrainee(fold(float_layers(model, bits), spec), spec, model.config.timesteps,
                          masks, input_scale=model.input_scale)
