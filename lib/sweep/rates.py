"""The rates of many kinds of groups on this device from few timings, which are remembered.

A kind that was timed here before, by the same code, has its rate in a file of the store's folder of work in progress.
Of those left, one of each family (model, data set, linearization, precision) is timed, and as many more as there is
time for, those with most to train first. The rate of any other kind is that of its nearest relative in the family, in
proportion to its work:

    seconds a training sample ∝ Σ_runs parameters · (1 + ascent steps),   seconds an evaluated one ∝ Σ_runs parameters.

Within one family the multiplications of a sample are nearly proportional to the parameters.
"""

import contextlib
import hashlib
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lib.core import files, paths
from lib.runs import Run, origin, parameter_count
from lib.sweep.calibration import Rate, calibrate
from lib.sweep.selfcheck import machine

SECONDS = 5.0  # until which kinds beyond one of each family are timed
PATIENCE = 1.0  # a kind is not timed where eight samples are expected to take longer
UNLIKE = 1.0  # of a relative that has other numbers of runs with SAM or with a mask: as a factor e in work

Kind = tuple[Run, ...]  # what `lib.sweep.calibration.alike` gives


def of_kinds(
    weights: Mapping[Kind, float], device: torch.device, folder: Path, *, show: bool = False
) -> dict[Kind, Rate]:
    """The rate of every kind of group. weights: how much there is to train of each, in any unit. folder: where timings
    are remembered, if it can be written to. show: say what is timed."""
    file = folder / f"{machine(device)}.rates"
    remembered, began = _read(file), time.monotonic()
    timed = {kind: remembered[_name(kind)] for kind in weights if _name(kind) in remembered}
    families: dict[tuple, list[Kind]] = {}
    for kind in weights:
        families.setdefault(_family(kind), []).append(kind)
    first = [_moderate(kinds) for kinds in families.values() if not any(kind in timed for kind in kinds)]
    others = sorted((kind for kind in weights if kind not in timed and kind not in first), key=lambda k: -weights[k])
    for kind in (*first, *others):
        relatives = {other: rate for other, rate in timed.items() if _family(other) == _family(kind)}
        late = time.monotonic() - began > SECONDS
        if relatives and (late or 8 * inferred(kind, relatives).train > PATIENCE):
            continue
        if show and not paths.quiet():
            print(_announcement(kind), file=sys.stderr, flush=True)
        timed[kind] = calibrate(kind, device)
    new = {_name(kind): rate for kind, rate in timed.items()}
    if new.keys() - remembered.keys():
        _write(file, remembered | new)
    return {kind: timed[kind] if kind in timed else inferred(kind, timed) for kind in weights}


def inferred(kind: Kind, timed: Mapping[Kind, Rate]) -> Rate:
    """The rate of a kind from that of its nearest relative among those timed, at least one of which is of its family.

    >>> one, two = Run(width=1.0), Run(width=2.0)
    >>> inferred((two, two), {(two,): Rate(train=1.0, evaluate=0.5)})
    Rate(train=2.0, evaluate=1.0)
    """
    family = [other for other in timed if _family(other) == _family(kind)]
    nearest = min(family, key=lambda other: _distance(kind, other))
    train, evaluate = (_work(kind, gradients) / _work(nearest, gradients) for gradients in (True, False))
    return Rate(timed[nearest].train * train, timed[nearest].evaluate * evaluate)


def _family(kind: Kind) -> tuple:
    run = kind[0]
    return run.model, run.dataset, run.linearize, run.precision


def _work(kind: Kind, gradients: bool = True) -> float:
    """Of a sample: the parameters of all runs, times the gradients that a step takes."""
    return sum(parameter_count.parameters(run) * (1 + gradients * (run.rho > 0) * run.ascent_steps) for run in kind)


def _distance(one: Kind, other: Kind) -> float:
    parts = [(sum(run.rho > 0 for run in kind), sum(run.masked for run in kind), len(kind)) for kind in (one, other)]
    return abs(math.log(_work(one) / _work(other))) + UNLIKE * (parts[0] != parts[1])


def _moderate(kinds: Sequence[Kind]) -> Kind:
    """One of moderate work, as the least is mostly overhead and the largest takes long."""
    return sorted(kinds, key=_work)[(len(kinds) - 1) // 3]


def _announcement(kind: Kind) -> str:
    run, many = kind[0], f"{len(kind)} runs of " if len(kind) > 1 else ""
    options = ", SAM" * bool(kind[-1].rho) + ", sparse" * any(run.masked for run in kind)
    return f"timing {many}{run.model} of width {run.width:g} on {run.dataset}{options}"


def _name(kind: Kind) -> str:
    return hashlib.sha256(" ".join(run.key for run in kind).encode()).hexdigest()[:16]


def _read(file: Path) -> dict[str, Rate]:
    """What this code has timed before; nothing where the file is absent, damaged, or of other code."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        filed = json.loads(file.read_text(encoding="utf-8"))
        if filed["code"] == origin.code():
            return {name: Rate(*map(float, rate)) for name, rate in filed["rates"].items()}
    return {}


def _write(file: Path, timed: Mapping[str, Rate]) -> None:
    with contextlib.suppress(OSError):  # a store that is not there is not made, and one that is may be read-only
        file.parent.mkdir(exist_ok=True)
        files.replace(file, json.dumps({"code": origin.code(), "rates": timed}))
