"""Stochastic SAM near a minimum that fits every sample, where it is linear (equation 5 and Theorem 9, Section 4).

With the loss of sample i being ½xᵀH_i x, a step of unnormalized SAM on one sample, drawn at random, is

    x_{t+1} = B_i x_t,   B_i = I − ηH_i − ηρH_i²

so that Σ_t = E x_t x_tᵀ follows Σ_{t+1} = mean_i B_i Σ_t B_i. The second moment E‖x_t‖² is bounded where the spectral
radius of that map is at most 1 (below 1, it vanishes). Theorem 9 promises it where λ_max(mean_i B_i²) ≤ 1, and its
necessary conditions (7) bound the sharpness and the moments of the H_i.
"""

from collections.abc import Callable, Sequence

import pandas
import torch

from lib.core.seeds import generator
from lib.theory import bounds


def random_hessians(n: int, d: int, *, rank: int = 1, seed: int = 0) -> torch.Tensor:
    """n positive semidefinite d×d matrices of the given rank, with traces 1 on average but unlike each other (float64).

    Each is a sum of `rank` outer products of Gaussian vectors, times a weight that is exponentially distributed.

    >>> tuple(random_hessians(5, 3).shape)
    (5, 3, 3)
    """
    random = generator(seed, "hessians")
    x = torch.randn(n, rank, d, generator=random, dtype=torch.float64)
    weight = torch.empty(n, 1, 1, dtype=torch.float64).exponential_(generator=random)
    return weight * x.mT @ x / (rank * d)


def steps(hessians: torch.Tensor, eta: float, rho: float) -> torch.Tensor:
    """B_i = I − ηH_i − ηρH_i² for the H_i (n×d×d).

    >>> steps(torch.eye(1)[None], eta=0.5, rho=0.5).item()  # 1 − 0.5 − 0.25
    0.25
    """
    eye = torch.eye(hessians.shape[-1], dtype=hessians.dtype)
    return eye - eta * hessians - eta * rho * hessians @ hessians


def growth(hessians: torch.Tensor, eta: float, rho: float) -> float:
    """The factor by which the second moment grows a step in the long run: the spectral radius of Σ ↦ mean_i B_iΣB_i.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> round(growth(one, eta=0.5, rho=0.0), 6)  # (1 − ηλ)²
    0.25
    """
    b = steps(hessians, eta, rho)
    n, d, _ = b.shape
    superoperator = torch.einsum("nij,nkl->ikjl", b, b).reshape(d * d, d * d) / n
    return torch.linalg.eigvals(superoperator).abs().max().item()


def theorem9(hessians: torch.Tensor, eta: float, rho: float) -> float:
    """λ_max of the matrix of Theorem 9, written as the paper does, with H and the moments M_k; stable if at most 1.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> round(theorem9(one, eta=0.5, rho=0.0), 6)
    0.25
    """
    h, m = hessians.mean(0), {k: torch.linalg.matrix_power(hessians, k).mean(0) for k in (2, 3, 4)}
    eye = torch.eye(len(h), dtype=h.dtype)
    central = {k: m[k] - torch.linalg.matrix_power(h, k) for k in m}
    mean_step = eye - eta * h - eta * rho * h @ h
    matrix = mean_step @ mean_step + eta * (eta - 2 * rho) * central[2]
    matrix += 2 * eta**2 * rho * central[3] + eta**2 * rho**2 * central[4]
    return torch.linalg.eigvalsh(matrix)[-1].item()


def moments(hessians: torch.Tensor) -> dict[str, float]:
    """a = λ_max(H) and s_k = λ_max(M_k − H^k)^{1/k} for k = 2, 3, 4.

    >>> two = torch.tensor([[[1.0]], [[3.0]]], dtype=torch.float64)
    >>> moments(two)["a"], moments(two)["s2"]  # the mean, and the standard deviation
    (2.0, 1.0)
    """
    h = hessians.mean(0)
    result = {"a": torch.linalg.eigvalsh(h)[-1].item()}
    for k in (2, 3, 4):
        top = torch.linalg.eigvalsh(torch.linalg.matrix_power(hessians, k).mean(0) - torch.linalg.matrix_power(h, k))
        result[f"s{k}"] = top[-1].clamp(min=0).item() ** (1 / k)
    return result


