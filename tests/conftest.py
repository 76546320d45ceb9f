"""Options of pytest, and fixtures that several test modules share."""

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("spiketicket")
    group.addoption("--port", help="serial port of a live board for `-m board`, for example "
                    "/dev/ttyUSB1")
    group.addoption("--board", default="auto", help="that board, as Accelerator.open takes it, "
                    "where no --port is given: a name such as arty_a7 (default: auto)")
    group.addoption("--manifest", help="manifest.json of its build, where it is none that this "
                    "version knows")
    group.addoption("--record", action="store_true", help="record tests/recordings/ anew, from the "
                    "simulated board")


@pytest.fixture(scope="session", autouse=True)
def byte_kernels():
    """Compiled before a test looks at the clock."""
    import numpy as np

    from sw.board import packing, protocol
    protocol.decode_frame(protocol.encode_frame(np.ones(2, np.uint32))[:-1])
    packing.writes(packing.Space.MAP, 0, np.ones(64, np.uint32))


@pytest.fixture(scope="module")
def one_thread():
    """torch on one thread: sums have one order, and test processes do not share cores."""
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tiny_resnet():
    """A model "resnet-tiny" of two blocks, by its name in `sw.nets`."""
    from sw import nets
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nets.NAMES, "resnet-tiny",
                      lambda c: nets.SpikingResNet(c, 4, ((1, 4), (1, 6)), 8))
        yield


@pytest.fixture
def small_board(monkeypatch):
    """The simulated board of the commands is one with the core `tiny`."""
    import sw.cli.sim  # noqa: F401, whose defaults are those of its first import
    from hw.boards import BOARDS, Board
    monkeypatch.setitem(BOARDS, "sim", Board("sim", "a small simulated board", "tiny", "XC7A35T"))


@pytest.fixture
def small_files(tmp_path):
    """(ticket, data, network, images, labels) of a network that this board runs in a moment."""
    from tests import small_runs
    return small_runs.save(tmp_path)


@pytest.fixture(scope="session")
def tiny_library():
    """The build of the simulated board with the core `tiny`."""
    from hw.config import PRESETS
    from sim.board import build
    return build(PRESETS["tiny"], progress=False)


@pytest.fixture
def transport(tiny_library):
    """That board, a new one for every test."""
    from hw.config import PRESETS
    from sim.board import SimTransport
    transport = SimTransport(PRESETS["tiny"], library=tiny_library)
    yield transport
    transport.close()


@pytest.fixture
def served(tiny_library):
    """That board behind a pseudo-terminal, at `served.port`."""
    from tests.terminal import fresh_board
    with fresh_board(tiny_library) as board:
        yield board
