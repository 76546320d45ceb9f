"""The build command: requests, messages, plans, and whole flows with stand-in programs."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from dataclasses import replace

import pytest

from hw import registers
from hw.boards import BOARDS, DEVICES
from hw.build import artix, build, clocks, ecp5, fit, listing, litedram, report, tools, yosys
from hw.build.design import LITEDRAM
from hw.build.request import BITSTREAMS, request
from hw.config import PRESETS
from hw.ddr3_control import MODES, READ_PHASE, WRITE_PHASE, Control
from sw.cli.app import main
from sw.compile import tokens
from sw.errors import SpikeTicketError

from . import build_tools

BUILDABLE = [name for name, board in BOARDS.items() if board.part]
REQUIRED = {"board", "part", "preset", "toolchain", "build_id", "lut", "lut_available", "ff",
            "dsp", "clock_mhz_target", "clock_mhz", "routed", "timing_met", "bitstream"}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder first on PATH for stand-ins, and a work folder of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(tools, "_beside", lambda name: None)
    monkeypatch.setattr(build, "WORK", tmp_path / "work")
    for name in ("CHIPDB", "CHIPDB_DIR", "DB_DIR", "PRJXRAY_DB_DIR"):
        monkeypatch.delenv(name, raising=False)
    build_tools.install(folder, "yosys", build_tools.YOSYS, "0.70")
    return folder


def _run(capsys, *arguments):
    code = main(["build", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def _open_tools(programs):
    for name, body in {"nextpnr-xilinx": build_tools.NEXTPNR_XILINX,
                       "fasm2frames": build_tools.FASM2FRAMES,
                       "xc7frames2bit": build_tools.XC7FRAMES2BIT}.items():
        build_tools.install(programs, name, body)


def _arty(tmp_path, *more):
    return ["--board", "arty_a7", "--preset", "micro", "--json", "--output", tmp_path / "out",
            *more]


def _ulx3s(tmp_path, *more):
    return ["--board", "ulx3s_85f", "--preset", "micro", "--json", "--output", tmp_path / "out",
            *more]


# Requests

@pytest.mark.parametrize("arguments, message", [
    ([], "--board is missing; --list"),
    (["--board", "arty_a6"], r"--board 'arty_a6' is unknown; did you mean arty_a7"),
    (["--board", "sim"], r"--board 'sim' is unknown"),
    (["--board", "zzz"], r"choose from arty_a7, "),
    (["--board", "arty_a7", "--preset", "a53t"], r"--preset 'a53t' is unknown; did you mean a35t"),
    (["--board", "arty_a7", "--set", "engine=3"], r"--set engine: .* did you mean engines"),
    (["--board", "arty_a7", "--set", "engines=x"], r"--set engines=x: write NAME=N"),
    (["--board", "arty_a7", "--set", "attention=no"], r"attention=no: .* or true or false"),
    (["--board", "arty_a7", "--set", "attention=1"], r"attention is 1, not of the right type"),
    (["--board", "arty_a7", "--set", "engines=true"], r"engines is True, not of the right type"),
    (["--board", "arty_a7", "--set", "units=3"], r"--set: units must be a power of two, not 3"),
    (["--board", "arty_a7", "--toolchain", "vivid"], r"'vivid' is unknown; did you mean vivado"),
    (["--board", "ulx3s_85f", "--toolchain", "vivado"], r"does not build for this board's FPGA"),
    (["--board", "arty_a7", "--baud", "13000000"], r"--baud 13000000 is outside 9600..12000000"),
    (["--board", "ulx3s_85f", "--baud", "4000000"], r"outside 9600..3000000, what ulx3s_85f"),
    (["--board", "ulx3s_85f", "--ethernet"], r"ulx3s_85f has no Ethernet PHY.*: arty.*, versa"),
    (["--board", "ecpix5_85f", "--preset", "a35td"], r"not for ecpix5_85f, .* not DDR3 with a con"),
    (["--board", "arty_a7", "--preset", "e45d"], r"not for arty_a7, which has not an SDR SDRAM"),
    (["--board", "arty_a7", "--preset", "tinyd"], r"memory of the kind that is simulated"),
    (["--board", "arty_a7", "--preset", "a35td", "--clock", "80"], r"--clock 80: .* for 100 MHz"),
    (["--board", "arty_a7", "--ethernet", "--clock", "40"], r"--clock 40 is too slow .* 50 MHz"),
    (["--board", "arty_a7", "--seed", "1", "--seeds", "2"], "exclude each other"),
    (["--board", "arty_a7", "--seeds", "0"], r"--seeds 0 is outside 1..100"),
    (["--board", "arty_a7", "--seed", "0"], r"--seed 0 is below 1"),
    (["--board", "arty_a7", "--set", "engines=9"],
     r"does not fit: LUT short by [\d,]+ \([\d,]+ of 20,800\)"),
    (["--board", "versa_ecp5", "--set", "engines=4", "--set", "lanes=2"], r"DSP short by \d+"),
    (["--board", "ulx3s_85f", "--clock", "2", "--preset", "micro"], r"makes no 2 MHz from 25 MHz"),
])
def test_bad_input(capsys, programs, arguments, message):
    for name in ("nextpnr-ecp5", "ecppack"):
        build_tools.install(programs, name, "")
    code, out, err = _run(capsys, *arguments)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1
    assert re.search(message, err)


@pytest.mark.parametrize("name", ["nextpnr-ecp5", "ecppack", "yosys"])
def test_missing_program(capsys, programs, tmp_path, name):
    for other in {"nextpnr-ecp5", "ecppack"} - {name}:
        build_tools.install(programs, other, "")
    if name == "yosys":
        (programs / "yosys").unlink()
    code, _, err = _run(capsys, *_ulx3s(tmp_path))
    assert code == 2
    assert re.search(rf"{name}.* not found on PATH; get it: pip install .*build", err)


@pytest.mark.parametrize("toolchain, message", [
    ("vivado", "vivado not found on PATH; get it: AMD Vivado"),
    ("open", "nextpnr-xilinx not found on PATH; get it:")])
def test_missing_toolchain_asked_for_by_name(capsys, programs, tmp_path, toolchain, message):
    code, _, err = _run(capsys, *_arty(tmp_path, "--toolchain", toolchain))
    assert code == 2 and message in err


def test_old_yosys_is_passed_over(programs):
    build_tools.install(programs, "yosys", "", "0.23")
    with pytest.raises(SpikeTicketError, match=r"yosys 0\.40 or newer not found"):
        tools.need("yosys")


def test_variable_that_names_no_program(programs, monkeypatch):
    monkeypatch.setenv("NEXTPNR_ECP5", "/nowhere/nextpnr")
    with pytest.raises(SpikeTicketError, match="NEXTPNR_ECP5=/nowhere/nextpnr is no program"):
        tools.find("nextpnr-ecp5")


def test_failing_program_gives_its_own_error(programs, tmp_path):
    path = build_tools.install(programs, "yosys", "print('x. ERROR: no such pass')\nsys.exit(1)")
    with pytest.raises(SpikeTicketError, match=r"yosys failed with exit code 1: ERROR: no such "
                                               r"pass \(log: .*run.log\)"):
        tools.run(tools.Tool("yosys", str(path), ""), ["-s", "x"], tmp_path, "run.log")


@pytest.mark.parametrize("code", [0, 1])
def test_yosys_that_dies_silently(programs, tmp_path, code):
    """As its WebAssembly build does in abc when a design is too large for it."""
    build_tools.install(programs, "yosys", f"print('7. Executing ABC9.')\nsys.exit({code})", "0.70")
    with pytest.raises(SpikeTicketError, match=r"Yosys died in pass ABC9; .*\(log: "):
        yosys.synthesise("module \\top\nend\n", "xc7", "top", tmp_path)


def test_ecp5_falls_back_to_classic_abc(programs, tmp_path):
    build_tools.install(programs, "yosys", """
