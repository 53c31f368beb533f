"""Companion on the implicit bias of SAM: flows against Theorems 3 to 5, and the sizes of Theorem 1, as tables."""

from collections.abc import Iterable

import numpy as np
import pandas
from threadpoolctl import threadpool_limits

from lib.paper.experiments import implicit_bias as setting
from lib.theory import diagonal
from lib.theory.diagonal import SparseRegression

UNCHANGED, PRINTED, CORRECTED, FIRST = "α unchanged", "as printed", "corrected", "corrected, first order in ρ"
ONE, TWO = "one effective scale", "two effective scales"  # of deeper networks, for each coordinate
READINGS = (UNCHANGED, PRINTED, FIRST, CORRECTED)
FITS = 1e-4  # a relative KKT residual below it counts as zero; the solver's own error is below 1e-5

# a flow factorizes small matrices, between which a second thread would only spin
one_thread = threadpool_limits.wrap(limits=1)


def _flow(X, y, alpha: float, method: str, rho: float, **options) -> diagonal.Flow:
    accuracy = {"tolerance": setting.FLOW_ACCURACY, "rtol": setting.FLOW_ACCURACY} | options
    return diagonal.flow(X, y, alpha, method=method, rho=rho, **accuracy)


@one_thread
def theorems(seeds: Iterable[int], alphas: Iterable[float], rhos: Iterable[float]) -> pandas.DataFrame:
    """One row a flow and reading of its effective α: seed, method, alpha, rho, reading, kkt (the relative KKT residual
    of where the flow ends, under that α), converged, drift (of the conserved quantity)."""
    seeds, rows = list(seeds), []
    problems = SparseRegression.draw(seeds, n=setting.N, d=setting.D, support=setting.SUPPORT)
    settings = [("gd", 0.0), *((method, rho) for method in ("n-sam", "1-sam") for rho in rhos)]
    for seed, X, y in zip(seeds, problems.X, problems.y, strict=True):
        for alpha in alphas:
            for method, rho in settings:
                end = _flow(X, y, alpha, method, rho)
                scales = {
                    UNCHANGED: alpha,
                    PRINTED: end.printed_alpha,
                    FIRST: end.first_order_alpha,
                    CORRECTED: end.effective_alpha,
                }
                shared = {"seed": seed, "method": method, "alpha": alpha, "rho": rho, "converged": end.converged}
                shared["drift"] = end.drift
                for reading in READINGS if rho else (UNCHANGED,):
                    kkt = diagonal.certificate(X, y, end.beta, scales[reading]).kkt
                    rows.append(shared | {"reading": reading, "kkt": kkt})
    return pandas.DataFrame(rows)


@one_thread
def breakdown(seeds: Iterable[int], rhos: Iterable[float]) -> pandas.DataFrame:
    """Where the 1-SAM flow (c = 1) ends at large ρ: seed, rho, outcome: "interpolates", "collapses" (w → 0, a saddle
    where all gradients vanish) or "unfinished" after a time of 10⁶; shrunk: log₁₀ of the median effective α over α."""
    seeds, rows = list(seeds), []
    problems = SparseRegression.draw(seeds, n=setting.N, d=setting.D, support=setting.SUPPORT)
    for seed, X, y in zip(seeds, problems.X, problems.y, strict=True):
        for rho in rhos:
            end = _flow(X, y, setting.ALPHA, "1-sam", rho, max_time=1e6)
            stuck = np.linalg.norm(X @ end.beta - y) > 0.99 * np.linalg.norm(y)
            outcome = "interpolates" if end.converged else "collapses" if stuck else "unfinished"
            shrunk = -float(np.median(end.exponent)) / np.log(10)
            rows.append({"seed": seed, "rho": rho, "outcome": outcome, "shrunk": shrunk})
    return pandas.DataFrame(rows)


