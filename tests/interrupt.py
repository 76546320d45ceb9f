"""Stops a search in the middle of an epoch, as an interrupt from the keyboard does."""

import pytest

from sw.tickets import training


def in_epoch(number: int, search) -> None:
    """Run `search()`, interrupted in the third step of its epoch `number` (from 0 on)."""
    calls = 0
    original = training.train_epoch

    def interrupted(loss_of, *args, **kwargs):
        nonlocal calls
        calls += 1
        steps = 0

        def counting(x, y):
            nonlocal steps
            steps += 1
            if calls == number + 1 and steps == 3:
                raise KeyboardInterrupt
            return loss_of(x, y)
        return original(counting, *args, **kwargs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search()
