"""Notebook 10: when SAM matters, and whether it converges. Figures 8 to 12 and 20 to 22 of "Towards Understanding
SAM"."""

from lib.paper.experiments.perturbation import NOISE, RHO
from lib.paper.experiments.recipe import recipe
from lib.runs import Run

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)  # and 0 and 1, which are SGD or SAM alone
LATE_RHO = 0.4  # the best one for SAM that begins late, in that paper; tried for both orders
FREE_RHOS = {"smoke": (0.1, 0.3), "lite": (0.1, 0.3, 1.0), "paper": (0.1, 0.2, 0.3, 1.0)}  # of unnormalized SAM


def switching(preset: str) -> list[Run]:
    """SGD, SAM, and both orders with the switch after several shares of the epochs (Figures 8, 9 and 10)."""
    r, runs = recipe(preset, long=True), []
    for share in SHARES:
        rhos = r.rhos if preset == "smoke" or LATE_RHO in r.rhos else (*r.rhos, LATE_RHO)
        runs += r.sam(switch=share, rhos=rhos) + r.sam(switch=share, optimizer="sgd", rhos=rhos)
    return r.sgd() + r.sam() + runs


def radius_schedules(preset: str) -> list[Run]:
    """SGD and SAM with a constant ρ, and with one that falls as the learning rate does (Figure 21)."""
    r = recipe(preset)
    return r.sgd() + r.sam() + r.sam(rho_schedule="lr")


def unnormalized(preset: str) -> list[Run]:
    """SGD, SAM, and SAM that does not divide by the norm of the gradient, as written and clipped to ρ as released, with
    right labels and with wrong ones (Figures 11, 12 and 22)."""
    r, runs = recipe(preset, long=True), []
    for noise in (0.0, NOISE):
        runs += r.sgd(label_noise=noise) + r.sam(label_noise=noise)
        free = dict(label_noise=noise, normalized=False, rhos=FREE_RHOS[preset])
        runs += r.sam(**free) + r.sam(**free, clip=True)
    return runs


def objectives(preset: str) -> list[Run]:
    """SGD and SAM at ρ = 0.1, whose curves also have the norm of the weights (Figure 20)."""
    r = recipe(preset, long=True)
    return r.sgd(norm_curve=True) + r.sam(rhos=(RHO,), norm_curve=True)
