"""The best epoch's accuracy in place of the last one's."""

import math

import pytest

from lib.paper import analysis, plots
from lib.runs import Run
from lib.sweep import sweep


def test_the_best_epoch_is_taken_from_the_curves_of_records(tmp_path):
    runs = [
        Run(dataset="digits", width=0.05, epochs=8, n_train=200, lr=lr, eval_every=every)
        for lr, every in ((0.5, 1), (0.5, 3), (1e6, 1))
    ]
    table = sweep([*runs, runs[0].but(seed=9)], store=tmp_path, device="cpu", progress=False)
    table = sweep([*runs, runs[0].but(seed=10)], store=tmp_path, train=False)
    result = analysis.reported.best_epoch(table)
    for row, before in zip(result.itertuples(), table.itertuples(), strict=True):
        if before.status == "done":
            seen = [a for a in before.curves["test_accuracy"] if a is not None]
            assert row.test_accuracy == pytest.approx(max(seen)) and row.test_accuracy >= before.test_accuracy
        else:
            assert math.isnan(row.test_accuracy)
        assert math.isnan(row.test_accuracy_even) and math.isnan(row.test_accuracy_odd)
    assert set(table["status"]) == {"done", "diverged", "missing"}


def test_readings_are_of_the_networks_and_seeds_that_both_settings_have(tmp_path):
    text = [
        Run(dataset="digits", width=0.05, epochs=4, n_train=100, seed=seed, optimizer="sam" if rho else "sgd", rho=rho)
        for seed in (0, 1)
        for rho in (0, 0.1)
    ]
    released = [run.but(standardize=False, initialization="lecun") for run in text if run.seed == 0]
    tables = [sweep(runs, store=tmp_path, device="cpu", progress=False) for runs in (text, released)]
    result = analysis.reported.readings(*tables).set_index("setting")
    assert result.index.tolist() == [
        f"{s}, {e} epoch" for s in ("Appendix A", "released code") for e in ("last", "best")
    ]
    assert set(result["seed"]) == {0}
    sgd, sam = (tables[1]["curves"][i]["test_accuracy"] for i in (0, 1))
    assert result["gap"]["released code, best epoch"] == pytest.approx(100 * (max(sam) - max(sgd)))
    assert result["gap"]["released code, last epoch"] == pytest.approx(100 * (sam[-1] - sgd[-1]))
    missing = sweep([run.but(seed=5) for run in released], store=tmp_path, train=False)
    empty = analysis.reported.readings(tables[0], missing)
    assert empty.empty and "setting" in empty
    assert plots.fixed_radius(empty, title="t").axes[0].texts[0].get_text() == "no seed is complete"
