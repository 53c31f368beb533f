"""SAM on quadratics against closed forms, a recursion in plain Python, autograd and the optimizer itself."""

import math

import numpy as np
import pytest
import torch

from lib.sam import SAM
from lib.theory import bouncing

LAM = [3.0, 1.0, 0.25]
SETTING = dict(eta=0.12, rho=0.3)


def recursion(w, lam, eta, rho, steps):
    """w_{t+1} = w − η∇ℓ(w + ρ∇ℓ(w)/‖∇ℓ(w)‖), the definition of SAM, in lists of floats."""
    path = [list(w)]
    for _ in range(steps):
        g = [a * x for a, x in zip(lam, w, strict=True)]
        length = math.sqrt(sum(x * x for x in g))
        climbed = [x + rho * y / length for x, y in zip(w, g, strict=True)]
        w = [x - eta * a * y for x, a, y in zip(w, lam, climbed, strict=True)]
        path.append(w)
    return np.array(path)


def test_a_trajectory_is_that_of_the_definition():
    start = [0.4, -1.0, 2.0]
    assert np.allclose(
        bouncing.trajectory(start, LAM, **SETTING, steps=40), recursion(start, LAM, **SETTING, steps=40), rtol=1e-12
    )


def test_a_step_is_that_of_the_optimizer():
    w = torch.tensor([0.4, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    lam = torch.tensor(LAM, dtype=torch.float64)
    expected = bouncing.step(w.detach(), lam, **SETTING)
    optimizer = SAM([w], torch.optim.SGD, rho=SETTING["rho"], lr=SETTING["eta"])

    def closure():
        optimizer.zero_grad()
        loss = (lam * w**2).sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(w.detach(), expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("lam", "eta", "rho", "limit", "steps"),
    [
        ((1, 0.5, 0.1), 0.1, 0.1, 5.263158e-3, 4000),
        ((1, 0.9, 0.5), 0.4, 0.1, 0.025, 4000),
        ((10, 5, 1), 0.01, 0.05, 2.631579e-3, 20000),
    ],
)
def test_the_limits_are_those_that_were_computed_independently(lam, eta, rho, limit, steps):
    assert float(bouncing.constants(lam, eta, rho).limit) == pytest.approx(limit, rel=1e-6)
    last = bouncing.trajectory(np.ones(3), lam, eta, rho, steps)[-2:]
    assert np.abs(last[:, 0]) == pytest.approx([limit] * 2, rel=1e-6) and last[0, 0] * last[1, 0] < 0
    assert np.abs(last[:, 1:]).max() < 1e-9 * limit


def test_constants_are_the_closed_forms():
    constants = bouncing.constants(LAM, **SETTING)
    eta, rho = SETTING["eta"], SETTING["rho"]
    gamma = [eta * rho * a * a / (1 - eta * a) for a in LAM]
    weights = [1 - eta * a for a in LAM]
    alpha = [(weights[0] * gamma[0] + w * g) / (weights[0] + w) for w, g in zip(weights, gamma, strict=True)]
    assert constants.gamma.tolist() == pytest.approx(gamma)
    assert constants.beta.tolist() == pytest.approx([w / (1 + w) * g for w, g in zip(weights, gamma, strict=True)])
    assert constants.alpha.tolist() == pytest.approx(alpha) and constants.alpha[0] == pytest.approx(gamma[0])
    assert float(constants.b) == pytest.approx(weights[0] * gamma[0])
    assert constants.c.tolist() == pytest.approx([a * a / b for a, b in zip(LAM, constants.beta, strict=True)])
    assert float(constants.limit) == pytest.approx(constants.beta[0] / LAM[0])


def test_growth_is_1_in_size_at_beta_and_alike_for_two_components_at_alpha():
    constants = bouncing.constants(LAM, **SETTING)
    for i in range(3):
        assert bouncing.growth(constants.beta[i], LAM, **SETTING)[i] == pytest.approx(-1)
        at = bouncing.growth(constants.alpha[i], LAM, **SETTING)
        assert abs(at[0]) == pytest.approx(abs(at[i]), abs=1e-12)
        assert bouncing.growth(constants.gamma[i], LAM, **SETTING)[i] == pytest.approx(0, abs=1e-12)


def test_steps_descend_the_potential_with_step_size_eta_rho():
    u = np.array([0.02, -0.05, 0.3])
    w = torch.tensor(u, requires_grad=True)
    bouncing.potential(w, torch.tensor(LAM, dtype=torch.float64), **SETTING).backward()
    gradient = bouncing.potential_gradient(u, LAM, **SETTING)
    assert np.allclose(gradient, w.grad, rtol=1e-12)
    after = -bouncing.step(u, LAM, **SETTING)  # u_{t+1} = (−1)^{t+1} w_{t+1}
    assert np.allclose(after, u - SETTING["eta"] * SETTING["rho"] * gradient, rtol=1e-12)
    change = bouncing.potential(after, LAM, **SETTING) - bouncing.potential(u, LAM, **SETTING)
    assert change <= bouncing.descent(u, LAM, **SETTING) < 0


def test_the_least_value_of_the_potential_is_at_the_limits():
    constants = bouncing.constants(LAM, **SETTING)
    assert float(bouncing.potential([float(constants.limit), 0, 0], LAM, **SETTING)) == pytest.approx(
        -constants.beta[0] / 2
    )
    points = np.random.default_rng(0).normal(size=(1000, 3)) * float(constants.limit)
    assert (bouncing.potential(points, LAM, **SETTING) > -constants.beta[0] / 2).all()


@pytest.mark.parametrize("direction", [[1.0, 0, 0, 0], [0, 0.6, -0.8, 0], [0, 0, 0, 2.0]])
def test_the_hessian_at_a_stationary_point_is_that_of_autograd(direction):
    lam = torch.tensor([3.0, 1.0, 1.0, 0.25], dtype=torch.float64)
    unit = torch.tensor(direction, dtype=torch.float64)
    unit = unit / unit.norm()
    beta = bouncing.constants(lam, **SETTING).beta
    i = int(unit.abs().argmax())
    point = beta[i] / lam[i] * unit
    assert bouncing.potential_gradient(point, lam, **SETTING).abs().max() < 1e-12
    expected = torch.func.hessian(lambda u: bouncing.potential(u, lam, **SETTING))(point)
    formula = bouncing.stationary_hessian(direction, lam, **SETTING)
    assert torch.allclose(formula, expected, atol=1e-9 * expected.abs().max())
    values = torch.linalg.eigvalsh(formula)
    zero = values.abs() < 1e-9 * values.abs().max()
    counts = ((values < 0) & ~zero).sum(), zero.sum()
    same = (beta - beta[i]).abs() < 1e-12
    assert counts == ((~same & (beta > beta[i])).sum(), same.sum() - 1)


def test_problems_side_by_side_are_those_one_by_one():
    random = np.random.default_rng(1)
    lam = -np.sort(-random.uniform(0.1, 2, (5, 3)), axis=1)
    eta, rho, w = random.uniform(0.01, 0.2, 5), random.uniform(0.1, 1, 5), random.normal(size=(5, 3))
    for call in (bouncing.step, bouncing.potential, bouncing.potential_gradient, bouncing.descent):
        alone = [call(*one) for one in zip(w, lam, eta, rho, strict=True)]
        assert np.allclose(call(w, lam, eta, rho), np.stack(alone), rtol=1e-13)
    together = bouncing.constants(lam, eta, rho)
    for i in range(5):
        for field, value in bouncing.constants(lam[i], eta[i], rho[i])._asdict().items():
            assert np.allclose(getattr(together, field)[i], value, rtol=1e-14)


def test_tensors_give_tensors_arrays_arrays_and_each_keeps_its_precision():
    for array, kind in ((np.asarray, np.ndarray), (torch.tensor, torch.Tensor)):
        for dtype in ("float32", "float64"):
            w = array([1.0, 2.0, 3.0], dtype=getattr(np if kind is np.ndarray else torch, dtype))
            lam = array(LAM, dtype=w.dtype)
            result = bouncing.step(w, lam, **SETTING)
            assert isinstance(result, kind) and result.dtype == w.dtype
            assert isinstance(bouncing.constants(lam, **SETTING).beta, kind)
    whole = bouncing.constants(torch.tensor([3, 2, 1]), eta=0.1, rho=1)
    assert whole.beta.dtype == torch.float64


def test_the_edge_is_the_printed_formula_and_where_sam_bounces_its_own_curvature():
    norm, eta, rho = torch.tensor([1e-3, 1.0, 50.0], dtype=torch.float64), 0.05, 0.1
    printed = norm / (2 * rho) * ((1 + 8 * rho / (eta * norm)).sqrt() - 1)
    assert torch.allclose(bouncing.sam_edge(norm, eta, rho), printed, rtol=1e-10)
    beta = bouncing.constants(LAM, **SETTING).beta
    assert bouncing.sam_edge(beta, **SETTING).tolist() == pytest.approx(LAM)
    assert bouncing.sam_edge(norm, eta, 0.0).tolist() == pytest.approx([2 / eta] * 3)
    assert float(bouncing.sam_edge(0.0, eta, rho)) == 0 and float(bouncing.sam_edge(0.0, eta, 0.0)) == 2 / eta
    assert float(bouncing.sam_edge(1e-3, eta, 1e-12)) == pytest.approx(2 / eta)


def test_without_a_gradient_sam_stays():
    assert bouncing.step([0.0, 0.0], [1.0, 0.5], 0.1, 0.1).tolist() == [0, 0]
    assert bouncing.step([0.0, 3.0], [1.0, 0.0], 0.1, 0.1).tolist() == [0, 3]


def test_the_bound_on_visits_is_the_printed_one():
    beta = bouncing.constants(LAM, **SETTING).beta
    expected = 3 * beta[0] / (0.12 * 0.25 * 3.0 * beta[2])
    assert float(bouncing.visits_bound(LAM, **SETTING, epsilon=0.5)) == pytest.approx(expected)
    assert float(bouncing.visits_bound([1.0, 0.0], 0.1, 0.1, epsilon=0.5)) == math.inf


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(lam=[1.0, 2.0]), "descending"),
        (dict(lam=[1.0, -0.1]), "none below 0"),
        (dict(lam=[0.0, 0.0]), "the first above 0"),
        (dict(lam=[math.nan, 1.0]), "finite"),
        (dict(lam=[math.inf, 1.0]), "finite"),
        (dict(lam=[]), "one or more"),
        (dict(lam=2.0), "one or more"),
        (dict(eta=0.5), r"0 < eta < 1/\(2 λ_1\)"),
        (dict(eta=0.0), "eta = 0.0: the step size must be"),
        (dict(eta=math.nan), "eta = nan"),
        (dict(rho=0.0), "rho = 0.0: the radius must be a finite number above 0"),
        (dict(rho=math.inf), "rho = inf"),
    ],
)
def test_what_is_outside_the_domain_is_named(given, message):
    good = dict(lam=[1.0, 0.5], eta=0.1, rho=0.1)
    with pytest.raises(ValueError, match=message):
        bouncing.constants(**good | given)
    with pytest.raises(ValueError, match=message):
        bouncing.potential([1.0, 1.0], **good | given)


def test_sam_itself_has_no_bound_on_the_step_size_but_other_nonsense_is_refused():
    assert np.isfinite(bouncing.step([1.0, 1.0], [1.0, 0.5], eta=3.0, rho=0.0)).all()
    with pytest.raises(ValueError, match="eta = -1"):
        bouncing.step([1.0, 1.0], [1.0, 0.5], eta=-1, rho=0.1)
    with pytest.raises(ValueError, match="gradient_norm = -1"):
        bouncing.sam_edge(-1.0, 0.1, 0.1)
    with pytest.raises(ValueError, match="epsilon = 0"):
        bouncing.visits_bound([1.0, 0.5], 0.1, 0.1, epsilon=0)
    with pytest.raises(ValueError, match="eigenvectors of one eigenvalue"):
        bouncing.stationary_hessian([1.0, 1.0], [1.0, 0.5], 0.1, 0.1)