import json, pathlib
print("7. Executing ABC9.")
if "abc -lut" in pathlib.Path("design.ys").read_text():
    found = {"modules": {"\\\\top": {"num_cells_by_type": {"LUT4": 3}}}}
    pathlib.Path("design.stat.json").write_text(json.dumps(found))
    pathlib.Path("design.json").write_text("{}")
""", "0.70")
    found = yosys.synthesise("module \\top\nend\n", "ecp5", "top", tmp_path)
    assert found.cells == {"LUT4": 3}
    assert "abc -lut" in (tmp_path / "design.ys").read_text()


def test_boards_are_consistent():
    for name in BUILDABLE:
        board = BOARDS[name]
        assert board.preset in PRESETS and board.device in DEVICES
        assert request(name).output == BITSTREAMS / name
        assert request(name).config == board.config
    other = request("arty_a7", preset="tiny", changes={"engines": 1})
    assert other.output.name.startswith("arty_a7-tiny-") and other.preset == "tiny*"


# Plans

@pytest.mark.parametrize("board", BUILDABLE)
def test_plan_of_every_board(capsys, board):
    code, out, _ = _run(capsys, "--board", board, "--plan-only", "--json")
    values = json.loads(out)
    assert code == 0 and values["fits"]
    assert values["clock_mhz_target"] == BOARDS[board].clock_hz / 1e6
    pins = set(values["pins"].values())
    assert len(pins) == len(values["pins"]) and all(re.fullmatch(r"[A-Z]+\d+", p) for p in pins)
    assert any("uart" in port and "tx" in port for port in values["pins"])
    assert values["estimate"]["lut"]["used"] < 0.9 * values["estimate"]["lut"]["available"]
    tickets = {row["ticket"].removesuffix(".safetensors"): row for row in values["tickets"]}
    assert tickets["fmnist-scnn"]["fits"]
    for name in ("fmnist-spikeformer", "nmnist-spikeformer"):
        assert "this core has no patch gate" in tickets[name]["reason"]
    text = report.plan_text(values)
    assert "plan only, nothing was built" in text and "frames/s" in text


@pytest.mark.parametrize("preset", ["a35t", "a35tf"])
def test_a_plan_whose_clock_is_above_what_was_built(capsys, monkeypatch, preset):
    """It fits, and does not meet its clock: two answers, and the exit code has both."""
    monkeypatch.setattr(report.networks, "forecasts", lambda config: [])
    arguments = ["--board", "arty_a7", "--preset", preset, "--plan-only", "--clock"]
    code, out, _ = _run(capsys, *arguments, 200)
    assert code == 1 and "area        fits" in out
    assert re.search(r"clock       200 MHz, NOT met: .* at \d+\.\d MHz on this part; choose "
                     r"--clock \d+ or less", out)
    code, out, _ = _run(capsys, *arguments, 200, "--json")
    values = json.loads(out)
    assert code == 1 and values["fits"] and values["clock_met"] is False
    below = values["clock_known"]["mhz"] - 0.5
    code, out, _ = _run(capsys, *arguments, 50 * (below // 50), "--json")
    assert code == 0 and json.loads(out)["clock_met"] in (True, None)


def test_clocks_of_cores_built_before(tmp_path):
    """The same core's, else the slowest of cores that are no larger; nothing of other parts."""
    def built(name, preset, mhz, part=BOARDS["arty_a7"].part, **changes):
        (tmp_path / name).mkdir()
        config = replace(PRESETS[preset], **changes).as_dict()
        (tmp_path / name / "report.json").write_text(json.dumps(
            {"part": part, "config": config, "clock_mhz": mhz, "routed": True, "preset": preset}))
    wanted = request("arty_a7", preset="a35t", clock_mhz=100)
    assert clocks.expected(wanted, tmp_path) is None and clocks.met(100, None) is None
    built("other", "a35t", 50, part="LFE5U-45F")
    built("larger", "a35tf", 60)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text("[]")
    assert clocks.expected(wanted, tmp_path) is None
    built("two", "a35t", 90, engines=2, lanes=1, drain_engines=1)
    built("three", "a35t", 140, engines=3)
    known = clocks.expected(wanted, tmp_path)
    assert known["mhz"] == 90 and not known["same"]
    assert clocks.met(100, known) is False and clocks.met(80, known) is None
    assert "not known" in clocks.verdict(80, known) and "NOT met" in clocks.verdict(100, known)
    built("same", "a35t", 116)
    known = clocks.expected(wanted, tmp_path)
    assert known == {"mhz": 116, "routed": True, "preset": "a35t", "same": True}
    assert clocks.met(116, known) is True and clocks.met(117, known) is False


