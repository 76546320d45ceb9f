"""SpikingJelly 2.0.0's model classes, all of them, small."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from spikingjelly.activation_based import neuron
from torch import nn

from .entry import ALL, Entry, Make
from .jelly import models
from .thin import thin

CLASSES = 10


def _residual(module: str, name: str, block: str, factor: int, **options: object) -> Make:
    def make(node: Callable) -> nn.Module:
        found = models(module)
        return thin(lambda: getattr(found, name)(
            getattr(found, block), [1, 1, 1, 1], num_classes=CLASSES, spiking_neuron=_cpu(node),
            **options), factor)
    return make


def _vgg(batch_norm: bool) -> Make:
    def make(node: Callable) -> nn.Module:
        found = models("spiking_vgg")
        return thin(lambda: found.SpikingVGG(found.cfgs["A"], batch_norm, num_classes=CLASSES,
                                             spiking_neuron=_cpu(node)), 32)
    return make


def _ottt(cfg: str, standardised: bool, light: bool) -> Make:
    def make(node: Callable = neuron.OTTTLIFNode) -> nn.Module:
        found = models("spiking_vggws_ottt")
        return thin(lambda: found.OTTTSpikingVGG(
            [64, 128, "A", 512] if light else found.cfgs[cfg], standardised, num_classes=CLASSES,
            spiking_neuron=_cpu(node), light_classifier=light), 32)
    return make


def _cpu(node: Callable) -> Callable:
    """A factory whose parameters lie on the CPU wherever it is called; `thin` needs it."""
    def make(**given: object) -> nn.Module:
        with torch.device("cpu"):
            return node(**given)
    return make


def _plif(name: str, factor: int) -> Make:
    def make(node: Callable) -> nn.Module:
        found = getattr(models("parametric_lif_net"), name)
        return thin(lambda: found(spiking_neuron=_cpu(node)), factor)
    return make


def _transformer(module: str, name: str, **options: object) -> Make:
    def make(node: Callable) -> nn.Module:
        return getattr(models(module), name)(num_classes=CLASSES, spiking_neuron=node, **options)
    return make


FORWARD = [[0, 3, 1, 0], [0, 0, 2, 1], [0, 0, 0, 3], [0, 0, 0, 0]]
"""A cell's operations, rows sources, columns targets: 0 none, 1 skip, 2 1x1, 3 3x3, 4 pool."""

BACKWARD = [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 2, 0, 0]]


def _snas(cell: str, pool: bool = False) -> Make:
    def make() -> nn.Module:
        options = SimpleNamespace(timestep=4, second_avgpooling=2, dataset="cifar10",
                                  celltype=cell, threshold=1.0, tau=2.0)
        matrix = torch.tensor(FORWARD)
        if cell == "backward":
            matrix += torch.tensor(BACKWARD)
        if pool:
            matrix[0, 3] = 4
        found = models("snas_net").SNASNet
        return thin(lambda: found(options, matrix), 32)
    return make


def _spike_dhs() -> nn.Module:
    options = SimpleNamespace(fea_step=3, fea_num_layers=8, fea_block_multiplier=3,
                              fea_filter_multiplier=48)
    found = models("spike_dhs").SpikeDHS
    return thin(lambda: found(3, options), 16)


def _entry(name: str, way: str, make: Make, shape: tuple[int, int, int], **given) -> Entry:
    return Entry(f"sj/{name}", f"`model.{way}`", make, shape, **{"neurons": ALL, **given})


def _resnets() -> list[Entry]:
    shape, found = (3, 32, 32), []
    for cnf in ("ADD", "AND", "IAND"):
        found.append(_entry(f"sew-resnet-{cnf.lower()}", "sew_resnet.SEWResNet", _residual(
            "sew_resnet", "SEWResNet", "BasicBlock", 8, cnf=cnf), shape, steps="m"))
    found.append(_entry("sew-resnet-bottleneck", "sew_resnet.SEWResNet", _residual(
        "sew_resnet", "SEWResNet", "Bottleneck", 16, cnf="ADD"), shape, steps="m"))
    found.append(_entry("spiking-resnet", "spiking_resnet.SpikingResNet", _residual(
        "spiking_resnet", "SpikingResNet", "BasicBlock", 8), shape, steps="m"))
    found.append(_entry("spiking-resnet-bottleneck", "spiking_resnet.SpikingResNet", _residual(
        "spiking_resnet", "SpikingResNet", "Bottleneck", 16), shape, feed="steps", steps="s"))
    small = {"layers": (1, 1, 1), "base_channels": 8, "T": 4, "stem_kernel_size": 3,
             "stem_stride": 1}
    found.append(_entry("ms-resnet", "ms_resnet.MSResNet", _transformer(
        "ms_resnet", "MSResNet", **small), (3, 16, 16), feed="image", light=True))
    found.append(_entry("max-resnet", "ms_resnet.MaxResNet", _transformer(
        "ms_resnet", "MaxResNet", **small), (3, 16, 16), feed="image", light=True))
    found.append(_entry("att-ms-resnet", "masnn.AttMSResNet", _transformer(
        "masnn", "AttMSResNet", **small), (3, 16, 16), feed="image", refusal="maximum"))
    return found


