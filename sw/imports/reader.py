"""From a recording to float layers: every cut is asked what it reads.

Between the cuts identification finds synapses, attention, products and pools; neurons bring their
rules. What nothing fits is refused by the operation that it fails at (`sw.imports.refusals`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import SpikeTicketError
from ..integer.floats import (
    FloatAttention,
    FloatLayer,
    FloatNeuron,
    FloatOperation,
    FloatSynapses,
)
from ..integer.gate import Select
from ..integer.network import INPUT, Pool
from .attentions import SelfAttention, attention
from .fusing import fused, reads
from .identify import COPY_BITS, ONES, SHORTCUT_BITS, USER_BITS, Affine, affine, readout
from .layouts import Layout, features
from .neurons import Rule
from .probing import Map, NotAffine, Operator
from .products import Pooled, behind, max_pool, product
from .recording import Cut, Recording
from .refusals import refused

Bits = int | Mapping[str, int | Sequence[int]]
"""Width of the weights: one number, or by layer name one number or one for every connection."""

PARTS = 3
"""Maps that one neuron layer may hold side by side: query, key and value."""


class LayerReader:
    """Layers in the making. unit: float value of one integer input unit; top: the largest; shape:
    of the input, (C, H, W). notes: what the layers do not say exactly."""

    def __init__(self, recording: Recording, bits: Bits, unit: float, top: int,
                 shape: tuple[int, int, int]):
        self.recording, self.bits = recording, bits
        layout = Layout.of_input(recording.dims, shape)
        self.maps = {INPUT: Map(INPUT, layout, False, recording.input_steps, unit, top)}
        self.pools: dict[str, Pooled] = {}
        self.parts: dict[str, tuple[str, Tensor]] = {}
        self.layers: list[FloatOperation] = []
        self.notes: list[str] = []
        self.ones = False

    def read(self) -> list[FloatOperation]:
        """All layers, the readout last."""
        for cut in tqdm(self.recording.cuts, "reading", disable=None, leave=False, delay=2):
            if cut.kind == "neuron":
                self._neuron(cut)
            elif cut.kind == "max_pool":
                self._pool(cut)
            elif cut.kind == "gate":
                self._gate(cut)
        self._readout()
        layers = fused(self._alive(self.layers))
        if self.ones:
            layers.insert(0, _ones(self.maps[INPUT].layout.shape))
        return [self._widths(layer) for layer in layers]

    def _sources(self, cut: Cut | None, products: bool = False) -> dict[str, Map]:
        """The maps that a cut may read; products only where they are asked for."""
        found = [n for n in self.recording.sources(cut) if n not in self.recording_products
                 or (products and n in self.maps)]
        if cut is not None and cut.written is not None:
            found = [n for n in found if n != cut.name]
        back = [n for n in found if n not in self.maps]
        if back:
            raise SpikeTicketError(f"{cut.where}: its input depends on {back[0]!r}, which runs "
                                   "after it or is itself; networks with recurrent connections "
                                   "cannot be imported")
        return {name: self.maps[name] for name in found}

    def _operator(self, cut: Cut | None, maps: Mapping[str, Map]) -> Operator:
        """What the cut reads, of raw maps; a missing one is zeros, a product too."""
        recording, batch = self.recording, self.recording.batch
        absent = {n: torch.zeros((m.steps, batch, *m.layout.dims), dtype=torch.float64)
                  for n, m in maps.items() if n in self.recording_products}

        def run(given: Mapping[str, Tensor]) -> Tensor:
            given = {**absent, **given}
            return (classes(recording, recording.output(given)) if cut is None
                    else recording.operand(cut, given).double())
        return run

    @property
    def recording_products(self) -> set[str]:
        return {c.name for c in self.recording.cuts if c.kind == "product"}

    def _neuron(self, cut: Cut) -> None:
        maps = self._sources(cut)
        try:
            self._append(cut, self._affine(cut, maps))
            return
        except NotAffine as error:
            reason = error
        if self._attention(cut, maps):
            return
        try:
            if self._products(cut):
                maps = self._sources(cut, products=True)
                self._append(cut, self._affine(cut, maps))
                return
        except NotAffine as error:
            reason = error
        raise refused(self.recording, cut, reason) from reason

    def _affine(self, cut: Cut, maps: dict[str, Map]) -> Affine:
        """What a neuron reads, in a layout whose channels its numbers go along."""
        operator, error, plain = self._operator(cut, maps), None, Layout.standard(cut.dims)
        plain = plain if _along_channels(cut, plain) else features(cut.dims)
        known = getattr(cut.module, "channels_first", False)
        for layout in (plain, features(cut.dims)) if known else (None, plain):
            try:
                found = affine(operator, maps, cut.dims, layout)
            except NotAffine as reason:
                error = error or reason         # a guess that does not hold is not the only one
                continue
            if _along_channels(cut, found.layout):
                return found
        raise error or NotAffine("has numbers that differ between the positions of a channel")

    def _append(self, cut: Cut, found: Affine) -> None:
        """The layer of a neuron whose operand is `found`."""
        rule: Rule = cut.rule
        gain = _by_channel(rule.gain, cut, found.layout, "gain")
        synapses, bias, pool = found.synapses, found.bias, None
        pooled = next((self.pools[n] for s in synapses for n in s.sources if n in self.pools), None)
        if pooled is not None:
            synapses, bias, pool = behind(found, pooled)
        synapses = tuple(part for s in synapses for part in shortcut(s)) or (
            _nothing(self.maps[INPUT].layout.shape, found.layout.shape),)
        synapses = tuple(replace(s, weight=s.weight * gain.view(-1, 1, 1, 1)) for s in synapses)
        self.ones |= any(ONES in s.sources for s in synapses)
        self.layers.append(FloatLayer(cut.name, synapses, bias * gain,
                                      self._float_neuron(cut, found.layout), pool))
        self.maps[cut.name] = Map(cut.name, found.layout, True, cut.steps)

    def _float_neuron(self, cut: Cut, layout: Layout) -> FloatNeuron:
        rule: Rule = cut.rule
        theta = _by_channel(rule.theta, cut, layout, "threshold")
        start = torch.zeros_like(theta)
        if rule.start is not None:
            start = _by_channel(rule.start, cut, layout, "reset")
        strict = rule.strict
        if strict and not rule.hard:
            # What is subtracted is the threshold, so it cannot be one unit higher.
            strict = False
            self.notes.append(f"layer {cut.name!r} fires at v > theta and subtracts theta; its "
                              "integers fire at v = theta, too")
        return FloatNeuron(rule.decay, theta, start if rule.hard else None, strict, rule.unit)

    def _attention(self, cut: Cut, maps: dict[str, Map]) -> bool:
        """Whether the neuron reads attention, which makes its layer."""
        found = self._attention_of(cut, maps)
        if found is None:
            return False
        gain = _by_channel(cut.rule.gain, cut, found.layout, "gain")
        if bool((gain != gain[0]).any()):
            raise SpikeTicketError(f"{cut.where}: one gain per channel behind attention; use one "
                                   "for the layer")
        self.layers.append(FloatAttention(cut.name, found.attention,
                                          self._float_neuron(cut, found.layout),
                                          found.scale * float(gain[0])))
        self.maps[cut.name] = Map(cut.name, found.layout, True, cut.steps)
        return True

    def _attention_of(self, cut: Cut, maps: dict[str, Map]) -> SelfAttention | None:
        """Attention of maps, or of the parts of one, which becomes a layer for each part."""
        operator = self._operator(cut, maps)
        try:
            found = attention(operator, maps, cut.dims)
            if found is not None:
                return found
            for name in maps:
                others = {n: m for n, m in maps.items() if n != name}
                for parts, split in self._splits(name):
                    found = attention(_joined(operator, name, maps[name], parts, split),
                                      {**others, **parts}, cut.dims)
                    if found is not None:
                        self._split(name, parts, split)
                        return found
        except NotAffine:           # not finite, or different for every image
            pass
        return None

    def _splits(self, name: str):
        """(maps of its parts, indices [parts, channels]) of a layer that may hold query, key and
        value side by side."""
        layout = self.maps[name].layout
        channels, *size = layout.shape
        layer = next((o for o in self.layers if o.name == name), None)
        if channels % PARTS or not isinstance(layer, FloatLayer):
            return
        width = channels // PARTS
        plain = Layout.standard((width, *size))
        parts = {f"{name}.{i}": Map(f"{name}.{i}", plain, True, self.maps[name].steps)
                 for i in range(PARTS)}
        for block in [width, *(n for n in range(width // 2, 0, -1) if width % n == 0)]:
            order = torch.arange(channels).view(-1, PARTS, block).transpose(0, 1)
            yield parts, order.reshape(PARTS, width)

    def _split(self, name: str, parts: Mapping[str, Map], split: Tensor) -> None:
        """A layer for each part of a layer's channels; the whole stays only while it is read."""
        at, whole = next((i, o) for i, o in enumerate(self.layers) if o.name == name)
        made = []
        for part, channels in zip(parts, split, strict=True):
            neuron = whole.neuron
            neuron = replace(
                neuron, theta=neuron.theta[channels],
                reset=None if neuron.reset is None else neuron.reset[channels],
                unit=None if neuron.unit is None else neuron.unit[channels])
            synapses = tuple(replace(s, weight=s.weight[channels]) for s in whole.synapses)
            made.append(FloatLayer(part, synapses, whole.bias[channels], neuron, whole.pool))
            self.parts[part] = (name, channels)
        self.layers[at + 1:at + 1] = made

    def _products(self, cut: Cut | None) -> bool:
        """Make neurons of the products that a cut reads; whether there are any."""
        wanted = set(self.recording.sources(cut)) & self.recording_products
        for product_cut in self.recording.cuts:         # in order, so factors come first
            sources = self.recording.sources(product_cut) if product_cut.name in wanted else ()
            if product_cut.name in wanted - set(self.maps) and set(sources) <= set(self.maps):
                self._product(product_cut, sources)
        return bool(wanted & set(self.maps))

    def _product(self, cut: Cut, sources: Sequence[str]) -> None:
        maps = {n: self.maps[n] for n in sources}
        absent = {n: torch.zeros((m.steps, self.recording.batch, *m.layout.dims),
                                 dtype=torch.float64)
                  for n, m in maps.items() if n in self.recording_products}
        first, second = (lambda given, second=second: self.recording.factor(
            cut, {**absent, **given}, second) for second in (False, True))
        try:
            layer, made = product(cut.name, first, second, maps, cut.out)
        except NotAffine as error:
            raise NotAffine(f"{cut.where}: {error}") from error
        self.layers.append(layer)
        self.maps[cut.name] = made

    def _pool(self, cut: Cut) -> None:
        maps = self._sources(cut)
        window = pool_window(cut)
        try:
            found = self._maxima(cut, maps, window)
        except NotAffine as error:
            try:
                if not self._products(cut):
                    raise
                found = self._maxima(cut, self._sources(cut, products=True), window)
            except NotAffine as other:
                raise refused(self.recording, cut, other) from error
        self.layers += found.layers
        self.maps[cut.name] = found.map
        if not found.layers:
            self.pools[cut.name] = found

    def _maxima(self, cut: Cut, maps: dict[str, Map], window: Pool) -> Pooled:
        return max_pool(cut.name, self._operator(cut, maps), maps, cut.dims, cut.out, window)

    def _gate(self, cut: Cut) -> None:
        maps = self._sources(cut)
        gate = cut.module
        if gate.mode == "input" and INPUT in maps:          # TokenGate.zero
            self.maps[cut.name] = replace(self.maps[INPUT], name=cut.name, sources=(INPUT,))
            return
        found = affine(self._operator(cut, maps), maps, cut.dims)
        names = tuple(n for s in found.synapses for n in s.sources)
        if (set(names) & set(self.pools) or bool(found.bias.any())
                or any(not _identity(s.weight) for s in found.synapses)):
            raise SpikeTicketError(f"{cut.where}: gates something else than a sum of spike maps; "
                                   "place it right behind the patch embedding")
        made = gate.gate(cut.name, names)
        kept = tuple(f"kept.{n}" for n in names)
        selects = [Select(new, old, cut.name) for new, old in zip(kept, names, strict=True)]
        if gate.mode == "input":
            self.layers.insert(0, made)
        else:
            self.layers.append(made)
        self.layers += selects
        self.maps[cut.name] = Map(cut.name, Layout.standard(cut.out), False, cut.steps, 1.0,
                                  len(names), kept)

    def _readout(self) -> None:
        maps = self._sources(None)
        try:
            found = readout(self._operator(None, maps), maps)
        except NotAffine as error:
            try:
                if not self._products(None):
                    raise refused(self.recording, None, error) from error
                maps = self._sources(None, products=True)
                found = readout(self._operator(None, maps), maps)
            except NotAffine as other:
                raise refused(self.recording, None, other) from other
        if any(n in self.pools for s in found.synapses for n in s.sources):
            raise refused(self.recording, None, NotAffine(
                "reads a max pool of currents; put a neuron between"))
        self.ones |= found.needs_ones
        names = {layer.name for layer in self.layers}
        name = "readout"
        while name in names:
            name += "'"
        synapses = found.synapses or (_nothing(self.maps[INPUT].layout.shape,
                                               found.layout.shape),)
        self.layers.append(FloatLayer(name, synapses, found.bias))

    def _alive(self, layers: list[FloatOperation]) -> list[FloatOperation]:
        """Without layers that nothing reads."""
        wanted, kept = {layers[-1].name}, []
        for layer in reversed(layers):
            gates = {layer.gate} if isinstance(layer, Select) else set()
            if layer.name in wanted:
                kept.append(layer)
                wanted |= set(reads(layer)) | gates
        return kept[::-1]

    def _widths(self, layer: FloatOperation) -> FloatOperation:
        """The layer with the user's widths; shortcuts have 8 bits at least, copies 1."""
        if not isinstance(layer, FloatLayer) or layer.name == ONES:
            return layer
        bits = self.bits
        if not isinstance(bits, int):
            if all(s.bits == COPY_BITS for s in layer.synapses) and layer.name not in bits:
                return layer
            if layer.name not in bits:
                raise SpikeTicketError(f"no width given for the weights of layer {layer.name!r}; "
                                       "name all")
            bits = bits[layer.name]
        if isinstance(bits, int):
            # Copies have one magnitude, which quantisation makes 1 bit wide where it can.
            widths = {SHORTCUT_BITS: max(bits, SHORTCUT_BITS)}
            bits = [widths.get(s.bits, bits) for s in layer.synapses]
        if len(bits) != len(layer.synapses):
            raise SpikeTicketError(f"layer {layer.name!r}: {len(bits)} widths for "
                                   f"{len(layer.synapses)} weighted connections")
        return replace(layer, synapses=tuple(
            replace(s, bits=b) for s, b in zip(layer.synapses, bits, strict=True)))