def test_plan_of_what_does_not_fit(capsys):
    code, out, _ = _run(capsys, "--board", "arty_a7", "--plan-only", "--set", "engines=8")
    assert code == 1 and "does not fit: LUT short by" in out


def test_list(capsys):
    code, out, _ = _run(capsys, "--list")
    assert code == 0
    assert all(name in out for name in (*BUILDABLE, *PRESETS))
    found = json.loads(_run(capsys, "--list", "--json")[1])
    assert set(found["boards"]) == set(BUILDABLE)
    cores = out.split("presets\n")[1].replace("\n" + " " * 15, " ").splitlines()
    assert len(cores) == len(PRESETS)
    for line in cores:
        name, rest = line.split(maxsplit=1)
        assert ("with attention and patch gate" in rest) == PRESETS[name].attention
        assert ("fits no board" in rest) == (
            not any(name in board["presets"] for board in found["boards"].values()))
    differ = [line.split(maxsplit=1)[1] for line in cores]
    assert len(set(differ)) == len(differ)


def test_tickets_are_pointed_to_cores_that_a_board_holds():
    """A board's own cores fit its FPGA, and no other is named for attention or a patch gate."""
    found = listing.listing()["boards"]
    for name, board in found.items():
        assert set(BOARDS[name].presets) <= set(board["presets"])
    for feature in ("gate", "attention"):
        text = tokens._presets(feature)
        named = {name: boards.split(", ")
                 for name, boards in re.findall(r"(\w+) \(([^)]*)\)", text)}
        assert named and "large" not in named
        for name, boards in named.items():
            assert getattr(PRESETS[name], feature)
            assert all(name in found[board]["presets"] for board in boards if board != "sim")


def test_help_has_examples():
    done = subprocess.run([sys.executable, "-m", "hw.build", "--help"], capture_output=True,
                          text=True, check=True)
    assert "spiketicket build --board" in done.stdout and "Exit code 0" in done.stdout


# Flows

