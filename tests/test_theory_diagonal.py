"""Diagonal linear networks: the least interpolator against SciPy, flows against their invariants, published values."""

import numpy as np
import pytest
from scipy.optimize import minimize

from lib.theory import diagonal, relu_regression
from lib.theory.diagonal import SparseRegression
from lib.theory.diagonal.network import METHODS, Samples, rates

D = 30


@pytest.fixture(scope="module")
def problem():
    return SparseRegression.draw([0])


def random_problem(seed, n=3, d=6):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, d)), random.standard_normal(n)


# ---------------------------------------------------------------------------- the potential and its interpolator


def test_the_potential_is_its_formula_and_the_gradient_its_derivative():
    beta, alpha = np.array([0.3, -1.2, 0.0]), np.array([0.5, 0.7, 0.2])
    z = beta / alpha**2
    formula = (alpha**2 * (2 - np.sqrt(4 + z**2) + z * np.arcsinh(z / 2))).sum()
    assert diagonal.potential(beta, alpha) == pytest.approx(formula, rel=1e-12)
    step = 1e-6 * np.eye(3)
    slope = (diagonal.potential(beta + step, alpha) - diagonal.potential(beta - step, alpha)) / 2e-6
    assert diagonal.gradient(beta, alpha) == pytest.approx(slope, abs=1e-8)


def test_the_potential_neither_overflows_nor_cancels():
    # q(z) → z²/4 for small z, and |z|(log|z| − 1) for large; |β|/α² = 1e300 and 1e-20
    assert diagonal.potential([1.0], 1e-150) == pytest.approx(2 * np.log(1e150) - 1, rel=1e-12)
    assert diagonal.potential([1e-20], 1.0) == pytest.approx(1e-40 / 4, rel=1e-9)
    assert np.isfinite(diagonal.gradient([1.0, -1.0, 0.0], 1e-200)).all()


