"""snnTorch and Norse modules, by the NIR graphs that these libraries write of them.

Both libraries and nir are optional; without them there are no such entries. Each module is run by
its own library; what is imported is its graph.
"""

from __future__ import annotations

import importlib.util
import warnings
from functools import partial

import torch
from torch import Tensor, nn

from ...integers import Imported
from ...nir_graph import from_nir
from ..entry import Entry

SHAPE = (2, 8, 8)
NEEDED = ("nir", "nirtorch")


def _quietly(work, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # of the libraries' own imports and exports
        return work(*arguments, **options)


def snntorch_net() -> nn.Module:
    """Leaky with hidden state, reset to zero; a pool between; called once a timestep."""
    snn = _quietly(importlib.import_module, "snntorch")

    class FiringLeaky(snn.Leaky):
        """Leaky whose threshold, one for the layer, can be set."""

        @property
        def thresh(self) -> float:
            return float(self.threshold.flatten()[0])

        @thresh.setter
        def thresh(self, value: float) -> None:
            self.threshold = torch.full_like(self.threshold, value)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).to(x)     # its surrogate makes float32 spikes

    def leaky(*shape: int) -> nn.Module:
        return FiringLeaky(torch.full(shape, 0.5), torch.full(shape, 1.0), init_hidden=True,
                           reset_mechanism="zero")

    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), leaky(4, 8, 8), nn.AvgPool2d(2),
                         nn.Flatten(), nn.Linear(64, 12), leaky(12), nn.Linear(12, 10), leaky(10))


def norse_net() -> nn.Module:
    """SequentialState of LIFBoxCell and IAFCell, its state handed from call to call."""
    nt = _quietly(importlib.import_module, "norse.torch")
    lif, iaf = nt.LIFBoxParameters, importlib.import_module("norse.torch.functional.iaf")

    class Settable:
        """A cell whose threshold can be set."""

        @property
        def thresh(self) -> float:
            return float(self.p.v_th)

        @thresh.setter
        def thresh(self, value: float) -> None:
            self.p = self.p._replace(v_th=torch.tensor(value, dtype=torch.float64))

    class BoxCell(Settable, nt.LIFBoxCell):
        pass

    class CountCell(Settable, nt.IAFCell):
        pass

    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            half = torch.tensor(500.0, dtype=torch.float64)     # decay 1/2 at dt = 0.001
            self.net = nt.SequentialState(
                nn.Conv2d(2, 4, 3, padding=1), BoxCell(lif(tau_mem_inv=half)),
                nn.Conv2d(4, 6, 8), CountCell(iaf.IAFParameters()))
            self.state = None

        def reset(self) -> None:
            self.state = None

        def forward(self, x: Tensor) -> Tensor:
            out, self.state = self.net(x, self.state)
            return out

    return Stateful()


def _graph(net: nn.Module, library: str) -> object:
    sample = torch.zeros(1, *SHAPE, dtype=torch.float64)
    if library == "snntorch":
        export = importlib.import_module("snntorch.export_nir").export_to_nir
        return _quietly(export, net, sample, ignore_dims=[0])
    export = importlib.import_module("norse.torch.utils.export_nir").to_nir
    return _quietly(export, net.net, sample)


def _import(net: nn.Module, shape: tuple[int, int, int], timesteps: int, *, library: str,
            check: bool = True, **given: object) -> Imported:
    return from_nir(_graph(net, library), timesteps=timesteps, dialect_of=library, **given)


def _entries() -> tuple[Entry, ...]:
    if not all(map(importlib.util.find_spec, NEEDED)):
        return ()
    made = (("snntorch", "snnTorch: Leaky in a Sequential, by NIR", snntorch_net),
            ("norse", "Norse: SequentialState of LIFBoxCell and IAFCell, by NIR", norse_net))
    return tuple(Entry(f"nir/{library}", way, make, SHAPE, timesteps=6, feed="steps", static=False,
                       importer=partial(_import, library=library))
                 for library, way, make in made if importlib.util.find_spec(library))


ENTRIES = _entries()