def _joined(operator: Operator, name: str, whole: Map, parts: Mapping[str, Map],
            split: Tensor) -> Operator:
    """The operator with the parts' maps in place of the whole one."""
    back = split.flatten().argsort()

    def run(given: Mapping[str, Tensor]) -> Tensor:
        rest = {n: x for n, x in given.items() if n not in parts}
        held = [given.get(n) for n in parts]
        if all(x is None for x in held):
            return operator(rest)
        shape = next(x.shape for x in held if x is not None)
        held = [torch.zeros(shape, dtype=torch.float64) if x is None else x for x in held]
        joined = torch.cat(held, 2).index_select(2, back)
        return operator({**rest, name: whole.layout.to_raw(joined)})
    return run


def shortcut(s: FloatSynapses) -> tuple[FloatSynapses, ...]:
    """A kernel that holds an identity beside smaller weights, as conv(x) + x makes it, in two: the
    identity has a width of its own."""
    centre = tuple(s.padding)
    inside = all(k == 2 * n + 1 for n, k in zip(centre, s.weight.shape[2:], strict=True))
    if s.bits != USER_BITS or len(s.weight) != s.weight.shape[1] or s.stride != (1, 1) or (
            s.sum_pool != (1, 1) or not inside or s.weight[0].numel() == 1):
        return (s,)
    rest = s.weight.clone()
    diagonal = rest[:, :, *centre].diagonal()
    diagonal -= 1.0
    if not bool((rest.flatten(1).abs().amax(1) < s.weight.flatten(1).abs().amax(1)).all()):
        return (s,)
    eye = torch.eye(len(rest), dtype=rest.dtype)[:, :, None, None]
    return (replace(s, weight=rest),
            replace(s, weight=eye, padding=(0, 0), bits=SHORTCUT_BITS))


