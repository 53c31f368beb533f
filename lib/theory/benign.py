"""Benign overfitting in two-layer networks (Frei, Chatterji and Bartlett, 2022): many runs of gradient descent at once.

Data: x = ỹ(μ + z) with a clean label ỹ = ±1 at random, z ~ N(0, I_p), and a label y that is −ỹ with probability η.
Network: f(x; W) = Σ_j a_j φ(⟨w_j, x⟩) with fixed a_j = ±1/√m, W⁰ ~ N(0, ω²) and the γ-leaky, smooth activation

    φ(z) = γz + (1 − γ) log(1 + e^z),    γ < φ'(z) < 1,    |φ''(z)| ≤ (1 − γ)/4.

W moves by full-batch steps of size α on the logistic loss L(W) = (1/n) Σ_i log(1 + exp(−y_i f(x_i; W))). All gradients
lie in the span of the samples, W = W⁰ + AX, so a step is computed on A (m×n) through the Gram matrix XXᵀ: its cost does
not depend on p, and runs of different p, seeds, step sizes and radii are trained as one stack.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import softplus

LEAK = 0.1  # γ


def activation(z: torch.Tensor, leak: float = LEAK) -> torch.Tensor:
    """φ(z) = γz + (1 − γ) log(1 + e^z), of any shape.

    >>> round(activation(torch.zeros(1)).item(), 4)
    0.6238
    """
    return leak * z + (1 - leak) * softplus(z)


def slope(z: torch.Tensor, leak: float = LEAK) -> torch.Tensor:
    """φ'(z) = γ + (1 − γ)/(1 + e^{−z}), between γ and 1.

    >>> round(slope(torch.zeros(1)).item(), 4)
    0.55
    """
    return leak + (1 - leak) * torch.sigmoid(z)


@dataclass(frozen=True)
class Stack:
    """R problems of n samples and R networks of m units, each with a dimension p of its own (lists of R).

    x: n×p; w0: m×p; mu: ‖μ‖, along the first axis; clean and y: ỹ and y (R×n); a (R×m).
    """

    x: list[torch.Tensor]
    w0: list[torch.Tensor]
    mu: list[float]
    clean: torch.Tensor
    y: torch.Tensor
    a: torch.Tensor

    def weights(self, coefficients: torch.Tensor) -> list[torch.Tensor]:
        """W = W⁰ + AX of each network (m×p); coefficients: A, R×m×n."""
        return [w0 + a @ x for w0, a, x in zip(self.w0, coefficients, self.x, strict=True)]


def draw(n: int, m: int, *, p: int, mu: float, flip: float, omega: float, seed: int) -> dict:
    """One problem and network, of which round(flip·n) labels are flipped, at random. Give several to `stack`.

    The theorem flips each label independently; with few samples, seeds would then differ most in how many are flipped.
    Data depend on (seed, n, p) alone, weights on (seed, m, p), so settings that share these are paired.
    Raises ValueError for sizes below 1, ‖μ‖ or ω below 0, or a flip rate outside [0, 1).

    >>> problem = draw(4, 3, p=10, mu=1.0, flip=0.25, omega=0.1, seed=0)
    >>> int((problem["y"] != problem["clean"]).sum())  # labels that are flipped
    1
    """
    if min(n, m, p) < 1 or not (mu >= 0 and omega >= 0 and 0 <= flip < 1):
        raise ValueError(f"n, m, p = {n}, {m}, {p}; mu = {mu!r}; omega = {omega!r}; flip = {flip!r}: out of range")
    random = torch.Generator().manual_seed(1_000_003 * seed + n)
    clean = 2.0 * torch.randint(2, (n,), generator=random).double() - 1
    flipped = torch.randperm(n, generator=random) < round(flip * n)
    x = torch.randn(n, p, generator=random, dtype=torch.float64)
    x[:, 0] += mu
    x *= clean[:, None]
    random = torch.Generator().manual_seed(1_000_003 * seed + 500_000 + m)
    a = (2.0 * torch.randint(2, (m,), generator=random).double() - 1) / math.sqrt(m)
    w0 = omega * torch.randn(m, p, generator=random, dtype=torch.float64)
    return dict(x=x, w0=w0, mu=mu, clean=clean, y=torch.where(flipped, -clean, clean), a=a)


def stack(problems: list[dict]) -> Stack:
    """What `draw` gave, side by side; all of one n and one m.

    >>> one = draw(4, 3, p=10, mu=1.0, flip=0.25, omega=0.1, seed=0)
    >>> tuple(stack([one, one]).y.shape)
    (2, 4)
    """
    lists = {name: [problem[name] for problem in problems] for name in problems[0]}
    return Stack(**lists | {name: torch.stack(lists[name]) for name in ("clean", "y", "a")})


@dataclass(frozen=True)
class Trained:
    """coefficients: A (R×m×n) at the end; loss, steps and done (R): whether the loss is at most ε; outputs f (R×n).

    path: where levels were asked for, A at the first step at which the loss was at most each level, None before.
    """

    coefficients: torch.Tensor
    loss: torch.Tensor
    steps: torch.Tensor
    done: torch.Tensor
    outputs: torch.Tensor
    path: list[torch.Tensor]


def train(problems: Stack, *, alpha: torch.Tensor, epsilon: float, steps: int, rho=0.0, levels=()) -> Trained:
    """Full-batch GD, or normalized SAM where ρ > 0, until every run has a loss of at most ε, or for so many steps.

    A run stops at its first step with L ≤ ε. alpha: the step sizes (R); rho: a number or R of them; levels: losses,
    descending, at which A is kept in `path` (the end where a level is not reached).

    >>> problems = stack([draw(10, 4, p=200, mu=3.0, flip=0.1, omega=0.01, seed=0)])
    >>> train(problems, alpha=torch.tensor([1.0]), epsilon=0.1, steps=200).done.tolist()
    [True]
    """
    count = len(problems.x)
    gram = torch.stack([x @ x.T for x in problems.x])
    z = torch.stack([w0 @ x.T for w0, x in zip(problems.w0, problems.x, strict=True)])
    size = alpha.double()[:, None, None]
    radius = torch.as_tensor(rho, dtype=torch.float64).expand(count)[:, None, None]
    a, y, coefficients = problems.a[:, :, None], problems.y[:, None, :], torch.zeros_like(z)
    end, outputs = torch.zeros_like(z), torch.zeros(count, z.shape[2], dtype=torch.float64)
    final, taken = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.int64)
    path, reached = [torch.zeros_like(z) for _ in levels], [torch.zeros(count, dtype=torch.bool) for _ in levels]
    live = torch.arange(count)
    for step in range(steps + 1):
        g, loss, f = _gradient(z, a, y)
        for kept, before, level in zip(path, reached, levels, strict=True):
            now = (loss <= level) & ~before[live]
            kept[live[now]], before[live[now]] = coefficients[now], True
        active = loss > epsilon
        if step == steps or active.double().mean() < 0.7:  # those that are finished leave the stack
            end[live], final[live], outputs[live] = coefficients, loss, f
            keep = active if step < steps else torch.zeros_like(active)
            z, a, y, gram, size, radius = (tensor[keep] for tensor in (z, a, y, gram, size, radius))
            live, coefficients, g, active = (tensor[keep] for tensor in (live, coefficients, g, active))
            if len(live) == 0:
                break
        if (radius > 0).any():
            along = g @ gram
            length = (along * g).sum((1, 2), keepdim=True).clamp(min=1e-300).sqrt()
            g, *_ = _gradient(z + radius * along / length, a, y)
        move = size * g * active[:, None, None]
        coefficients, z = coefficients - move, z - move @ gram
        taken[live] += active
    for kept, before in zip(path, reached, strict=True):
        kept[~before] = end[~before]
    return Trained(end, final, taken, final <= epsilon, outputs, path)


def _gradient(z, a, y):
    """∂L/∂A up to the Gram matrix (R×m×n), L (R) and the outputs (R×n), at the preactivations z."""
    outputs = (a * activation(z)).sum(1, keepdim=True)
    margin = y * outputs
    return -a * y * slope(z) * torch.sigmoid(-margin) / z.shape[2], softplus(-margin).mean((1, 2)), outputs[:, 0]


@torch.no_grad()
def on_clean_points(w: torch.Tensor, a: torch.Tensor, mu: float, *, draws: int, seed: int = 0) -> tuple[float, float]:
    """(error, mean of ỹf(x)) over `draws` clean points x = ỹ(μ + z), half of them of each label.

    w: m×p. Only Wx enters, a Gaussian of mean ỹWμ and covariance WWᵀ, so that m numbers a point are drawn if m < p.

    >>> w, a = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([1.0, -1.0])
    >>> on_clean_points(w, a, mu=10.0, draws=100)[0]  # the sign of the first axis is never wrong
    0.0
    """
    random = torch.Generator().manual_seed(seed)
    m, p = w.shape
    values, vectors = torch.linalg.eigh(w @ w.T) if m < p else (None, None)
    factor = w.T if m >= p else (vectors * values.clamp(min=0).sqrt()).T  # rows: directions of the noise
    noise = torch.randn(draws, len(factor), generator=random, dtype=w.dtype) @ factor
    clean = torch.ones(draws, 1, dtype=w.dtype)
    clean[draws // 2 :] = -1
    margin = clean[:, 0] * (activation(clean * (mu * w[:, 0] + noise)) @ a)
    return (margin <= 0).double().mean().item(), margin.mean().item()