@pytest.mark.parametrize("alpha", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_least_interpolator_is_that_of_an_independent_convex_solver(alpha, seed):
    X, y = random_problem(seed)
    constraint = {"type": "eq", "fun": lambda beta: X @ beta - y, "jac": lambda beta: X}
    start = np.linalg.lstsq(X, y, rcond=None)[0]
    options = {"ftol": 1e-15, "maxiter": 1000}
    solved = minimize(
        lambda b: diagonal.potential(b, alpha), start, jac=lambda b: diagonal.gradient(b, alpha), method="SLSQP",
        constraints=constraint, options=options
    )  # fmt: skip
    assert diagonal.least_potential(X, y, alpha) == pytest.approx(solved.x, abs=1e-5)


@pytest.mark.parametrize("alpha", [1e3, 1.0, 0.05, 1e-4, 1e-20])
def test_the_least_interpolator_has_a_certificate(problem, alpha):
    beta = diagonal.least_potential(problem.X[0], problem.y[0], alpha)
    certificate = diagonal.certificate(problem.X[0], problem.y[0], beta, alpha)
    assert certificate.kkt < 1e-12 and certificate.infeasibility < 1e-8


def test_a_large_alpha_gives_the_least_l2_norm_and_a_small_one_the_sparse_target(problem):
    X, y = problem.X[0], problem.y[0]
    assert diagonal.least_potential(X, y, 1e3) == pytest.approx(np.linalg.pinv(X) @ y, abs=1e-6)
    assert diagonal.least_potential(X, y, 1e-8) == pytest.approx(problem.target[0], abs=1e-6)


def test_a_certificate_tells_another_interpolator(problem):
    X, y = problem.X[0], problem.y[0]
    assert diagonal.certificate(X, y, np.linalg.pinv(X) @ y, 0.05).kkt > 1e-2
    assert diagonal.certificate(X, y, np.zeros(D), 0.05).infeasibility == 1


@pytest.mark.parametrize(
    ("X", "y", "alpha", "message"),
    [
        ([[1.0], [1.0]], [1.0, 2.0], 1.0, "not in the range of X"),
        ([[1.0, 1.0]], [1.0], 0.0, "alpha = .*: must be positive"),
        ([[1.0, 1.0]], [1.0], 1e-140, "its square is lost"),
        ([[1.0, 1.0]], [1.0, 2.0], 1.0, r"must be \(n, d\) and \(n,\)"),
    ],
)
def test_a_problem_without_an_interpolator_is_an_error_that_says_why(X, y, alpha, message):
    with pytest.raises(ValueError, match=message):
        diagonal.least_potential(X, y, alpha)


# ---------------------------------------------------------------------------- networks and their gradients


def test_both_parametrizations_are_one_and_take_the_same_steps():
    random = np.random.default_rng(0)
    w, (X, y) = random.standard_normal((2, 6)), random_problem(0)
    u, v = diagonal.to_uv(w)
    assert diagonal.beta_of(w) == pytest.approx(u * v)
    assert diagonal.from_uv(np.stack((u, v))) == pytest.approx(w)
    slope = X.T @ (X @ (u * v) - y) / len(y)  # ‖X(u ⊙ v) − y‖²/2n
    moved = diagonal.to_uv(w + 0.1 * diagonal.velocity(Samples.from_arrays(X, y), w, "gd", 0.0))
    assert moved == pytest.approx(np.stack((u - 0.1 * slope * v, v - 0.1 * slope * u)))


def numerical(loss, w):
    steps = 1e-6 * np.eye(w.size).reshape(-1, *w.shape)
    return np.array([(loss(w + step) - loss(w - step)) / 2e-6 for step in steps]).reshape(w.shape)


@pytest.mark.parametrize("method", METHODS)
def test_the_velocity_is_minus_the_gradient_at_the_ascent_points(method):
    random, rho = np.random.default_rng(1), 0.2
    w, (X, y) = random.standard_normal((2, 6)), random_problem(1)

    def single(i):
        return lambda w: (X[i] @ diagonal.beta_of(w) - y[i]) ** 2 / 4

    gradients = [numerical(single(i), w) for i in range(len(y))]
    climbs = {"gd": [0] * len(y), "n-sam": [np.mean(gradients, 0)] * len(y), "1-sam": gradients}[method]
    wanted = -np.mean([numerical(single(i), w + rho * climb) for i, climb in enumerate(climbs)], 0)
    assert diagonal.velocity(Samples.from_arrays(X, y), w, method, rho) == pytest.approx(wanted, abs=1e-5)


def test_with_one_sample_the_radii_are_one_up_to_their_factor():
    X, y = random_problem(2, n=1)
    w, samples = np.full((2, 6), 0.3), Samples.from_arrays(X, y)
    many = diagonal.velocity(samples, w, "n-sam", 0.2)
    assert many == pytest.approx(diagonal.velocity(samples, w, "1-sam", 0.2), rel=1e-12)  # equation 8: c = 1
    # The released code's 1-SAM at ρ = 0.1 is its n-SAM at 0.2, and not that at 0.1.
    ends = [
        diagonal.flow(X, y, 0.3, method=method, rho=rho, ascent_factor=factor).beta
        for method, rho, factor in (("n-sam", 0.2, 1.0), ("1-sam", 0.1, 2.0), ("n-sam", 0.1, 1.0))
    ]
    assert ends[0] == pytest.approx(ends[1], abs=1e-12) and abs(ends[0] - ends[2]).max() > 1e-4


# ---------------------------------------------------------------------------- flows


@pytest.mark.parametrize(("method", "rho"), [("gd", 0.0), ("n-sam", 0.3), ("1-sam", 0.1)])
def test_a_flow_conserves_and_ends_at_the_interpolator_of_its_effective_alpha(problem, method, rho):
    X, y = problem.X[0], problem.y[0]
    end = diagonal.flow(X, y, 0.05, method=method, rho=rho)
    assert end.converged and end.drift < 1e-5
    assert np.sqrt(end.w.prod(0)) == pytest.approx(end.effective_alpha, rel=1e-5)  # w₊w₋ = α²exp(−2E)
    assert diagonal.certificate(X, y, end.beta, end.effective_alpha).kkt < 1e-7
    assert end.beta == pytest.approx(diagonal.least_potential(X, y, end.effective_alpha), abs=1e-6)


@pytest.mark.parametrize(("method", "rho", "printed"), [("n-sam", 0.3, 2.3e-2), ("1-sam", 0.1, 9.7e-2)])
def test_the_printed_exponent_is_off_by_as_much_as_computed_independently(problem, method, rho, printed):
    end = diagonal.flow(problem.X[0], problem.y[0], 0.05, method=method, rho=rho)
    kkt = diagonal.certificate(problem.X[0], problem.y[0], end.beta, end.printed_alpha).kkt
    assert kkt == pytest.approx(printed, rel=0.03)  # two digits are given
    assert end.printed_alpha == pytest.approx(end.effective_alpha**2 / 0.05)


def test_the_first_order_is_one(problem):
    errors = []
    for rho in (0.02, 0.01):
        end = diagonal.flow(problem.X[0], problem.y[0], 0.05, method="1-sam", rho=rho)
        errors.append(abs(end.first_order - end.exponent).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)  # E − E₁ = O(ρ²)


def test_a_flow_that_collapses_says_that_it_has_not_converged(problem):
    end = diagonal.flow(problem.X[0], problem.y[0], 0.05, method="1-sam", rho=2.0, max_time=1e4)
    assert not end.converged and abs(end.beta).max() < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sam"}, "method = 'sam': must be one of gd, n-sam, 1-sam"),
        ({"method": "1-sam", "rho": -1.0}, "rho = -1.0"),
        ({"method": "1-sam", "ascent_factor": 0.0}, "ascent_factor = 0.0"),
    ],
)
def test_a_flow_of_bad_settings_is_an_error_that_names_them(options, message):
    with pytest.raises(ValueError, match=message):
        diagonal.flow([[1.0, 2.0]], [1.0], 0.1, **options)


