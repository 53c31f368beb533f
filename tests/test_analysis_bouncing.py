"""What notebook 06 computes: checks that would see a wrong statement, limits, drift, a network, and its verdicts."""

import numpy as np
import pandas
import pytest
import torch

from lib import data
from lib.paper import experiments
from lib.paper.analysis import bouncing, bouncing_drift, bouncing_meaning, bouncing_network
from lib.paper.analysis import bouncing_verdicts as verdicts
from lib.theory import bouncing as theory
from lib.theory import drift
from lib.theory.least_squares import LeastSquares


@pytest.fixture(scope="module")
def problems():
    return experiments.random_quadratics(40, condition=(1.05, 100), share=(0.1, 0.499), seed=3)


def test_random_quadratics_are_in_the_theorem_s_domain(problems):
    lam, inside = problems.lam, np.arange(10) < problems.size[:, None]
    assert (lam[inside] > 0).all() and (lam[~inside] == 0).all() and (problems.w[~inside] == 0).all()
    assert (np.diff(lam, axis=1) <= 0).all() and (lam[:, 1] <= 0.99 * lam[:, 0] * (1 + 1e-12)).all()
    share, condition = problems.eta * lam[:, 0], lam[:, 0] / problems.least()
    assert share.min() >= 0.1 and share.max() < 0.5 and condition.max() <= 100 * (1 + 1e-9)
    assert len(set(problems.size)) > 5 and len(problems.only(problems.size == 2).w) == (problems.size == 2).sum()


def test_the_statements_hold_and_a_wrong_constant_is_seen(problems, monkeypatch):
    right = bouncing.recurrence_checks(problems, 20)
    assert set(right["statement"]) == {"ordering", "shrinks", "gains", "kept", "potential", "descent"}
    assert (right["violations"] == 0).all() and (right["cases"] > 0).all()
    known = theory.constants

    def wrong(lam, eta, rho):
        constants = known(lam, eta, rho)
        return constants._replace(
            beta=0.9 * constants.beta, alpha=1.1 * constants.alpha, b=0.4 * constants.b, c=1.01 * constants.c
        )

    monkeypatch.setattr(theory, "constants", wrong)
    seen = bouncing.recurrence_checks(problems, 20).set_index("statement")["violations"]
    assert (seen[["shrinks", "gains", "kept", "potential", "ordering"]] > 0).all()


def test_stationary_points_are_as_stated_and_a_wrong_sign_is_seen():
    points = bouncing.stationary_checks(5)
    assert verdicts.stationary(points)[1] and (points["same"] > 1).any()
    points.loc[0, ["negative", "positive"]] += [1, -1]
    assert not verdicts.stationary(points)[1]


def test_limits_are_reached_and_stay(problems):
    few = problems.only(problems.eta * problems.least() > 0.02)
    table = bouncing.limits(few, cap=20_000)
    assert table["steps"].notna().all() and verdicts.limit(table)[1] and verdicts.steps(table)[1]
    assert verdicts.visits(table)[1]
    assert bouncing.limits_in_logarithms(few, 20_000).max() < 1e-12
    assert bouncing.limits(few, cap=32)["steps"].isna().any()
    assert not verdicts.limit(table.assign(later=1e-6))[1] and not verdicts.limit(table.assign(turns=False))[1]
    assert verdicts.limit(table.assign(turns=table.index != 0, lost=table.index == 0))[1]
    assert not verdicts.steps(table.assign(horizon=1e-3, gap=1e-3))[1]


def test_a_component_that_has_underflowed_is_lost_but_its_logarithm_is_not():
    one = experiments.Quadratics(*(np.array(value) for value in ([[1.0, 0.01]], [0.49], [1.0], [[1e-150, 1e4]], [2])))
    assert bouncing.limits(one, cap=20_000)["lost"].all()
    assert bouncing.limits_in_logarithms(one, 20_000).max() < 1e-10


