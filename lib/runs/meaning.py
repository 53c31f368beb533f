"""Do a user's models and data sets still mean what they meant when a record was made?

A record says so of a model by the names and shapes of its tensors and its outputs, in evaluation mode, on four fixed
inputs, as built from seed 0; of a data set by the digest of its samples. What shows in training alone, such as a rate
of dropout, is not seen: the version is for that.
"""

import functools
import json
import math
from collections.abc import Iterable
from pathlib import Path

import torch

from lib import data, models
from lib.core import own
from lib.core.seeds import generator
from lib.runs.run import Run

SAMPLES, TOLERANCE = 4, 1e-3  # of the largest output: processors differ far less, networks far more


def meaning(run: Run) -> dict:
    """What a record holds of a run's model; nothing for a built-in one."""
    if not own.is_own(run.model):
        return {}
    outputs, in_shape = data.shapes(run.dataset)
    return {"network": _network(run.model, run.width, tuple(in_shape), outputs)}


@functools.cache  # a grid has many runs of one network
def _network(name: str, width: float, in_shape: tuple[int, ...], classes: int) -> dict:
    model = models.build(name, width=width, in_shape=in_shape, classes=classes, seed=0).eval()
    x = torch.randn(SAMPLES, *in_shape, generator=generator(0, "meaning"))
    with torch.no_grad():
        outputs = model(x)
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (SAMPLES, classes):
        shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise ValueError(f"model = {name!r}: gives {shape} for {SAMPLES} samples, must be {(SAMPLES, classes)}")
    state = [[key, list(t.shape)] for key, t in model.state_dict().items()]
    return {"state": state, "outputs": [float(f"{value:.6g}") for value in outputs.flatten().tolist()]}


def differs(one: dict, other: dict) -> bool:
    """Whether two networks' descriptions are of different ones."""
    if one["state"] != other["state"] or len(one["outputs"]) != len(other["outputs"]):
        return True
    scale = max(map(abs, one["outputs"]), default=0.0)
    pairs = zip(one["outputs"], other["outputs"], strict=True)
    return not all(math.isclose(a, b, rel_tol=0, abs_tol=TOLERANCE * scale) for a, b in pairs)


def check(store: Path, runs: Iterable[Run]) -> None:
    """Raise ValueError if a record in the store has a model or a data set of the same name, with its version, that was
    another one: for a model, on the same data set at the same width."""
    datasets = {run.dataset for run in runs if own.is_own(run.dataset)}
    networks = {(run.model, run.width, run.dataset): run for run in runs if own.is_own(run.model)}
    names = [json.dumps(name) for name in {*datasets, *(name for name, *_ in networks)}]
    for file in sorted(store.glob("*.json")) if names else ():
        try:
            text = file.read_text(encoding="utf-8")
            record = json.loads(text) if any(name in text for name in names) else {}
            run, made = record.get("run"), record.get("provenance", {})
            _check_record(file, datasets, networks, run, made) if run else None
        except (OSError, KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError):
            continue  # no record of a run, which is said where it is asked for


def _check_record(file, datasets, networks, run, made) -> None:
    remedy = "raise the version of the entry, so that it is another name, or restore what it was"
    if run["dataset"] in datasets and made["data"] != data.digest(run["dataset"]):
        raise ValueError(f"dataset = {run['dataset']!r}: holds other samples than in the record {file.stem}; {remedy}")
    same = networks.get((run["model"], run["width"], run["dataset"]))
    if same and "network" in made and differs(made["network"], meaning(same)["network"]):
        raise ValueError(f"model = {run['model']!r}: builds another network than in the record {file.stem}; {remedy}")
