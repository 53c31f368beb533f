"""The line between SGD and SGD→SAM: its ends are the networks that training gives, and it is kept in a file."""

import pandas
import pytest
import torch

from lib.paper.analysis import stages_line
from lib.runs import Run
from lib.training import engines, fitting

SGD = Run(dataset="digits", n_train=64, width=0.1, epochs=4, batch_size=32)
LATE = SGD.but(rho=0.2, switch=0.5)


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path))
    monkeypatch.setattr(stages_line, "pairs", lambda preset: [(SGD, LATE)])


def test_the_ends_of_the_line_are_the_trained_networks_and_it_is_kept(small, monkeypatch):
    table = stages_line.lines("smoke", train=True).set_index("alpha")
    for alpha, run in ((0.0, SGD), (1.0, LATE)):
        [record] = fitting.fit(engines.engine([run], torch.device("cpu")))
        final = record["final"]
        row = table.loc[alpha]
        assert row["train_loss"] == pytest.approx(final["train_loss"], rel=1e-4)
        assert row["test_loss"] == pytest.approx(final["test_loss"], rel=1e-4)
        assert row["test_error"] == pytest.approx(100 * (1 - final["test_accuracy"]), abs=1e-3)
    assert len(table) == 31 and table["rho"].unique().tolist() == [0.2]
    monkeypatch.setattr(engines, "engine", None)  # nothing is trained again
    again = stages_line.lines("smoke", train=False)
    pandas.testing.assert_frame_equal(again, table.reset_index()[stages_line.COLUMNS])


def test_without_a_file_and_training_there_is_no_line(small):
    table = stages_line.lines("smoke", train=False)
    assert table.empty and stages_line.basin(table)[1] is None


def test_pairs_share_all_but_the_late_switch():
    for preset in ("smoke", "lite", "paper"):
        for first, second in stages_line.pairs(preset):
            assert second.switch == 0.9 and second.rho > 0 and first.rho == 0
            plain = second.but(switch=0, rho=0, decay_in_ascent=False, batch_norm_passes="first")
            assert plain == first


@pytest.mark.parametrize(("bump", "holds"), [(0.0, True), (0.05, False)])
def test_a_barrier_is_above_both_ends(bump, holds):
    rows = [(10, 0, 0.1, a, 0.1 + 0.1 * a + bump * (a == 0.9), 0.3, 5.0 - a) for a in (-1, 0.0, 0.5, 0.9, 1.0)]
    words, result = stages_line.basin(pandas.DataFrame(rows, columns=stages_line.COLUMNS))
    assert result is holds and "α = 1 to 1" in words
