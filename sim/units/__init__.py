"""The gateware's units, a folder each: model (what must come out), bench, proof, and wrong lines
that these must notice. Cycles are in `sw.core.steps`, which the forecast needs without a simulator.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent


def modules(ending: str) -> list[ModuleType]:
    """Those of the units whose name ends so, in order."""
    return [import_module(f"{__name__}.{path.parent.name}.{path.stem}")
            for path in sorted(HERE.glob(f"*/*{ending}.py"))]


def collected(name: str) -> list:
    """What the units' `mutations.py` have under this name, one behind the other."""
    return [item for module in modules("mutations") for item in getattr(module, name, ())]