@pytest.mark.parametrize("method", ["n-sam", "1-sam"])
@pytest.mark.parametrize("depth", [3, 4])
def test_a_deep_flow_needs_two_scales(problem, method, depth):
    X, y = problem.X[0], problem.y[0]
    end = diagonal.deep_flow(X, y, 0.3, depth=depth, method=method, rho=0.1, rtol=1e-7)
    one = np.broadcast_to(end.shifts.mean(0), (2, D))
    assert end.converged and end.residual(X, end.shifts) < 1e-5 < 1e-4 < end.residual(X, one)
    plain = diagonal.deep_flow(X, y, 0.3, depth=depth, method="gd", rtol=1e-7)
    assert abs(plain.shifts).max() == 0 and plain.residual(X, plain.shifts) < 1e-5
    with pytest.raises(ValueError, match="depth = 2"):
        diagonal.deep_flow(X, y, 0.3, depth=2, method="gd")


# ---------------------------------------------------------------------------- discrete runs against published values

PUBLISHED = [  # method, α, γd, ρ, factor, test losses to the digits given (the released notebook's cells 1 to 5)
    ("n-sam", 0.05, 5, [0, 0.01, 0.1, 1.0], 1, [0.0150560, 0.0151436, 0.0159820, 0.0360649]),
    ("1-sam", 0.01, 5, [0, 0.01, 0.03, 0.1], 2, [6.3379e-4, 4.6638e-4, 2.3854e-4, 1.5397e-5]),
    ("1-sam", 0.05, 10, [0, 0.03, 0.15, 0.2], 2, [0.0157478, 0.0091279, 2.5260e-4, 1.5622e-5]),
    ("1-sam", 0.05, 15, [0, 0.001, 0.03, 0.3], 2, [0.0164458, 0.0161749, 0.0094691, 6.35e-9]),
    ("1-sam", 0.05, 1, [0, 0.175], 2, [0.0148656, 1.2458e-4]),
]


@pytest.mark.parametrize(("method", "alpha", "gamma", "rhos", "factor", "losses"), PUBLISHED)
def test_steps_end_at_the_published_test_losses(problem, method, alpha, gamma, rhos, factor, losses):
    end = diagonal.descend(problem, alpha, method=method, step_size=gamma / D, rho=rhos, ascent_factor=factor)
    assert end.test_loss[-1, 0] == pytest.approx(losses, rel=1e-3 if min(losses) < 1e-8 else 4e-5)


