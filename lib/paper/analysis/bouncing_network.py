"""A tanh network under full-batch SAM: its drift from a minimum, and its sharpness beside the edge (notebook 06).

The loss is (1/2n) Σ_i ‖f(x_i) − y_i‖², `lib.hessian`'s "mse". Gradients are written out: in a network this small,
autograd's bookkeeping would take most of the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas
import torch
from torch import nn

from lib import data, hessian
from lib.core import seeds
from lib.core.losses import target
from lib.paper.experiments.bouncing import Edge
from lib.theory import bouncing, drift


@dataclass(frozen=True)
class TanhNetwork:
    """Linear layers with tanh between them on fixed samples: x n×inputs, y n×outputs, `sizes` from input to output.

    Weights are one flat vector, in the order of `parameters()` of `model(w)`.
    """

    sizes: tuple[int, ...]
    x: torch.Tensor
    y: torch.Tensor

    @classmethod
    def on(cls, dataset: str, samples: int, hidden: Sequence[int], dtype=torch.float64) -> "TanhNetwork":
        """On the first samples of a data set, pixels in [0, 1] minus their mean; DataUnavailable if it is not there."""
        whole = data.load(dataset, "train")
        x = whole.x[:samples].flatten(1).to(dtype)
        x = x / whole.x.max()
        y = target("mse", whole.y[:samples], whole.classes, dtype)
        return cls((x.shape[1], *hidden, whole.classes), x - x.mean(0), y)

    def start(self, seed: int = 0) -> torch.Tensor:
        """Weights N(0, 1/inputs of the layer) and biases 0."""
        random = seeds.generator(seed, "tanh network")
        parts = []
        for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False):
            weight = torch.randn(outputs, inputs, generator=random, dtype=torch.float64) / inputs**0.5
            parts += [weight.flatten(), torch.zeros(outputs, dtype=torch.float64)]
        return torch.cat(parts).to(self.x.dtype)

    def model(self, w: torch.Tensor) -> nn.Sequential:
        """The same network as a module with these weights."""
        layers = []
        for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False):
            layers += [nn.Linear(inputs, outputs, dtype=w.dtype), nn.Tanh()]
        model = nn.Sequential(*layers[:-1])
        nn.utils.vector_to_parameters(w.detach().clone(), model.parameters())
        return model

    def sharpness(self, w: torch.Tensor) -> hessian.Eigen:
        """λ_max of the Hessian and its eigenvector."""
        return hessian.sharpness(self.model(w), "mse", self.x, self.y)

    def loss(self, w: torch.Tensor) -> torch.Tensor:
        """The mean loss (…) at weights …×parameters, differentiable as often as one likes."""
        return (self._activations(w)[1][-1] - self.y).square().sum(-1).mean(-1) / 2

    def gradient(self, w: torch.Tensor) -> torch.Tensor:
        """∇ of `loss` (…×parameters), by backpropagation."""
        layers, activations = self._activations(w)
        signal, parts = (activations[-1] - self.y) / len(self.x), []
        for (weight, _), below in zip(reversed(layers), reversed(activations[:-1]), strict=True):
            parts += [signal.sum(-2), (signal.mT @ below).flatten(-2)]
            signal = signal @ weight * (1 - below**2)
        return torch.cat(parts[::-1], -1)

    def _activations(self, w):
        layers, activations, at = [], [self.x], 0
        for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False):
            weight = w[..., at : at + inputs * outputs].unflatten(-1, (outputs, inputs))
            at += inputs * outputs
            layers.append((weight, w[..., at : at + outputs]))
            at += outputs
            z = activations[-1] @ weight.mT + layers[-1][1].unsqueeze(-2)
            activations.append(torch.tanh(z) if len(layers) < len(self.sizes) - 1 else z)
        return layers, activations


def descend(network: TanhNetwork, w: torch.Tensor, *, eta: float, rhos: Sequence[float], steps: int) -> torch.Tensor:
    """The weights after each step of SAM from w (R×parameters), a ρ for each; GD at ρ = 0: (steps + 1)×R×parameters."""
    radii, path = torch.tensor(rhos, dtype=w.dtype)[:, None], [w]
    for _ in range(steps):
        path.append(drift.sam_step(network.gradient, path[-1], eta, radii))
    return torch.stack(path)


WINDOWS = (1, 10, 100, 400)  # two-step displacements that are averaged


def drift_of_network(
    network: TanhNetwork, w: torch.Tensor, *, eta: float, rhos: Sequence[float], steps: int, every: int
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """SAM from the two-step orbit around the minimum w, for each ρ, beside GD (ρ = 0) from w.

    First table: rho, window, cosine of the mean displacement over two steps with −∇λ_max(∇²ℓ(w)), and size, that
    displacement along −∇λ_max over the theorem's; descent: what two steps of GD from w move, over the theorem's drift.
    Second: rho, step, loss, and sharpness at the middle of two successive points, every so many steps.
    """
    top = network.sharpness(w)
    lam1, e1 = top.value, top.vector
    gradient = drift.curvature_gradient(network.loss, w, e1)
    starts = [w + drift.bounce(e1, lam1, eta, rho) if rho else w for rho in rhos]
    runs = descend(network, torch.stack(starts), eta=eta, rhos=rhos, steps=steps)
    windows, path = [], []
    for rho, points in zip(rhos, runs.unbind(1), strict=True):
        for step in range(0, steps, every):
            middle = (points[step] + points[step + 1]) / 2
            row = {"rho": rho, "step": step, "loss": network.loss(points[step]).item()}
            path.append(row | {"sharpness": network.sharpness(middle).value})
        if rho:
            predicted = 2 * drift.drift(gradient, lam1, eta, rho)
            moved, slope = points[2:] - points[:-2], 2 * eta * network.gradient(w).norm()
            for window in WINDOWS:
                mean = moved[:window].mean(0)
                row = {"rho": rho, "window": window, "cosine": _cosine(mean, predicted)}
                row["size"] = (mean @ predicted / predicted.square().sum()).item()
                windows.append(row | {"descent": (slope / predicted.norm()).item()})
    return pandas.DataFrame(windows), pandas.DataFrame(path)


def _cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


def edge_series(setting: Edge) -> pandas.DataFrame:
    """Full-batch GD and SAM from one start: rho, step, loss, gradient (its length), sharpness, and the edge there."""
    network, rows = TanhNetwork.on(setting.dataset, setting.samples, setting.hidden, torch.float32), []
    w = network.start().repeat(len(setting.rhos), 1)
    radii = torch.tensor(setting.rhos)[:, None]
    for step in range(setting.steps + 1):
        if step % setting.every == 0:
            for rho, losses, lengths, weights in zip(
                setting.rhos, network.loss(w).tolist(), network.gradient(w).norm(dim=1).tolist(), w, strict=True
            ):
                row = {"rho": rho, "step": step, "loss": losses, "gradient": lengths}
                row["sharpness"] = network.sharpness(weights).value
                rows.append(row | {"edge": float(bouncing.sam_edge(lengths, setting.eta, rho))})
        w = drift.sam_step(network.gradient, w, setting.eta, radii)
    return pandas.DataFrame(rows).sort_values(["rho", "step"], ignore_index=True)
