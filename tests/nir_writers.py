"""Networks of other libraries with whole-number parameters, as they write them to NIR.

Every function returns (graph, integers [T, B, ...] that went in, spikes [T, B, ...] by neuron layer
in order, as the library computed them). Decays are 1/2, so integers can follow exactly.
"""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

T, BATCH, SHAPE = 4, 3, (2, 8, 8)

Written = tuple[object, Tensor, list[Tensor]]


def whole(net: nn.Module, generator: torch.Generator) -> None:
    """Draw whole weights of 4 bits and whole biases."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data = torch.randint(-7, 8, module.weight.shape,
                                               generator=generator).float()
            if module.bias is not None:
                module.bias.data = torch.randint(-4, 5, module.bias.shape,
                                                 generator=generator).float()


def inputs(generator: torch.Generator) -> Tensor:
    """Event counts of two bits."""
    return torch.randint(0, 4, (T, BATCH, *SHAPE), generator=generator)


def _record(modules: list[nn.Module], spikes) -> list[list[Tensor]]:
    made: list[list[Tensor]] = [[] for _ in modules]
    for module, kept in zip(modules, made, strict=True):
        module.register_forward_hook(
            lambda _m, _i, out, kept=kept: kept.append(spikes(out).detach().clone()))
    return made


def snntorch(seed: int) -> Written:
    """Leaky, reset to zero: fires at v > threshold."""
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import snntorch as snn
        from snntorch.export_nir import export_to_nir
        first = snn.Leaky(torch.full((4, 8, 8), 0.5), torch.full((4, 8, 8), 9.0),
                          init_hidden=True, reset_mechanism="zero")
        second = snn.Leaky(torch.full((10,), 0.5), torch.full((10,), 3.0), init_hidden=True,
                           reset_mechanism="zero")
        net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), first, nn.AvgPool2d(2), nn.Flatten(),
                            nn.Linear(64, 10), second)
        whole(net, generator)
        x = inputs(generator)
        graph = export_to_nir(net, x[0, :1].float(), ignore_dims=[0])
        first.reset_mem()
        second.reset_mem()
        made = _record([first, second], lambda out: out)
        for step in x:
            net(step.float())
    return graph, x, [torch.stack(m) for m in made]


def norse(seed: int) -> Written:
    """LIFBoxCell and IAFCell: fire at v > v_th."""
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import norse.torch as nt
        from norse.torch.functional.iaf import IAFParameters
        from norse.torch.functional.lif_box import LIFBoxParameters
        from norse.torch.utils.export_nir import to_nir
        first = nt.LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.tensor(500.0),
                                               v_th=torch.tensor(5.0)))
        second = nt.IAFCell(IAFParameters(v_th=torch.tensor(16.0)))
        net = nt.SequentialState(nn.Conv2d(2, 4, 3, padding=1), first, nn.Conv2d(4, 4, 8), second)
        whole(net, generator)
        x = inputs(generator)
        graph = to_nir(net, x[0, :1].float())
        made = _record([first, second], lambda out: out[0])
        state = None
        for step in x:
            _, state = net(step.float(), state)
    return graph, x, [torch.stack(m) for m in made]


def sinabs(seed: int, norm_input: bool = False) -> Written:
    """IAF and LIF with one spike a timestep: fire at v >= threshold, which is subtracted."""
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sinabs.layers as sl
        import sinabs.nir
        from sinabs.activation import SingleSpike
        first = sl.IAFSqueeze(batch_size=BATCH, spike_fn=SingleSpike,
                              spike_threshold=torch.tensor(9.0))
        second = sl.LIFSqueeze(
            tau_mem=torch.full((10,), 1 / math.log(2)), batch_size=BATCH, spike_fn=SingleSpike,
            spike_threshold=torch.full((10,), 16.0), norm_input=norm_input)
        net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), first, sl.SumPool2d(2),
                            nn.Flatten(), nn.Linear(64, 10), second)
        whole(net, generator)
        x = inputs(generator)
        flat = x.transpose(0, 1).flatten(0, 1).float()      # [B, T] merged
        graph = sinabs.nir.to_nir(net, flat)
        graph.infer_types()
        first.reset_states()
        second.reset_states()
        made = _record([first, second], lambda out: out)
        net(flat)
    return graph, x, [m[0].unflatten(0, (BATCH, T)).transpose(0, 1) for m in made]


def spikingjelly(seed: int) -> Written:
    """LIFNode and IFNode: fire at v >= v_threshold."""
    generator = torch.Generator().manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from spikingjelly.activation_based import functional, layer, neuron, nir_exchange
        first, second = neuron.LIFNode(v_threshold=5.0), neuron.IFNode(v_threshold=4.0)
        net = nn.Sequential(layer.Conv2d(2, 4, 3, padding=1, bias=False), first,
                            layer.AvgPool2d(2), layer.Flatten(), layer.Linear(64, 10), second)
        whole(net, generator)
        x = inputs(generator)
        graph = nir_exchange.export_to_nir(net, x[0].float())
        functional.reset_net(net)
        made = _record([first, second], lambda out: out)
        for step in x:
            net(step.float())
    return graph, x, [torch.stack(m) for m in made]


LIBRARIES = {"snntorch": snntorch, "norse": norse, "sinabs": sinabs,
             "spikingjelly": spikingjelly}


def written(library: str, seed: int, **options: object) -> Written:
    """What a library writes; skips, with its name, where it is not installed."""
    try:
        return LIBRARIES[library](seed, **options)
    except ImportError as error:
        pytest.skip(f"{library} is not installed ({error})")


def lif(shape: tuple[int, ...], threshold: float, **changes: float):
    """A nir.LIF that keeps half of its membrane, with whole currents, for dt = 1e-4."""
    import nir
    values = {"tau": 2e-4, "r": 2.0, "v_leak": 0.0, "v_reset": 0.0, **changes,
              "v_threshold": threshold}
    return nir.LIF(**{k: np.full(shape, v) for k, v in values.items()})


def chain(*nodes: object, channels: int = 2):
    """input 2x4x4 -> nodes n0, n1, ... -> output, with shapes where nir needs them."""
    import nir
    names = ["input", *(f"n{i}" for i in range(len(nodes))), "output"]
    ends = [nir.Input(np.array([channels, 4, 4])), *nodes, nir.Output(np.array([3]))]
    edges = list(itertools.pairwise(names))
    return nir.NIRGraph(dict(zip(names, ends, strict=True)), edges, type_check=False)


def conv(seed: int = 0, out: int = 3, low: int = -7, high: int = 8, channels: int = 2,
         kernel: int = 3, bias: np.ndarray | None = None, **options: object):
    """A nir.Conv2d of whole weights and biases."""
    import nir
    rng = np.random.default_rng(seed)
    weight = rng.integers(low, high, (out, channels, kernel, kernel)).astype(np.float32)
    bias = rng.integers(-3, 4, out).astype(np.float32) if bias is None else bias
    options = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, **options}
    return nir.Conv2d((4, 4), weight, bias=bias, **options)


def dense(seed: int = 1, features: int = 48):
    """A nir.Linear of whole weights to three classes."""
    import nir
    rng = np.random.default_rng(seed)
    return nir.Linear(rng.integers(-7, 8, (3, features)).astype(np.float32))


def events(seed: int, shape: tuple[int, ...], bits: int = 2) -> Tensor:
    """Integers of some bits."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 1 << bits, shape))
