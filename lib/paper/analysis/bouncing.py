"""SAM on random quadratics against what Bartlett, Long and Bousquet prove, step by step and in the limit (notebook 06).

A check counts cases and violations. Comparisons leave out ties to rounding, and inequalities of J have a tolerance
relative to the size of its two terms.
"""

import functools

import numpy as np
import pandas
import torch

from lib.paper.experiments.bouncing import Quadratics
from lib.theory import bouncing

TIE = 1e-9  # relative: closer than this, which side of a threshold a length is on is rounding
ROUNDING = 1e-12
TINY = np.finfo(float).tiny


def recurrence_checks(problems: Quadratics, steps: int) -> pandas.DataFrame:
    """Each statement about one step, over `steps` steps of each problem: a row with its cases and violations."""
    counts = {}

    def count(name, holds, cases=None):
        cases = np.ones_like(holds, dtype=bool) if cases is None else cases
        old = counts.get(name, (0, 0))
        counts[name] = old[0] + int(cases.sum()), old[1] + int((cases & ~holds).sum())

    for d in sorted(set(problems.size)):
        mine = problems.size == d
        lam, eta, rho = problems.lam[mine, :d], problems.eta[mine], problems.rho[mine]
        known = bouncing.constants(lam, eta, rho)
        count("ordering", _ordered(known))
        w = problems.w[mine, :d]
        for t in range(steps):
            after = bouncing.step(w, lam, eta, rho)
            v, v_after = lam * w, lam * after
            length, length_after = (np.linalg.norm(x, axis=1, keepdims=True) for x in (v, v_after))
            normal = np.abs(v) > 1e-250
            clear = normal & (np.abs(length / known.beta - 1) > TIE)
            count("shrinks", (length > known.beta) == (np.abs(v_after) < np.abs(v)), clear)
            growth = np.abs(bouncing.growth(length[:, 0], lam, eta, rho))
            clear = normal[:, 1:] & normal[:, :1] & (np.abs(length / known.alpha[:, 1:] - 1) > TIE)
            clear &= np.abs(growth[:, :1] - growth[:, 1:]) > TIE * growth[:, :1]
            gains = np.abs(v_after[:, :1] * v[:, 1:]) > np.abs(v_after[:, 1:] * v[:, :1])
            count("gains", (length < known.alpha[:, 1:]) == gains, clear)
            b = known.b[:, None] * (1 + ROUNDING)
            count("kept", length_after <= b, length <= b)
            u, u_after = (-1) ** t * w, (-1) ** (t + 1) * after
            descended = u - (eta * rho)[:, None] * bouncing.potential_gradient(u, lam, eta, rho)
            scale = np.abs(u).max(1) + np.abs(u_after).max(1)
            count("potential", np.abs(descended - u_after).max(1) <= ROUNDING * scale)
            change = bouncing.potential(u_after, lam, eta, rho) - bouncing.potential(u, lam, eta, rho)
            terms = bouncing.potential(u, lam, eta, rho) + 2 * length[:, 0]  # ½uᵀCu + ‖Λu‖
            count("descent", change <= bouncing.descent(u, lam, eta, rho) + ROUNDING * terms)
            w = after
    return pandas.DataFrame([{"statement": n, "cases": c, "violations": v} for n, (c, v) in counts.items()])


def _ordered(known):
    beta, alpha = known.beta, known.alpha
    falls = (beta[:, 1:] <= beta[:, :-1] * (1 + ROUNDING)) & (alpha[:, 1:] <= alpha[:, :-1] * (1 + ROUNDING))
    first = np.abs(alpha[:, 0] / known.gamma[:, 0] - 1) <= ROUNDING
    return falls.all(1) & (beta[:, 0] < alpha[:, -1]) & first


def stationary_checks(count: int, d: int = 6, seed: int = 0) -> pandas.DataFrame:
    """The stationary points of J on random problems with repeated eigenvalues: a row for each point.

    gradient: ‖∇J‖ there over ‖Λ²u‖/‖Λu‖; below, above, same: how many β_j are below, above and equal to its β_i;
    negative, zero, positive: eigenvalues of the Hessian that autograd makes of J; formula: its largest deviation from
    the printed Hessian, relative.
    """
    random, rows = np.random.default_rng(seed), []
    for _ in range(count):
        distinct = -np.sort(-(10 ** random.uniform(-2, 1, random.integers(2, d))))
        repeats = np.concatenate([[1], random.integers(1, 3, len(distinct) - 1)])  # λ_1 > λ_2
        lam = np.repeat(distinct, repeats)
        setting = dict(eta=random.uniform(0.01, 0.49) / lam[0], rho=10 ** random.uniform(-3, 1))
        known = bouncing.constants(lam, **setting)
        for value in distinct:
            space = lam == value
            unit = np.where(space, random.normal(size=len(lam)), 0)
            unit /= np.linalg.norm(unit)
            beta = known.beta[space][0]
            u = beta / value * unit
            slope = bouncing.potential_gradient(u, lam, **setting)
            scale = np.linalg.norm(lam**2 * u) / np.linalg.norm(lam * u)
            energy = functools.partial(bouncing.potential, lam=torch.tensor(lam), **setting)
            hessian = torch.autograd.functional.hessian(energy, torch.tensor(u)).numpy()
            eigenvalues = np.linalg.eigvalsh(hessian)
            size = np.abs(eigenvalues).max()
            formula = np.abs(hessian - bouncing.stationary_hessian(unit, lam, **setting)).max() / size
            zero = np.abs(eigenvalues) < 1e-9 * size
            rows.append({"gradient": np.linalg.norm(slope) / scale, "formula": formula})
            rows[-1] |= {"below": (lam < value).sum(), "above": (lam > value).sum(), "same": space.sum()}
            rows[-1] |= {"negative": (~zero & (eigenvalues < 0)).sum(), "zero": zero.sum()}
            rows[-1] |= {"positive": (~zero & (eigenvalues > 0)).sum(), "value": bouncing.potential(u, lam, **setting)}
            rows[-1] |= {"expected value": -beta / 2}
    return pandas.DataFrame(rows)


