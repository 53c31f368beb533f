"""How fast unnormalized SAM converges on smooth losses: "Towards Understanding SAM", Theorems 2, 6, 9–12, 15 and 18.

    n-SAM, full batch   w_{t+1} = w_t − γ ∇L(w_t + ρ ∇L(w_t))                               (20)  Theorems 6, 9, 10, 11
    n-SAM, two batches  w_{t+1} = w_t − γ_t ∇L_I(w_t + ρ_t ∇L_J(w_t)), I and J independent  (21)  Theorems 12, 15
    m-SAM, one batch    w_{t+1} = w_t − γ_t ∇L_I(w_t + ρ_t ∇L_I(w_t))                       (4)   Theorems 2, 18

L is β-smooth with the infimum L*; for (4) each ℓ_i is β-smooth. E‖∇ℓ_i − ∇L‖² ≤ σ² everywhere, and b samples are drawn
for a batch. The PL condition is ½‖∇L‖² ≥ μ(L − L*), with the ½ that the main paper leaves out. T = `steps` ≥ 1. `gap`
is L(w_0) − L*; `decrease` is L(w_0) − E L(w_T), and `gap` may stand for it. "Gradients" are (1/T) Σ_{t<T} E‖∇L(w_t)‖².

What differs from the print, since there the units or the proof disagree:

- Theorem 9 sums to t = T − 1, as its proof does, not to T.
- Theorem 11 has 2ρβ + 1 twice, where its second part prints 2ρ + 1. The proof gives ρβ + 1.
- Theorem 12 has 4β/√T, where 4/(β√T) is printed, and its second part needs the PL condition (A3), not (A2).
- Theorem 15 has no T in its noise term, and its iterates are (21).
- Theorems 2 and 12 have a least T, from which their ρ_t meets the condition of Theorems 18 and 15.

Lemmas 14 and 17 do not follow with their constants from ⟨a, b⟩ ≤ (c/2)‖a‖² + ‖b‖²/(2c) at c = 1, as the proofs have it;
with c = 2 and c = 4/3, and E‖∇L_I‖² ≤ ‖∇L‖² + σ²/b, they do, and Theorems 15 and 18 hold as written here. For
`pl_bound` they are no proof: its early steps have ρ_t up to 1/(√2 β), beyond what the lemmas allow.
"""

import math

import numpy as np


def theorem_6(*, beta: float, gamma: float, rho: float, steps: int, gap: float) -> float:
    """2 gap/(γ(1 − ρβ)T), above the gradients of (20). Raises ValueError unless γ, ρ < 1/β.

    >>> theorem_6(beta=1.0, gamma=0.5, rho=0.5, steps=8, gap=1.0)
    1.0
    """
    slack = _full_batch(beta, gamma, rho, steps)
    return 2 * gap / (gamma * slack * steps)


def theorem_6_pl(*, beta: float, mu: float, gamma: float, rho: float, steps: int, gap: float) -> float:
    """(1 − γ(1 − ρβ)μ/2)^T gap, above L(w_T) − L* of (20) under PL. ValueError as `theorem_6`, and for μ > β.

    >>> theorem_6_pl(beta=1.0, mu=1.0, gamma=0.5, rho=0.0, steps=1, gap=1.0)
    0.75
    """
    slack = _full_batch(beta, gamma, rho, steps)
    _check_mu(mu, beta)
    return (1 - gamma * slack * mu / 2) ** steps * gap


def theorem_9(*, beta: float, gamma: float, rho: float, steps: int, decrease: float) -> float:
    """decrease/(Tγ(1 − ρβ)(1 − (γβ/2)(1 − ρβ))), above the gradients of (20). ValueError as `theorem_6`.

    >>> round(theorem_9(beta=1.0, gamma=0.5, rho=0.5, steps=8, decrease=1.0), 6)
    0.571429
    """
    slack = _full_batch(beta, gamma, rho, steps)
    return decrease / (steps * gamma * slack * (1 - gamma * beta / 2 * slack))


def theorem_10(*, beta: float, mu: float, gamma: float, rho: float, steps: int, gap: float) -> float:
    """(1 − 2γμ(1 − ρβ)(1 − (γβ/2)(1 − ρβ)))^T gap, above L(w_T) − L* of (20) under PL. ValueError as `theorem_6_pl`.

    >>> round(theorem_10(beta=1.0, mu=1.0, gamma=0.5, rho=0.0, steps=1, gap=1.0), 6)
    0.25
    """
    slack = _full_batch(beta, gamma, rho, steps)
    _check_mu(mu, beta)
    return (1 - 2 * gamma * mu * slack * (1 - gamma * beta / 2 * slack)) ** steps * gap