def test_runs_that_are_stacked_are_those_alone():
    both = SparseRegression.draw([0, 1])
    options = {"method": "1-sam", "steps": 200, "stochastic": 3}
    stacked = diagonal.descend(both, 0.05, step_size=[1 / D, 5 / D], rho=[0.1, 0.2], **options)
    alone = diagonal.descend(both, 0.05, step_size=5 / D, rho=0.2, **options)
    assert stacked.w[:, 1:] == pytest.approx(alone.w, rel=1e-9)
    full = {"method": "n-sam", "step_size": 1 / D, "rho": 0.1, "steps": 50}
    second = diagonal.descend(both[1:], 0.05, **full)
    assert diagonal.descend(both, 0.05, **full).w[1:] == pytest.approx(second.w, rel=1e-9)


def test_a_stochastic_step_is_the_full_one_in_the_mean(problem):
    samples, squares = Samples.from_arrays(problem.X[0], problem.y[0]), np.full((2, D), 0.04)
    for method in METHODS:
        single = [rates(samples, *squares, method, 0.1, weights=row) for row in np.eye(20)]
        full = rates(samples, *squares, method, 0.1)
        assert np.mean([one.descent for one in single], 0) == pytest.approx(full.descent, abs=1e-12)
        assert np.mean([one.shrinkage for one in single], 0) == pytest.approx(full.shrinkage, abs=1e-12)


def test_a_run_goes_on_from_where_another_ended(problem):
    options = {"method": "gd", "step_size": 1 / D}
    once = diagonal.descend(problem, 0.05, steps=100, **options)
    first = diagonal.descend(problem, 0.05, steps=60, **options)
    assert diagonal.descend(problem, first.w, steps=40, **options).w == pytest.approx(once.w, rel=1e-12)


# ---------------------------------------------------------------------------- the ReLU regression


def test_the_gradient_of_the_relu_network_is_that_of_its_loss():
    start = relu_regression.Networks.draw([0])
    one, _, losses = relu_regression.train(start, rho=[0.0], schedule=["constant"], steps=1, step_size=1e-9)
    assert losses[0] == pytest.approx(start.loss) and one.loss < start.loss

    def loss(output):
        return relu_regression.Networks(start.hidden, output).loss[0]

    wanted = numerical(loss, start.output)
    assert (start.output - one.output) / 1e-9 == pytest.approx(wanted, rel=1e-4, abs=1e-2 * abs(wanted).max())


def test_sam_on_the_relu_network_climbs_by_rho_and_networks_do_not_meet():
    start = relu_regression.Networks.draw([0, 0, 1])
    settings = {"schedule": ["constant", "linear decay", "constant"], "steps": 20}
    mixed, _, _ = relu_regression.train(start, rho=[0.0, 0.3, 0.3], **settings)
    alone = relu_regression.Networks(start.hidden[2:], start.output[2:])
    last, _, _ = relu_regression.train(alone, rho=[0.3], schedule=["constant"], steps=20)
    assert mixed.output[2] == pytest.approx(last.output[0], rel=1e-12)
    assert abs(mixed.output[0] - mixed.output[1]).max() > 1e-6
    with pytest.raises(ValueError, match=r"schedule = .*'cosine'"):
        relu_regression.train(start, rho=[0.0] * 3, schedule=["cosine"] * 3, steps=1)


def test_kinks_are_where_the_slope_changes():
    network = relu_regression.Networks(np.array([[[2.0, 0.0], [-1.0, 0.5]]]), np.array([[3.0, 1.0]]))
    (at, change), grid = network.kinks()[0], np.linspace(-1, 1, 2001)
    assert at == pytest.approx([0.0, 0.5]) and change == pytest.approx([6.0, 1.0])
    slope = np.diff(network(grid)[0]) / np.diff(grid)
    assert abs(np.diff(slope)).sum() == pytest.approx(abs(change).sum())
    place, total = relu_regression.merged(np.array([0.0, 0.02, 1.0]), np.array([1.0, 3.0, 0.05]))
    assert place == pytest.approx([0.015]) and total == pytest.approx([4.0])
