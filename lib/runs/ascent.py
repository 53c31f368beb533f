"""How far the loss of a trained network rises within a radius: what *Towards Understanding SAM* measures of minima.

Its m-sharpness (`lib.hessian.m_sharpness`) over several radii, and over several m after one step of ascent and after
many (Figures 2, 3); with batch norm as in training and as in evaluation (Figure 19).
"""

import torch
from torch import nn

from lib import hessian
from lib.core import losses
from lib.hessian.batch_norm import batch_norms

RADII = (0.003, 0.01, 0.03, 0.1, 0.3)
STEP = 0.1  # times ρ: the size of one of many steps


def check(run) -> None:
    """Raise ValueError for alpha other than 1."""
    if run.alpha != 1:
        raise ValueError(f"alpha = {run.alpha!r}: the rise is measured of the loss of labels as they are, alpha = 1")


def ascent(
    before: nn.Module,
    after: nn.Module,
    batches,
    run,
    *,
    samples: int = 1024,
    steps: int = 100,
    m: int = 128,
    rho: float = 0.1,
    groups: int = 0,
) -> dict:
    """The quantities above for a run, a kind of `lib.runs.measurement`, on the first `samples` training samples.

    groups: average over at most so many groups of m samples, the first; 0 takes all.
    train_error, sample_loss: at w, on these samples. Raises ValueError for regression and for alpha other than 1.
    radii; sharpness, released: at each, the m-sharpness after `steps` steps of 0.1ρ, and what the released evaluation
    returns in its place.
    group_sizes, one_step, many_steps: at `rho`, for groups of 1, 4, 16, … samples, after one step of ρ and after
    `steps` of 0.1ρ. shortfall: many_steps/one_step.
    train_norm, eval_norm: at `rho` and m, one step, batch norm by the statistics of the group and by running ones; None
    where there is no batch norm.
    """
    check(run)
    x, y = batches.first(samples)
    with torch.no_grad():
        output = after(x)
        values = losses.per_sample(run.loss, output, losses.target(run.loss, y, batches.classes, x.dtype))
    loss = values.double().mean().item()

    def rise(size, radius, count, **more):
        few = (x, y) if not groups else (x[: groups * size], y[: groups * size])
        length = radius if count == 1 else STEP * radius
        options = dict(rho=radius, m=size, steps=count, step_size=length) | more
        return hessian.m_sharpness_details(after, run.loss, *few, **options)

    m = min(m, len(x))
    over_radii = [rise(m, radius, steps) for radius in RADII]
    sizes = [4**k for k in range(12) if 4**k < len(x)] + [len(x)]
    one, many = ([rise(size, rho, count).value for size in sizes] for count in (1, steps))
    normed = bool(batch_norms(after))
    modes = {mode: rise(m, rho, 1, batch_norm=mode).value if normed else None for mode in ("train", "eval")}
    return {
        "train_error": (output.argmax(1) != y).double().mean().item(),
        "sample_loss": loss,
        "radii": list(RADII),
        "sharpness": [result.value for result in over_radii],
        "released": [result.released for result in over_radii],
        "group_sizes": sizes,
        "one_step": one,
        "many_steps": many,
        "train_norm": modes["train"],
        "eval_norm": modes["eval"],
    }
