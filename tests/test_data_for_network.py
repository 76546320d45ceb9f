"""Data that does not go with a ticket: one line with the remedy for this mistake; notes shown."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sim.samples import event_files as write
from sw import errors
from sw.data import datasets
from sw.errors import SpikeTicketError
from sw.integer.network import INPUT, InputSpec, Layer, Network, Synapses

ROOT = Path(__file__).parents[1]


def network(channels=1, height=6, width=8, classes=3, static=True, timesteps=4):
    """A readout alone, which takes images or frames of that shape."""
    weights = np.ones((classes, channels, height, width), np.int8)
    zero = np.zeros(classes, np.int64)
    return Network(InputSpec(channels, height, width, static=static), timesteps, (
        Layer("readout", (Synapses(weights, (INPUT,)),), zero, zero, None),), "mine")


def pack(path, shape=(3, 6, 8), labels=(0, 1, 2)):
    np.savez(path, x_test=np.full((3, *shape), 9, np.uint8), y_test=np.array(labels))
    return str(path)


@pytest.mark.parametrize("shape, takes, remedy", [
    ((3, 6, 8), {}, r"give .*a.npz:channels=1, grey made of colour$"),
    ((1, 6, 8), {"channels": 3}, r"give .*a.npz:channels=3, grey repeated as colour$"),
    ((1, 9, 9), {}, r"give .*a.npz:size=8x6,fit=resize, scaled \(without fit=resize: centred"),
    ((3, 9, 9), {}, r"give .*a.npz:channels=1,size=8x6,fit=resize, grey made of colour, scaled"),
    ((3, 6, 8), {"channels": 2}, "3 channels cannot become 2: choose"),
    ((1, 6, 8), {"static": False, "channels": 2}, "it takes event recordings: choose an event set"),
    ((4, 2, 6, 8), {}, "it takes still images: choose an image set"),
    ((5, 2, 6, 8), {"static": False, "channels": 2}, "5 timesteps: build them with 4")])
def test_the_remedy_is_for_this_mistake(tmp_path, shape, takes, remedy):
    path = pack(tmp_path / "a.npz", shape)
    with pytest.raises(SpikeTicketError, match=remedy) as error:
        datasets.for_network(network(**takes), path)
    if "a.npz:" in remedy:      # and it helps
        given = str(error.value).split("give ")[1].split(", ")[0]
        found = datasets.for_network(network(**takes), given)
        assert found.images.shape[1:] == (takes.get("channels", 1), 6, 8)


def test_the_remedy_keeps_the_options_that_were_given(tmp_path):
    path = pack(tmp_path / "a.npz", (1, 9, 9))
    with pytest.raises(SpikeTicketError) as error:
        datasets.for_network(network(), f"{path}:limit=2,split=test")
    given = str(error.value).split("give ")[1].split(", ")[0]
    assert given == f"{path}:limit=2,split=test,size=8x6,fit=resize"
    assert len(datasets.for_network(network(), given)) == 2


@pytest.mark.parametrize("labels, message", [
    ((0, 1, 3), "for ticket 'mine': label 3 of sample 2 is outside 0..2; they run from 0 to 3"),
    ((5, 6, 7), "outside 0..2; they run from 5 to 7: subtract 5 if they count from there")])
def test_labels_beyond_the_networks_classes(tmp_path, labels, message):
    with pytest.raises(SpikeTicketError, match=message):
        datasets.for_network(network(), pack(tmp_path / "a.npz", (6, 8), labels))
    assert len(datasets.for_network(network(classes=8), pack(tmp_path / "a.npz", (6, 8), labels)))


def test_a_folder_of_pictures_and_objects_for_a_network(tmp_path):
    for name in "abc":
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (16, 12), (60, 60, 60)).save(tmp_path / "test" / name / "0.jpg")
    found = datasets.for_network(network(), f"{tmp_path}:size=8x6,fit=resize,channels=1")
    assert found.images.shape == (3, 1, 6, 8) and (found.images == 60).all() and not found.notes
    pairs = [(one, label) for one, label in zip(found.images, found.labels, strict=True)]
    assert np.array_equal(datasets.for_network(network(), pairs).images, found.images)


def test_commands_show_notes_and_go_on(tmp_path):
    """In a process of its own: on standard error, one line each; standard output stays clean."""
    e = write.sample(60, (34, 34))
    order = np.random.default_rng(0).permutation(60)
    (tmp_path / "test/0").mkdir(parents=True)
    np.savez(tmp_path / "test/0/a.npz", **{key: e[key][order] for key in e})
    code = (f"from sw.errors import command\nfrom sw.data import datasets\nimport logging\n"
            f"def main():\n    logging.basicConfig(level=50)\n"
            f"    found = datasets.load({str(tmp_path)!r}, 'test', sensor=(34, 34))\n"
            f"    print(found.images.sum())\n    return 0\ncommand(main)()\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          check=True)
    assert done.stdout == "60\n"
    assert done.stderr == (f"note: {tmp_path}/test/0/a.npz: its events are not in order of time; "
                           "sorted\n")


def test_notes_are_one_line_of_text(capsys):
    @errors.command
    def main():
        errors.note("a\x1b[2J\nb" + "c" * 5000)
        return 0
    assert main() == 0
    shown = capsys.readouterr().err
    assert shown.startswith("note: a\\x1b[2J bcc") and shown.count("\n") == 1 and len(shown) < 2000


@pytest.mark.parametrize("script", ["train.py csnn", "train.py spikformer"])
def test_the_tutorials_first_command_without_data(tmp_path, script):
    file, *more = script.split()
    code = ("import runpy, sys\nfrom sw.data import idx\nidx.DEBIAN.clear()\n"
            f"sys.argv = {['x', *more]}\n"
            f"runpy.run_path({str(ROOT / 'examples/tutorial' / file)!r}, "
            "run_name='__main__')\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "SPIKETICKET_DATA": str(tmp_path)}, check=False)
    assert done.returncode == 2 and done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: data set fashion-mnist: no train-images-idx3-ubyte(.gz)")
    assert "apt-get install dataset-fashion-mnist" in line and "SPIKETICKET_DATA" in line
