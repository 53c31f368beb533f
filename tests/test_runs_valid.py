"""What `Run` accepts can be trained: random runs at tiny size, each refused by name or trained to a record.

`pytest tests/test_runs_valid.py --random-runs 5000` tries more of them.
"""

import random

import pytest
import torch

from lib.core.ambient import exactly
from lib.runs import Run
from lib.runs.run import OPTIMIZERS, SCHEDULES
from lib.training import engines, fitting

CPU = torch.device("cpu")
WIDTHS = {
    "linear2": (1, 2, 6, 0.5),
    "mlp": (0.03, 0.1, 0.001),
    "resnet18": (1, 2, 5, 8),
    "resnet50": (1, 2),
    "preact_resnet18": (1, 2, 5),
    "preact_resnet34": (1,),
    "vgg11": (1, 2),
    "vit": (32, 16),
}
FIELDS = {  # the usual value first, which half of the runs have
    "loss": ("cross_entropy", "squared", "mse"),
    "optimizer": OPTIMIZERS,
    "normalized": (True, False),
    "lr": (0.01, 1e-4, 10.0),
    "schedule": SCHEDULES,
    "warmup_steps": (0, 1, 7),
    "momentum": (0.0, 0.9),
    "weight_decay": (0.0, 0.1),
    "epochs": (1, 2),
    "batch_size": (8, 1, 3, 7, 100),
    "seed": (0, 1),
    "n_train": (16, 1, 2, 9, 15),
    "eval_every": (1, 2, 5),
    "precision": ("float32", "float64"),
    "sparsity": (0.0, 0.3, 0.5, 0.75, 0.9),
    "pruner": ("random", "snip", "2:4", "1:4"),
    "norm": ("batch", "group"),
    "batch_norm": (False, True),
    "patch": (4, 1, 2, 3),
    "linearize": ("none", "centered", "tangent"),
    "alpha": (1.0, 10.0),
    "n_validation": (0, 1, 100),
    "norm_curve": (False, True),
    "label_noise": (0.0, 0.3),
}
CLIMBING = {  # the same, of which nine in ten have the usual value
    "parts": (1, 2, 4),
    "ascent_steps": (1, 2, 3),
    "ascent_step": (0.0, 0.1),
    "ascent_batch": ("same", "other"),
    "perturbation": ("gradient", "random"),
    "clip": (False, True),
    "rho_schedule": ("constant", "lr"),
    "switch": (0.0, 0.5, 0.9),
    "decay_in_ascent": (False, True),
    "batch_norm_passes": ("first", "all"),
}


def draw(number: int, pictures: str) -> dict:
    """The fields of a random run, valid or not."""
    dice = random.Random(number)
    model = dice.choice(list(WIDTHS))
    fields = {"dataset": dice.choice(("digits", "factorization", pictures)), "model": model}
    fields["width"] = dice.choice(WIDTHS[model])
    for name, values in FIELDS.items():
        fields[name] = values[0] if dice.random() < 0.6 else dice.choice(values)
    for name, values in CLIMBING.items():
        fields[name] = values[0] if dice.random() < 0.9 else dice.choice(values)
    return fields | {"rho": dice.choice((0.05, 0.5)) if fields["optimizer"] == "sam" or fields["switch"] else 0.0}


@pytest.mark.filterwarnings("ignore::lib.models.pruning.LayerCollapse")
def test_every_run_is_refused_by_name_or_trained(pictures, pytestconfig):
    most, trained, number = pytestconfig.getoption("random_runs"), 0, 0
    while trained < most:
        number += 1
        fields = draw(number, pictures)
        try:
            run = Run(**fields)
        except ValueError as error:
            assert names_a_field(error), f"number {number}, {fields}: {error}"
            continue
        try:
            status = train(run)
        except Exception as error:
            if run.dataset == pictures and isinstance(error, ValueError) and names_a_field(error):
                continue  # the images of a folder are not known before they are read
            raise AssertionError(f"number {number}, {run}: accepted, but {type(error).__name__}: {error}") from error
        assert status in ("done", "diverged"), run
        trained += 1
    assert number < 12 * most  # else there is little that is valid


def names_a_field(error: ValueError) -> bool:
    return any(str(error).startswith(f"{name} = ") for name in Run().as_dict())


def train(run: Run) -> str:
    """Train it with another seed beside it, on a few test samples, and return its status."""
    (group, *_) = engines.partition([run, run.but(seed=run.seed + 1)], CPU)
    with exactly(CPU):
        engine = engines.engine(group, CPU)
        engine.data.test = tuple(part[:6] for part in engine.data.test)
        return fitting.fit(engine)[0]["status"]
