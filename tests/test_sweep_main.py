"""The command's series: items that are trained one after the other, as long as the budget lasts."""

import pandas
import pytest

from lib.paper.experiments import DECIDING
from lib.runs import Measurement
from lib.sweep import __main__ as command


@pytest.fixture
def called(monkeypatch):
    """What sweep and measure are asked for, in order, in place of training."""
    calls = []

    def stand_in(part, *, within, store, device, budget, executor):
        assert set(part) <= set(within)
        calls.append((part, budget, within))
        return pandas.DataFrame([{"key": what.key, "status": "done"} for what in part])

    monkeypatch.setattr(command, "sweep", stand_in)
    monkeypatch.setattr(command, "measure", stand_in)
    return calls


def test_the_data_that_decide_are_trained_in_their_order(called, capsys):
    assert command.main(["deciding", "--preset", "lite", "--budget", "1h"]) == 0
    assert [part for part, *_ in called] == [item.runs("lite") for item in DECIDING.values()]
    assert [within for *_, within in called] == [list(item.grid("lite")) for item in DECIDING.values()]
    left = [budget for _, budget, _ in called]
    assert left == sorted(left, reverse=True) and 3590 < left[-1] <= left[0] <= 3600
    measured = [isinstance(part[0], Measurement) for part, *_ in called]
    assert measured == [name in ("deciding_4", "deciding_5") for name in DECIDING]
    assert "done" in capsys.readouterr().out


def test_one_item_or_a_part_of_all_may_be_asked_for(called):
    assert command.main(["deciding_3", "--preset", "lite"]) == 0
    assert called.pop()[:2] == (DECIDING["deciding_3"].runs("lite"), None)
    assert command.main(["deciding", "--preset", "lite", "--where", "width == 0.25 and seed == 0"]) == 0
    assert [len(part) for part, *_ in called] == [3, 3]  # of the first item and of the third


def test_at_another_preset_there_are_none(called, capsys):
    assert command.main(["deciding", "--preset", "paper"]) == 1
    assert "the data that decide are of 'lite'" in capsys.readouterr().err and not called
