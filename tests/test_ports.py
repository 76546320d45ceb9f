"""Serial ports: which belong to supported boards, what answers there, ports that come and go."""

import json
from types import SimpleNamespace

import pytest

from hw import registers
from hw.config import PRESETS
from sim.serve import Board
from sw import ports
from sw.board import discovery, identities, opening, readback, usb_ports
from sw.board.driver import Accelerator
from sw.board.transport import SerialTransport
from sw.cli.app import main
from sw.errors import BoardSilent, SpikeTicketError

TINY = PRESETS["tiny"]


def info(device, vid=None, pid=None, location=None, serial=None, product=None):
    """A port as pyserial describes it."""
    return SimpleNamespace(device=device, vid=vid, pid=pid, location=location,
                           serial_number=serial, product=product, manufacturer=None)


FT2232H = (0x0403, 0x6010)
LISTED = [
    info("/dev/ttyS0"),
    info("/dev/ttyUSB0", *FT2232H, "1-2:1.0", "210319A", "Digilent USB Device"),
    info("/dev/ttyUSB1", *FT2232H, "1-2:1.1", "210319A", "Digilent USB Device"),
    info("/dev/ttyUSB2", 0x0403, 0x6015, "1-3:1.0", "D00123", "ULX3S FPGA 85K v3.0.8"),
    info("/dev/ttyACM0", 0x2341, 0x0043, "1-4:1.0", "42"),
    info("COM4", *FT2232H, None, "210319B"),
    info("COM3", *FT2232H, None, "210319A"),
    info("/dev/cu.usbserial-2103191", *FT2232H, "20-1"),
]


@pytest.fixture(autouse=True)
def no_networks(monkeypatch):
    """Tests call boards at addresses of loopback alone, and there they need not wait."""
    monkeypatch.setattr(discovery, "broadcast_addresses", lambda: [])
    monkeypatch.setattr(discovery, "SECONDS", 0.3)


@pytest.fixture
def listed(monkeypatch):
    def show(ports_there):
        monkeypatch.setattr(usb_ports, "list_ports", lambda: ports_there)
    show(LISTED)
    return show


def test_ports_of_supported_boards(listed):
    found = {port.device: port.boards for port in ports.find()}
    arty = ("arty_a7", "arty_a7_100", "ecpix5_85f", "versa_ecp5")
    assert found == {"/dev/ttyUSB1": arty, "/dev/ttyUSB2": ("ulx3s_85f",), "COM4": arty,
                     "/dev/cu.usbserial-2103191": arty}
    assert [port.device for port in ports.find("ulx3s_85f")] == ["/dev/ttyUSB2"]
    assert ports.named("/dev/ttyUSB2").title == "ULX3S FPGA 85K v3.0.8"
    assert ports.named("/dev/other") == ports.Port("/dev/other")


