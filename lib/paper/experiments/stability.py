"""Section 4: what kind of minima SAM ends in. (Figure 2)"""

from lib.paper.experiments.grids import RHOS, check_preset, with_sam
from lib.runs import Measurement, Run

LANDSCAPE_RHO = 0.1  # Figure 2b shows one ρ and the paper does not say which


def mnist_flatness(preset: str) -> list[Measurement]:
    """Figure 2: an MLP with hidden layers of 3,000 and 1,000, squared loss, constant step size, neither momentum nor
    weight decay. Its Hessian for every run, its loss landscape for seed 0 of SGD and of SAM at one ρ."""
    base = Run(dataset="mnist", width=10, loss="squared", epochs=100, batch_size=128, eval_every=5)
    if check_preset(preset) == "smoke":
        base = base.but(dataset="digits", width=0.5, batch_size=32)
    rhos = (0.05, 0.1, 0.2) if preset == "smoke" else RHOS
    options = {"samples": 200, "batch": 32} if preset == "smoke" else {}
    runs = with_sam(base, rhos)
    shown = [run for run in runs if run.seed == 0 and run.rho in (0, LANDSCAPE_RHO)]
    return [Measurement(run, "flatness", options) for run in runs] + [
        Measurement(run, "landscape", {"samples": options.get("samples", 1000)}) for run in shown
    ]


def mnist_course(preset: str) -> list[Measurement]:
    """Sharpness during training, of SGD and of SAM at the ρ of Figure 2b. Ours, with the settings of Figure 2, but
    hidden layers of 300 and 100 where that has ten times as many: the Hessian is measured 21 times a run."""
    base = Run(dataset="mnist", width=1, loss="squared", epochs=100, batch_size=128, eval_every=5)
    options = {"every": 5, "samples": 1000, "batch": 128}
    if check_preset(preset) == "smoke":
        base = base.but(dataset="digits", width=0.5, batch_size=32)
        options = {"every": 10, "samples": 200, "batch": 32}
    return [Measurement(run, "course", options) for run in with_sam(base, (LANDSCAPE_RHO,))]