def test_open_flow_keeps_the_best_seed(capsys, programs, tmp_path, monkeypatch):
    _open_tools(programs)
    for name, value in build_tools.databases(tmp_path).items():
        monkeypatch.setenv(name, value)
    code, out, _ = _run(capsys, *_arty(tmp_path, "--seeds", "3"))
    values = json.loads(out)
    assert code == 0 and set(values) >= REQUIRED | {"bram36", "bram36_available"}
    assert values["toolchain"] == "open" and values["routed"] and values["timing_met"]
    assert values["clock_mhz"] == 104.25 and values["seed"] == 2
    assert values["seeds"] == {"1": 96.5, "2": 104.25, "3": 99.0}
    assert (tmp_path / "out" / "spiketicket.bit").read_text() == "bits of frames of seed 2\n"
    path = [(s["unit"], s["levels"]) for s in values["critical_path"]]
    assert path == [("engine.unit", 1)]
    # the same again is found, not repeated
    (programs / "nextpnr-xilinx").write_text("#!/bin/sh\nif [ $1 = --version ]; then echo "
                                             "nextpnr-xilinx 1.0; else exit 9; fi\n")
    code, out, _ = _run(capsys, *_arty(tmp_path, "--seeds", "3"))
    assert code == 0 and json.loads(out)["found"]
    (tmp_path / "out" / "spiketicket.bit").write_text("damaged")
    code, _, err = _run(capsys, *_arty(tmp_path, "--seeds", "3"))
    assert code == 2 and "nextpnr-xilinx failed with exit code 9" in err


def test_open_flow_that_misses_its_clock(capsys, programs, tmp_path, monkeypatch):
    _open_tools(programs)
    for name, value in build_tools.databases(tmp_path).items():
        monkeypatch.setenv(name, value)
    code, out, _ = _run(capsys, *_arty(tmp_path, "--seed", "1"))
    assert code == build.SLOW and not json.loads(out)["timing_met"]
    assert "timing MISSED: 96.5 of 100 MHz" in (tmp_path / "out" / "report.txt").read_text()


def test_databases_are_looked_for(tmp_path):
    part = "xc7a35ticsg324-1L"
    with pytest.raises(SpikeTicketError, match="set CHIPDB_DIR"):
        artix.databases(part, {"CHIPDB_DIR": str(tmp_path / "none")})
    found = build_tools.databases(tmp_path)
    chipdb, database = artix.databases(part, found)
    assert chipdb.name == "xc7a35t.bin" and database.name == "artix7"
    assert artix.databases(part, found | {"CHIPDB": str(chipdb)})[0] == chipdb
    with pytest.raises(SpikeTicketError, match="set PRJXRAY_DB_DIR"):
        artix.databases(part, found | {"PRJXRAY_DB_DIR": "/nowhere"})
    chipdb.unlink()
    with pytest.raises(SpikeTicketError, match=r"no xc7a35tcsg324-1\.bin, .* in .*; set CHIPDB"):
        artix.databases(part, found)


@pytest.mark.parametrize("slack, code", [("0.125", build.OK), ("-0.5", build.SLOW)])
def test_vivado_flow(capsys, programs, tmp_path, slack, code):
    build_tools.install(programs, "vivado", build_tools.VIVADO.replace("SLACK", slack))
    got, out, _ = _run(capsys, *_arty(tmp_path))
    values = json.loads(out)
    assert got == code and values["toolchain"] == "vivado"
    assert values["clock_mhz"] == round(1e3 / (10 - float(slack)), 2)
    assert values["lut"] == 15_000 and values["bram36"] == 42.5 and values["counts"] == "placed"
    assert values["tools"]["vivado"].startswith("vivado v2024.2")
    assert values["critical_path"][0]["unit"] == "arbiter"
    assert sum(row["lut"] for row in values["units"].values()) == 15_000