def limits(problems: Quadratics, cap: int, epsilons=(0.1, 0.01), accuracy=1e-12, every=32) -> pandas.DataFrame:
    """How long each problem takes to bounce between the two limits, to `accuracy` relative to them.

    steps: the first multiple of `every` steps there, NaN if not within `cap`; lost: the first component has underflowed
    to 0, from where SAM cannot get there; underflow: it was below the normal numbers of float64;
    visits_ε and bound_ε: steps with ‖v‖ ≥ (1 + ε)β_1 after the first with
    ‖v‖ ≤ b, and the bound on their number; local: the steps that the slowest rate near the limit needs to gain
    `accuracy`; horizon, ratio, gap: 1/(ηλ_d), λ_1/λ_d and 1/(λ_1²/λ_2² − 1), which the theorem names; later: the
    distance after 64 more steps, relative; turns: whether all of these change the sign.
    """
    p, known = problems, bouncing.constants(problems.lam, problems.eta, problems.rho)
    share, r = p.eta * p.lam[:, 0], p.lam[:, 1:] / p.lam[:, :1]
    rate = np.abs(1 - share[:, None] * r - r**2 * (2 - share[:, None]))
    rate = np.where(r > 0, rate, 0).max(1)
    table = pandas.DataFrame(
        {"size": p.size, "share": share, "lost": False, "underflow": False, "later": np.nan, "turns": False}
    )
    table["local"] = np.log(accuracy) / np.log(np.maximum(rate, 1 - share))
    table["horizon"], table["ratio"] = 1 / (p.eta * p.least()), p.lam[:, 0] / p.least()
    table["gap"] = 1 / (1 / r[:, 0] ** 2 - 1)
    thresholds = [(1 + epsilon) * known.beta[:, 0] for epsilon in epsilons]
    visits, below = np.zeros((len(epsilons), len(p.lam)), dtype=int), np.zeros(len(p.lam), dtype=bool)
    active, w, steps = np.arange(len(p.lam)), p.w, np.full(len(p.lam), np.nan)
    for t in range(0, cap, every):
        lam, eta, rho = p.lam[active], p.eta[active], p.rho[active]
        path = bouncing.trajectory(w, lam, eta, rho, every)
        lengths = np.linalg.norm(lam * path[:-1], axis=2)
        inside = np.logical_or.accumulate(np.vstack([below[active], lengths <= known.b[active]]))[1:]
        below[active] = inside[-1]
        for i, threshold in enumerate(thresholds):
            visits[i, active] += (inside & (lengths >= threshold[active])).sum(0)
        w = path[-1]
        done, lost = _distance(w, known.limit[active]) <= accuracy, w[:, 0] == 0
        if done.any():
            steps[active[done]] = t + every
            more = bouncing.trajectory(w[done], lam[done], eta[done], rho[done], 64)
            table.loc[active[done], "later"] = _distance(more[-1], known.limit[active[done]])
            table.loc[active[done], "turns"] = (more[1:, :, 0] * more[:-1, :, 0] < 0).all(0)
        table.loc[active[lost], "lost"] = True
        table.loc[active[(np.abs(path[..., 0]) < TINY).any(0)], "underflow"] = True
        active, w = active[~done & ~lost], w[~done & ~lost]
        if len(active) == 0:
            break
    table["steps"] = steps
    for epsilon, number in zip(epsilons, visits, strict=True):
        table[f"visits_{epsilon}"] = number
        beta_d = p.eta * p.rho * p.least() ** 2 / (2 - p.eta * p.least())
        table[f"bound_{epsilon}"] = 3 * known.beta[:, 0] / (p.eta * epsilon**2 * p.lam[:, 0] * beta_d)
    return table


def _distance(w, limit):
    off = np.abs(w)
    off[:, 0] = np.abs(off[:, 0] - limit)
    return off.max(1) / limit


def limits_in_logarithms(problems: Quadratics, steps: int) -> np.ndarray:
    """The distance to the limit (R), relative, after so many steps that carry log|v_i| in place of v_i.

    The recurrence multiplies each component by a number, so logarithms carry it where v_1 itself would underflow.
    """
    p, known = problems, bouncing.constants(problems.lam, problems.eta, problems.rho)
    with np.errstate(divide="ignore"):
        logs, slow = np.log(np.abs(p.lam * p.w)), 1 - p.eta[:, None] * p.lam
        for _ in range(steps):
            length = np.linalg.norm(np.exp(logs), axis=1, keepdims=True)
            logs = logs + np.log(np.abs(slow * (1 - known.gamma / length)))
    w = np.divide(np.exp(logs), p.lam, out=np.zeros_like(logs), where=p.lam > 0)
    return _distance(w, known.limit)
