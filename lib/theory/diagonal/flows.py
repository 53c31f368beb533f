"""Gradient flow, n-SAM flow and 1-SAM flow on a diagonal linear network, and the effective α that each ends with.

Every method moves w₊ and w₋ by d(log w±)/dt = ∓A − S (`network.Rates`). So with E = ∫S dt

    w₊w₋ = α² exp(−2E),   β = w₊² − w₋² = 2α² exp(−2E) sinh(Xᵀν):   the effective α is α exp(−E).

Theorems 4 and 5 of "Towards Understanding SAM" print α exp(−2E): they take the factor of α² for one of α.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.integrate import LSODA, OdeSolution
from scipy.optimize import brentq

from lib.theory.diagonal.hyperbolic import scale
from lib.theory.diagonal.network import Samples, check_method, first_order_shrinkage, loss, rates, residual

NODES, WEIGHTS = np.polynomial.legendre.leggauss(5)  # a step of the solver is a polynomial of order 5 for stiff ones


@dataclass(frozen=True)
class Flow:
    """Where a flow ends, and its integrals; arrays have d entries.

    w: (2, d), its last point; beta: its β. effective_alpha: α exp(−E), exact in ρ; printed_alpha: α exp(−2E), as in
    equations 14 and 15 (which at 1-SAM have the ascent factor 4). first_order_alpha: α exp(−E₁), E₁ with r in place of
    r_sam. exponent: E; first_order: E₁. loss_integral: ∫L dt. drift: max |log(w₊w₋ exp(2E)/α²)|, of a quantity that an
    exact solver conserves. converged: whether ‖r‖ fell below the tolerance; time: when.

    >>> end = flow([[1.0, 2.0]], [2.0], 0.1, method="gd")
    >>> np.allclose(end.effective_alpha, 0.1), round(float(end.beta @ [1.0, 2.0]), 6)  # gradient flow keeps α
    (True, 2.0)
    """

    w: np.ndarray
    beta: np.ndarray
    effective_alpha: np.ndarray
    printed_alpha: np.ndarray
    first_order_alpha: np.ndarray
    exponent: np.ndarray
    first_order: np.ndarray
    loss_integral: float
    drift: float
    converged: bool
    time: float


def flow(
    X,
    y,
    alpha,
    *,
    method: str,
    rho: float = 0.0,
    ascent_factor: float = 1.0,
    tolerance: float = 1e-8,
    rtol: float = 1e-8,
    max_time: float = 1e7,
) -> Flow:
    """Follow dw/dt = −∇L at w (method "gd", equation 9), at the ascent point of all samples ("n-sam", equation 10) or
    of each sample ("1-sam", equation 11 with `ascent_factor`·ρ for ρ) from w₊ = w₋ = α until ‖r‖ ≤ tolerance·‖y‖.

    X: (n, d), y: (n,), alpha: a number or (d,). The state is log w, since w± may become tiny. The solver is LSODA, as
    the flow is stiff; the integrals are Gauss quadratures over every step of its dense output. ValueError for an
    unknown method, ρ < 0, α ≤ 0 or shapes that do not fit.

    >>> X, y = [[1.0, 2.0, 0.5]], [2.0]
    >>> end = flow(X, y, 0.1, method="1-sam", rho=0.1)
    >>> bool(end.converged), bool((end.printed_alpha < end.effective_alpha).all())
    (True, True)
    """
    samples = Samples.from_arrays(X, y)
    if samples.X.ndim != 2:
        raise ValueError(f"X of shape {samples.X.shape}: a flow is of one problem, (n, d)")
    if rho < 0 or ascent_factor <= 0:
        raise ValueError(f"rho = {rho}, ascent_factor = {ascent_factor}: must be at least 0, and positive")
    check_method(method)
    d = samples.X.shape[1]
    alpha, radius = scale(alpha, d), rho * (ascent_factor if method == "1-sam" else 1.0)

    def squares(state):
        """w₊² and w₋² (…, d); the minimum keeps trial steps of the solver finite."""
        both = np.exp(np.minimum(2 * state, 40.0))
        return both[..., :d], both[..., d:]

    def derivative(_, state):
        descent, shrinkage = rates(samples, *squares(state), method, radius)
        return np.concatenate((-descent - shrinkage, descent - shrinkage), -1)

    def residual_of(state):
        plus, minus = squares(state)
        return residual(samples, plus - minus)

    end = integrate(
        derivative,
        np.tile(np.log(alpha), 2),
        residual_of,
        samples.y,
        tolerance=tolerance,
        rtol=rtol,
        max_time=max_time,
    )
    states, spans = quadrature_points(end.path)
    plus, minus = squares(states)
    exponent = spans @ rates(samples, plus, minus, method, radius).shrinkage
    first_order = spans @ first_order_shrinkage(samples, plus - minus, method, radius)
    last = end.state.reshape(2, d)
    w = np.exp(last)
    with np.errstate(over="ignore", under="ignore"):
        return Flow(
            w=w,
            beta=w[0] ** 2 - w[1] ** 2,
            effective_alpha=alpha * np.exp(-exponent),
            printed_alpha=alpha * np.exp(-2 * exponent),
            first_order_alpha=alpha * np.exp(-first_order),
            exponent=exponent,
            first_order=first_order,
            loss_integral=float(spans @ loss(samples, plus - minus)),
            drift=float(np.abs(last.sum(0) - 2 * np.log(alpha) + 2 * exponent).max()),
            converged=end.converged,
            time=end.time,
        )


class End(NamedTuple):
    """Where `integrate` stopped, whether there ‖r‖ is at its level, and the dense output up to there."""

    state: np.ndarray
    time: float
    converged: bool
    path: OdeSolution


def integrate(
    derivative, start, residual_of, y, *, tolerance: float, rtol: float, max_time: float, atol: float = 1e-9
) -> End:
    """SciPy's LSODA on ds/dt = derivative(t, s) until ‖residual_of(s)‖ ≤ tolerance·‖y‖, max_time, or where its steps
    vanish. `derivative` takes stacks of s, so that the Jacobian is one call: a forward difference an entry.
    """
    level, size = tolerance * np.linalg.norm(y), len(start)

    def jacobian(t, state):
        steps = 1e-7 * np.maximum(np.abs(state), 0.1)
        there = derivative(t, np.vstack((state + np.diag(steps), state)))
        return ((there[:size] - there[size]) / steps[:, None]).T

    def above(state):
        return np.linalg.norm(residual_of(state)) - level

    # stepped by hand: solve_ivp looks for sign changes of its events at a third of the cost of a flow
    solver = LSODA(derivative, 0.0, start, max_time, jac=jacobian, rtol=rtol, atol=atol)
    times, parts, state, converged = [0.0], [], start, False
    while solver.status == "running" and not converged:
        solver.step()
        if solver.status == "failed":
            break
        part, time, state = solver.dense_output(), solver.t, solver.y
        converged = above(state) <= 0
        if converged and above(part(times[-1])) > 0:
            time = brentq(lambda t, part=part: above(part(t)), times[-1], time)
            state = part(time)
        times.append(time)
        parts.append(part)
    return End(state, float(times[-1]), bool(converged), OdeSolution(times, parts))


def quadrature_points(solution) -> tuple[np.ndarray, np.ndarray]:
    """The states (points, size) at the Gauss nodes of every step of a dense output, and the weights (points,) of an
    integral over time."""
    edges = np.asarray(solution.ts)
    half = np.diff(edges)[:, None] / 2
    times = edges[:-1, None] + half * (1 + NODES)
    states = np.concatenate([part(at).T for part, at in zip(solution.interpolants, times, strict=True)])
    return states, (half * WEIGHTS).ravel()
