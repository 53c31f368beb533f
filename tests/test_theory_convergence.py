"""The bounds of "Towards Understanding SAM" against iterates on random losses that meet their assumptions.

The recursions and the expectations over all batches are written here; `smooth_losses.simulate` serves long runs only.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from lib.core.seeds import generator
from lib.theory import convergence as bounds
from lib.theory.smooth_losses import SmoothLoss, simulate

# wobble < ½: strongly convex; up to 2.3: PL, not convex; 3: with other minima
LOSSES = [
    SmoothLoss.random(d, wobble=c, condition=condition, seed=seed)
    for seed, (d, c, condition) in enumerate(
        [(1, 0.0, 1), (4, 0.0, 30), (3, 0.4, 5), (2, 0.5, 1), (1, 1.0, 1), (5, 1.8, 10), (2, 3.0, 3)]
    )
]
PL = [problem for problem in LOSSES if problem.mu > 0]
SIZES = list(itertools.product((0.1, 0.5, 0.99), (0.0, 0.5, 0.99)))  # γβ, ρβ
ROUNDING = 1e-10


def starts(d, count=40, seed=0):
    """Points (count×d) at distances from 0.1 to 10 or so."""
    random = generator(seed, "starts", d)
    points = torch.randn(count, d, generator=random, dtype=torch.float64)
    return points * torch.logspace(-1, 1, count, dtype=torch.float64)[:, None]


def full_batch(problem, w, gamma, rho, steps):
    """w_0 … w_T of (20)."""
    path = [w]
    for _ in range(steps):
        path.append(path[-1] - gamma * problem.gradient(path[-1] + rho * problem.gradient(path[-1])))
    return torch.stack(path)


def most(measured, bound, scale):
    """The largest measured/bound over the starts; `scale` carries the rounding of what is measured."""
    return ((measured - ROUNDING * scale) / bound).max().item()


# Theorems 6, 9 and 10


def worst_full_batch(steps):
    """For each bound, the largest ratio of what it bounds to it, over losses, step sizes and starts."""
    worst = {}
    for problem, (g, r) in itertools.product(LOSSES, SIZES):
        beta, mu = problem.beta, problem.mu
        sizes = dict(beta=beta, gamma=g / beta, rho=r / beta, steps=steps)
        path = full_batch(problem, starts(len(problem.scale)), g / beta, r / beta, steps)
        loss, squares = problem.loss(path), problem.gradient(path).square().sum(-1)
        gap, gradients = loss[0], squares[:-1].mean(0)
        ratios = {
            "6": most(gradients, gap * bounds.theorem_6(**sizes, gap=1.0), squares[0]),
            "9": most(gradients, (loss[0] - loss[-1]) * bounds.theorem_9(**sizes, decrease=1.0), squares[0]),
        }
        if mu > 0:
            ratios["6 PL"] = most(loss[-1], gap * bounds.theorem_6_pl(**sizes, mu=mu, gap=1.0), gap)
            ratios["10"] = most(loss[-1], gap * bounds.theorem_10(**sizes, mu=mu, gap=1.0), gap)
        worst |= {name: max(value, worst.get(name, -math.inf)) for name, value in ratios.items()}
    return worst


@pytest.mark.parametrize("steps", [1, 4, 40])
def test_full_batch_sam_stays_below_theorems_6_9_and_10(steps):
    worst = worst_full_batch(steps)
    assert max(worst.values()) <= 1
    # They are not idle: gradient descent on a quadratic meets Theorem 9 with equality.
    assert worst["9"] > 1 - 1e-8
    if steps == 1:
        assert worst["6"] > 0.9 and worst["10"] > 0.9


@pytest.mark.parametrize("g", [0.1, 0.9])
@pytest.mark.parametrize("r", [0.0, 0.7])
def test_the_first_step_sizes_of_theorem_6_are_weaker_than_theorems_9_and_10(g, r):
    sizes = dict(beta=3.0, gamma=g / 3, rho=r / 3, steps=7)
    assert bounds.theorem_9(**sizes, decrease=2.0) <= bounds.theorem_6(**sizes, gap=2.0)
    assert bounds.theorem_10(**sizes, mu=1.0, gap=2.0) <= bounds.theorem_6_pl(**sizes, mu=1.0, gap=2.0)


def test_without_ascent_they_are_those_of_gradient_descent():
    sizes = dict(beta=2.0, gamma=0.4, rho=0.0, steps=5)
    assert bounds.theorem_9(**sizes, decrease=1.0) == pytest.approx(1 / (5 * 0.4 * (1 - 0.4)), rel=1e-14)
    assert bounds.theorem_10(**sizes, mu=0.5, gap=1.0) == pytest.approx((1 - 2 * 0.4 * 0.5 * 0.6) ** 5, rel=1e-14)


def test_theorem_9_as_printed_with_one_gradient_more_does_not_hold():
    problem = LOSSES[0]
    path = full_batch(problem, starts(1), 0.1, 0.0, 1)
    loss, squares = problem.loss(path), problem.gradient(path).square().sum(-1)
    bound = (loss[0] - loss[1]) * bounds.theorem_9(beta=1.0, gamma=0.1, rho=0.0, steps=1, decrease=1.0)
    assert (squares.sum(0) > 1.5 * bound).all()


def test_at_rho_1_over_beta_sam_may_rest_where_the_gradient_does_not_vanish():
    # At a maximum of h along the ascent: why ρ < 1/β is needed. h″ = −β there, and w + ∇L/β is the maximum.
    concave = lambda w: -2.0 * (w - 1.0)  # noqa: E731
    w = torch.tensor([0.3], dtype=torch.float64)
    assert concave(w + 0.5 * concave(w)) == 0 and concave(w) > 1
    with pytest.raises(ValueError, match=r"both must be below 1/beta = 0\.5"):
        bounds.theorem_6(beta=2.0, gamma=0.1, rho=0.5, steps=1, gap=1.0)


# Theorem 11

CONVEX = [problem for problem in LOSSES if problem.convexity >= 0]


@pytest.mark.parametrize("r", [0.0, 0.5, 2.0, 20.0])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.99])
def test_on_convex_losses_sam_stays_below_theorem_11_for_any_rho(r, part):
    assert len(CONVEX) == 4
    for problem, steps in itertools.product(CONVEX, (1, 4, 40)):
        beta = problem.beta
        gamma, rho = 2 * part / (beta * (1 + r)), r / beta
        sizes = dict(beta=beta, gamma=gamma, rho=rho, steps=steps)
        path = full_batch(problem, starts(len(problem.scale)), gamma, rho, steps)
        squares = path.square().sum(-1)  # w* = 0
        mean = problem.loss(path[:-1].mean(0))
        assert most(mean, squares[0] * bounds.theorem_11(**sizes, distance=1.0), squares[0]) <= 1
        if problem.convexity > 0:
            # The factor may be 0, for a quadratic of one curvature: rounding is all that is left.
            bound = bounds.theorem_11_strong(**sizes, mu=problem.convexity, distance=1.0)
            assert (squares[-1] <= squares[0] * (bound + ROUNDING)).all()


def test_theorem_11_is_met_within_a_factor_of_two():
    # Gradient descent with a tiny step: L(w̄) ≈ L(w₀), the bound is distance²/(2γT).
    problem, w = LOSSES[0], starts(1)
    path = full_batch(problem, w, 1.0, 0.0, 1)
    bound = w.square().sum(1) * bounds.theorem_11(beta=1.0, gamma=1.0, rho=0.0, steps=1, distance=1.0)
    torch.testing.assert_close(problem.loss(path[:-1].mean(0)), bound / 2)


def test_the_exact_constant_of_theorem_11_is_that_of_its_proof():
    # V_0 = L(w_0) − L* + ‖w_0 − w*‖²/(2ρ) ≤ (1 + ρβ)‖w_0 − w*‖²/(2ρ), with equality for the steepest quadratic.
    beta, rho = 4.0, 3.0
    v0 = beta / 2 + 1 / (2 * rho)
    strong = bounds.theorem_11_strong(beta=beta, mu=1.0, gamma=0.01, rho=rho, steps=1, distance=1.0)
    rate = 1 - 0.01 * (2 - 0.01 * beta * (1 + rho * beta))
    assert 2 * rho * v0 == 1 + rho * beta
    assert 2 * rho * v0 * rate <= strong == pytest.approx((1 + 2 * rho * beta) * rate, rel=1e-14)
    assert 2 * rho + 1 < 2 * rho * v0  # the printed constant is below it


# Theorems 15 and 18, by expectations over all batches


def expectations(problem, w0, gamma, rho, steps, batch_size, other):
    """E L(w_t) and E‖∇L(w_t)‖² for t = 0 … T, over all sequences of batches, which are equally likely."""
    batches = torch.tensor(list(itertools.product(range(2 * len(problem.phases)), repeat=batch_size)))
    pairs = list(itertools.product(range(len(batches)), repeat=2)) if other else [(i, i) for i in range(len(batches))]
    descent, ascent = (batches[list(side)] for side in zip(*pairs, strict=True))
    w, loss, squares = w0[None], [], []
    for t in range(steps + 1):
        loss.append(problem.loss(w).mean())
        squares.append(problem.gradient(w).square().sum(-1).mean())
        if t < steps:
            many = w.repeat_interleave(len(pairs), 0)
            i, j = descent.repeat(len(w), 1), ascent.repeat(len(w), 1)
            w = many - gamma * problem.gradient_on(many + rho * problem.gradient_on(many, j), i)
    return torch.stack(loss), torch.stack(squares)


NOISY = [
    SmoothLoss.random(d, wobble=c, condition=condition, noise=noise, pairs=2, seed=seed)
    for seed, (d, c, condition, noise) in enumerate(
        [(1, 0.0, 1, 1.0), (3, 0.4, 5, 0.3), (2, 1.0, 1, 5.0), (2, 3.0, 3, 1)]
    )
]


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 5), (2, 2)])
@pytest.mark.parametrize(("g", "r"), [(0.05, 0.25), (0.5, 0.25), (1.0, 0.25), (1.0, 0.0), (0.1, 0.1)])
def test_m_sam_stays_below_theorem_18(batch_size, steps, g, r):
    for problem, distance in itertools.product(NOISY, (0.0, 0.3, 3.0)):
        beta, w0 = problem.sample_beta, distance * starts(len(problem.scale))[-1] / 10
        gamma, rho = g / beta, r / beta
        loss, squares = expectations(problem, w0, gamma, rho, steps, batch_size, other=False)
        sizes = dict(beta=beta, gamma=gamma, rho=rho, sigma=problem.sigma, batch_size=batch_size)
        for T in range(1, steps + 1):
            bound = bounds.theorem_18(**sizes, steps=T, decrease=(loss[0] - loss[T]).item())
            assert squares[:T].mean() <= bound


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 3), (2, 1)])
@pytest.mark.parametrize(("g", "r"), [(0.05, 0.5), (0.5, 0.5), (0.5, 0.0), (0.1, 0.1)])
def test_stochastic_n_sam_stays_below_theorem_15(batch_size, steps, g, r):
    for problem, distance in itertools.product(NOISY, (0.0, 0.3, 3.0)):
        beta, w0 = problem.beta, distance * starts(len(problem.scale))[-1] / 10  # (A2') alone: not sample_beta
        gamma, rho = g / beta, r / beta
        loss, squares = expectations(problem, w0, gamma, rho, steps, batch_size, other=True)
        sizes = dict(beta=beta, gamma=gamma, rho=rho, sigma=problem.sigma, batch_size=batch_size)
        for T in range(1, steps + 1):
            bound = bounds.theorem_15(**sizes, steps=T, decrease=(loss[0] - loss[T]).item())
            assert squares[:T].mean() <= bound


def test_the_noise_of_theorem_15_does_not_grow_with_the_steps():
    sizes = dict(beta=2.0, gamma=0.1, rho=0.2, sigma=3.0, batch_size=4)
    floor = 4 * 9 * 2 * (0.1 + 0.04 * 2) / 4
    assert bounds.theorem_15(**sizes, steps=10, decrease=0.0) == pytest.approx(floor, rel=1e-14)
    assert bounds.theorem_15(**sizes, steps=1000, decrease=0.0) == pytest.approx(floor, rel=1e-14)


# Theorems 2 and 12: their step sizes


@pytest.mark.parametrize("steps", [256, 1000])
def test_theorems_2_and_12_follow_from_18_and_15(steps):
    gamma, rho = bounds.constant_schedule(beta=3.0, steps=steps)
    assert gamma * 3 * steps**0.5 == pytest.approx(1) and rho * 3 * steps**0.25 == pytest.approx(1)
    noise = dict(beta=3.0, steps=steps, sigma=2.0, batch_size=5)
    general = dict(gamma=gamma, rho=rho, decrease=7.0)
    assert bounds.theorem_12(**noise, gap=7.0) == pytest.approx(bounds.theorem_15(**noise, **general), rel=1e-12)
    assert bounds.theorem_18(**noise, **general) <= bounds.theorem_2(**noise, gap=7.0)


@pytest.mark.parametrize(("ascent", "steps"), [("same", 256), ("other", 256), ("other", 16)])
def test_simulated_runs_stay_below_theorems_2_and_12(ascent, steps):
    bound = bounds.theorem_2 if ascent == "same" else bounds.theorem_12
    for problem, batch_size in itertools.product(NOISY, (1, 4)):
        beta = problem.sample_beta if ascent == "same" else problem.beta
        gamma, rho = bounds.constant_schedule(beta=beta, steps=steps)
        w0 = starts(len(problem.scale))[-10].expand(100, -1)
        runs = simulate(
            problem, w0, gamma=gamma, rho=rho, steps=steps, ascent=ascent, batch_size=batch_size, seed=steps
        )
        each = runs.squared_gradient[:, :-1].mean(1)
        gap = runs.loss[0, 0].item()
        limit = bound(beta=beta, steps=steps, gap=gap, sigma=problem.sigma, batch_size=batch_size)
        assert each.mean() + 5 * each.std() / 10 <= limit


def test_theorem_12_as_printed_with_beta_in_the_denominator_does_not_hold():
    problem, steps = SmoothLoss.random(2, wobble=3.0, seed=3), 16
    gamma, rho = bounds.constant_schedule(beta=problem.beta, steps=steps)
    runs = simulate(problem, 10 * starts(2, 5), gamma=gamma, rho=rho, steps=steps)
    gradients, gap = runs.squared_gradient[:, :-1].mean(1), runs.loss[:, 0]
    limit = torch.tensor([bounds.theorem_12(beta=problem.beta, steps=16, gap=one, sigma=0.0) for one in gap.tolist()])
    assert (gradients <= limit).all() and (gradients > 2 * limit / problem.beta**2).any()


# The second parts, under PL


def test_the_decreasing_schedule_is_the_printed_one():
    gamma, rho = bounds.decreasing_schedule(beta=2.0, mu=0.5, steps=200)
    for t in (0, 10, 20, 21, 22, 199):
        exact = min((8 * t + 4) / (3 * 0.5 * (t + 1) ** 2), 1 / 4)
        assert gamma[t] == pytest.approx(exact, rel=1e-14) and rho[t] == pytest.approx(math.sqrt(exact / 2), rel=1e-14)
    assert gamma[0] == 0.25 and (np.diff(gamma) <= 0).all()


@pytest.mark.parametrize("problem", PL, ids=[f"{p.wobble}-{len(p.scale)}" for p in PL])
def test_without_noise_the_decreasing_schedule_stays_below_the_pl_bound(problem):
    steps = 300
    gamma, rho = bounds.decreasing_schedule(beta=problem.beta, mu=problem.mu, steps=steps)
    runs = simulate(problem, starts(len(problem.scale)), gamma=gamma, rho=rho, steps=steps)
    for T in (1, 2, 3, 5, 10, 30, 100, 300):
        limit = bounds.pl_bound(beta=problem.beta, mu=problem.mu, steps=T, gap=1.0, sigma=0.0)
        assert (runs.loss[:, T] <= limit * runs.loss[:, 0]).all()


@pytest.mark.parametrize("ascent", ["same", "other"])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_with_noise_the_decreasing_schedule_stays_below_the_pl_bound(ascent, batch_size):
    for problem in NOISY[:3]:
        beta = problem.sample_beta if ascent == "same" else problem.beta
        gamma, rho = bounds.decreasing_schedule(beta=beta, mu=problem.mu, steps=500)
        w0 = starts(len(problem.scale))[-10].expand(100, -1)
        runs = simulate(problem, w0, gamma=gamma, rho=rho, steps=500, ascent=ascent, batch_size=batch_size)
        noise, gap = dict(sigma=problem.sigma, batch_size=batch_size), runs.loss[0, 0].item()
        for T in (1, 2, 5, 20, 100, 500):
            upper = runs.loss[:, T].mean() + 5 * runs.loss[:, T].std() / 10
            assert upper <= bounds.pl_bound(beta=beta, mu=problem.mu, steps=T, gap=gap, **noise)
        assert runs.loss[:, 500].mean() < 0.1 * gap  # it did converge


# Units, and what is refused

FULL = dict(beta=2.0, gamma=0.2, rho=0.3, steps=6)
NOISE = dict(sigma=0.7, batch_size=3)
CASES = {  # arguments, and the units of the bound in (loss, length)
    "theorem_6": (FULL | dict(gap=1.3), (2, -2)),
    "theorem_6_pl": (FULL | dict(mu=0.5, gap=1.3), (1, 0)),
    "theorem_9": (FULL | dict(decrease=1.3), (2, -2)),
    "theorem_10": (FULL | dict(mu=0.5, gap=1.3), (1, 0)),
    "theorem_11": (FULL | dict(distance=1.3), (1, 0)),
    "theorem_11_strong": (FULL | dict(mu=0.5, distance=1.3), (0, 2)),
    "theorem_15": (FULL | dict(rho=0.1, decrease=1.3) | NOISE, (2, -2)),
    "theorem_18": (FULL | dict(rho=0.1, decrease=1.3) | NOISE, (2, -2)),
    "theorem_2": (dict(beta=2.0, steps=300, gap=1.3) | NOISE, (2, -2)),
    "theorem_12": (dict(beta=2.0, steps=300, gap=1.3) | NOISE, (2, -2)),
    "pl_bound": (dict(beta=2.0, mu=0.5, steps=6, gap=1.3) | NOISE, (1, 0)),
}
UNITS = dict(
    beta=(1, -2), mu=(1, -2), gamma=(-1, 2), rho=(-1, 2), gap=(1, 0), decrease=(1, 0), distance=(0, 1), sigma=(1, -1)
)


@pytest.mark.parametrize("name", CASES)
def test_a_bound_has_the_units_of_what_it_bounds(name):
    # In other units of loss and weights all constants change, and the bound as it should.
    arguments, (e, length) = CASES[name]
    loss, weights = 7.0, 0.3
    other = {
        key: value * loss ** UNITS[key][0] * weights ** UNITS[key][1] if key in UNITS else value
        for key, value in arguments.items()
    }
    form = getattr(bounds, name)
    assert form(**other) == pytest.approx(form(**arguments) * loss**e * weights**length, rel=1e-12)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("key", ["beta", "gamma", "rho", "mu", "steps", "sigma", "batch_size"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_constants_out_of_range_are_refused(name, key, value):
    arguments, _ = CASES[name]
    if key in arguments:
        with pytest.raises(ValueError, match=f"{key} = {value}"):
            getattr(bounds, name)(**arguments | {key: value})


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("theorem_9", dict(gamma=0.5), "gamma = 0.5, rho = 0.3: both must be below 1/beta = 0.5"),
        ("theorem_10", dict(mu=2.1), "mu = 2.1: no beta-smooth loss has a mu above beta = 2.0"),
        ("theorem_11", dict(gamma=0.7, rho=0.5), "must be below 2"),
        ("theorem_15", dict(gamma=0.26), "gamma = 0.26: must be at most 0.5/beta = 0.25"),
        ("theorem_18", dict(rho=0.13), "rho = 0.13: must be at most 0.25/beta = 0.125"),
        ("theorem_2", dict(steps=255), "steps = 255: the theorem holds for 256 or more"),
        ("theorem_12", dict(steps=15), "steps = 15: the theorem holds for 16 or more"),
    ],
)
def test_beyond_its_conditions_a_theorem_says_nothing(name, changed, message):
    with pytest.raises(ValueError, match=message):
        getattr(bounds, name)(**CASES[name][0] | changed)
