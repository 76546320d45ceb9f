"""The committed reports under bitstreams/: complete, consistent, memories where they belong."""

import hashlib
import json
import re

import pytest

from hw.boards import BOARDS, DEVICES
from hw.build.request import BITSTREAMS
from hw.build.usage import BLOCK, DISTRIBUTED
from hw.config import CoreConfig
from hw.registers import PROTOCOL, manifest_config

REPORTS = sorted(BITSTREAMS.glob("*/report.json"))
NEEDED = {"arty_a7", "ecpix5_85f", "ulx3s_85f", "versa_ecp5"}
"""Boards whose default build must have been reported."""

REQUIRED = ("board", "part", "preset", "toolchain", "build_id", "lut", "lut_available", "ff", "dsp",
            "clock_mhz_target", "clock_mhz", "routed", "timing_met", "bitstream")


def test_default_builds_are_reported():
    assert {path.parent.name for path in REPORTS} >= NEEDED


@pytest.fixture(params=REPORTS, ids=lambda path: path.parent.name)
def report(request):
    return request.param.parent, json.loads(request.param.read_text())


def test_report_is_complete(report):
    folder, values = report
    ram = DEVICES[BOARDS[values["board"]].device].ram
    for key in (*REQUIRED, ram, f"{ram}_available"):
        assert key in values, key
    assert values["part"] == BOARDS[values["board"]].part
    assert values["build_id"] in (folder / "report.txt").read_text()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["build_id"] == values["build_id"]
    if folder.name in of_earlier_core():
        assert manifest["protocol"] == PROTOCOL
        with pytest.raises(ValueError, match="is not this version's"):
            manifest_config(manifest)
    elif folder.name in declared_old():
        assert manifest["protocol"] == declared_old()[folder.name] < PROTOCOL
        assert CoreConfig(**manifest["config"]) == CoreConfig(**values["config"])
        with pytest.raises(ValueError, match=f"speaks {PROTOCOL}"):
            manifest_config(manifest)
    else:
        assert manifest_config(manifest) == CoreConfig(**values["config"])


def of_earlier_core() -> set[str]:
    """Folders that the README says are of today's protocol and an earlier core."""
    text = (BITSTREAMS / "README.md").read_text()
    found = re.search(r"\*\*Of an earlier core\*\*: ([^;]*);", text)
    return set(re.findall(r"`([\w-]+)`", found[1])) if found else set()


def declared_old() -> dict[str, int]:
    """Folders that the README says are of an earlier protocol, and of which."""
    text = (BITSTREAMS / "README.md").read_text()
    found = re.findall(r"\*\*Of protocol (\d+)\*\*: ([^;]*);", text)
    return {name: int(version) for version, names in found
            for name in re.findall(r"`(\w+)`", names)}


def test_no_memory_fell_into_registers(report):
    _, values = report
    assert values["memories"]
    for memory in values["memories"]:
        assert memory["mapped"] in (BLOCK, DISTRIBUTED), memory
        # what is large belongs into block RAM, what is small does not waste one
        assert memory["mapped"] == BLOCK or memory["bits"] <= 16_384, memory
        assert memory["mapped"] == DISTRIBUTED or memory["bits"] >= 1_024, memory


def test_units_add_up(report):
    _, values = report
    ram = DEVICES[BOARDS[values["board"]].device].ram
    for resource in ("lut", "ff", ram, "dsp"):
        assert sum(unit[resource] for unit in values["units"].values()) == values[resource]


def test_what_was_made_is_what_the_report_says(report):
    folder, values = report
    for name, digest in values["files"].items():
        path = folder / name
        if path.exists():                     # large archives are not committed
            assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert values["routed"] == (values["bitstream"] is not None)
    assert not values["timing_met"] or values["clock_mhz"] >= values["clock_mhz_target"]


def test_default_cores_keep_to_their_budget(report):
    folder, values = report
    if folder.name in NEEDED:
        ram = DEVICES[BOARDS[values["board"]].device].ram
        assert values["lut"] <= 0.85 * values["lut_available"]
        assert values[ram] <= 0.9 * values[f"{ram}_available"]