def theorem_11(*, beta: float, gamma: float, rho: float, steps: int, distance: float) -> float:
    """(2ρβ + 1) distance²/(γ(2 − γβ(1 + ρβ))T), above L(w̄_T) − L* of (20) for convex L, w̄_T the mean of w_0 … w_{T−1}.

    distance: ‖w_0 − w*‖. ρ may be as large as γ allows. Raises ValueError unless γβ(1 + ρβ) < 2.

    >>> theorem_11(beta=1.0, gamma=1.0, rho=0.0, steps=2, distance=1.0)
    0.5
    """
    slack = _convex(beta, gamma, rho, steps)
    return (2 * rho * beta + 1) * distance**2 / (gamma * slack * steps)


def theorem_11_strong(*, beta: float, mu: float, gamma: float, rho: float, steps: int, distance: float) -> float:
    """(1 − γμ(2 − γβ(1 + ρβ)))^T (2ρβ + 1) distance², above ‖w_T − w*‖² of (20) for μ-strongly convex L.

    ValueError as `theorem_11`, and for μ > β.

    >>> theorem_11_strong(beta=1.0, mu=0.5, gamma=1.0, rho=0.0, steps=1, distance=1.0)
    0.5
    """
    slack = _convex(beta, gamma, rho, steps)
    _check_mu(mu, beta)
    return (1 - gamma * mu * slack) ** steps * (2 * rho * beta + 1) * distance**2


def theorem_15(
    *, beta: float, gamma: float, rho: float, steps: int, decrease: float, sigma: float, batch_size: int = 1
) -> float:
    """4 decrease/(Tγ) + 4σ²β(γ + ρ²β)/b, above the gradients of (21). Raises ValueError unless γ, ρ ≤ 1/(2β).

    >>> theorem_15(beta=1.0, gamma=0.5, rho=0.5, steps=8, decrease=1.0, sigma=1.0, batch_size=3)
    2.0
    """
    _stochastic(beta, gamma, rho, steps, sigma, batch_size, most_gamma=1 / 2, most_rho=1 / 2)
    return 4 * decrease / (steps * gamma) + 4 * sigma**2 * beta * (gamma + rho**2 * beta) / batch_size


def theorem_18(
    *, beta: float, gamma: float, rho: float, steps: int, decrease: float, sigma: float, batch_size: int = 1
) -> float:
    """(8/3)(decrease/(Tγ) + σ²β(γ + ρ²β)/b), above the gradients of (4). ValueError unless γ ≤ 1/β and ρ ≤ 1/(4β).

    >>> round(theorem_18(beta=1.0, gamma=1.0, rho=0.0, steps=8, decrease=1.0, sigma=1.0), 6)
    3.0
    """
    _stochastic(beta, gamma, rho, steps, sigma, batch_size, most_gamma=1, most_rho=1 / 4)
    return 8 / 3 * (decrease / (steps * gamma) + sigma**2 * beta * (gamma + rho**2 * beta) / batch_size)


def constant_schedule(*, beta: float, steps: int) -> tuple[float, float]:
    """γ = 1/(√T β) and ρ = 1/(T^¼ β), the step sizes of the first parts of Theorems 2 and 12.

    >>> constant_schedule(beta=1.0, steps=16)
    (0.25, 0.5)
    """
    _positive(beta=beta)
    _check_count(steps=steps)
    return 1 / (steps**0.5 * beta), 1 / (steps**0.25 * beta)


def theorem_2(*, beta: float, steps: int, gap: float, sigma: float, batch_size: int = 1) -> float:
    """4β gap/√T + 8σ²/(b√T), above the gradients of (4) with `constant_schedule`.

    It follows from `theorem_18`, so ValueError for T < 256, where ρ exceeds 1/(4β).

    >>> theorem_2(beta=1.0, steps=256, gap=1.0, sigma=1.0)
    0.75
    """
    return _constant_bound(256, beta, steps, gap, sigma, batch_size)


