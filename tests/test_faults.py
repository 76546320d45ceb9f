"""Faults on the line, at the pins, in memory, of hosts and ports: `sim.faults`, in small."""

import inspect
import json
import random
from types import SimpleNamespace

import pytest

from hw.config import PRESETS
from sim import board, fault_board, fault_lab, faults
from sim.fault_board import PinTransport
from sim.fault_cases import make_cases
from sim.fault_dram import DRAM
from sim.fault_kinds import BYTES, PINS
from sim.fault_lab import Lab, Tally
from sim.fault_lines import ByteFaults, Foreign, Line
from sim.fault_network import NETWORK, DatagramFaults
from sw.board import protocol
from sw.board.driver import Accelerator
from sw.board.session import Session
from sw.cli.app import main
from sw.errors import SpikeTicketError

TINY = PRESETS["tiny"]


@pytest.fixture(scope="module")
def cases(tiny_library):
    return make_cases(TINY, tiny_library)


def inject(*kinds, **options):
    return faults.inject(kinds, progress=False, **options)


@pytest.mark.parametrize("kind", ByteFaults.KINDS)
def test_byte_faults(kind):
    data = bytes(range(1, 251)) * 40
    disturb = ByteFaults(kind, 1e-2, random.Random(5))
    parts = [disturb(data[i:i + 500]) for i in range(0, len(data), 500)]
    out = b"".join(parts) + disturb.release()
    low, high = (10, 25) if kind in ("truncate", "reorder") else (60, 140)  # these take the rest
    assert low < disturb.faults < high
    assert out != data
    if kind == "reorder":
        assert sorted(out) == sorted(data)
    elif kind in ("flip", "replace"):
        different = sum(a != b for a, b in zip(out, data, strict=True))
        assert disturb.faults - 5 <= different <= disturb.faults
    else:
        assert (len(out) > len(data)) == (kind in ("insert", "duplicate"))
    quiet = ByteFaults(kind, 0, random.Random(5))
    assert quiet(data) + quiet.release() == data and quiet.faults == 0


def test_foreign_bytes_are_put_between():
    disturb = Foreign(1.0, random.Random(1))
    out = disturb(b"abcdef")
    assert len(out) > 6 and disturb.faults == 1
    assert [c for c in out if c in b"abcdef"][:1] and Foreign(0.0, random.Random(1))(b"x") == b"x"


def test_what_cannot_be_injected_is_refused():
    with pytest.raises(ValueError, match="kind 'melt' is none of flip"):
        ByteFaults("melt", 0.1, random.Random(1))
    with pytest.raises(ValueError, match=r"rate 1 is outside 0\.\.1"):
        ByteFaults("flip", 1, random.Random(1))
    for options, message in (({"megabytes": 0}, "--megabytes 0 is outside"),
                             ({"runs": 0}, "--runs 0 is outside"),
                             ({"rates": [0.5]}, r"--rates 0\.5 is outside")):
        with pytest.raises(SpikeTicketError, match=message):
            inject("flip", **options)
    with pytest.raises(SpikeTicketError, match=r"'flop' is no kind of fault; did you mean flip"):
        inject("flop")
    with pytest.raises(ValueError, match=r"word 5000 is outside 0\.\."):
        PinTransport.flip_weights(type("Board", (), {"config": TINY}), 5000, 1)


def test_the_stated_time_is_the_sessions():
    given = inspect.signature(Session).parameters
    assert (given["limit"].default, given["slack"].default, Session.SYNC_RETRIES) == (
        fault_lab.LIMIT, fault_lab.SLACK, fault_lab.SYNCS)
    assert fault_lab.bound(0.5) == 26.5


def test_byte_errors_at_every_rate_are_survived(tiny_library):
    done = inject(*ByteFaults.KINDS, megabytes=0.4, seed=2)
    assert [t.kind for t in faults.by_kind(done)] == list(ByteFaults.KINDS)
    total = faults.total(done)
    assert total.passed, faults.table(done)
    assert total.bytes > 400_000 and total.runs > 100 and total.faults > 50
    assert all(t.faults > 3 for t in done if t.rate == 1e-3)


def test_single_faults_are_survived(tiny_library):
    done = {t.kind: t for t in inject(*BYTES, runs=3, seed=3)}
    assert all(t.passed and t.faults for t in done.values()), faults.table([*done.values()])
    assert done["silence"].errors >= 2 and done["other device"].errors == 7
    assert done["second speaker"].errors > 5
    assert any("another program has sent" in text for text in done["second speaker"].messages)
    assert done["wrong bitstream"].errors == len(PRESETS) - 1  # one of them is the right one
    assert any("identity" in message for message in done["wrong bitstream"].messages)
    assert any("keeps resetting" in text for text in done["power keeps failing"].messages)


def test_faults_at_the_pins_are_survived(tiny_library):
    done = {t.kind: t for t in inject(*PINS, faults.NOISE, runs=2, megabytes=0.5, rates=[1e-3])}
    assert all(t.passed and t.faults for t in done.values()), faults.table([*done.values()])
    assert any("does not hold what was sent" in text for text in done["weight bits"].messages)