def test_sam_ends_at_the_loss_of_the_formula():
    table = bouncing_meaning.end_losses({"rho": [0.01, 0.1]}, dict(lam1=1.0, eta=0.2, rho=0.1), steps=2000)
    assert verdicts.minimax(table)[1] and table["measured"].iloc[1] == pytest.approx(100 * table["measured"].iloc[0])


def test_the_whole_batch_bounces_and_unnormalized_sam_converges():
    problem = LeastSquares.gaussian(n=10, d=3)
    options = dict(eta=0.4, rho=0.1, batch_sizes=(1, 10), steps=600, repetitions=5)
    last = bouncing_meaning.mini_batches(problem, **options).groupby("batch_size").last()
    lam1 = torch.linalg.eigvalsh(problem.hessian)[-1].item()
    limit = float(theory.constants([lam1], 0.4, 0.1).limit)
    assert last["turns"][10] == 1 and last["loss"][10] == pytest.approx(lam1 * limit**2 / 2, rel=1e-6)
    assert last["share"][10] == pytest.approx(1, abs=1e-3) and last["turns"][1] < 1
    plain = bouncing_meaning.mini_batches(problem, **options, normalized=False)
    assert verdicts.converges(plain)[1] and not verdicts.converges(plain[plain["step"] < 50])[1]
    assert verdicts.batches(pandas.DataFrame({"batch_size": [1, 10], "turns": [0.6, 0.0]}), samples=10)[1]
    assert not verdicts.batches(pandas.DataFrame({"batch_size": [1, 5], "turns": [0.6, 0.4]}), samples=10)[1]


def test_float32_loses_what_float64_finds():
    sizes = bouncing_meaning.precisions([10, 5, 1], [3.0, -2.0, 1.0], eta=0.01, rho=0.05, steps=1500)
    assert verdicts.precision(sizes)[1]
    assert not verdicts.precision(sizes.assign(size=1.0))[1]


def test_gradients_of_the_polynomials_are_those_of_autograd():
    random = torch.Generator().manual_seed(0)
    third, fourth = (
        bouncing_drift._symmetric(torch.randn(*[3] * k, generator=random, dtype=torch.float64)) for k in (3, 4)
    )
    lam, w = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64), torch.randn(3, generator=random, dtype=torch.float64)
    letters = "abcd"

    def loss(w):
        quartic = torch.einsum("abcd,a,b,c,d", fourth, *[w] * len(letters)) / 24
        return (lam * w**2).sum() / 2 + torch.einsum("abc,a,b,c", third, w, w, w) / 6 + quartic

    expected = drift.gradient_of(loss)(w)
    assert torch.allclose(bouncing_drift._Gradient(lam, third, fourth)(w), expected, rtol=1e-12)
    e1 = torch.eye(3, dtype=torch.float64)[0]
    assert torch.allclose(drift.curvature_gradient(loss, 0 * w, e1), third[0, 0], atol=1e-12)


def test_the_printed_bound_fails_on_cubics_and_the_corrected_one_holds():
    errors = bouncing_drift.polynomial_errors(20, [1e-3, 1e-2, 1e-1])
    assert not verdicts.error_bound(errors, "printed")[1] and verdicts.error_bound(errors, "corrected")[1]
    assert (errors.query("degree == 'cubic'")["printed"] == 0).all()
    assert verdicts.drift_size(errors, floors=("curved",))[1] and not verdicts.drift_size(errors, "2")[1]
    toy = bouncing_drift.toy(0.1)
    assert toy["printed"] == 0 and toy["error"] == pytest.approx(2.7e-6, rel=0.02) and toy["error"] < toy["corrected"]


def test_in_the_valley_gd_stays_and_sam_slides():
    ends = bouncing_drift.valley_paths((1.5, 2.0), eta=0.3, rho=0.5, steps=300).groupby("optimizer").last()
    assert ends["curvature"]["GD"] > 2 and ends["curvature"]["SAM"] < 1
    w = torch.tensor([0.7, -0.4], dtype=torch.float64)
    slope = drift.gradient_of(lambda w: (0.5 + 2 * torch.sigmoid(w[1])) * w[0] ** 2 / 2)(w)
    step = bouncing_drift.valley_paths((0.7, -0.4), eta=0.1, rho=0.1, steps=1).query("optimizer == 'GD' and step == 1")
    assert step[["w1", "w2"]].to_numpy()[0] == pytest.approx((w - 0.1 * slope).numpy())


