"""Any ticket of any method onto the core, proven: compile it, and compare every spike on the way.

A ticket is the integer network that a search (`sw.tickets`) ends with. On samples of its data set,

1. the integer SpikingJelly network (what its accuracy was measured by),
2. the reference (`sw.integer.reference`: integer arithmetic in NumPy), and
3. the core's machine model (`sw.core.machine`, which the RTL is held to), running the compiled
   image,

must give the same spikes in every map of every timestep, and the same logits. Then the image is
written: everything that a driver sends to a board.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hw.boards import BOARDS, DEFAULT_BOARD
from hw.config import PRESETS

from . import bundled, ticket
from .compile import image_file
from .compile.compiler import compile_network
from .compile.image import Image
from .core import cores, machine
from .data import datasets
from .errors import BadInput, did_you_mean
from .integer import reference
from .integer.gate import check_masks
from .integer.network import INPUT, Network


def find(path: str | Path) -> Path:
    """The ticket file of a search's folder; a ticket's path or a bundled name is looked up.

    Raises SpikeTicketError where there is none, for a folder with the reason that the search gave.
    """
    folder = Path(path)
    if not folder.is_dir():
        return bundled.find(str(path))
    if (folder / "ticket.safetensors").is_file():
        return folder / "ticket.safetensors"
    reason = "the search is not finished; run it again to go on"
    try:
        reason = str(json.loads((folder / "result.json").read_text())["not_exported"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise BadInput(f"{folder}: holds no ticket.safetensors ({reason})")


def export(path: str | Path, out: str | Path | None = None, *, board: str = DEFAULT_BOARD,
           preset: str | None = None, data: str | None = None, data_root: str | None = None,
           samples: int = 2, keep_all: bool = False) -> dict:
    """Compile a ticket for a board's core, prove it exact, write its image.

    path: see `find`. out: the image's file (None: image.npz beside a search's ticket, else none is
    written). preset: of the core; None: the board's first that has the units. data: samples to
    compare on (None: the ticket's; "noise": random ones). keep_all: of `compile_network`.
    Returns what was compiled and compared, JSON-serialisable. Raises SpikeTicketError for a ticket
    that does not fit or is not exact.
    """
    if board not in BOARDS:
        raise BadInput(f"board {board!r} is unknown; {did_you_mean(board, sorted(BOARDS))}")
    if preset is not None and preset not in PRESETS:
        raise BadInput(f"preset {preset!r} is unknown; {did_you_mean(preset, PRESETS)}")
    if samples < 1:
        raise BadInput(f"samples {samples} are below 1")
    file = find(path)
    found = ticket.load(file)
    network = found.network
    name, config = cores.choose(BOARDS[board], network, preset)
    inputs, source = samples_for(network, data or str(found.metadata.get("data") or "noise"),
                                 data_root, samples)
    masks = tokens_for(network, file.parent / "tokens.npy", samples)
    image = compile_network(network, config, keep_all=keep_all)
    compared = compare(network, image, inputs, masks)
    target = Path(out) if out else (file.with_name("image.npz") if Path(path).is_dir() else None)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        image_file.save(image, target)
    return {"ticket": str(file), "method": found.metadata.get("method"), "board": board,
            "preset": name, "image": str(target) if target else None, "data": source,
            "samples": samples, "sparsity": network.sparsity,
            "weights_surviving": network.weights_surviving, **compared,
            "memories": [{"name": m.name, "used": m.used, "available": m.available}
                         for m in image.memories]}


def samples_for(network: Network, data: str, root: str | None,
                count: int) -> tuple[np.ndarray, str]:
    """Input samples of a network, uint8 [count, ...], and what they are. "noise": sparse random
    ones, from a fixed seed."""
    spec = network.input
    if data != "noise":
        found = datasets.for_network(network, data, "test", root, count)
        return found.images, f"the first {count} test samples of {data}"
    rng = np.random.default_rng(0)
    lead = (count,) if spec.static else (count, network.timesteps)
    shape = (*lead, spec.channels, spec.height, spec.width)
    values = rng.integers(0, 1 << spec.bits, shape) * (rng.random(shape) < 0.3)
    return values.astype(np.uint8), "noise"


def tokens_for(network: Network, path: Path, count: int) -> np.ndarray | None:
    """Masks of the kept tokens, bool [count, N], where the host chooses them: those that the search
    wrote, else drawn from a fixed seed. None for every other gate."""
    gate = next((gate for gate in network.gates.values() if gate.mode == "host"), None)
    if gate is None:
        return None
    if path.is_file():
        try:
            masks = np.load(path, allow_pickle=False)[:count]
        except (OSError, ValueError, IndexError) as error:
            raise BadInput(f"{path}: not the masks of a search ({error}); remove it to "
                           "compare on random ones") from error
    else:
        order = np.random.default_rng(0).random((count, gate.tokens)).argsort(1)
        masks = order < gate.keep
    return check_masks(network.gates, masks, count)


def compare(network: Network, image: Image, inputs: np.ndarray,
            masks: np.ndarray | None = None) -> dict:
    """Run the samples all three ways. Returns {"maps", "compared", "spikes"}: maps of the network,
    their values that were held against each other on the core (it stores no rows and columns that
    nothing reads), and how many of those are spikes. Raises SpikeTicketError naming the first map
    that differs."""
    import torch

    from .integer.spikingjelly import IntegerNetwork
    expected = reference.run(network, inputs, masks=masks)
    spikes: dict[str, torch.Tensor] = {}
    x = torch.from_numpy(inputs.astype(np.int64))
    logits = IntegerNetwork(network)(
        x if network.input.static else x.transpose(0, 1), spikes,
        None if masks is None else torch.from_numpy(masks)).numpy()
    for name, values in spikes.items():
        want = expected.spikes.get(name)
        if want is not None:
            _equal(name, values.numpy().reshape(want.shape), want, "the SpikingJelly network")
    _equal("logits", logits, expected.logits, "the SpikingJelly network")
    compared, fired, seen = 0, 0, set()
    for n, sample in enumerate(inputs):
        ran = machine.run(image, sample, mask=None if masks is None else masks[n])
        for name, values in ran.maps.items():
            if name not in expected.spikes or name == INPUT:
                continue
            height, width = values.shape[2:]
            _equal(name, values, expected.spikes[name][:, n, :, :height, :width], "the core")
            compared, fired = compared + values.size, fired + int(values.sum())
            seen.add(name)
        _equal("logits", machine.logits(image, ran), expected.logits[n], "the core")
    return {"maps": len(seen), "compared": compared, "spikes": fired}


def _equal(name: str, found: np.ndarray, want: np.ndarray, where: str) -> None:
    wrong = int((found != want).sum())
    if wrong:
        raise BadInput(f"{name}: {wrong} of {want.size} values on {where} differ from the "
                       "reference; please report this ticket")


def show(result: dict) -> None:
    """Print what `export` returned."""
    for key, value in result.items():
        if key != "memories":
            print(f"{key:18} {value}")
    for memory in result["memories"]:
        print(f"{memory['name']:18} {memory['used']:,} of {memory['available']:,}")
