"""Twelve points on a line fitted by one hidden layer of ReLUs: gradient descent against SAM, all seeds at once.

    f(x) = Σ_j a_j max(w_j x + b_j, 0),   loss = ½ Σ_i (f(x_i) − y_i)²

"Towards Understanding SAM", Figure 7, after Blanc et al. (2020). Settings are those of its released code: 100 hidden
units, w_j = ±2.5, b_j of scale 2.5, a_j of scale 4, full batch, step size 5e-5 and, for SAM, a normalized ascent of ρ =
0.3. The draws are ours: its seeds draw other values, in torch.
"""

from dataclasses import dataclass

import numpy as np

from lib.core.seeds import derive

X = np.arange(-5.5, 6) / 4 + 0.07
Y = 0.345 + np.array([-2, 1.5, 0, 0, 2, 1, 0, -1, 0, 1, 2, -1])
HIDDEN = 100
STEP_SIZE, RHO = 5e-5, 0.3
SCHEDULES = ("constant", "linear decay")


@dataclass(frozen=True)
class Networks:
    """Stacked networks: hidden (networks, units, 2) holds w_j and b_j, output (networks, units) holds a_j."""

    hidden: np.ndarray
    output: np.ndarray

    @classmethod
    def draw(cls, seeds) -> "Networks":
        """One network a seed, at initialization."""
        hidden, output = [], []
        for seed in seeds:
            random = np.random.default_rng(derive(seed, "relu regression"))
            weight = 2.5 * random.choice([-1.0, 1.0], HIDDEN)
            hidden.append(np.stack((weight, 2.5 * random.standard_normal(HIDDEN)), -1))
            output.append(4 * random.standard_normal(HIDDEN))
        return cls(np.stack(hidden), np.stack(output))

    def __call__(self, x) -> np.ndarray:
        """f at the points x (points,): (networks, points)."""
        active = np.maximum(self.hidden @ _inputs(np.asarray(x, float)), 0)
        return (self.output[:, None] @ active)[:, 0]

    @property
    def loss(self) -> np.ndarray:
        """½ Σ (f(x_i) − y_i)², (networks,)."""
        return ((self(X) - Y) ** 2).sum(-1) / 2

    def kinks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each network: where f bends between the outermost points (ascending), and by how much f′ changes there."""
        result = []
        for (weight, bias), output in zip(self.hidden.swapaxes(1, 2), self.output, strict=True):
            at = -bias / np.where(weight == 0, np.inf, weight)
            inside = (at > X[0]) & (at < X[-1]) & (weight != 0)
            order = np.argsort(at[inside])
            result.append((at[inside][order], (output * np.abs(weight))[inside][order]))
        return result


def merged(at: np.ndarray, change: np.ndarray, *, distance: float = 0.05, least: float = 0.1):
    """Kinks closer to the next than `distance` taken together: their mean places, weighted by |change|, and summed
    changes, those of at least `least` alone.

    >>> merged(np.array([0.0, 0.01, 0.5]), np.array([1.0, 1.0, 0.01]))
    (array([0.005]), array([2.]))
    """
    if not len(at):
        return at, change
    group = np.cumsum(np.diff(at, prepend=at[0]) > distance)
    total, weight = np.bincount(group, change), np.bincount(group, np.abs(change)) + 1e-300
    place = np.bincount(group, at * np.abs(change)) / weight
    kept = np.abs(total) >= least
    return place[kept], total[kept]


def train(start: Networks, *, rho, schedule, steps: int, step_size: float = STEP_SIZE, every: int = 0):
    """Full-batch descent on all networks: along the gradient at w + ρ∇/‖∇‖ where rho is positive, at w where it is 0.

    rho, schedule: one for each network; schedule: "constant", or "linear decay" of the step size to 0 at the end.
    every: steps between records of the loss at w. Returns the networks, the recorded steps and the losses (times,
    networks). ValueError for an unknown schedule or a negative ρ.
    """
    rho, decays = np.asarray(rho, float), np.array([name == "linear decay" for name in schedule])
    if unknown := set(schedule) - set(SCHEDULES):
        raise ValueError(f"schedule = {sorted(unknown)}: must be of {', '.join(SCHEDULES)}")
    if (rho < 0).any() or rho.shape != decays.shape or len(rho) != len(start.output):
        raise ValueError(f"rho = {rho}: must be at least 0, one for each of {len(start.output)} networks")
    sam, radius = np.flatnonzero(rho), rho[rho > 0]
    w = np.concatenate((start.hidden, start.output[..., None]), -1)  # networks × units × (w, b, a)
    times, losses = [], []
    for step in range(steps + 1):
        gradient, loss = _gradient(w)
        if step in (0, steps) or (every and step % every == 0):
            times, losses = [*times, step], [*losses, loss]
        if step < steps:
            if len(sam):
                ascent = gradient[sam]
                ascent *= (radius / np.sqrt(np.einsum("nkj,nkj->n", ascent, ascent)))[:, None, None]
                gradient[sam] = _gradient(w[sam] + ascent)[0]
            w -= (step_size * np.where(decays, 1 - step / steps, 1.0))[:, None, None] * gradient
    return Networks(w[..., :2].copy(), w[..., 2].copy()), np.array(times), np.stack(losses)


def _inputs(x: np.ndarray) -> np.ndarray:
    return np.stack((x, np.ones_like(x)))


_POINTS = _inputs(X)


def _gradient(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """∇ of the loss in (w_j, b_j, a_j), the shape of w, and the loss (networks,)."""
    before = (w[..., :2].reshape(-1, 2) @ _POINTS).reshape(len(w), -1, len(X))
    active = np.maximum(before, 0)
    residual = (w[..., None, :, 2] @ active)[:, 0] - Y
    gradient = np.empty_like(w)
    gradient[..., 2] = (active @ residual[..., None])[..., 0]
    gradient[..., :2] = w[..., 2:] * ((before > 0).astype(float) @ (residual[..., None] * _POINTS.T))
    return gradient, (residual**2).sum(-1) / 2