def conditions(hessians: torch.Tensor, eta: float, rho: float) -> dict[str, float]:
    """a, s₂, s₃ and s₄ over their bounds in the conditions (7): at most 1 where one holds, 0 where it says nothing.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> conditions(one, eta=1.0, rho=0.0)["a"]  # a = 1, the bound 2/η = 2
    0.5
    """
    limits = bounds.stability_bounds(eta, rho)._asdict()
    return {name: value / limits[name] for name, value in moments(hessians).items()}


def strictest(hessians: torch.Tensor, eta: float, rho: float) -> float:
    """The largest of `conditions`: at most 1 where all of (7) hold.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> strictest(one, eta=1.0, rho=0.0)
    0.5
    """
    return max(conditions(hessians, eta, rho).values())


def edge(hessians: torch.Tensor, rho: float, measure: Callable = growth) -> float:
    """The step size at which `measure` (`growth`, `theorem9` or `strictest`) passes 1, to a relative 1e-12.

    There is one: at a fixed ρ each of them is at most 1 in an interval from η = 0 on, for E‖B_i x‖² is convex in η in
    every norm, and each share of a bound grows with η. Raises ValueError if it is above 1 for ever smaller steps.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> round(edge(one, rho=0.0), 6)  # 2/λ
    2.0
    """
    low, high = 1.0, 2.0
    while measure(hessians, low, rho) > 1:
        low, high = low / 2, low
        if low < 1e-12:
            raise ValueError(f"rho = {rho!r}: not stable at any step size above 1e-12")
    while measure(hessians, high, rho) <= 1:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if measure(hessians, middle, rho) <= 1 else (low, middle)
    return low


def scan(hessians: torch.Tensor, etas: Sequence[float], rhos: Sequence[float]) -> pandas.DataFrame:
    """`growth`, `theorem9` and `strictest` (column conditions) at every (eta, rho) of a grid.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> scan(one, [0.5, 1.0], [0.0])["growth"].round(6).tolist()
    [0.25, 0.0]
    """
    return _scan(hessians, etas, rhos, {"growth": growth, "theorem9": theorem9, "conditions": strictest})


def simulated_scan(hessians: torch.Tensor, etas: Sequence[float], rhos: Sequence[float]) -> pandas.DataFrame:
    """`simulated_growth` (column growth) at every (eta, rho) of a grid.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> simulated_scan(one, [0.5], [0.0])["growth"].round(6).tolist()
    [0.25]
    """
    return _scan(hessians, etas, rhos, {"growth": simulated_growth})


def _scan(hessians, etas, rhos, measures):
    grid = [(eta, rho) for eta in etas for rho in rhos]
    result = {name: [measure(hessians, *at) for at in grid] for name, measure in measures.items()}
    return pandas.DataFrame(grid, columns=["eta", "rho"]).assign(**result)


def simulate(hessians: torch.Tensor, *, eta: float, rho: float, length: int, paths: int, seed: int = 0) -> torch.Tensor:
    """‖x_t‖² for t = 0 … length (paths × (length + 1)), from random x_0 of length 1.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> simulate(one, eta=0.5, rho=0.0, length=2, paths=1).round(decimals=6).tolist()
    [[1.0, 0.25, 0.0625]]
    """
    random = generator(seed, "linear stability")
    b = steps(hessians, eta, rho)
    x = torch.randn(paths, hessians.shape[-1], 1, generator=random, dtype=torch.float64)
    x /= x.norm(dim=1, keepdim=True)
    squares = [x.square().sum((1, 2))]
    for _ in range(length):
        x = b[torch.randint(len(b), (paths,), generator=random)] @ x
        squares.append(x.square().sum((1, 2)))
    return torch.stack(squares, 1)


