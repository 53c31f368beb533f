"""What notebook 07 trains and measures, against values computed independently, and its verdicts on made-up tables."""

import numpy as np
import pandas
import pytest
import torch

from lib.paper import experiments
from lib.paper.analysis import benign
from lib.paper.analysis import benign_verdicts as verdicts


@pytest.fixture(scope="module")
def trained():
    return benign.train_all([dict(n=20, p=p, m=50, seed=seed) for p in (50, 200, 1000) for seed in range(4)])


def test_every_flipped_label_is_fitted_and_the_error_is_near_that_of_an_independent_computation(trained):
    assert trained["done"].all() and (trained["train_error"] == 0).all() and (trained["loss"] <= 1 / 80).all()
    assert (trained["flips"] == 3).all() and (trained["fitted"] == 3).all()
    # Computed independently, 3 seeds, m = 50: p = 50 .067 to .086, p = 200 .0035 to .0255, p = 1000 0.
    medians = trained.groupby("p")["error"].median()
    assert 0.02 < medians[50] < 0.15 and 0.001 < medians[200] < 0.05 and medians[1000] < 0.002


def test_settings_keep_their_order_and_do_not_depend_on_what_is_trained_beside_them(trained):
    settings = [dict(n=20, p=200, m=50, seed=1), dict(n=8, p=30, seed=0, rho=0.1), dict(n=20, p=50, m=50, seed=0)]
    result = benign.train_all(settings)
    assert result[["n", "p", "seed"]].to_numpy().tolist() == [[20, 200, 1], [8, 30, 0], [20, 50, 0]]
    for row in (0, 2):
        same = trained[(trained["p"] == result["p"][row]) & (trained["seed"] == result["seed"][row])].iloc[0]
        assert result["error"][row] == same["error"] and result["steps"][row] == same["steps"]
        assert result["norm"][row] == pytest.approx(same["norm"], rel=1e-9)


def test_step_size_and_initialization_meet_the_last_assumption():
    row = benign._complete(dict(n=20, p=1000, seed=0))
    assert row["alpha"] == pytest.approx(row["omega"] * (20 * 1000) ** 0.5) and row["mu"] == pytest.approx(10)
    assert benign._complete(dict(n=20, p=1000, seed=0, lazy=10.0))["omega"] == pytest.approx(10 * row["omega"])
    assert benign._complete(dict(n=20, p=1000, seed=0, mu=2.0))["mu"] == 2
    # α times the curvature of the loss, at most λ_max(XXᵀ)/(4n), is below the 2 beyond which GD is unstable
    x = benign.drawn([row]).x[0]
    assert row["alpha"] * torch.linalg.matrix_norm(x, 2).item() ** 2 / 80 < 2


def test_along_training_the_norm_grows_as_the_loss_falls():
    table = benign.along_training([dict(n=8, p=40, seed=s) for s in (0, 1)], [0.1, 0.03, 0.01], steps=5000)
    assert table["level"].tolist() == [0.1, 0.1, 0.03, 0.03, 0.01, 0.01] and table["done"].all()
    assert (table.pivot_table(index="seed", columns="level", values="norm").diff(axis=1).iloc[:, 1:] < 0).all(axis=None)


def test_the_plane_shows_the_samples_where_they_are():
    grid, samples = benign.boundary(dict(n=10, p=400, flip=0.2, seed=0), steps=1000, reach=(20, 40))
    assert len(grid) == 121**2 and samples["flipped"].sum() == 2 and samples["right"].all()
    first = samples[samples["flipped"]].iloc[0]
    assert abs(first["t"]) == pytest.approx(20, rel=0.2)  # the length of its noise, √p
    nearest = ((grid["s"] - first["s"]) ** 2 + (grid["t"] - first["t"]) ** 2).idxmin()
    assert grid["output"][nearest] * first["clean"] < 0  # it is classified as its flipped label says


