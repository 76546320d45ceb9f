"""Imports and exports: SpikingJelly modules and NIR graphs to tickets, tickets to NIR graphs.

    from sw.imports import from_spikingjelly
    imported = from_spikingjelly(net, (1, 28, 28), timesteps=4)
    imported.save("ticket.safetensors")

docs/imports.md says what is supported and what is exact. NIR graphs need
`pip install 'spiketicket[nir]'`.
"""

from .calibration import calibrate
from .floats import Agreement, compare
from .integers import Imported
from .nir_graph import from_nir
from .nir_write import to_nir
from .spikingjelly import from_spikingjelly

__all__ = ["Agreement", "Imported", "calibrate", "compare", "from_nir", "from_spikingjelly",
           "to_nir"]