def edges(hessians: torch.Tensor, rhos: Sequence[float]) -> pandas.DataFrame:
    """The `edge` at each ρ by growth ("exact"), "Theorem 9" and "conditions (7)", and which of (7) is strictest.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> edges(one, [0.0])["exact"].round(6).tolist()
    [2.0]
    """
    measures = {"exact": growth, "Theorem 9": theorem9, "conditions (7)": strictest}
    result = {name: [edge(hessians, rho, measure) for rho in rhos] for name, measure in measures.items()}
    shares = [conditions(hessians, eta, rho) for eta, rho in zip(result["conditions (7)"], rhos, strict=True)]
    result["strictest of (7)"] = [max(share, key=share.get) for share in shares]
    return pandas.DataFrame(result, index=pandas.Index(rhos, name="ρ"))


def walks(hessians: torch.Tensor, eta: float, rho: float, *, length: int, paths: int, shown: int) -> pandas.DataFrame:
    """‖x_t‖² (square) at each step: of the first `shown` of `paths` simulated paths, their "mean", and "exact", the
    trace of Σ_t from x_0 of length 1. Columns kind ("path", "mean" or "exact"), path, step and square.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> table = walks(one, eta=0.5, rho=0.0, length=2, paths=1, shown=0)
    >>> table.query("kind == 'exact'")["square"].round(6).tolist()
    [1.0, 0.25, 0.0625]
    """
    squares = simulate(hessians, eta=eta, rho=rho, length=length, paths=paths)
    b, d = steps(hessians, eta, rho), hessians.shape[-1]
    sigma, exact = torch.eye(d, dtype=hessians.dtype) / d, [1.0]
    for _ in range(length):
        sigma = (b @ sigma @ b).mean(0)
        exact.append(sigma.trace().item())
    lines = [("path", i, path.tolist()) for i, path in enumerate(squares[:shown])]
    lines += [("mean", -1, squares.mean(0).tolist()), ("exact", -1, exact)]
    parts = [{"kind": kind, "path": i, "step": range(length + 1), "square": values} for kind, i, values in lines]
    return pandas.concat([pandas.DataFrame(part) for part in parts], ignore_index=True)


def about_edge(hessians: torch.Tensor, rho: float, **options) -> pandas.DataFrame:
    """The `walks`, with its `options`, at 0.7, 1 and 1.2 times the `edge` at ρ, named in the column panel.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> about_edge(one, 0.0, length=2, paths=1, shown=0)["panel"].unique()[0]
    'below the edge: η = 1.400, growth 0.160'
    """
    parts = []
    for where, factor in (("below the edge", 0.7), ("at the edge", 1.0), ("beyond the edge", 1.2)):
        eta = factor * edge(hessians, rho)
        panel = f"{where}: η = {eta:.3f}, growth {growth(hessians, eta, rho):.3f}"
        parts.append(walks(hessians, eta, rho, **options).assign(panel=panel))
    return pandas.concat(parts, ignore_index=True)


def simulated_growth(hessians: torch.Tensor, eta: float, rho: float, *, length=40, paths=1000, seed: int = 0) -> float:
    """What `growth` looks like in simulated paths: the factor per step of the mean of ‖x_t‖² over the last three
    quarters of `length`. It is too low where the second moment grows by paths too rare to be among those drawn.

    >>> one = torch.eye(2, dtype=torch.float64)[None]
    >>> round(simulated_growth(one, eta=0.5, rho=0.0), 6)  # as `growth`
    0.25
    """
    mean = simulate(hessians, eta=eta, rho=rho, length=length, paths=paths, seed=seed).mean(0)
    return (mean[-1] / mean[length // 4]).item() ** (1 / (length - length // 4))
