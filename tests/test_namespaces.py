"""Boards found by broadcast on networks that are made here: `tests.namespaces`."""

import json
import shutil
import subprocess
import sys

import pytest

COMMANDS = (["unshare", "-n"], ["unshare", "-rn"])
"""Ways into a network namespace: as root, and as anybody."""


@pytest.fixture(scope="module")
def found(tiny_library):
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("no unshare or ip on this computer")
    pair = ["ip", "link", "add", "name", "h1", "type", "veth", "peer", "name", "cable"]
    ways = [way for way in COMMANDS
            if not subprocess.run([*way, *pair], capture_output=True, check=False).returncode]
    if not ways:
        pytest.skip("network namespaces cannot be made here")
    done = subprocess.run([*ways[0], sys.executable, "-m", "tests.namespaces", tiny_library],
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _answers(found: list[dict]) -> dict[str, dict]:
    """By where the board is."""
    return {one["port"]["device"]: one for one in found}


def test_boards_of_all_networks_are_found(found):
    """Also where an interface has a second address, and none has a broadcast address set."""
    assert set(_answers(found["free"])) == {"udp://10.7.1.50", "udp://10.7.2.50"}
    assert set(_answers(found["one network"])) == {"udp://10.7.1.50"}


def test_who_holds_a_board_is_said(found):
    answers = _answers(found["held"])
    assert answers["udp://10.7.2.50"]["holder"].startswith("10.7.2.1:")
    assert answers["udp://10.7.1.50"]["holder"] == "the serial line"


def test_a_cable_that_is_pulled(found):
    """One line that says what to check; the boards that are left are found; when it is back, the
    next call works."""
    assert "\n" not in found["pulled"] and "check the cable" in found["pulled"]
    assert set(_answers(found["without it"])) == {"udp://10.7.1.50"}
    assert found["right"]
