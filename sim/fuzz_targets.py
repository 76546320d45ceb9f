"""Every loader of files that somebody else may have written, with valid files to start from.

A loader must give its result or raise SpikeTicketError with one line of text, whatever the bytes.
"""

from __future__ import annotations

import gzip
import json
import pickle
import random
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save as pack_safetensors

from hw import registers
from hw.config import PRESETS, CoreConfig
from sim.samples import event_files as writers
from sim.samples.networks import random_network
from sw import live_inputs, replay, ticket
from sw.board import identities
from sw.board.batches import Framing, Wanted
from sw.compile import image_file
from sw.compile.compiler import compile_network
from sw.data import cifar, datasets, event_files, events, idx, pictures
from sw.data.notes import Notes
from sw.errors import SpikeTicketError
from sw.integer import gate
from sw.sweeps import plan as sweep_plan
from sw.tickets import checkpoint
from sw.tickets import config as run_config

from .fuzz_mutations import (
    METHODS,
    Mutation,
    Npz,
    Safetensors,
    any_bytes,
    gzipped,
    json_text,
    npy,
    tree,
    yaml_text,
)
from .fuzz_seeds import (
    EVENTS,
    SWEEP,
    YAML_HOSTILE,
    Payload,
    aedat4_bombs,
    aedat4_files,
    dat_files,
    event_npz,
    event_pack,
    hdf5_files,
    hostile_cifar,
    hostile_npy,
    hostile_npz,
    hostile_pictures,
    idx_file,
    jpeg_pack,
    many_claimed,
    npy_file,
    npz_file,
    picture_files,
    recordings,
)

MiB = 1 << 20


@dataclass(frozen=True)
class Target:
    """suffix: of the file. seeds: valid files. read: the loader. mutate: changes a seed.
    hostile: files by hand, each an attack. memory: bytes it may hold at its peak."""

    suffix: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    mutate: Mutation = any_bytes
    hostile: Callable[[], list[bytes]] = list
    memory: int = 32 * MiB


# tickets and what is made from them

def _networks() -> list:
    rng = np.random.default_rng(11)
    return [random_network(rng) for _ in range(6)]


def _ticket_seeds() -> list[bytes]:
    return [ticket.to_bytes(network, {"data": "mnist", "seed": 1}) for network in _networks()]


def _checkpoint_seeds() -> list[bytes]:
    tensors = {"model.0.weight": np.ones((2, 3), np.float32), "mask.0": np.ones(4, np.bool_)}
    return [pack_safetensors(tensors, {"format": checkpoint.FORMAT, "stage": "dense",
                                       "history": "[]", "search": '{"config": "seed: 0"}'})]


def _sign_ticket(meta: dict, packed: bytes) -> dict:
    try:
        meta = {**meta, "sha256": ticket._digest(meta, ticket._decode(packed))}
    except Exception:
        pass  # no safetensors file any more: nothing to sign
    return meta


def _compiled(path: Path) -> None:
    compile_network(ticket.load(path).network, PRESETS["tiny"])


def _images() -> list[bytes]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npz"
        for network in _networks():
            try:
                image_file.save(compile_network(network, PRESETS["tiny"]), path)
            except SpikeTicketError:
                continue  # does not fit
            found.append(path.read_bytes())
    return found


def _image_member(rng: random.Random, data: bytes) -> bytes:
    """A member of an image: the JSON of `meta`, or an array."""
    head = data.index(b"\n") + 1 if b"\n" in data else 0
    if data[head:head + 1] == b"{":
        text = json.dumps(tree(rng, json.loads(data[head:]))).encode()
        return npy_file(np.frombuffer(text, np.uint8))
    return npy(rng, data)


def _use_image(path: Path) -> None:
    from sw.board.jobs import cycle_limit, input_jobs, load_job
    image = image_file.load(path)
    load_job(image)
    cycle_limit(image)
    shape = image.input_shape if image.static else (image.timesteps, *image.input_shape)
    list(input_jobs(image, np.zeros((1, *shape), np.uint8), None))


def _manifest(rng: random.Random, data: bytes) -> bytes:
    """A manifest whose identity is right again."""
    data = json_text(rng, data)
    try:
        values = json.loads(data)
        values["id"] = f"{registers.identity(CoreConfig(**values['config'])):016x}"
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return data
    return json.dumps(values).encode()


# NumPy files and packs


def _arrays(path: Path) -> None:
    """An .npy as live mode takes it, for images and for events; good for one of them."""
    errors = []
    for wanted in (Wanted("w", 3, (1, 4, 5), 8, True), Wanted("w", 3, (2, 4, 5), 4, False)):
        try:
            for _ in live_inputs.Source(str(path), wanted, Framing(sensor=(5, 4)), notes=Notes()):
                pass
        except SpikeTicketError as error:
            errors.append(error)
    if len(errors) == 2:
        raise errors[0]


def _load_pack(path: Path) -> None:
    datasets.load(str(path), "test", size=(20, 20), fit="resize", timesteps=3)


def _masks(path: Path) -> None:
    gate.check_masks({"gate": gate.Gate("gate", "host", 2, (2, 2))}, gate.read_masks(path), 3)


# events and pictures


def _picture(path: Path) -> None:
    pictures.read_picture(path, Notes())


def _events(path: Path) -> None:
    found = event_files.read(path, None if path.suffix in (".aedat", ".aedat4") else (34, 34),
                             "txyp", 2.0)
    for by in ("number", "time"):
        events.frames(found, 3, by)


