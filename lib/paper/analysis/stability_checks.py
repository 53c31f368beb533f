"""Small computed checks of what the Hessian code relies on, for docs/hessian.md: each compares with what is
known exactly, in seconds, on a network or a spectrum made for it.
"""

import itertools

import pandas
import torch
from torch import nn

from lib import data, hessian
from lib.core import losses
from lib.hessian.lanczos import MINIMUM, Krylov, lanczos, norm2
from lib.hessian.operators import Operator, gauss_newton_dual, gauss_newton_moment
from lib.hessian.per_sample import sample_hessians


def small_network() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A tanh network of 20, 6, 5 and 3 units (float64), 12 samples whose last 8 inputs are never on, and targets."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    return net, torch.randn(12, 20).double() * (torch.arange(20) < 12), torch.randn(12, 3).double()


def dense_hessians(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The H_i (N×P×P) of the loss "mse" by torch.func, a path of its own."""
    names, parameters = zip(*net.named_parameters(), strict=True)

    def loss(w, x, y):
        parts = w.split([p.numel() for p in parameters])
        weights = {name: part.view_as(p) for name, p, part in zip(names, parameters, parts, strict=True)}
        return losses.per_sample("mse", torch.func.functional_call(net, weights, x[None]), y[None]).sum()

    w = nn.utils.parameters_to_vector(parameters).detach()
    return torch.func.vmap(torch.func.hessian(loss), (None, 0, 0))(w, x, y).detach()


def against_dense(net: nn.Module, x, y, powers=(1, 2, 3, 4)) -> pandas.DataFrame:
    """For each power the relative errors of the products with M_k and M_k − H^k, and the largest third singular value
    of a layer's block of H_i^k v, over the first: 0 where the rank is 2. `net`: linear layers with biases."""
    dense, operator, result = dense_hessians(net, x, y), sample_hessians(net, "mse", x, y), {}
    v = torch.randn(operator.size, generator=torch.Generator().manual_seed(1)).double()
    for k in powers:
        each = torch.linalg.matrix_power(dense, k) @ v
        moment, central = each.mean(0), each.mean(0) - torch.linalg.matrix_power(dense.mean(0), k) @ v
        parts = each.split([p.numel() for p in net.parameters()], 1)
        blocks = [
            torch.cat([w.view(*b.shape, -1), b[:, :, None]], 2) for w, b in zip(parts[::2], parts[1::2], strict=True)
        ]
        values = [torch.linalg.svdvals(block) for block in blocks]
        result[k] = {
            "M_k": norm2(operator.polynomial(v, {k: 1.0}) - moment) / norm2(moment),
            "M_k − H^k": norm2(operator.central(v, k) - central) / norm2(central) if k > 1 else 0.0,
            "rank above 2": max((s[:, 2] / s[:, 0]).max().item() for s in values),
        }
    return pandas.DataFrame(result).T.rename_axis("k")


def hidden_curvature(net: nn.Module, x, y) -> float:
    """The largest |H_i v| of a random v without its live part: 0 if nothing is lost by leaving the rest out."""
    operator = sample_hessians(net, "mse", x, y)
    v = torch.randn(operator.size, generator=torch.Generator().manual_seed(1)).double()
    return (dense_hessians(net, x, y) @ (v - operator.extend(operator.restrict(v)))).abs().max().item()


def products(sizes: list[int]) -> dict[str, int]:
    """Multiplications a sample for an HVP and for another power of H_i, in a perceptron of layers of these sizes.

    Of products with matrices a layer takes 6 and 2, but the first one, of which no tangent enters or leaves, 2 and 0.
    """
    first, *others = [a * b for a, b in itertools.pairwise(sizes)]
    return {"hvp": 2 * first + 6 * sum(others), "power": 2 * sum(others)}


def gauss_newton_errors(shares=(1.0, 0.1, 0.0), powers=(2, 3, 4)) -> pandas.DataFrame:
    """The relative error of s_k by Gauss–Newton for 100 digits at one set of weights, a row each mean squared residual,
    which goes down as the targets move by 1 − share to what the network says."""
    net, x, labels = _digits()
    said, result = net(x).detach(), {}
    for share in shares:
        y = said + share * (labels - said)
        exact, live = (
            hessian.moments(net, "squared", x, y, powers, tol=1e-5),
            sample_hessians(net, "squared", x, y).live,
        )
        gauss_newton = {k: lanczos(gauss_newton_moment(live, k), tol=1e-5).value ** (1 / k) for k in powers}
        residual = (said - y).square().sum(1).mean().item()
        result[residual] = {f"s{k}": gauss_newton[k] / exact[f"s{k}"].value - 1 for k in powers}
    return pandas.DataFrame(result).T.rename_axis("mean squared residual")


def gram_error(k: int = 2, n: int = 20) -> float:
    """The relative error of s_k at interpolation as the root of λ_max(CK), from the Gram matrix K of n digits alone."""
    net, x, _ = _digits()
    x, said = x[:n], net(x[:n]).detach()
    live = sample_hessians(net, "squared", x, said).live
    dual = gauss_newton_dual(live)
    gram = torch.stack([dual @ e for e in torch.eye(dual.shape[0], dtype=torch.float64)])
    blocks = torch.block_diag(*live.blocks())
    c = torch.linalg.matrix_power(blocks, k - 1) - torch.linalg.matrix_power(gram, k - 1)
    top = torch.linalg.eigvals(c @ gram).real.max().item()
    return top ** (1 / k) / hessian.nonuniformity(net, "squared", x, said, k).value - 1


def _digits():
    digits = data.load("digits", "train")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 20), nn.ReLU(), nn.Linear(20, 10)).double()
    x = data.standardize(digits.x[:100], "digits", torch.float64).flatten(1)
    return net, x, nn.functional.one_hot(digits.y[:100], 10).double()


