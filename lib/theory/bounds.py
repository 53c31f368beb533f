"""The paper's closed forms: how fast SAM converges (Section 3, Appendix D) and where it is stable (Section 4).

Notation of the paper: f_i is β-smooth, f is λ-smooth and α-PL in the form ‖∇f(x)‖² ≥ α(f(x) − f*), which has no ½;
B is the batch size, drawn with replacement; ρ belongs to unnormalized SAM.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas
import torch


def kappa(alpha: float, beta: float, batch_size: int) -> float:
    """κ_B = ((B − 1)/2 + β/α)/B (Theorem 12); β/α at B = 1, ½ as B grows.

    >>> kappa(alpha=0.5, beta=2.0, batch_size=1), kappa(alpha=0.5, beta=2.0, batch_size=4)
    (4.0, 1.375)
    """
    _positive(alpha=alpha, beta=beta)
    if not batch_size >= 1:
        raise ValueError(f"batch_size = {batch_size!r}: must be 1 or more")
    return ((batch_size - 1) / 2 + beta / alpha) / batch_size


def rho_max(alpha: float, beta: float) -> float:
    """The largest ρ of Theorems 7 and 12: 1/((β/α + ½)β). Where it is reached, the step size for B = 1 is 0.

    >>> round(rho_max(alpha=0.5, beta=2.0), 4)
    0.1111
    """
    _positive(alpha=alpha, beta=beta)
    return 1 / ((beta / alpha + 0.5) * beta)


def sam_step_size(alpha: float, beta: float, lam: float, rho: float, batch_size: int = 1) -> float:
    """η*_B = (1 − (κ_B + ½)βρ)/(2λκ_B(βρ + 1)²) (Theorem 12; at B = 1 the one of Theorem 7).

    Raises ValueError for ρ beyond `rho_max`, where the theorem says nothing and the formula turns negative.

    >>> round(sam_step_size(alpha=0.5, beta=2.0, lam=4.0, rho=0.1), 4)
    0.0022
    """
    slack = _slack(alpha, beta, rho, batch_size)
    _positive(lam=lam)
    return slack / (2 * lam * kappa(alpha, beta, batch_size) * (beta * rho + 1) ** 2)


def sam_rate(alpha: float, beta: float, lam: float, rho: float, batch_size: int = 1) -> float:
    """The factor per step in E f(x_t) ≤ factor^t f(x_0): 1 − (αη*_B/2)(1 − (κ_B + ½)βρ) (Theorem 12).

    Raises ValueError for ρ beyond `rho_max`.

    >>> round(sam_rate(alpha=0.5, beta=2.0, lam=4.0, rho=0.1), 4)
    0.9999
    """
    step = sam_step_size(alpha, beta, lam, rho, batch_size)
    return 1 - alpha * step / 2 * _slack(alpha, beta, rho, batch_size)


def _slack(alpha, beta, rho, batch_size):
    limit = rho_max(alpha, beta)
    # A relative margin of rounding: ρ = rho_max(α, β) itself is allowed.
    if not 0 <= rho <= limit * (1 + 1e-12):
        raise ValueError(f"rho = {rho!r}: Theorem 12 holds for 0 ≤ rho ≤ rho_max = {limit:.6g}")
    return max(0.0, 1 - (kappa(alpha, beta, batch_size) + 0.5) * beta * rho)


def _positive(**constants):
    for name, value in constants.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} = {value!r}: must be a finite number above 0")


def lemma5_margin(g: torch.Tensor, g_half: torch.Tensor, full: torch.Tensor, beta: float, rho: float) -> torch.Tensor:
    """By how much Lemma 5 holds, ≥ 0: ⟨g½, G⟩ − ⟨g, G⟩ + (βρ/2)(‖g‖² + ‖G‖²).

    g = ∇f_i(x), g_half = ∇f_i(x + ρg), full = G = ∇f(x); the last dimension of each holds the components.

    >>> one = torch.ones(1, dtype=torch.float64)  # f_i = f = x²/2 at x = 1, so β = 1 and g½ = 1 + ρ
    >>> round(lemma5_margin(one, 1.1 * one, one, beta=1.0, rho=0.1).item(), 6)
    0.2
    """
    inner = ((g_half - g) * full).sum(-1)
    return inner + beta * rho / 2 * (g.square().sum(-1) + full.square().sum(-1))


def lemma6_ratio(g: torch.Tensor, g_half: torch.Tensor, beta: float, rho: float) -> torch.Tensor:
    """‖g½‖²/((βρ + 1)²‖g‖²), at most 1 by Lemma 6; arguments as for `lemma5_margin`.

    >>> one = torch.ones(1, dtype=torch.float64)  # f_i = x²/2 at x = 1: the bound is reached
    >>> round(lemma6_ratio(one, 1.1 * one, beta=1.0, rho=0.1).item(), 6)
    1.0
    """
    return g_half.square().sum(-1) / ((beta * rho + 1) ** 2 * g.square().sum(-1))


class StabilityBounds(NamedTuple):
    """Upper bounds on the sharpness a and the non-uniformities s₂, s₃, s₄ at a stable minimum; inf: none.

    >>> stability_bounds(eta=0.1, rho=0.05).s2  # η = 2ρ: no bound
    inf
    """

    a: float
    s2: float
    s3: float
    s4: float


def stability_bounds(eta: float, rho: float) -> StabilityBounds:
    """The necessary conditions (7) of Section 4, each solved for the quantity itself.

    a(1 + ρa) ≤ 2/η, s₂² ≤ 1/(η(η − 2ρ)), s₃³ ≤ 1/(2η²ρ), s₄⁴ ≤ 1/(η²ρ²). With ρ = 0 these are SGD's a ≤ 2/η and
    s₂ ≤ 1/η; for η ≤ 2ρ nothing is said of s₂. Raises ValueError unless η > 0 and ρ ≥ 0.

    >>> stability_bounds(eta=0.1, rho=0.0).a
    20.0
    """
    _positive(eta=eta)
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho = {rho!r}: must be a finite number, 0 or more")
    return StabilityBounds(
        a=4 / eta / (1 + math.sqrt(1 + 8 * rho / eta)),
        s2=(eta * (eta - 2 * rho)) ** -0.5 if eta > 2 * rho else math.inf,
        s3=(2 * eta**2 * rho) ** (-1 / 3) if rho else math.inf,
        s4=(eta * rho) ** -0.5 if rho else math.inf,
    )


class LinearRate(NamedTuple):
    """Fit of log loss against epoch over several runs: the mean factor per epoch, its standard deviation over the
    runs, the least R², and how many runs had enough epochs to be fitted.

    >>> LinearRate(rate=0.5, std=0.01, r2=0.999, runs=3).rate < 1  # the loss falls
    True
    """

    rate: float
    std: float
    r2: float
    runs: int


def linear_rate(table: pandas.DataFrame) -> LinearRate:
    """Fit a line to the log of each run's training loss, from a tenth of the first loss to 100 times the lowest.

    table: rows of `sweep`. A run with fewer than five epochs in that range is left out; NaN if none is left.

    >>> curves = {"epoch": list(range(20)), "train_loss": [0.5**epoch for epoch in range(20)]}
    >>> fit = linear_rate(pandas.DataFrame({"curves": [curves]}))
    >>> round(fit.rate, 6), fit.runs
    (0.5, 1)
    """
    fits = [fit for fit in map(_fit_line, table["curves"]) if fit is not None]
    if not fits:
        return LinearRate(math.nan, math.nan, math.nan, 0)
    rates, r2 = zip(*fits, strict=True)
    return LinearRate(
        float(np.mean(rates)), float(np.std(rates, ddof=1)) if len(rates) > 1 else 0.0, min(r2), len(fits)
    )


def _fit_line(curves: dict | None) -> tuple[float, float] | None:
    if not curves or not curves["train_loss"]:  # missing, or diverged in its first epoch
        return None
    epoch, loss = np.array(curves["epoch"]), np.array(curves["train_loss"])
    # An exact zero has no logarithm; the floor of double precision stands for it.
    inside = (loss <= loss[0] / 10) & (loss >= 100 * max(loss.min(), np.finfo(float).tiny))
    return fit_rate(epoch[inside], loss[inside]) if inside.sum() >= 5 else None


def fit_rate(step, loss) -> tuple[float, float]:
    """The factor per step of a line through log `loss` (positive) against `step`, and the R² of that line.

    >>> import numpy as np
    >>> rate, r2 = fit_rate(np.arange(5), np.exp(-2.0 * np.arange(5)))
    >>> round(rate, 6), round(r2, 6)
    (0.135335, 1.0)
    """
    step, log = np.asarray(step, dtype=float), np.log(np.asarray(loss, dtype=float))
    slope, intercept = np.polyfit(step, log, 1)
    return float(np.exp(slope)), float(1 - (log - slope * step - intercept).var() / log.var())


def truncated_residual(a: torch.Tensor, x: torch.Tensor, rank: int) -> float:
    """The least mean of ‖Mx − Ax‖² over the samples and over all matrices M of a rank: what Figure 1a stalls at.

    a: the map A (outputs × inputs); x: samples × inputs. With C = mean xxᵀ it is ‖(M − A)C^½‖²_F, so by Eckart and
    Young the sum of the squared singular values of AC^½ from the (rank + 1)-th on.

    >>> round(truncated_residual(torch.diag(torch.tensor([3.0, 2.0])), torch.eye(2), rank=1), 4)  # 2²/2
    2.0
    """
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    return float(torch.linalg.svdvals(a @ root)[rank:].square().sum())