def theorem_12(*, beta: float, steps: int, gap: float, sigma: float, batch_size: int = 1) -> float:
    """4β gap/√T + 8σ²/(b√T), above the gradients of (21) with `constant_schedule`.

    It follows from `theorem_15`, so ValueError for T < 16, where ρ exceeds 1/(2β).

    >>> theorem_12(beta=1.0, steps=16, gap=1.0, sigma=1.0)
    3.0
    """
    return _constant_bound(16, beta, steps, gap, sigma, batch_size)


def decreasing_schedule(*, beta: float, mu: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """γ_t = min((8t + 4)/(3μ(t + 1)²), 1/(2β)) and ρ_t = √(γ_t/β) for t = 0 … T − 1, the step sizes of `pl_bound`.

    >>> gamma, rho = decreasing_schedule(beta=1.0, mu=1.0, steps=20)
    >>> gamma[[0, 19]].tolist()
    [0.5, 0.13]
    """
    _check_mu(mu, beta)
    _check_count(steps=steps)
    t = np.arange(steps)
    gamma = np.minimum((8 * t + 4) / (3 * mu * (t + 1) ** 2), 1 / (2 * beta))
    return gamma, np.sqrt(gamma / beta)


def pl_bound(*, beta: float, mu: float, steps: int, gap: float, sigma: float, batch_size: int = 1) -> float:
    """3β² gap/(μ²T²) + 22βσ²/(μ²bT), above E L(w_T) − L* with `decreasing_schedule`, under PL: the second parts of
    Theorems 2 and 18, for (4), and of 12, for (21). The constants are as printed; see above on their proof.

    >>> pl_bound(beta=1.0, mu=1.0, steps=2, gap=4.0, sigma=1.0)
    14.0
    """
    _check_mu(mu, beta)
    _check_noise(sigma, batch_size)
    _check_count(steps=steps)
    return 3 * beta**2 * gap / (mu * steps) ** 2 + 22 * beta * sigma**2 / (mu**2 * batch_size * steps)


def _constant_bound(least, beta, steps, gap, sigma, batch_size):
    _positive(beta=beta)
    _check_noise(sigma, batch_size)
    if not steps >= least:
        raise ValueError(f"steps = {steps!r}: the theorem holds for {least} or more; below, its rho is too large")
    return (4 * beta * gap + 8 * sigma**2 / batch_size) / steps**0.5


def _full_batch(beta, gamma, rho, steps):
    """1 − ρβ."""
    _steps_and_sizes(beta, gamma, rho, steps)
    if not (gamma * beta < 1 and rho * beta < 1):
        raise ValueError(f"gamma = {gamma!r}, rho = {rho!r}: both must be below 1/beta = {1 / beta:.6g}")
    return 1 - rho * beta


def _convex(beta, gamma, rho, steps):
    """2 − γβ(1 + ρβ)."""
    _steps_and_sizes(beta, gamma, rho, steps)
    slack = 2 - gamma * beta * (1 + rho * beta)
    if not slack > 0:
        raise ValueError(
            f"gamma = {gamma!r}, rho = {rho!r}: gamma·beta·(1 + rho·beta) = {2 - slack:.6g} must be below 2"
        )
    return slack


def _stochastic(beta, gamma, rho, steps, sigma, batch_size, *, most_gamma, most_rho):
    _steps_and_sizes(beta, gamma, rho, steps)
    _check_noise(sigma, batch_size)
    for name, value, most in (("gamma", gamma, most_gamma), ("rho", rho, most_rho)):
        # A relative margin of rounding: the limit itself is allowed.
        if not value * beta <= most * (1 + 1e-12):
            raise ValueError(f"{name} = {value!r}: must be at most {most:g}/beta = {most / beta:.6g}")


def _steps_and_sizes(beta, gamma, rho, steps):
    _positive(beta=beta, gamma=gamma)
    _check_count(steps=steps)
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho = {rho!r}: must be a finite number, 0 or more")


def _check_mu(mu, beta):
    _positive(mu=mu, beta=beta)
    if mu > beta * (1 + 1e-12):
        raise ValueError(f"mu = {mu!r}: no beta-smooth loss has a mu above beta = {beta!r}")


def _check_noise(sigma, batch_size):
    _check_count(batch_size=batch_size)
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ValueError(f"sigma = {sigma!r}: must be a finite number, 0 or more")


def _check_count(**counts):
    for name, value in counts.items():
        if not value >= 1:
            raise ValueError(f"{name} = {value!r}: must be 1 or more")


def _positive(**constants):
    for name, value in constants.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} = {value!r}: must be a finite number above 0")