@pytest.fixture(scope="module")
def network():
    return bouncing_network.TanhNetwork.on("digits", samples=10, hidden=(6, 5))


def test_the_network_s_gradient_loss_and_sharpness_are_those_of_its_module(network):
    w = torch.stack([network.start(0), network.start(1)])
    for one, gradient, loss in zip(w, network.gradient(w), network.loss(w), strict=True):
        model = network.model(one)
        expected = (model(network.x) - network.y).square().sum(1).mean() / 2
        parts = torch.autograd.grad(expected, list(model.parameters()))
        assert loss.item() == pytest.approx(expected.item())
        assert torch.allclose(gradient, torch.cat([part.flatten() for part in parts]), rtol=1e-10, atol=1e-14)
    hessian = torch.autograd.functional.hessian(network.loss, w[0])
    assert network.sharpness(w[0]).value == pytest.approx(torch.linalg.eigvalsh(hessian)[-1].item(), rel=1e-4)


def test_runs_of_a_network_side_by_side_are_those_one_by_one(network):
    w = network.start()
    both = bouncing_network.descend(network, torch.stack([w, w]), eta=0.1, rhos=(0.0, 0.1), steps=5)
    for i, rho in enumerate((0.0, 0.1)):
        one = w
        for _ in range(5):
            one = drift.sam_step(network.gradient, one, 0.1, rho)
        assert torch.allclose(both[-1, i], one, rtol=1e-12)


def test_the_drift_of_a_network_has_a_row_for_each_window_and_measurement(network):
    w = bouncing_network.descend(network, network.start()[None], eta=0.3, rhos=(0.0,), steps=3000)[-1, 0]
    eta = 0.3 / network.sharpness(w).value
    windows, path = bouncing_network.drift_of_network(network, w, eta=eta, rhos=(0.0, 0.1), steps=20, every=10)
    assert windows["window"].tolist() == [1, 10, 100, 400] and len(path) == 4
    assert windows["cosine"].iloc[0] > 0.9 and windows["size"].iloc[0] == pytest.approx(1, abs=0.2)


def test_the_edge_is_measured_along_training_for_each_radius():
    setting = experiments.Edge("digits", samples=20, hidden=(5,), eta=0.2, rhos=(0.0, 0.1), steps=10, every=5)
    series = bouncing_network.edge_series(setting)
    assert series["step"].tolist() == [0, 5, 10] * 2
    assert (series.query("rho == 0")["edge"] == 10).all() and (series.query("rho > 0")["edge"] < 10).all()
    assert data.available(experiments.edge("smoke").dataset)


def test_verdicts_of_network_and_edge_can_be_true_false_and_none():
    windows = pandas.DataFrame({"window": [1, 100], "cosine": [0.99, 0.95]})
    assert verdicts.network_cosine(windows)[1] and not verdicts.network_cosine(windows.assign(cosine=0.5))[1]
    path = pandas.DataFrame({"rho": [0, 0, 0.1, 0.1], "sharpness": [5, 5.01, 5, 4.0]})
    assert verdicts.network_flatter(path)[1]
    assert not verdicts.network_flatter(path.assign(sharpness=[5, 4, 5, 4.0]))[1]
    series = pandas.DataFrame({"rho": 0.1, "step": [0, 1, 2], "sharpness": [9, 3.0, 3.1], "edge": 3.0})
    assert verdicts.edge(series, gd=False)[1] and not verdicts.edge(series.assign(edge=2.0), gd=False)[1]
    assert verdicts.edge(None, gd=True)[1] is None


def test_statement_counts_violations():
    checks = pandas.DataFrame({"statement": ["a", "b"], "cases": [5, 5], "violations": [0, 1]})
    assert verdicts.statement(checks, "a") == ("0 violations in 5 cases", True)
    assert not verdicts.statement(checks, "b")[1]
