"""Do the constants of Section 3 and of Appendices D and E agree with each other, as printed? (Theorems 7, 9 and 12)"""

import torch
from scipy import optimize

from lib.paper.claims import Finding
from lib.theory import bounds, linear_stability

ALPHA, BETA, LAM = 0.5, 2.0, 1.3  # any constants will do, with α ≤ 2λ ≤ 2β
FRACTIONS = (0.0, 0.3, 0.6, 0.9)  # of the largest ρ
SIZES = (1, 2, 4, 16, 64, 1000)
ROUNDING = 1e-9


def sgd_rate() -> Finding:
    """At ρ = 0 the step size and the factor of Theorem 12 are those of Bassily et al. (2018) for SGD,

    η = αB/(λ(α(B − 1) + 2β)),    E f(x_t) ≤ (1 − αη/2)^t f(x_0).
    """
    off = []
    for size in SIZES:
        eta = ALPHA * size / (LAM * (ALPHA * (size - 1) + 2 * BETA))
        off.append(abs(bounds.sam_step_size(ALPHA, BETA, LAM, 0.0, size) / eta - 1))
        off.append(abs(bounds.sam_rate(ALPHA, BETA, LAM, 0.0, size) - (1 - ALPHA * eta / 2)))
    return Finding(f"off by at most {max(off):.0e} at {len(SIZES)} batch sizes", holds=max(off) < ROUNDING)


def theorem7() -> Finding:
    """Theorem 7 as printed against Theorem 12 at B = 1:

    η* = (α − (β + α/2)βρ)/(2λβ(βρ + 1)²),    factor 1 − (α − (β + α/2)βρ) η*/2.
    """
    off = []
    for rho in _radii():
        slack = ALPHA - (BETA + ALPHA / 2) * BETA * rho
        eta = slack / (2 * LAM * BETA * (BETA * rho + 1) ** 2)
        off.append(abs(bounds.sam_step_size(ALPHA, BETA, LAM, rho, 1) - eta))
        off.append(abs(bounds.sam_rate(ALPHA, BETA, LAM, rho, 1) - (1 - slack / 2 * eta)))
    return Finding(f"off by at most {max(off):.0e} at {len(FRACTIONS)} ρ", holds=max(off) < ROUNDING)


def proof_constants() -> Finding:
    """The step size of Theorem 12 minimizes the last bound of the proof, (15), over η, and its factor is the minimum:

    1 − ηα(1 − (κ_B + ½)βρ) + η²αλ(βρ + 1)²κ_B.
    """
    off = []
    for size in SIZES[::2]:
        for rho in _radii():
            kappa = bounds.kappa(ALPHA, BETA, size)
            slack, curve = 1 - (kappa + 0.5) * BETA * rho, ALPHA * LAM * (BETA * rho + 1) ** 2 * kappa
            minimum = optimize.minimize_scalar(lambda eta, s=slack, c=curve: 1 - eta * ALPHA * s + eta**2 * c)
            off.append(abs(minimum.x / bounds.sam_step_size(ALPHA, BETA, LAM, rho, size) - 1))
            off.append(abs(minimum.fun - bounds.sam_rate(ALPHA, BETA, LAM, rho, size)))
    return Finding(f"off by at most {max(off):.0e} at {len(off) // 2} settings of B and ρ", holds=bool(max(off) < 1e-6))


def appendix_e(eta: float = 0.3, rho: float = 0.5) -> Finding:
    """The last lines of Appendix E against the mean of B_i², B_i = I − ηH_i − ηρH_i², on random Hessians.

    The last but one line as printed has H² where M₂ belongs, in η(η − 2ρ)H²; mended, it is the mean.
    """
    hessians = linear_stability.random_hessians(n=20, d=4, rank=2)
    steps = linear_stability.steps(hessians, eta, rho)
    mean = (steps @ steps).mean(0)
    h = hessians.mean(0)
    square, cube, fourth = (torch.linalg.matrix_power(hessians, k).mean(0) for k in (2, 3, 4))
    identity, powers = torch.eye(len(h), dtype=h.dtype), [torch.linalg.matrix_power(h, k) for k in (2, 3, 4)]
    rest = 2 * eta**2 * rho * (cube - powers[1]) + eta**2 * rho**2 * (fourth - powers[2])

    def line(second):
        return (
            identity
            - 2 * eta * h
            + eta * (eta - 2 * rho) * second
            + 2 * eta**2 * rho * cube
            + (eta * rho) ** 2 * fourth
        )

    last = torch.linalg.matrix_power(identity - eta * h - eta * rho * powers[0], 2)
    last = last + eta * (eta - 2 * rho) * (square - powers[0]) + rest
    mended, printed = ((line(second) - mean).abs().max().item() for second in (square, powers[0]))
    holds = mended < ROUNDING and (last - mean).abs().max().item() < ROUNDING < printed
    words = f"as printed the last but one line is off by {printed:.2g}; with M₂ for H² by {mended:.0e}"
    return Finding(words, holds=holds)


def _radii() -> list[float]:
    return [fraction * bounds.rho_max(ALPHA, BETA) for fraction in FRACTIONS]
