"""The settings of notebook 06: random quadratics, a valley, and the networks that SAM moves near a minimum.

Nothing here stands in for something larger. Only the network at the edge of stability differs between presets.
"""

from dataclasses import dataclass, fields

import numpy as np

from lib.paper.experiments.grids import check_preset


@dataclass(frozen=True)
class Quadratics:
    """R problems ½wᵀΛw side by side, of up to d components: lam and w (start) R×d, eta, rho and size (R).

    A problem of fewer components has zeros beyond its `size` in both `lam` and `w`, where SAM leaves them.
    """

    lam: np.ndarray
    eta: np.ndarray
    rho: np.ndarray
    w: np.ndarray
    size: np.ndarray

    def only(self, chosen: np.ndarray) -> "Quadratics":
        """The problems that a mask of length R chooses."""
        return Quadratics(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def least(self) -> np.ndarray:
        """λ_d of each problem (R)."""
        return self.lam[np.arange(len(self.lam)), self.size - 1]


def random_quadratics(
    count: int, *, condition: tuple[float, float], share: tuple[float, float], d: int = 10, seed: int = 0
) -> Quadratics:
    """Random problems with 2 to d components; λ_1, ρ and the start log-uniform over decades.

    condition: the range of λ_1/λ_d, log-uniform; share: the range of ηλ_1, log-uniform, up to just below ½. The other
    eigenvalues are log-uniform between the ends, with λ_2 ≤ 0.99 λ_1. The start has a gradient whose length is between
    0.01 and 10 times ηρλ_1², in a uniformly random direction of v.
    """
    random = np.random.default_rng(seed)
    size = random.integers(2, d + 1, count)
    inside = np.arange(d) < size[:, None]
    lam1, rho = 10 ** random.uniform(-1, 1, count), 10 ** random.uniform(-3, 1, count)
    decades = np.log10(_log_uniform(random, condition, count))
    depth = np.sort(np.where(inside, random.uniform(0, 1, (count, d)), np.inf), axis=1)
    depth[:, 0], depth[np.arange(count), size - 1] = 0, 1
    ratio = np.where(inside, 10.0 ** -(np.where(inside, depth, 0) * decades[:, None]), 0)
    ratio[:, 1:] = ratio[:, 1:].clip(max=0.99)
    eta = _log_uniform(random, share, count) / lam1
    v = np.where(inside, random.normal(size=(count, d)), 0)
    v *= (10 ** random.uniform(-2, 1, count) * eta * rho * lam1**2 / np.linalg.norm(v, axis=1))[:, None]
    lam = ratio * lam1[:, None]
    return Quadratics(lam, eta, rho, np.divide(v, lam, out=np.zeros_like(v), where=lam > 0), size)


def _log_uniform(random, ends, count):
    return np.exp(random.uniform(*np.log(ends), count))


@dataclass(frozen=True)
class Edge:
    """Full-batch training of a tanh perceptron with squared loss, and how often its sharpness is measured."""

    dataset: str
    samples: int
    hidden: tuple[int, ...]
    eta: float
    rhos: tuple[float, ...]
    steps: int
    every: int


def edge(preset: str) -> Edge:
    """Digits at smoke, 500 images of MNIST at lite; at paper all 60,000, which only a GPU trains in reasonable time.

    Long and Bartlett have these 60,000, three hidden layers of 1,000, ρ = 0.1, and η = 0.01 on the loss averaged over
    outputs; ours is the sum over them. η is ours, so that gradient descent reaches its edge within the steps.
    """
    if check_preset(preset) == "smoke":
        return Edge("digits", samples=300, hidden=(32, 32), eta=0.4, rhos=(0.0, 0.05, 0.2), steps=600, every=20)
    samples, hidden, eta = (500, (100, 100), 0.25) if preset == "lite" else (60_000, (1000, 1000, 1000), 0.1)
    return Edge("mnist", samples=samples, hidden=hidden, eta=eta, rhos=(0.0, 0.05, 0.2), steps=600, every=30)