def _vggs() -> list[Entry]:
    found = [_entry(f"vgg{'-bn' * norm}", "spiking_vgg.SpikingVGG", _vgg(norm), (3, 32, 32),
                    steps="m") for norm in (False, True)]
    for standardised in (False, True):
        name = f"ottt-vgg{'-ws' * standardised}"
        options = {"feed": "steps", "noisy": standardised}
        found.append(_entry(name, "spiking_vggws_ottt.OTTTSpikingVGG", _ottt(
            "A", standardised, False), (3, 32, 32), neurons=("IF", "LIF", "PLIF"), **options))
        found.append(_entry(f"{name}-light", "spiking_vggws_ottt.OTTTSpikingVGG", _ottt(
            "S", standardised, True), (3, 8, 8), neurons=(), **options))
    return found


def _plif_nets() -> list[Entry]:
    return [
        _entry("plif-mnist", "parametric_lif_net.MNISTNet", _plif("MNISTNet", 16), (1, 28, 28),
               steps="m"),
        _entry("plif-fashion-mnist", "parametric_lif_net.FashionMNISTNet",
               _plif("FashionMNISTNet", 16), (1, 28, 28), feed="steps", steps="s"),
        _entry("plif-nmnist", "parametric_lif_net.NMNISTNet", _plif("NMNISTNet", 16),
               (2, 34, 34), static=False, steps="m"),
        _entry("plif-cifar10", "parametric_lif_net.CIFAR10Net", _plif("CIFAR10Net", 32),
               (3, 32, 32), steps="m"),
        _entry("plif-cifar10-dvs", "parametric_lif_net.CIFAR10DVSNet", _plif("CIFAR10DVSNet", 32),
               (2, 128, 128), static=False, steps="m"),
        _entry("plif-dvs-gesture", "parametric_lif_net.DVSGestureNet", _plif("DVSGestureNet", 32),
               (2, 128, 128), static=False, steps="m")]


def _transformers() -> list[Entry]:
    image = {"feed": "image"}
    small = {"T": 4, "in_channels": 3, "embed_dims": 32}
    former = partial(_transformer, "spike_driven_transformer", "SpikeDrivenTransformer",
                     num_heads=2, depths=1, mlp_ratio=2.0)
    qk = partial(_transformer, "qkformer", "QKFormer", num_heads=(1, 2, 4), depths=(1, 1, 1),
                 mlp_ratio=2.0)
    return [
        _entry("spikformer", "spikformer.Spikformer", _transformer(
            "spikformer", "Spikformer", img_size_h=16, img_size_w=16, patch_size=4, num_heads=2,
            depths=2, mlp_ratio=2.0, **small), (3, 16, 16), **image),
        _entry("spike-driven", "spike_driven_transformer.SpikeDrivenTransformer",
               former(pooling_stat="1100", **small), (3, 16, 16), **image),
        _entry("spike-driven-pooled", "spike_driven_transformer.SpikeDrivenTransformer",
               former(pooling_stat="0011", **small), (3, 16, 16), refusal="max", **image),
        _entry("qkformer-token", "qkformer.QKFormer", qk(qka_type="token", **small), (3, 32, 32),
               **image),
        _entry("qkformer-channel", "qkformer.QKFormer", qk(qka_type="channel", **small),
               (3, 32, 32), **image),
        _entry("maxformer", "maxformer.MaxFormer", _transformer(
            "maxformer", "MaxFormer", depths=(1, 1, 1), mlp_ratio=2.0, **small), (3, 32, 32),
            refusal="max", **image),
        _entry("maxformer-cifar", "maxformer.MaxFormer", _transformer(
            "maxformer", "MaxFormer", depths=(1, 1, 1), mlp_ratio=2.0, cifar=True, **small),
            (3, 16, 16), refusal="max", **image),
        _entry("masnn", "masnn.MASNN", _transformer(
            "masnn", "MASNN", T=8, input_size=(16, 16), channels=(8, 8), pools=(1, 2),
            fc_hidden=16), (2, 16, 16), timesteps=8, static=False, refusal="maximum")]


def entries() -> list[Entry]:
    """One entry, or several, for every class."""
    searched = {"neurons": ()}
    return [*_resnets(), *_vggs(), *_plif_nets(), *_transformers(),
            _entry("snasnet", "snas_net.SNASNet", _snas("forward"), (3, 32, 32), feed="image",
                   noisy=True, **searched),
            _entry("snasnet-pool", "snas_net.SNASNet", _snas("forward", True), (3, 32, 32),
                   feed="image", noisy=True, refusal="positions", **searched),
            _entry("snasnet-backward", "snas_net.SNASNet", _snas("backward"), (3, 32, 32),
                   feed="image", noisy=True, refusal="recurrent", **searched),
            _entry("spike-dhs", "spike_dhs.SpikeDHS", _spike_dhs, (3, 32, 32), timesteps=6,
                   feed="image", steps="m", noisy=True, **searched)]