def test_dram_that_fails_is_survived():
    done = {t.kind: t for t in inject(*DRAM, runs=6, seed=7)}
    assert all(t.passed and t.faults == 6 for t in done.values()), faults.table([*done.values()])
    assert any("weights in DRAM are damaged" in text for text in done["DRAM bits"].messages)
    assert any("does not hold what was sent" in text for text in done["DRAM fails"].messages)


def test_networks_that_fail_are_survived(tiny_library):
    done = {t.kind: t for t in inject(*NETWORK, runs=12, seed=6)}
    assert all(t.passed and t.faults for t in done.values()), faults.table([*done.values()])
    assert all(done[f"datagrams {kind}"].faults > 3 for kind in DatagramFaults.KINDS)
    assert not done["flood of calls"].errors and done["host goes silent"].errors > 4
    assert any("192.168.1.9:50000 has taken the board" in text
               for text in done["other host"].messages)


@pytest.mark.parametrize("kind", DatagramFaults.KINDS)
def test_datagram_faults(kind):
    disturb = DatagramFaults(kind, 0.2, random.Random(3))
    sent = [bytes([i]) * 9 for i in range(200)]
    got = [one for data in sent for one in disturb(data)]
    assert 20 < disturb.faults < 60 and got != sent
    if kind == "truncated":
        assert len(got) == 200 and sum(len(one) < 9 for one in got) == disturb.faults
    else:
        assert {"lost": set(got) < set(sent), "doubled": len(got) == 200 + disturb.faults,
                "reordered": set(got) >= set(sent[:-1])}[kind]


def test_killed_hosts_and_vanished_ports_are_survived(tiny_library):
    done = inject(*faults.REAL, runs=4)
    assert all(t.passed and t.faults for t in done), faults.table(done)
    assert any("the board is gone" in message for message in done[1].messages)


def test_a_flipped_weight_bit_is_noticed(tiny_library, cases):
    """By `verify` wherever it is, and by `load`."""
    case = max(cases, key=lambda case: len(case.image.weights[0]))
    words = len(case.image.weights[0])
    pins = PinTransport(TINY, library=fault_board.build(TINY, progress=False))
    with Accelerator(pins, TINY) as accelerator:
        case.load(accelerator)
        assert accelerator.verify()
        for word, bit in ((0, 0), (words - 1, 31), (words // 2, 7)):
            pins.flip_weights(word, 1 << bit)
            assert not accelerator.verify()
            pins.flip_weights(word, 1 << bit)
            assert accelerator.verify()
        assert case.infer(accelerator)


def test_wrong_results_would_be_counted(tiny_library, monkeypatch):
    """With a host that does not look at the CRC."""
    def careless(frame):
        try:
            data = protocol.cobs_decode(frame)
        except protocol.FrameError:
            data = b""
        if len(data) % 4 or len(data) < 8:
            raise protocol.FrameError("short")
        return protocol.np.frombuffer(data[:-4], dtype="<u4").astype(protocol.np.uint32)

    monkeypatch.setattr(protocol, "decode_frame", careless)
    [tally] = inject("flip", megabytes=0.2, rates=[1e-3], seed=4)
    assert tally.silent_wrong and not tally.passed


def test_late_errors_and_crashes_would_be_counted(tiny_library, monkeypatch):
    monkeypatch.setattr(fault_lab, "bound", lambda patience: 1.0)
    [tally] = inject("silence", runs=2)
    assert tally.hangs == 2 and not tally.errors and not tally.passed
    lab = Lab(board.SimTransport(TINY, library=tiny_library), [], tiny_library, 0)
    tally = Tally("none")
    assert lab.attempt(tally, Line(lab.transport, lab.random), lambda: 1 / 0) == "crash"
    assert tally.crashes == 1 and tally.messages == {"ZeroDivisionError: division by zero": 1}
    lab.transport.close()


def test_kinds_go_on_until_their_time_is_over(tiny_library):
    [tally] = inject("drop", minutes=1e-3, rates=[1e-3])
    assert tally.passed and 0 < tally.bytes < 1e6      # not its 10 MB


def test_a_kind_that_ends_sooner_begins_anew(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(faults, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    rounds = []

    def kind():
        rounds.append(0)
        yield from [None] * 3

    assert len([*faults._repeated(kind, 7)]) == 8 and len(rounds) == 3
    assert len([*faults._repeated(kind, 0)]) == 3 and len(rounds) == 4


def test_command(tiny_library, capsys):
    assert main(["check", "faults", "--only", "wrong bitstream", "--json", "--seed", "5"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"bytes", "runs", "silent_wrong", "hangs", "unusable_after",
            "max_seconds_to_error"} <= set(found) & set(found["kinds"][0])
    assert found["seed"] == 5 and found["runs"] > 10
    assert main(["check", "faults", "--only", "wrong bitstream"]) == 0
    text = capsys.readouterr().out
    assert "total" in text and "time bound: 25 s and three times" in text
    assert main(["check", "faults", "--only", "nothing"]) == 2
    assert "--only 'nothing' is unknown; choose from" in capsys.readouterr().err
