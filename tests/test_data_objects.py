"""Python objects as data sets: torch, torchvision, SpikingJelly, tonic by their form."""

import importlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from sim.samples import event_files as write
from sw.data import datasets
from sw.data.events import Events, frames
from sw.errors import SpikeTicketError

RNG = np.random.default_rng(1)
COLOUR = RNG.integers(0, 256, (5, 3, 6, 8), np.uint8)
LABELS = [0, 2, 1, 1, 0]


class Listed(Dataset):
    """Samples given as a list, with what else a library's set says about itself."""

    def __init__(self, samples, **attributes):
        self.samples = samples
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def pairs(inputs, labels=LABELS):
    return list(zip(inputs, labels, strict=True))


@pytest.mark.parametrize("inputs", [
    [Image.fromarray(one.transpose(1, 2, 0)) for one in COLOUR],
    [torch.from_numpy(one) for one in COLOUR],
    [torch.from_numpy(one.astype(np.float32) / 255) for one in COLOUR],     # ToTensor
    [one.transpose(1, 2, 0) for one in COLOUR]], ids=["pil", "uint8", "float", "hwc"])
@pytest.mark.parametrize("label", [int, np.int64, torch.tensor, lambda n: np.array([n])])
def test_map_style(inputs, label):
    found = datasets.load(Listed(pairs(inputs, map(label, LABELS)), classes=["a", "b", "c"]))
    assert np.array_equal(found.images, COLOUR) and found.labels.tolist() == LABELS
    assert found.names == ("a", "b", "c") and found.source == "Listed"
    assert len(datasets.load(Listed(pairs(inputs)), limit=2)) == 2


def test_torch_sets_and_pairs():
    tensors = torch.from_numpy(COLOUR), torch.tensor(LABELS)
    for what in (TensorDataset(*tensors), tensors, (COLOUR, np.array(LABELS)),
                 Subset(TensorDataset(*tensors), range(5)), {"test": TensorDataset(*tensors)},
                 Listed([{"image": i, "label": n} for i, n in zip(*tensors, strict=True)])):
        found = datasets.load(what, "test")
        assert np.array_equal(found.images, COLOUR) and found.labels.tolist() == LABELS
    with pytest.raises(SpikeTicketError, match="data sets for test, none for train; add 'train'"):
        datasets.load({"test": tensors}, "train")
    found = datasets.load(DataLoader(TensorDataset(*tensors), batch_size=2, shuffle=True))
    assert np.array_equal(found.images, COLOUR) and "read in order" in found.notes[0]


def test_iterables_need_a_limit():
    class Stream(IterableDataset):
        def __iter__(self):
            n = 0
            while True:
                yield COLOUR[n % 5], n % 3
                n += 1
    with pytest.raises(SpikeTicketError, match=r"Stream: does not say how many .* give a limit"):
        datasets.load(Stream())
    assert datasets.load(Stream(), limit=7).labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_a_training_set_is_not_taken_for_a_test_set():
    for train, split in ((True, "test"), (False, "train")):
        with pytest.raises(SpikeTicketError, match=f"attribute train={train}, but the {split}"):
            datasets.load(Listed(pairs(COLOUR), train=train), split)
    assert len(datasets.load(Listed(pairs(COLOUR), train=True), "train")) == 5