def _by_channel(values: Tensor, cut: Cut, layout: Layout, what: str) -> Tensor:
    """Numbers of a neuron [C]; they broadcast to its raw axes."""
    maps = layout.to_map(values.double().expand(1, 1, *cut.dims))[0, 0].flatten(1)
    if bool((maps != maps[:, :1]).any()):
        raise SpikeTicketError(f"{cut.where}: one {what} per position; the core has one per "
                               "channel")
    return maps[:, 0].clone()


def _identity(weight: Tensor) -> bool:
    eye = torch.eye(len(weight), dtype=weight.dtype)[:, :, None, None]
    return weight.shape == eye.shape and torch.equal(weight, eye)


def _ones(shape: tuple[int, int, int]) -> FloatLayer:
    """The map that spikes at every timestep; its one synapse reads nothing of an input `shape`."""
    channels, *size = shape
    one = torch.ones(1, dtype=torch.float64)
    nothing = FloatSynapses(torch.zeros((1, channels, 1, 1), dtype=torch.float64), (INPUT,),
                            tuple(size), bits=COPY_BITS)
    return FloatLayer(ONES, (nothing,), one, FloatNeuron(0.0, one, 0 * one))


def _along_channels(cut: Cut, layout: Layout) -> bool:
    """The neuron's numbers are the same at all positions of a channel."""
    rule = cut.rule
    numbers = [n for n in (rule.theta, rule.gain, rule.start) if n is not None and n.numel() > 1]
    return all(_same_at_positions(n, cut, layout) for n in numbers)