IDX_CLAIM = b"\0\0\x08\x04" + struct.pack(">4I", 1, 1 << 10, 1 << 10, 1 << 10)
"""The head of an IDX file that claims 1 GiB."""


# live inputs and recordings


def _frames(path: Path) -> None:
    with path.open("rb") as stream:
        for _ in live_inputs.frames(stream, (1, 2, 3), "stdin"):
            pass


def _json_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(min(4, len(lines)))
    lines[at] = json_text(rng, lines[at])
    return b"\n".join(lines)


# settings


def _config(path: Path) -> None:
    run_config.from_dict(run_config.read(path), str(path)).rounds()


TARGETS: dict[str, Target] = {
    "ticket": Target(".safetensors", _ticket_seeds, ticket.load, Safetensors(_sign_ticket)),
    "ticket-compiled": Target(".safetensors", _ticket_seeds, _compiled,
                              Safetensors(_sign_ticket), memory=96 * MiB),
    "image": Target(".npz", _images, _use_image, Npz(_image_member),
                    hostile_npz("format", "meta")),
    "manifest": Target(".json", lambda: [json.dumps(registers.manifest(PRESETS[name])).encode()
                                         for name in ("tiny", "a35tf")],
                       identities.read_manifest, _manifest,
                       lambda: [b"[" * 100_000, b"1" * 5000, b"\xff", b"{}"]),
    "checkpoint": Target(".safetensors", _checkpoint_seeds, checkpoint.load, Safetensors(),
                         lambda: [pickle.dumps(Payload())]),
    "masks": Target(".npy", lambda: [npy_file(np.tile([True, False], (3, 2)))], _masks, npy,
                    hostile_npy),
    "events-bin": Target(".bin", lambda: [writers.atis_bin(EVENTS)], _events),
    "events-aedat2": Target(".aedat", lambda: [writers.aedat2(EVENTS),
                                               writers.aedat2(EVENTS, "DAVIS240C")], _events),
    "events-aedat3": Target(".aedat", lambda: [writers.aedat3(EVENTS).replace(
        b"#!END", b"#Source 1: DVS128\r\n#!END")], _events),
    "events-aedat4": Target(".aedat4", aedat4_files, _events, hostile=aedat4_bombs,
                            memory=200 * MiB),
    "events-dat": Target(".dat", dat_files, _events),
    "events-h5": Target(".h5", hdf5_files, _events),
    "events-npy": Target(".npy", lambda: [npy_file(writers.structured(EVENTS)), npy_file(np.stack(
        [EVENTS[key] for key in "txyp"], 1))], _events, npy, hostile_npy),
    "events-npz": Target(".npz", lambda: [event_npz()], _events, Npz(),
                         hostile_npz("x", "y", "t", "p")),
    "pack-events": Target(".npz", lambda: [event_pack()], _load_pack, Npz(),
                          hostile_npz("x", "y", "p", "dt", "off", "label", "sensor")),
    "pack-images": Target(".npz", lambda: [npz_file(
        x_test=np.zeros((3, 4, 5), np.uint8), y_test=np.arange(3),
        class_names=np.array(list("abc")))], _load_pack, Npz(), hostile_npz("x_test", "y_test")),
    "pack-jpeg": Target(".npz", lambda: [jpeg_pack([(9, 7)] * 3)], _load_pack, Npz(),
                        lambda: [*hostile_npz("test_jpeg", "test_off", "test_y")(),
                                 *many_claimed()]),
    "pack-arrays": Target(".npz", lambda: [
        npz_file(method, X_test=np.arange(24).reshape(2, 3, 4) / kind,
                 y_test=np.array([[1.0], [0.0]]))
        for method in METHODS for kind in (1, 24)], _load_pack, Npz(),
        hostile_npz("X_test", "y_test")),
    "array-npy": Target(".npy", lambda: [npy_file(np.zeros((2, 5, 6, 1), np.float32)), npy_file(
        np.zeros((4, 5), np.uint16)), npy_file(np.ones((3, 2, 4, 5))), npy_file(writers.structured(
            {**EVENTS, "x": EVENTS["x"] % 5, "y": EVENTS["y"] % 4}))], _arrays, npy, hostile_npy),
    "idx": Target(".idx", lambda: [idx_file((2, 4, 5)), idx_file((5,))], idx.read_idx,
                  hostile=lambda: [idx_file((1,))[:4] + struct.pack(">I", 1 << 20), IDX_CLAIM]),
    "idx-gz": Target(".gz", lambda: [gzip.compress(idx_file((2, 4, 5)), mtime=0)],
                     idx.read_idx, gzipped, lambda: [gzip.compress(IDX_CLAIM, mtime=0)]),
    "cifar-python": Target("", lambda: [writers.python2_batch(np.zeros((2, 3072)), [3, 1])],
                           cifar.read_python_batch, hostile=hostile_cifar),
    "cifar-binary": Target(".bin", lambda: [bytes(2 * 3073)], cifar.read_binary_batch),
    "picture": Target(".png", picture_files, _picture, hostile=hostile_pictures),
    "frames": Target(".npy", lambda: [npy_file(np.zeros((2, 1, 2, 3), np.uint8)) + bytes(12)],
                     _frames, npy, hostile_npy),
    "recording": Target(".jsonl", recordings, replay.read_recording, _json_lines),
    "settings": Target(".yaml", lambda: [run_config.RunConfig().to_yaml().encode()], _config,
                       yaml_text, lambda: [text.encode() for text in YAML_HOSTILE]),
    "sweep": Target(".yaml", lambda: [SWEEP], sweep_plan.read_plan, yaml_text,
                    lambda: [text.encode() for text in YAML_HOSTILE]),
}
