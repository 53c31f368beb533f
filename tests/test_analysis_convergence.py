"""Comparing the training curves of a narrow and a wide network."""

import math

import pandas
import pytest

from lib.paper import analysis


def row(width, losses, status="done"):
    epochs = list(range(1, len(losses) + 1))
    return {"width": width, "status": status, "curves": {"epoch": epochs, "train_loss": losses}}


NARROW = [row(1, [1.0, 0.5, 0.1]), row(1, [1.0, 0.4, 0.2])]
WIDE = [row(4, [0.1, 0.05, 0.01]), row(4, [0.3, 0.2, 0.01])]


def test_epochs_to_a_level_and_never():
    losses = row(1, [1.0, 0.5, 0.1])["curves"]
    assert analysis.convergence.epochs_to(losses, 0.5) == 2
    assert analysis.convergence.epochs_to(losses, 0.01) == math.inf


def test_the_level_is_what_all_narrow_seeds_reach_and_the_rest_follows_by_hand():
    result = analysis.convergence.compare_widths(pandas.DataFrame(NARROW + WIDE))
    assert (result.widths, result.level, result.narrow, result.wide) == ((1, 4), 0.2, [3, 3], [1, 2])
    spread = (math.log10(3) + math.log10(4) + 0) / 3 / math.sqrt(2)  # two seeds deviate by |difference|/√2
    assert result.spread == pytest.approx(spread)
    narrow = (0 + math.log10(0.5 * 0.4) + math.log10(0.1 * 0.2)) / 6
    wide = (math.log10(0.1 * 0.3) + math.log10(0.05 * 0.2) + math.log10(0.01 * 0.01)) / 6
    assert result.gap == pytest.approx(narrow - wide)


def test_a_width_that_is_missing_or_has_one_seed_is_not_the_widest():
    rows = [*NARROW, *WIDE, row(8, [0.01, 0.01, 0.01]), row(16, [], "missing"), row(16, [], "missing")]
    assert analysis.convergence.compare_widths(pandas.DataFrame(rows)).widths == (1, 4)


@pytest.mark.parametrize("rows", [NARROW, NARROW + WIDE[:1], NARROW + [row(4, [], "missing")] * 2])
def test_one_width_or_one_seed_compares_nothing(rows):
    assert analysis.convergence.compare_widths(pandas.DataFrame(rows)) is None