def stopping_rules(starts: int = 10, tol: float = 1e-4, minimum: int = MINIMUM) -> pandas.DataFrame:
    """How far the eigenvalue is off at which each rule stops, for every random start, where eigenvalues of 1 and 0.996
    are above a continuum up to 0.91: Lanczos from `minimum` products on by residual ≤ tol, by residual²/gap ≤ tol, and
    power iteration until the value changes by less than 0.1%, PyHessian's default."""
    values = torch.cat([torch.linspace(0, 0.97, 500).double() ** 3, torch.tensor([0.996, 1.0]).double()])
    operator, rows = Operator((502, 502), lambda v: values * v, dtype=torch.float64, device="cpu"), []
    for seed in range(starts):
        start = torch.randn(502, generator=torch.Generator().manual_seed(seed)).double()
        krylov, steps = Krylov(operator, start, 40), []
        while not krylov.full:
            krylov.expand()
            theta, y = torch.linalg.eigh(krylov.t)
            if krylov.m >= minimum:
                residual = krylov.beta * abs(y[-1, -1].item())
                steps.append((1 - theta[-1].item(), residual, residual**2 / (theta[-1] - theta[-2]).item()))
        v, last, value = start, 0.0, 1.0
        while abs(value - last) > 1e-3 * value:
            v = operator @ (v / v.norm())
            last, value = value, v.norm().item()
        by_residual, by_gap = (next(step[0] for step in steps if step[rule] <= tol) for rule in (1, 2))
        rows.append({"residual": by_residual, "residual²/gap": by_gap, "power iteration": 1 - value})
    return pandas.DataFrame(rows)


def norm_errors(n: int = 5_000_000) -> dict[str, float]:
    """Relative errors of the norm of n normal float32 numbers: of torch's own sums, and of `norm2`, in float64."""
    v = torch.randn(n, generator=torch.Generator().manual_seed(0))
    exact = v.double().square().sum().sqrt().item()
    result = {"torch.norm": torch.norm(v).item(), "root of torch.dot": v.dot(v).sqrt().item(), "norm2": norm2(v)}
    return {name: value / exact - 1 for name, value in result.items()}


def negative_moment():
    """s_3 of a network of two weights whose outputs are far from their targets: λ_max(M_3 − H³) is negative."""
    torch.manual_seed(2137)
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False)).double()
    x, y = torch.randn(3, 1, dtype=torch.float64), 3 * torch.randn(3, 1, dtype=torch.float64)
    return hessian.nonuniformity(net, "mse", x, y, 3)