@one_thread
def sizes() -> pandas.DataFrame:
    """Of Theorem 1, one row a problem: n, d, seed; ratio_1 = ‖Δ₁‖₁/(d∫L), ratio_n = ‖Δ_n‖₁/((d/n)∫L), and between =
    ‖Δ₁‖₁/‖Δ_n‖₁, Δ = E₁/ρ of a flow with a small ρ."""
    rows = []
    for n, dimensions in setting.SIZES.items():
        for d in dimensions:
            problems = SparseRegression.draw(setting.SIZES_SEEDS, n=n, d=d, support=setting.SUPPORT)
            for seed, X, y in zip(setting.SIZES_SEEDS, problems.X, problems.y, strict=True):
                ends = {method: _flow(X, y, setting.ALPHA, method, setting.SIZES_RHO) for method in ("1-sam", "n-sam")}
                one, many = ((end.first_order.sum() / setting.SIZES_RHO, end.loss_integral) for end in ends.values())
                ratios = {"ratio_1": one[0] / (d * one[1]), "ratio_n": many[0] / (d / n * many[1])}
                rows.append({"n": n, "d": d, "seed": seed, **ratios, "between": one[0] / many[0]})
    return pandas.DataFrame(rows)


@one_thread
def shares() -> pandas.DataFrame:
    """Where the effective α shrinks, one row a problem and method: seed, method, on_support = the mean E on the support
    of the target over that elsewhere; and population losses ‖β − β*‖²/2 over that of gradient flow: ratio of the
    method's end, even of the interpolator with its effective α made even (the geometric mean over coordinates)."""
    rows = []
    problems = SparseRegression.draw(setting.FLOW_SEEDS, n=setting.N, d=setting.D, support=setting.SUPPORT)
    for seed, X, y, target in zip(setting.FLOW_SEEDS, problems.X, problems.y, problems.target, strict=True):
        plain = np.square(diagonal.least_potential(X, y, setting.ALPHA) - target).sum()
        for method in ("n-sam", "1-sam"):
            end = _flow(X, y, setting.ALPHA, method, setting.SHARES_RHO)
            even = diagonal.least_potential(X, y, setting.ALPHA * np.exp(-end.exponent.mean()))
            support = end.exponent[: setting.SUPPORT].mean() / end.exponent[setting.SUPPORT :].mean()
            ratios = {
                "ratio": np.square(end.beta - target).sum() / plain,
                "even": np.square(even - target).sum() / plain,
            }
            rows.append({"seed": seed, "method": method, "on_support": support, **ratios})
    return pandas.DataFrame(rows)


@one_thread
def depths() -> pandas.DataFrame:
    """Deep networks β = w₊^D − w₋^D: one row a flow and reading: depth, seed, method, reading, kkt, test_loss.

    Readings: α unchanged; one effective scale a coordinate (the mean of E₊ and E₋); two (E₊ for w₊ and E₋ for w₋)."""
    rows = []
    problems = SparseRegression.draw(setting.DEEP_SEEDS, n=setting.N, d=setting.D, support=setting.SUPPORT)
    for depth, alpha in setting.DEPTHS.items():
        for seed, X, y in zip(setting.DEEP_SEEDS, problems.X, problems.y, strict=True):
            for method in ("n-sam", "1-sam"):
                end = diagonal.deep_flow(
                    X, y, alpha, depth=depth, method=method, rho=setting.DEEP_RHO, rtol=setting.FLOW_ACCURACY
                )
                shared = {"depth": depth, "seed": seed, "method": method, "converged": end.converged}
                one = np.broadcast_to(end.shifts.mean(0), end.shifts.shape)
                readings = {UNCHANGED: 0 * end.shifts, ONE: one, TWO: end.shifts}
                rows += [shared | {"reading": name, "kkt": end.residual(X, s)} for name, s in readings.items()]
    return pandas.DataFrame(rows)


def level_sets(alphas: Iterable[float], angles: int = 181) -> pandas.DataFrame:
    """Where φ_α(β) = φ_α((1, 0)) in the plane: alpha, x, y. From the circle of ℓ₂ (α large) to the diamond of ℓ₁."""
    turn = np.linspace(0, 2 * np.pi, angles)
    rays, tables = np.stack((np.cos(turn), np.sin(turn)), -1), []
    for alpha in alphas:
        low, high, level = np.zeros(angles), np.full(angles, 1.5), diagonal.potential([1.0, 0.0], alpha)
        for _ in range(60):
            radius = (low + high) / 2
            above = diagonal.potential(radius[:, None] * rays, alpha) > level
            low, high = np.where(above, low, radius), np.where(above, radius, high)
        x, y = (radius[:, None] * rays).T
        tables.append(pandas.DataFrame({"alpha": alpha, "x": x, "y": y}))
    return pandas.concat(tables, ignore_index=True)
