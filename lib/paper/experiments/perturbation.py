"""Notebook 09: which perturbation, over how many samples. "Towards Understanding SAM", Figures 1 to 4 and 16 to 19."""

from lib.paper.experiments.recipe import recipe
from lib.runs import Measurement, Run

NOISE = 0.6  # the share of wrong labels
RANDOM = 10  # times as long are random perturbations, along which the loss rises far less
M = {"smoke": (2, 8, 32), "lite": (1, 4, 16, 64, 128), "paper": (4, 16, 64, 128, 256)}
STEPPED = {"smoke": (16, 32), "lite": (32, 128), "paper": (4, 256)}  # m of which several ascent steps are taken
STEPS = {"smoke": 3, "lite": 10, "paper": 10}
BATCH_SIZES = {"smoke": (32, 160), "lite": (128, 1024), "paper": (128, 256, 1024)}
FACTORS = {"smoke": (0.05, 0.2, 0.5), "lite": (0.03, 0.1, 0.25, 1.0, 4.0), "paper": (4, 8, 16, 32, 64)}
LENGTHS = {"smoke": (3, 9), "lite": (2, 4, 8, 16), "paper": (125, 250, 500, 1000)}
RHO = 0.1  # at which the sharpness is measured, and SAM's of the networks that are


def perturbations(preset: str) -> list[Run]:
    """SGD, random perturbations, n-SAM (which climbs on the batch before) and SAM, at several ρ (Figure 1)."""
    r = recipe(preset)
    random = [run.but(rho=RANDOM * run.rho) for run in r.sam(perturbation="random")]
    return r.sgd() + random + r.sam(ascent_batch="other") + r.sam()


def m_sam(preset: str) -> list[Run]:
    """SGD and m-SAM at several m and ρ (Figure 16); at smoke and lite with wrong labels as well."""
    r, runs = recipe(preset, norm="group"), []
    if preset == "paper":
        r = r.but(batch_size=256)
    for noise in (0.0, NOISE) if preset != "paper" else (0.0,):
        runs += r.sgd(label_noise=noise)
        runs += [run for m in M[preset] for run in _m(r, m, label_noise=noise)]
    return runs


def _m(r, m: int, **changes) -> list[Run]:
    return r.sam(parts=r.bases[0].batch_size // m, **changes)


def ascent_steps(preset: str) -> list[Run]:
    """m-SAM with one and with ten steps of size ρ (three at smoke), projected, at a small and the largest m (Figure 4);
    one width at smoke and lite."""
    r = recipe(preset, norm="group")
    if preset == "paper":
        r = r.but(batch_size=256)
    else:
        r = r._replace(bases=r.bases[:1])
    one = [run for m in STEPPED[preset] for run in _m(r, m)]
    many = [run.but(ascent_steps=STEPS[preset], ascent_step=run.rho) for run in one]
    return r.sgd() + one + many


def batch_sizes(preset: str) -> list[Run]:
    """SGD and SAM with m equal to the batch size (Figure 17)."""
    parts = [recipe(preset, norm="group").but(batch_size=size) for size in BATCH_SIZES[preset]]
    return [run for r in parts for run in r.sgd() + r.sam()]


def width_factors(preset: str) -> list[Run]:
    """SGD and SAM at more widths (Figure 18)."""
    r = recipe(preset)
    r = r._replace(bases=tuple(r.bases[0].but(width=width) for width in FACTORS[preset]))
    return r.sgd() + r.sam()


def minima(preset: str) -> list[Measurement]:
    """The m-sharpness where SGD and SAM at ρ = 0.1 end, for the smallest and the largest batch (Figures 2 and 3)."""
    ends = (BATCH_SIZES[preset][0], BATCH_SIZES[preset][-1])
    seeds = (0, 1) if preset == "smoke" else (0, 1, 2, 3, 4)
    runs = [run for run in batch_sizes(preset) if run.rho in (0, RHO) and run.batch_size in ends and run.seed in seeds]
    sizes = {"smoke": dict(samples=128, steps=10, m=32, groups=2), "lite": dict(groups=32), "paper": {}}
    return [Measurement(run, "ascent", sizes[preset]) for run in runs]


def lengths(preset: str) -> list[Measurement]:
    """The sharpness of networks with batch norm after several lengths of training, each with a schedule of its own
    (Figure 19)."""
    r = recipe(preset)
    sizes = dict(samples=64, steps=1, m=32, groups=1)
    if preset == "paper":
        r, sizes = r._replace(bases=r.bases[:1]), {}
    else:
        small = r.bases[0].but(model="preact_resnet18", width=4, norm="batch", weight_decay=5e-4, batch_size=32)
        r = r._replace(bases=(small,), seeds=r.seeds[:2] if preset == "smoke" else r.seeds[:3])
        r = r.but(n_train=128 if preset == "smoke" else 1000)
    runs = [run.but(epochs=epochs) for epochs in LENGTHS[preset] for run in r.sgd() + r.sam(rhos=(RHO,))]
    return [Measurement(run, "ascent", sizes) for run in runs]
