"""A search boxed by time: its rate and its end follow the clock, here one of a second an update."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from sw.cli.app import main
from sw.errors import SpikeTicketError
from sw.tickets import parallel, run, trainer, training

from . import interrupt
from .test_tickets_run import TEST, TINY, TRAIN, trainer_of

pytestmark = pytest.mark.usefixtures("one_thread")

DENSE = dataclasses.replace(TINY, method="dense", epochs=2, epochs_integer=0, validation=0.0)
"""96 samples in batches of 16: an epoch takes 6 seconds."""


@pytest.fixture
def rates(monkeypatch):
    """Learning rates of all updates, each of which takes a second."""
    now, seen = [100.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(training, "time", clock)
    monkeypatch.setattr(trainer, "time", clock)
    loss, rate = training.loss, training.Clock.rate

    def slow(*given):
        now[0] += 1
        return loss(*given)

    def watched(self, peak):
        seen.append(rate(self, peak))
        return seen[-1]
    monkeypatch.setattr(training, "loss", slow)
    monkeypatch.setattr(training.Clock, "rate", watched)
    return seen


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_rate_and_end_follow_the_clock(rates, tmp_path):
    result = run.search(dataclasses.replace(DENSE, seconds=15), TRAIN, TEST, tmp_path)
    log = log_of(tmp_path)[:3]
    assert [(r["epoch"], r["train_seconds"], r.get("part")) for r in log] == [
        (1, 6, None), (2, 6, None), (3, 3, 0.5)]
    assert len(rates) == 15 and rates[0] == 0 and result["epochs_ticket"] == 3
    assert rates[1:] == sorted(rates[1:], reverse=True) and max(rates) > 0.95 * DENSE.lr
    assert 0 < rates[-1] < 0.05 * DENSE.lr


def test_stages_share_the_time_as_they_would_epochs(rates, tmp_path):
    config = dataclasses.replace(TINY, seconds=120, validation=0.0, epochs=2, epochs_final=2,
                                 epochs_integer=1)
    run.search(config, TRAIN, TEST, tmp_path)
    spent = {}
    for r in log_of(tmp_path):
        spent[r["stage"]] = spent.get(r["stage"], 0) + r["train_seconds"]
    assert spent == {"dense": 40, "round 1": 20, "round 2": 40, "integer": 20}


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_an_interrupted_one_has_the_time_that_is_left(rates, tmp_path, stop_at):
    """What the interrupted epoch took is lost with it."""
    config = dataclasses.replace(DENSE, seconds=15)
    interrupt.in_epoch(stop_at, lambda: run.search(config, TRAIN, TEST, tmp_path))
    run.search(config, TRAIN, TEST, tmp_path)
    assert [r["train_seconds"] for r in log_of(tmp_path)[:3]] == [6, 6, 3]


@pytest.mark.parametrize(("seconds", "updates"), [(5, 5), (2, 1)])
def test_shorter_than_an_epoch(rates, tmp_path, seconds, updates):
    """Said as soon as a quarter of the time shows it."""
    with pytest.raises(SpikeTicketError, match=f"seconds {seconds}: stage 'dense' has {seconds} of "
                       "them, and an epoch takes about 6; give 8 or more"):
        run.search(dataclasses.replace(DENSE, seconds=seconds), TRAIN, TEST, tmp_path)
    assert len(rates) == updates


def test_the_rewind_epoch_must_be_reached(rates, tmp_path):
    config = dataclasses.replace(TINY, seconds=18, validation=0.0, rewind_epoch=2)
    with pytest.raises(SpikeTicketError, match="in epoch 1, before rewind_epoch 2; give more"):
        run.search(config, TRAIN, TEST, tmp_path)


def test_it_is_for_one_process(tmp_path, monkeypatch):
    one = trainer_of(dataclasses.replace(DENSE, seconds=9), tmp_path)
    monkeypatch.setattr(parallel, "SIZE", 2)
    with pytest.raises(SpikeTicketError, match="seconds is for one process"):
        one._clock("dense", 2)


def test_bad_seconds_are_named(capsys):
    assert main(["find", "--seconds", "0", "--show"]) == 2
    assert "seconds 0.0 must be above 0" in capsys.readouterr().err
