# amaranth: UnusedElaboratable=no
"""The UART at line speed in C++, a moment of it, and the command that does minutes."""

from __future__ import annotations

import json

import pytest

from sim import uart_soak
from sim.uart_soak import RATES, Case
from sw.cli.app import main

CLOCK_HZ, ERROR, JITTER = 100_000_000, 0.02, 0.05


@pytest.fixture(scope="module")
def program():
    return uart_soak.build()


@pytest.mark.parametrize(("clock_hz", "baud"), [
    *((CLOCK_HZ, baud) for baud in RATES), (80_000_000, 12_000_000), (60_000_000, 12_000_000),
])
def test_two_per_cent_and_jitter(program, clock_hz, baud):
    """Bit times of 100 down to 5 cycles; 5,000 bytes and more each way."""
    for case in uart_soak.soak_cases([baud], clock_hz, 0.18, ERROR, JITTER, seed=11):
        result = uart_soak.run(case, program)
        assert result["passed"], result
        expected = case.cycles / (clock_hz / baud) / 10
        assert 0.97 * expected < result["bytes_to_board"] < 1.03 * expected
        assert 0.98 * expected < result["bytes_from_board"] < 1.01 * expected


@pytest.mark.parametrize("line", [uart_soak.TO_BOARD, uart_soak.FROM_BOARD])
@pytest.mark.parametrize("skew", [-0.07, 0.07])
def test_more_than_a_uart_can_take_is_noticed(program, line, skew):
    case = Case(12_000_000, CLOCK_HZ, skew, JITTER, JITTER, 1_000_000, 1, line)
    result = uart_soak.run(case, program)
    assert not result["passed"] and result["cycles"] < case.cycles
    damaged = "error_to_board" if line == uart_soak.TO_BOARD else "error_from_board"
    assert result[damaged]


def test_tolerance(program):
    found = uart_soak.tolerance(12_000_000, CLOCK_HZ, JITTER, program=program, bytes_each=2000,
                                seed=1, step=0.005)
    assert min(found.values()) >= 0.025, found


def test_command(capsys):
    assert main(["check", "uart", "--minutes", "0.0005", "--baud", "12000000", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["skew"] for result in results] == [0.02, 0, -0.02]
    assert all(result["passed"] for result in results)
    assert main(["check", "uart", "--minutes", "0.0005", "--baud", "12000000", "--error", "8"]) == 1
    assert "12,000,000" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "words"), [
    (["--baud", "30000000"], "30000000 baud cannot be made from 100000000 Hz"),
    (["--jitter", "50"], "--jitter 50 is outside"),
    (["--error", "-1"], "--error -1 is outside"),
    (["--minutes", "0"], "--minutes 0 is below"),
    (["--baud", "0"], "--baud 0 is below 1"),
])
def test_bad_arguments(capsys, arguments, words):
    assert main(["check", "uart", *arguments]) == 2
    assert words in capsys.readouterr().err
