"""What several test modules ask for by `pytestmark = pytest.mark.usefixtures(...)`."""

import pytest


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