def test_a_board_says_what_it_is(served, listed, capsys):
    answer = ports.ask(ports.Port(served.port))
    assert not answer.trouble and answer.preset == "tiny" and answer.clock_hz == TINY.clock_hz
    assert answer.identity == f"{registers.identity(TINY):016x}" and int(answer.build, 16)
    assert main(["boards", "--port", served.port, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["preset"] == "tiny" and row["port"]["device"] == served.port
    assert main(["boards", "--port", served.port]) == 0
    assert "core tiny at 100 MHz" in capsys.readouterr().out


def test_open_finds_the_board_by_itself(served, listed):
    with pytest.raises(SpikeTicketError, match="no USB bridge of one is plugged in"):
        listed([])
        Accelerator.open("auto")
    listed([info(served.port, 0x0403, 0x6015, "1-3:1.0", "D1")])
    for where in ("auto", "ulx3s_85f", served.port):
        with Accelerator.open(where) as board:
            assert board.config == TINY and board.trials == []
    with pytest.raises(SpikeTicketError, match="no board arty_a7 answers"):
        Accelerator.open("arty_a7")
    with Accelerator.open(served.port, manifest=TINY) as board:
        assert board.identify().preset == "tiny"


def test_several_boards_or_none_that_answers(served, listed):
    usb = (0x0403, 0x6015, "1-3:1.0", "D1")
    listed([info(served.port, *usb), info("/dev/nothing", *usb)])
    assert ports.choose().port.device == served.port
    listed([info("/dev/nothing", *usb)])
    with pytest.raises(BoardSilent, match="/dev/nothing: cannot be opened"):
        ports.choose()
    live = ports.Answer(ports.Port("/dev/a"), "", "1" * 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports, "ask", lambda port: live)
        listed([info("/dev/a", *usb), info("/dev/b", *usb)])
        with pytest.raises(SpikeTicketError, match="2 boards answer"):
            ports.choose()


def test_command_without_a_board(listed, capsys):
    listed([])
    assert main(["boards"]) == 1
    assert "no port of a supported board" in capsys.readouterr().out
    assert main(["boards", "--list", "--json"]) == 1 and capsys.readouterr().out == "[]\n"
    listed(LISTED)
    assert main(["boards", "--list"]) == 0
    assert "ULX3S FPGA 85K" in capsys.readouterr().out
    assert main(["boards", "--port", "/dev/nothing"]) == 1
    assert "cannot be opened" in capsys.readouterr().out


@pytest.fixture
def networked(tiny_library):
    with Board(TINY, library=tiny_library, udp=0) as board:
        yield board


def test_boards_on_the_network(networked, listed, capsys):
    """A call says what is there and who holds it, and disturbs no session."""
    listed([])
    at = networked.address.removeprefix("udp://")
    call = ["boards", "--call", at, "--call", "127.0.0.1:9", "--json"]
    assert main(call) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert row["port"]["device"] == networked.address and row["preset"] == "tiny"
    assert row["identity"] == f"{registers.identity(TINY):016x}" and row["simulated"]
    assert row["holder"] == "the serial line" and row["ip"] == "127.0.0.1"
    with Accelerator.open(networked.address) as board:
        assert main(call) == 0
        [row] = json.loads(capsys.readouterr().out)
        assert row["holder"] == f"127.0.0.1:{board.transport._wire.local[1]}"
        assert row["idle"] < 5
        board.identify()
        assert board.statistics.recoveries == 0
        assert main(["boards", "--call", at]) == 0
        out = capsys.readouterr().out
        assert f"{networked.address}  network" in out and "held by        127.0.0.1:" in out
    assert main(["boards", "--call", "127.0.0.1:9"]) == 1
    assert "none answers on the network" in capsys.readouterr().out
    assert main(["boards", "--call", "no such.invalid"]) == 2
    assert "no IPv4 address of that name" in capsys.readouterr().err


def test_networks_are_called_by_broadcast(networked, listed, monkeypatch, capsys):
    host, _, port = networked.address.removeprefix("udp://").rpartition(":")
    monkeypatch.setattr(discovery, "broadcast_addresses", lambda: [host])
    monkeypatch.setattr(discovery, "UDP_PORT", int(port))
    listed([info(networked.port, 0x0403, 0x6015, "1-3:1.0", "D1")])
    assert main(["boards", "--json"]) == 0
    assert [row["port"]["device"] for row in json.loads(capsys.readouterr().out)] == [
        networked.port, networked.address]
    monkeypatch.undo()
    found = discovery.broadcast_addresses()  # of this computer; nothing is sent
    assert found[0] == "255.255.255.255" and len(set(found)) == len(found)


def test_an_address_is_given(networked, capsys, monkeypatch):
    told = ["boards", "--port", networked.port, "--set-ip"]
    assert main([*told, "192.168.1.60"]) == 0
    assert "the board is udp://192.168.1.60 until it is" in capsys.readouterr().out
    assert main(["boards", "--port", networked.port]) == 0
    assert "address        192.168.1.60" in capsys.readouterr().out
    for wrong in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "192.168.1", "x"):
        assert main([*told, wrong]) == 2
        assert f"--set-ip {wrong}: not an address" in capsys.readouterr().err
    assert main(["boards", "--port", "/dev/nothing", "--set-ip", "10.0.0.1"]) == 2
    assert "cannot be opened" in capsys.readouterr().err
    for more in ([], ["--port", "/dev/a", "--port", "/dev/b"], ["--call", "127.0.0.1"]):
        assert main(["boards", *more, "--set-ip", "10.0.0.1"]) == 2
        assert "needs the one serial port of its board" in capsys.readouterr().err
    for says, message in (("10.0.0.9", "the board kept its address 10.0.0.9"),
                          ("", "the board was built without Ethernet")):
        monkeypatch.setattr(readback, "address", lambda session, says=says: says)
        assert main([*told, "192.168.1.61"]) == 2
        assert message in capsys.readouterr().err


def test_a_port_belongs_to_one_program(served):
    first = SerialTransport(served.port)
    try:
        with pytest.raises(SpikeTicketError, match="another program uses it"):
            SerialTransport(served.port)
    finally:
        first.close()
    with pytest.raises(SpikeTicketError, match="was closed; open it again"):
        first.write(b"x")


def test_a_port_that_vanishes_and_comes_back(served, tmp_path, monkeypatch):
    """Also under another name, if its USB serial number is known."""
    link = tmp_path / "board"
    link.symlink_to(served.port)
    usb = (0x0403, 0x6015, "1-3:1.0", "D1")
    there = [info(str(link), *usb)]
    monkeypatch.setattr(usb_ports, "list_ports", lambda: there)
    with Accelerator(SerialTransport(str(link)), TINY) as board:
        board.identify()

        def gone(_):
            raise OSError("device disconnected")

        monkeypatch.setattr(board.transport._serial, "write", gone)
        with pytest.raises(SpikeTicketError, match="the board is gone"):
            board.identify()
        link.unlink()
        with pytest.raises(BoardSilent, match="cannot be opened"):
            board.identify()
        moved = tmp_path / "moved"
        moved.symlink_to(served.port)
        there[:] = [info(str(moved), *usb)]
        assert board.identify().preset == "tiny"
        assert board.transport.name == str(moved)


def manifest(folder, **more):
    path = folder / "manifest.json"
    path.write_text(json.dumps(registers.manifest(TINY) | more))
    return path


def test_known_identities(tmp_path, monkeypatch):
    for name in ("arty_a7", "stale"):
        (tmp_path / name).mkdir()
    build_id = "0123456789abcdef" * 2
    manifest(tmp_path / "arty_a7", board="arty_a7", build_id=build_id, baud=1_000_000)
    (tmp_path / "stale" / "manifest.json").write_text("{}")
    monkeypatch.setattr(identities, "builds",
                        lambda folder=tmp_path, read=identities.builds: read(folder))
    found = identities.find(registers.identity(TINY), int(build_id[:16], 16))
    assert (found.board, found.preset, found.baud) == ("arty_a7", "tiny", 1_000_000)
    assert identities.find(registers.identity(TINY), 5).board == ""
    assert identities.find(registers.identity(TINY)).preset == "tiny"
    assert identities.find(registers.identity(PRESETS["e45f"])).preset == "e45f"
    assert identities.find(12345) is None
    assert identities.first_rates() == (registers.DEFAULT_BAUD, 1_000_000)


@pytest.mark.parametrize("damage", [
    {"format": "other"}, {"id": "0"}, {"config": {"engines": -1}}, {"config": 7}, {"baud": "x"},
    {"baud": 0}, {"board": 7}, {"build_id": "xyz"}, {"build_id": 7}])
def test_manifests_that_lie(tmp_path, damage):
    with pytest.raises(SpikeTicketError, match=r"manifest\.json: "):
        identities.read_manifest(manifest(tmp_path, **damage))


def test_manifests_as_files(tmp_path, served, transport):
    path = manifest(tmp_path, baud=3_000_000)
    assert identities.read_manifest(path).config == TINY
    with Accelerator.open(served.port, manifest=path) as board:
        assert board.config == TINY
    for text in ("[]", "{", "[" * 100_000, "\xff"):
        path.write_text(text)
        with pytest.raises(SpikeTicketError, match="not a manifest"):
            Accelerator(transport, path)
    with pytest.raises(SpikeTicketError, match="'nothing' is unknown"):
        opening.transport_for("sim:nothing")