def test_grids_have_every_seed_of_every_cell():
    grids = [experiments.benign_dimensions(), experiments.benign_margins(), experiments.benign_widths()]
    grids += [*experiments.benign_broken().values(), experiments.benign_levels()[0], experiments.benign_sam()]
    for grid in grids:
        frame = pandas.DataFrame(grid)
        cells = frame.groupby([name for name in frame if name != "seed"])["seed"].nunique()
        assert (cells >= 10).all() and len(frame) == cells.sum()
    assert all(setting["p"] >= setting["n"] ** 3 for setting in experiments.benign_margins())


def cells(**columns):
    return pandas.DataFrame(columns)


def test_fits_and_errors():
    good = cells(n=2, p=[8, 16], done=True, train_error=0.0, epsilon=0.1, fitted=1, flips=1, error=[0.001, 0.0], seed=0)
    assert verdicts.fits(good) == ("2 of 2 runs; 2 of 2 flipped labels", True)
    assert not verdicts.fits(good.assign(done=False))[1] and not verdicts.fits(good.assign(epsilon=0.3))[1]
    assert verdicts.error(good)[1] and not verdicts.error(good.assign(error=0.02))[1]
    assert verdicts.error(good.assign(p=7, error=[0.5, 0.5]).replace(16, 7).assign(p=[7, 8], error=[0.5, 0]))[1]


def test_the_form_of_the_bound_is_refuted_by_an_error_that_stays():
    p = np.array([8.0, 27, 64])
    falls = cells(n=2, p=p, error=2 * np.exp(-0.5 * 2 * p ** (1 / 3)), seed=0)
    assert verdicts.form(falls)[1] and not verdicts.form(falls.assign(error=falls["error"].max()))[1]


def test_width_margin_and_norm():
    random = np.random.default_rng(0)
    table = cells(m=np.tile([1, 10, 100], 10), seed=np.repeat(range(10), 3))
    flat = table.assign(error=0.05 + 0.01 * random.normal(size=30))
    assert (
        verdicts.width(flat)[1] and not verdicts.width(flat.assign(error=flat["error"] + 0.02 * np.log10(flat["m"])))[1]
    )
    p = np.tile([1e3, 8e3, 64e3], 10)
    table = cells(n=4, p=p, seed=np.repeat(range(10), 3), margin=(4 * p ** (1 / 3)) ** 0.6)
    assert verdicts.margin(table)[1] and not verdicts.margin(table.assign(margin=table["margin"] ** 0.5))[1]
    table = cells(level=[0.1, 0.01], n=2, p=8, seed=0, norm=[1.0, 2.0], error=[0.1, 0.1], done=True)
    assert verdicts.norm(table)[1] and not verdicts.norm(table.assign(error=[0.1, 0.2]))[1]
    assert not verdicts.norm(table.assign(norm=1.0))[1] and verdicts.norm(table.assign(error=[0.1, 0.2], n=3))[1]


def test_harm_and_sam():
    table = cells(flip=[0.0, 0.4], error=[0.001, 0.3], train_error=0.0)
    assert verdicts.harmful(table, "flip", 0.4)[1]
    assert not verdicts.harmful(table.assign(train_error=0.1), "flip", 0.4)[1]
    assert not verdicts.harmful(table.assign(error=0.005), "flip", 0.4)[1]
    sam = cells(rho=np.repeat([0, 0.1, 0.2], 5), p=50, seed=np.tile(range(5), 3), fitted=3, flips=3)
    sam["error"] = 0.1 + 0.001 * sam["seed"] ** 2 * (1 + sam["rho"])
    assert verdicts.sam_fits(sam)[1] and not verdicts.sam_fits(sam.assign(fitted=2))[1]
    assert not verdicts.sam_error(sam)[1]
    assert verdicts.sam_error(sam.assign(error=sam["error"] - 0.05 * (sam["rho"] == 0.2)))[1]
