"""How SAM climbs, and in which part of training: the fields of a `Run` that say so, and which go together.

Most are options of the experiments of *Towards Understanding SAM* (Andriushchenko and Flammarion 2022); each default is
what SAM does in *The Effects of Overparameterization on SAM*. With u = g/‖g‖₂, or u = g where not `normalized`:

- ascent_steps, ascent_step: K steps of size s, projected to ‖ε‖ ≤ ρ if normalized or clipped: ε ← Π(ε + s·u(w + ε)),
  from ε = 0; s = 0 stands for ρ/K.
- ascent_batch: by which batch, "same", the one it descends by, or "other", the one before it, which is n-SAM as
  released (in the first step of all it is the same).
- perturbation: "gradient", or "random": g ~ N(0, I) in its place, drawn once a step. Normalized that is a random ε of
  length ρ; else ρ is the standard deviation of each weight, as released.
- clip: whether an unnormalized ε is projected to ‖ε‖ ≤ ρ, as released; of one step that is min(‖g‖, 1)ρ.
- rho_schedule: "constant", or "lr", ρ and s in proportion to the learning rate.
- switch: after this share of the epochs the optimizer is replaced by the other one, SAM by SGD, or by SAM SGD, which
  then has a `rho` to go on with. Momentum is kept. 0: never.
- decay_in_ascent: whether weight decay λw is part of every gradient, of that at w + ε as λ(w + ε); else SGD adds λw.
- batch_norm_passes: which passes move the running statistics of batch norm, "first", that of the step's batch at w, or
  "all" that have a gradient.

`parts` (m-SAM), `rho` and `normalized` are of the main paper, and combine with these.
"""

import math

from lib.core import own

ASCENT_BATCHES = ("same", "other")
PERTURBATIONS = ("gradient", "random")
RHO_SCHEDULES = ("constant", "lr")
BATCH_NORM_PASSES = ("first", "all")
CHOICES = {
    "ascent_batch": ASCENT_BATCHES,
    "perturbation": PERTURBATIONS,
    "rho_schedule": RHO_SCHEDULES,
    "batch_norm_passes": BATCH_NORM_PASSES,
}
LEAST = {"ascent_steps": 1, "ascent_step": 0, "switch": 0}
OF_SAM = (  # fields that only a run which climbs may change
    "parts",
    "ascent_steps",
    "ascent_step",
    "ascent_batch",
    "perturbation",
    "clip",
    "rho_schedule",
    "decay_in_ascent",
    "batch_norm_passes",
)
OF_A_GRADIENT = ("parts", "ascent_steps", "ascent_batch")  # meaningless where the perturbation is drawn


def check(run) -> None:
    """Raise ValueError, naming field, value and remedy, for a run whose way to climb does not make sense."""
    if not run.switch < 1:
        raise ValueError(f"switch = {run.switch!r}: must be in [0, 1); without a switch leave it at 0")
    if run.switch and not run.rho:
        raise ValueError(f"switch = {run.switch!r}: from or to SAM without a radius; rho must be more than 0")
    if run.optimizer == "sgd" and run.rho and not run.switch:
        raise ValueError(f"rho = {run.rho!r}: must be 0 for optimizer 'sgd', or take optimizer 'sam' or a switch")
    changed = [name for name in OF_SAM if getattr(run, name) != getattr(type(run), name)]
    if changed and run.optimizer == "sgd" and not run.switch:
        _refuse(run, changed[0], f"only SAM climbs; it must be {getattr(type(run), changed[0])!r} for optimizer 'sgd'")
    if run.batch_size % run.parts:
        _refuse(run, "parts", f"must divide batch_size = {run.batch_size}")
    if run.ascent_step and run.ascent_steps == 1:
        _refuse(run, "ascent_step", "a single step is of size rho; leave it at 0, or take more ascent_steps")
    if run.clip and (run.normalized or run.perturbation == "random"):
        _refuse(run, "clip", "is for a gradient that is not normalized; leave it False, or set normalized = False")
    if run.perturbation == "random" and (unused := [name for name in OF_A_GRADIENT if name in changed]):
        _refuse(run, unused[0], "a random perturbation is drawn once a step; leave it alone")
    if run.decay_in_ascent and not run.weight_decay:
        _refuse(run, "decay_in_ascent", "there is no weight decay; leave it False")
    if run.batch_norm_passes != "first" and not batch_normed(run):
        _refuse(run, "batch_norm_passes", "its network has no batch norm; leave it at 'first'")


def special(run) -> bool:
    """Whether it climbs in another way than the main paper's SAM, in parts of a batch or not."""
    names = set(OF_SAM) - {"parts"} | {"switch"}
    return any(getattr(run, name) != getattr(type(run), name) for name in names)


def batch_normed(run) -> bool:
    """Whether its network has batch norm; a user's may."""
    return run.batch_norm or own.is_own(run.model) or ("resnet" in run.model and run.norm == "batch")


def climbs(run, epoch: int) -> bool:
    """Whether the run takes steps of SAM in that epoch, counted from 0: the first whole epoch after `switch` is the
    first of the other optimizer.

    >>> from lib.runs import Run
    >>> run = Run(optimizer="sgd", rho=0.1, switch=0.5, epochs=4)
    >>> [climbs(run, epoch) for epoch in range(4)]
    [False, False, True, True]
    """
    replaced = run.switch > 0 and epoch >= math.ceil(round(run.switch * run.epochs, 9))
    return run.rho > 0 and (run.optimizer == "sam") != replaced


def _refuse(run, name: str, reason: str) -> None:
    raise ValueError(f"{name} = {getattr(run, name)!r}: {reason}")