def library(name):
    """A library, or a skip where it cannot be imported, for instance beside another torch."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        pytest.skip(f"{name} cannot be imported: {error}")


def test_torchvisions_own(tmp_path):
    torchvision = library("torchvision")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(COLOUR[i].transpose(1, 2, 0)).save(tmp_path / name / f"{i}.png")
    folder = torchvision.datasets.ImageFolder(tmp_path)
    found = datasets.load(folder)
    assert np.array_equal(found.images[1], COLOUR[1]) and found.labels.tolist() == [0, 0, 1, 1]
    assert found.names == ("a", "b")
    assert np.array_equal(datasets.load(torchvision.datasets.ImageFolder(
        tmp_path, torchvision.transforms.ToTensor())).images, found.images)
    normal = torchvision.transforms.Compose([torchvision.transforms.ToTensor(),
                                             torchvision.transforms.Normalize(0.5, 0.5)])
    with pytest.raises(SpikeTicketError, match="normalised pixels"):
        datasets.load(torchvision.datasets.ImageFolder(tmp_path, normal))
    torch.manual_seed(0)
    noisy = torchvision.transforms.Compose([torchvision.transforms.ToTensor(),
                                            lambda x: x * torch.rand(())])
    assert "random transforms" in datasets.load(torchvision.datasets.ImageFolder(
        tmp_path, noisy)).notes[0]


E = [write.sample(50 + i, (34, 20), i) for i in range(3)]
FRAMES = np.stack([frames(Events(**e, sensor=(34, 20)), 4) for e in E])


def test_tonics_form():
    """Structured arrays, and `sensor_size` (width, height, polarities)."""
    samples = [(write.structured(e), n) for n, e in enumerate(E)]
    found = datasets.load(Listed(samples, sensor_size=(34, 20, 2)))
    assert np.array_equal(found.images, FRAMES) and found.labels.tolist() == [0, 1, 2]
    inside = datasets.load(Subset(Listed(samples, sensor_size=(34, 20, 2)), range(3)))
    assert np.array_equal(inside.images, FRAMES)
    with pytest.raises(SpikeTicketError, match="do not state the sensor's size; give sensor"):
        datasets.load(Listed(samples))
    assert np.array_equal(datasets.load(Listed(samples), sensor=(34, 20)).images, FRAMES)
    late = [(one, n) for one, n in samples]
    late[1] = (samples[1][0][::-1].copy(), 1)
    found = datasets.load(Listed(late, sensor_size=(34, 20, 2)))
    assert found.notes == ("Listed[1]: its events are not in order of time; sorted",)


def test_spikingjellys_form(tmp_path):
    """Mappings of t, x, y, p (open .npz files), `get_H_W`, and frames of counts in floats."""
    for i, e in enumerate(E):
        np.savez(tmp_path / f"{i}.npz", **e)

    class Jelly(Listed):
        @staticmethod
        def get_H_W():
            return 20, 34
    with np.load(tmp_path / "0.npz") as a, np.load(tmp_path / "1.npz") as b, \
            np.load(tmp_path / "2.npz") as c:
        found = datasets.load(Jelly([(a, 0), (b, 1), (c, 2)]))
        assert np.array_equal(found.images, FRAMES)
    found = datasets.load(Jelly(pairs(FRAMES.astype(np.float32), [0, 1, 2])))
    assert np.array_equal(found.images, FRAMES) and not found.static
    with pytest.raises(SpikeTicketError, match="one number of timesteps"):
        datasets.load(Jelly([(FRAMES[0], 0), (FRAMES[1][:3], 1)]))


def test_spikingjellys_own(tmp_path):
    class Made(library("spikingjelly.datasets").CIFAR10DVS):
        """The class as it is, without its ten thousand files."""

        def __init__(self, samples):
            self.samples = samples

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, index):
            return self.samples[index]
    found = datasets.load(Made([(e, n) for n, e in enumerate(E)]), size=(34, 20))
    assert found.images.shape == (3, 4, 2, 20, 34)          # cropped from its 128 x 128


@pytest.mark.parametrize("samples, message", [
    ([], "holds no sample"), ([COLOUR[0]], "sample 0 is a ndarray, not"),
    ([(COLOUR[0], 0, 1)], "a tuple of 3, not"), ([(COLOUR[0], "cat")], "the label of sample 0 is"),
    ([(COLOUR[0], 0.5)], "label 0.5"), ([(COLOUR[0], -1)], "label -1"),
    ([{"picture": 1}], "a dictionary without one of image"),
    ([(COLOUR[0], [0, 1])], "not one whole number"), ([("text", 0)], "<U4|no type of pixels"),
    ([(Image.new("L", (4, 4)), 0), (Image.new("L", (4, 5)), 1)], "give all one size")])
def test_samples_that_are_refused(samples, message):
    with pytest.raises(SpikeTicketError, match=message) as error:
        datasets.load(Listed(samples))
    assert "\n" not in str(error.value)


def test_errors_of_the_users_code():
    class Broken(Listed):
        def __getitem__(self, index):
            raise KeyError("lost\nfile")
    with pytest.raises(SpikeTicketError, match=r"Broken: its sample 0 raises KeyError"):
        datasets.load(Broken([1]))
    for what, message in ((COLOUR, r"one array \[5, 3, 6, 8\] is no data set: give a pair"),
                          ({"a": COLOUR}, "a dictionary of a is no data set")):
        with pytest.raises(SpikeTicketError, match=message):
            datasets.load(what)
    for what in (3, None, Listed):
        with pytest.raises(SpikeTicketError, match="is no data set; give a Python data set, a"):
            datasets.load(what)