def test_archive_where_nothing_can_route(capsys, programs, tmp_path):
    code, out, _ = _run(capsys, *_arty(tmp_path))
    values = json.loads(out)
    assert code == build.NO_BITSTREAM
    assert values["bitstream"] is None and not values["routed"] and not values["timing_met"]
    text = (tmp_path / "out" / "report.txt").read_text()
    assert "NO bitstream was made (not found on PATH: vivado, nextpnr-xilinx" in text
    assert "estimated before placement, not routed" in text and "fits: LUT" in text
    archive = (tmp_path / "out" / "spiketicket.tar.gz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = {entry.name: entry for entry in tar}
        assert set(names) == {f"spiketicket/{name}" for name in artix.ARCHIVED}
        assert names["spiketicket/build.sh"].mode & 0o100
        tar.extractall(tmp_path / "elsewhere", filter="data")
    code, out, _ = _run(capsys, *_arty(tmp_path, "--force"))
    assert (tmp_path / "out" / "spiketicket.tar.gz").read_bytes() == archive
    code, out, _ = _run(capsys, *_arty(tmp_path, "--toolchain", "archive"))
    assert code == build.OK
    values = json.loads(out)
    assert "clock of" not in report.message(values) and "met by the estimate" in report.text(values)
    values |= {"clock_mhz": 116.4, "clock_mhz_target": 200.0}
    assert build.exit_code(values) == build.SLOW
    assert "is above the estimate of" in report.message(values)
    assert "NOT met by the estimate" in report.text(values)


def test_the_open_flow_takes_the_netlist_of_an_archive(capsys, programs, tmp_path, monkeypatch):
    assert _run(capsys, *_arty(tmp_path, "--toolchain", "archive"))[0] == build.OK
    archive = json.loads((tmp_path / "out" / "report.json").read_text())
    _open_tools(programs)
    for name, value in build_tools.databases(tmp_path).items():
        monkeypatch.setenv(name, value)
    # Yosys is asked for its version, and for the Verilog of the archive, but for no netlist.
    body = build_tools.YOSYS.replace("top = top[1]", "sys.exit(9)")
    build_tools.install(programs, "yosys", body, "0.70")
    code, out, _ = _run(capsys, *_arty(tmp_path, "--toolchain", "open", "--seed", "2"))
    values = json.loads(out)
    assert code == 0 and values["toolchain"] == "open" and values["routed"]
    # The board tells of the netlist, not of how it was routed.
    assert values["build_id"][:16] == archive["build_id"][:16]
    assert values["build_id"][16:] != archive["build_id"][16:]


def test_cells_that_the_open_flow_does_not_pack_stop_the_build(capsys, programs, tmp_path):
    body = "CELLS = {'ram': ('RAM64X1S', 'nothing'), 'a': ('LUT6', 'x')}\n" + (
        build_tools.YOSYS.replace('"IBUF": "O"', '"RAM64X1S": "O"'))
    build_tools.install(programs, "yosys", body, "0.70")
    code, _, err = _run(capsys, *_arty(tmp_path))
    assert code == 2 and "cells that nextpnr-xilinx does not pack: RAM64X1S (1)" in err
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_core_without_what_its_preset_has(capsys):
    arguments = ["--board", "arty_a7", "--plan-only", "--json", "--preset", "a35tf"]
    whole = json.loads(_run(capsys, *arguments)[1])
    code, out, _ = _run(capsys, *arguments, "--set", "attention=false", "--set", "gate=false")
    values = json.loads(out)
    assert code == 0 and not values["config"]["attention"] and not values["config"]["gate"]
    assert values["estimate"]["lut"]["used"] < whole["estimate"]["lut"]["used"]


def test_archive_builds_with_one_command(capsys, programs, tmp_path):
    assert _run(capsys, *_arty(tmp_path))[0] == build.NO_BITSTREAM
    with tarfile.open(tmp_path / "out" / "spiketicket.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    _open_tools(programs)
    script = str(tmp_path / "spiketicket" / "build.sh")
    environment = os.environ | build_tools.databases(tmp_path)
    done = subprocess.run([script], env=environment | {"SEED": "2"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "spiketicket" / "spiketicket.bit").read_text().startswith("bits of frames")
    slow = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert slow.returncode == build.SLOW and "96.50 MHz (FAIL" in slow.stdout
    build_tools.install(programs, "vivado", build_tools.VIVADO.replace("SLACK", "0.1") + (
        "\nopen('vivado.log', 'w').write('SPIKETICKET worst slack 0.1 ns\\n')\n"))
    done = subprocess.run([script, "vivado"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "worst slack 0.1 ns" in done.stdout
    nowhere = subprocess.run([script], env=environment | {"CHIPDB_DIR": "/nowhere"},
                             capture_output=True, text=True)
    assert nowhere.returncode == 2 and "set CHIPDB" in nowhere.stderr


def test_ecp5_flow_survives_a_failing_seed(capsys, programs, tmp_path):
    build_tools.install(programs, "nextpnr-ecp5", build_tools.NEXTPNR_ECP5)
    build_tools.install(programs, "ecppack", build_tools.ECPPACK)
    code, out, _ = _run(capsys, *_ulx3s(tmp_path, "--seeds", "3"))
    values = json.loads(out)
    assert code == 0 and set(values) >= REQUIRED | {"dp16kd", "dp16kd_available"}
    assert values["seed"] == 2 and values["clock_mhz"] == 85.5 and values["timing_met"]
    assert values["lut"] == 100 and "bram36" not in values
    assert values["pll"]["output_mhz"] == 80
    assert (tmp_path / "out" / "spiketicket.bit").read_text() == "bit of seed 2"
    sums = (tmp_path / "out" / "SHA256SUMS").read_text().split()
    assert sums[1::2] == ["manifest.json", "spiketicket.bit"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["build_id"] == values["build_id"]
    assert registers.manifest_config(manifest) == replace(PRESETS["micro"], clock_hz=80_000_000)
    # another seed needs no second synthesis
    (programs / "yosys").write_text("#!/bin/sh\nif [ $1 = -V ]; then echo yosys 0.70; else exit 9; "
                                    "fi\n")
    code, out, _ = _run(capsys, *_ulx3s(tmp_path, "--seed", "1"))
    assert code == build.SLOW and json.loads(out)["clock_mhz"] == 70
    code, _, err = _run(capsys, *_ulx3s(tmp_path, "--seed", "3"))
    assert code == 2 and "nextpnr-ecp5 failed with exit code 1: ERROR: placement failed" in err


def test_build_id_covers_everything(monkeypatch, programs):
    wanted = request("ulx3s_85f", preset="micro")
    design = build.prepare(wanted.board, wanted.config, wanted.baud, core=False)
    versions = {"yosys": "1"}
    base = build.build_id(wanted, design, "trellis", versions)
    assert base == build.build_id(wanted, design, "trellis", versions)
    assert len({base,
                build.build_id(wanted, replace(design, rtlil=design.rtlil + " "), "trellis",
                               versions),
                build.build_id(wanted, design, "trellis", {"yosys": "2"}),
                build.build_id(replace(wanted, seeds=(9,)), design, "trellis", versions),
                build.build_id(replace(wanted, baud=9600), design, "trellis", versions),
                build.build_id(wanted, replace(design, pins=design.pins[1:]), "trellis",
                               versions)}) == 6
    # What the board tells leaves out how the netlist is placed.
    seeds = build.build_id(replace(wanted, seeds=(9,)), design, "trellis", versions)
    newer = build.build_id(wanted, design, "trellis", versions | {"nextpnr-ecp5": "2"})
    assert {registers.build_number(text) for text in (base, seeds, newer)} == {int(base[:16], 16)}
    assert build.build_id(wanted, design, "trellis", {"yosys": "2"})[:16] != base[:16]


def test_ethernet_is_a_property_of_the_build():
    """Pins, clocks, scripts, ID and manifest have it; without it nothing changes."""
    without, wanted = (request("arty_a7", preset="micro", ethernet=has) for has in (False, True))
    assert wanted.output.name == "arty_a7-micro-ethernet"
    plain, design = (build.prepare(one.board, one.config, one.baud, core=False,
                                   ethernet=one.ethernet) for one in (without, wanted))
    more = {pin.pin for pin in design.pins} - {pin.pin for pin in plain.pins}
    # rst, tx_clk, tx_en, tx_data, rx_clk, rx_dv, rx_er, rx_data, the reference (reference manual)
    assert more == set("C16 H16 H15 H14 J14 J13 H17 F15 G16 C17 D18 E17 E18 G17 G18".split())
    named = {pin.pin: pin.port for pin in design.pins}
    assert set(design.phy_clocks) == {named["F15"], named["H16"]}
    for port in design.phy_clocks:
        assert f"create_clock -name {port} -period 40.000 [get_ports {port}]" in artix.constraints(
            design)
        assert f"-group [get_clocks {port}]" in artix.vivado_script(design)
    assert 'tail -n 3 | grep FAIL' in artix.shell_script(design)
    assert "set_clock_groups" not in artix.vivado_script(plain) and not plain.phy_clocks
    ids = {build.build_id(one, made, "archive", {})[:16]
           for one, made in ((without, plain), (wanted, design))}
    assert len(ids) == 2
    assert [report.manifest(one, "0")["ethernet"] for one in (without, wanted)] == [False, True]


@pytest.mark.parametrize("board, sites, control", [
    # rst, mdc, mdio, tx_clk, tx_ctl, tx_data, rx_clk, rx_ctl, rx_data (the boards' schematics)
    ("ecpix5_85f", "C13 C11 A13 A12 C9 D8 C8 B8 A8 E11 A11 B11 A10 B10 A9", "A11"),
    ("versa_ecp5", "U17 T18 U18 P19 R20 N19 N20 P18 P20 L20 U19 T20 U20 T19 R18", "U19"),
])
def test_rgmii_of_the_ecp5_boards(board, sites, control):
    """Pins and clocks; what is timed passes the pads' own cells, six lines out and five in."""
    without, wanted = (request(board, preset="micro", ethernet=has) for has in (False, True))
    plain, design = (build.prepare(one.board, one.config, one.baud, core=False,
                                   ethernet=one.ethernet) for one in (without, wanted))
    assert {pin.pin for pin in design.pins} - {pin.pin for pin in plain.pins} == set(sites.split())
    named = {pin.pin: pin.port for pin in design.pins}
    assert "rx_ct" in named[control]
    assert design.phy_clocks == (named[sites.split()[9]],)
    rx_clk = f'FREQUENCY PORT "{design.phy_clocks[0]}" 25 MHZ;'
    assert rx_clk in ecp5.constraints(design) and "25 MHZ" not in ecp5.constraints(plain)
    cells = [design.rtlil.count(f"cell \\{name} ") for name in ("ODDRX1F", "IDDRX1F")]
    assert cells == [6, 5]
    assert "DDRX1F" not in plain.rtlil
    without, wanted = (fit.estimate(one.config, DEVICES[one.board.device], ethernet=one.ethernet)
                       for one in (without, wanted))
    assert {name: wanted[name] - without[name] for name in wanted} == fit.ETHERNET["ecp5"]


def test_the_build_id_is_in_the_design():
    wanted = request("ulx3s_85f", preset="micro")
    plain, other, again = (
        build.prepare(wanted.board, wanted.config, wanted.baud, core=False, build=number).rtlil
        for number in (0, 0x0123_4567_89AB_CDEF, 0x0123_4567_89AB_CDEF))
    assert plain != other and other == again
    assert f"{0x89AB_CDEF:032b}" in other and f"{0x0123_4567:032b}" in other
    for text in ("", "12345678", "x" * 32):
        with pytest.raises(ValueError, match="build ID"):
            registers.build_number(text)


def test_designs_do_not_depend_on_chance():
    """The same build ID in processes that order sets differently, and in any folder."""
    script = ("from hw.build import build, request\n"
              "w = request.request('ecpix5_85f', preset='micro')\n"
              "d = build.prepare(w.board, w.config, w.baud)\n"
              "assert 'attribute \\\\src' not in d.rtlil\n"
              "print(build.build_id(w, d, 'trellis', {}))")
    seen = {subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                           check=True, env=os.environ | {"PYTHONHASHSEED": seed}).stdout
            for seed in "12"}
    assert len(seen) == 1


def test_program(capsys, programs, tmp_path):
    build_tools.install(programs, "nextpnr-ecp5", build_tools.NEXTPNR_ECP5)
    build_tools.install(programs, "ecppack", build_tools.ECPPACK)
    code, _, err = _run(capsys, *_ulx3s(tmp_path, "--seed", "2", "--program"))
    assert code == 2 and "openFPGALoader not found on PATH" in err
    build_tools.install(programs, "openFPGALoader", build_tools.LOADER)
    assert _run(capsys, *_ulx3s(tmp_path, "--seed", "2", "--program"))[0] == 0
    loaded = tmp_path / "out" / "spiketicket.bit.loaded"
    assert loaded.read_text() == "--board ulx3s"
    code, _, err = _run(capsys, *_ulx3s(tmp_path, "--seed", "1", "--program"))
    assert code == 2 and "misses its clock and is not loaded" in err


def test_sdram_of_the_ulx3s():
    """Pins as on the schematic; every line to the chip, and every data line back, has a register
    in its pad; the chip's clock is the PLL's second output, late by 225 degrees of 5 VCO periods.
    """
    without, wanted = (request("ulx3s_85f", preset=name) for name in ("e45", "e45d"))
    plain, design = (build.prepare(one.board, one.config, one.baud, core=False)
                     for one in (without, wanted))
    sites = ("F19 F20 P20 R20 T19 T20 P19 N20 M20 M19 L20 L19 K20 K19 K18 J20 J19 H20 N19 G20 G19 "
             "U19 E20 J16 L18 M18 N18 P18 T18 T17 U20 E19 D20 D19 C20 E18 F18 J18 J17")
    assert {pin.pin for pin in design.pins} - {pin.pin for pin in plain.pins} == set(sites.split())
    cells = {name: design.rtlil.count(f"cell \\{name} ")
             for name in ("OFS1P3DX", "IFS1P3DX", "ODDRX1F", "BB")}
    assert cells == {"OFS1P3DX": 4 + 2 + 13 + 2 + 16 + 16, "IFS1P3DX": 16, "ODDRX1F": 1,
                     "BB": 16}
    assert not any(f"cell \\{name} " in plain.rtlil for name in cells)
    assert design.pll.out_divide == 5
    for name, value in (("CLKOS2_DIV", 5), ("CLKOS2_CPHASE", 4 + 3), ("CLKOS2_FPHASE", 1)):
        assert re.search(rf"parameter (signed )?\\{name} {value}\b", design.rtlil), name
    assert "CLKOS2" not in plain.rtlil


def test_ddr3_of_the_arty():
    """Pins as on the schematic, standards of 1.35 V; LiteDRAM's core has the PLL, and a buffer or a
    cell of its own for every line of the chip."""
    without, wanted = (request("arty_a7", preset=name) for name in ("a35t", "a35td"))
    plain, design = (build.prepare(one.board, one.config, one.baud, core=False)
                     for one in (without, wanted))
    sites = ("K6 U9 V9 N5 U8 P5 P3 M4 R2 M6 N4 T1 N6 R7 V6 U7 R8 V7 R6 U6 T6 T8 R1 P4 P2 N2 N1 U2 "
             "V2 K5 L3 K3 L6 M3 M1 L4 M2 V4 T5 U4 V5 V1 T3 U3 R3 L1 U1 R5")
    more = {pin.pin: dict(pin.attributes) for pin in design.pins
            if pin not in plain.pins}
    assert more.keys() == set(sites.split())
    differential = {"U9", "V9", "N2", "N1", "U2", "V2"}
    assert {pin for pin in more if more[pin]["IOSTANDARD"] == "DIFF_SSTL135"} == differential
    assert {more[pin]["IOSTANDARD"] for pin in more.keys() - differential} == {"SSTL135"}
    assert sum("IN_TERM" in attributes for attributes in more.values()) == 16
    assert design.rtlil.count(f"cell \\{LITEDRAM} ") == 1 and design.pll is None
    vref = "set_property INTERNAL_VREF 0.675 [get_iobanks 34]"
    assert vref in artix.constraints(design) and vref not in artix.constraints(plain)
    assert "ars_ff1" in artix.vivado_script(design) and "ars_ff1" not in artix.vivado_script(plain)


def test_litedrams_core():
    """What the generator writes: the cells of the PHY, one module, nothing that depends on the day.
    """
    text = litedram.rtlil("one.litedram")
    cells = {name: text.count(f"  cell \\{name} ") for name in (
        "OSERDESE2", "ISERDESE2", "IDELAYE2", "IDELAYCTRL", "OBUFDS", "IOBUFDS", "IOBUF",
        "PLLE2_ADV")}
    # dq 16, dm 2, dqs 2, clock, address 14, bank 3, and seven more lines of commands
    assert cells == {"OSERDESE2": 16 + 2 + 2 + 1 + 14 + 3 + 7, "ISERDESE2": 16, "IDELAYE2": 16,
                     "IDELAYCTRL": 1, "OBUFDS": 1, "IOBUFDS": 2, "IOBUF": 16, "PLLE2_ADV": 1}
    assert re.findall(r"^module (\S+)", text, re.MULTILINE) == ["\\one.litedram"]
    assert "Date" not in litedram.verilog() and "//" not in litedram.verilog()


def test_litedram_is_missing(capsys, programs, monkeypatch, tmp_path):
    """The error names the extra that has it."""
    monkeypatch.setattr(litedram, "PACKAGE", "litedram-that-nobody-has")
    litedram.verilog.cache_clear()
    code, _, err = _run(capsys, "--board", "arty_a7", "--preset", "a35td", "--output",
                        tmp_path / "out")
    assert code == 2 and err.count("\n") == 1
    assert re.search(r"a core with DDR3 needs the Python package .*spiketicket\[dram\]", err)


def test_litedram_of_another_version():
    """A register that is elsewhere is not written to: the build ends with its name."""
    rows = [f"csr_register,{name},{4 * place.value:#x},1,rw"
            for name, place in Control.__members__.items()]
    litedram.check_registers("\n".join(rows))
    rows[7] = rows[7].replace("0x81", "0x82")
    for wrong in (rows, rows[:7]):
        with pytest.raises(SpikeTicketError, match=r"ddrphy_rdly_dq_rst at .*, not at 517"):
            litedram.check_registers("\n".join(wrong))


def test_litedram_with_other_modes():
    """What its own software would do to the chip is what our host does, or the build ends."""
    def header(modes, phases):
        lines = [f"sdram_dfii_pi0_address_write({mode:#x});\n"
                 f"sdram_dfii_pi0_baddress_write({bank});\n"
                 "command_p0(DFII_COMMAND_RAS|DFII_COMMAND_CAS|DFII_COMMAND_WE|DFII_COMMAND_CS);"
                 for bank, mode in modes]
        return "\n".join([f"#define SDRAM_PHY_RDPHASE {phases[0]}",
                          f"#define SDRAM_PHY_WRPHASE {phases[1]}", *lines])

    litedram.check_modes(header(MODES, (READ_PHASE, WRITE_PHASE)))
    for modes, phases in ((MODES[::-1], (2, 3)), (MODES, (1, 3)), (MODES[:3], (2, 3)),
                          ([*MODES[:3], (0, 0x920)], (2, 3))):
        with pytest.raises(SpikeTicketError, match="sets up the chip in another way"):
            litedram.check_modes(header(modes, phases))


def test_reports_say_which_dram():
    arty = report._dram(request("arty_a7", preset="a35td"))
    assert arty.startswith("256 MB DDR3L SDRAM, MT41K128M16JT-125; weights stream through ")
    told = {name: report._dram(request("ulx3s_85f", preset=name)) for name in ("e45", "e45d")}
    assert told["e45"] == ""
    assert told["e45d"] == ("32 MB SDR SDRAM, MT48LC16M16A2 or one like it; weights stream through "
                            "2 rings of 1,024 words")
    assert report._dram_lines({"dram": told["e45"]}) == report._dram_lines({}) == []
    assert report._dram_lines({"dram": told["e45d"]}) == [f"DRAM        {told['e45d']}"]