def _same_at_positions(values: Tensor, cut: Cut, layout: Layout) -> bool:
    maps = layout.to_map(values.double().expand(1, 1, *cut.dims))[0, 0].flatten(1)
    return bool((maps == maps[:, :1]).all())


def _nothing(source: tuple[int, int, int], shape: tuple[int, int, int]) -> FloatSynapses:
    """Synapses without weights from the input, [C, H, W] `source`, to a map of `shape`."""
    padding = tuple(max(0, -(-(n - m) // 2)) for m, n in zip(source[1:], shape[1:], strict=True))
    kernel = [m + 2 * p - n + 1
              for m, n, p in zip(source[1:], shape[1:], padding, strict=True)]
    zeros = torch.zeros((shape[0], source[0], *kernel), dtype=torch.float64)
    return FloatSynapses(zeros, (INPUT,), padding=padding, bits=COPY_BITS)


def classes(recording: Recording, out: Tensor) -> Tensor:
    """The output as [B, K] or [T, B, K]."""
    steps, batch, shape = recording.steps, recording.batch, tuple(out.shape)
    if shape[:1] == (batch,) and shape[1:2] != (steps,):
        return out.flatten(1)[:, :] if out.dim() > 1 else out[:, None]
    if shape[:1] == (batch,):
        return (out.flatten(1) if out.dim() == 2 else out.transpose(0, 1).flatten(2))
    if shape[:2] == (steps, batch):
        return out.flatten(2) if out.dim() > 2 else out[..., None]
    if shape[:1] == (steps * batch,):
        return out.reshape(steps, batch, -1)
    raise SpikeTicketError(f"the output of shape {list(shape)} for {batch} samples and {steps} "
                           "timesteps is none by class; return [B, classes] or [T, B, classes]")


def pool_window(cut: Cut) -> Pool:
    """The window of a max pool's recorded operation."""
    op, plane = cut.node, tuple(cut.dims[-2:])
    if op.name == "max_pool2d_with_indices":
        size, stride, padding, dilation = (*map(tuple, op.args[1:5]), (), (), ())[:4]
        window = Pool("max", size, stride or size, padding or (0, 0))
        if dilation in ((), (1, 1)) and window.outputs(*plane) == cut.out[-2:]:
            return window
        raise SpikeTicketError(f"{cut.where}: max pool with dilation, or with ceil_mode on a map "
                               f"of {plane[0]}x{plane[1]}; use the plain one")
    if op.name in ("amax", "max", "adaptive_max_pool2d") and (
            math.prod(cut.out) * math.prod(plane) == math.prod(cut.dims)):
        return Pool("max", plane)
    raise SpikeTicketError(
        f"{cut.where} takes a maximum over more than a window of positions (timesteps, channels, "
        "or two maps); the nearest is MaxPool2d; attention that weighs a map by its own maxima and "
        "averages has no form in spikes, SpikingSelfAttention has")
