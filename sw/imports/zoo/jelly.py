"""Imports SpikingJelly's model modules where torchvision does not load, too.

Three of them import torchvision for a function that downloads ImageNet weights and for nothing
else. A torchvision built for another torch (the CUDA wheel beside a CPU torch) raises at import,
so there a stand-in without that function takes its place for as long as the import lasts.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

PACKAGE = "spikingjelly.activation_based.model"


def models(name: str) -> ModuleType:
    """SpikingJelly's module `activation_based.model.<name>`."""
    full = f"{PACKAGE}.{name}"
    if full in sys.modules or _loads("torchvision"):
        return importlib.import_module(full)
    before = {key for key in sys.modules if key.partition(".")[0] == "torchvision"}
    for key in before:
        del sys.modules[key]
    package, utils = ModuleType("torchvision"), ModuleType("torchvision._internally_replaced_utils")
    package.__path__ = []
    utils.load_state_dict_from_url = _no_download
    stand_ins = {module.__name__: module for module in (package, utils)}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module(full)
    finally:
        for key in stand_ins:
            del sys.modules[key]


def _loads(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def _no_download(*arguments: object, **options: object) -> None:
    raise RuntimeError("this torchvision does not load, so no weights are downloaded")
