"""Which fields of a run go together: what its model, data, loss and pruner can do, so that what is accepted can be
trained. Each check raises ValueError that names a field, its value and what is allowed."""

import math
from collections.abc import Sequence

from lib import data, models
from lib.models import masking, vit
from lib.runs import climbing

HALVINGS = {
    "resnet18": 3,
    "resnet50": 5,
    "preact_resnet18": 3,
    "preact_resnet34": 3,
}  # of the sides of an image, up to the last norm


def check(run) -> None:
    """Raise ValueError for a run whose fields do not go together."""
    _check_loss(run)
    climbing.check(run)
    _check_pruning(run)
    _check_options(run)
    _check_linearization(run)
    models.check_width(run.model, run.width)
    if run.dataset in data.DATASETS:  # of others the images are not known before they are read
        check_data(run, data.sample_counts(run.dataset)[0], data.shapes(run.dataset)[1])


def check_data(run, samples: int, in_shape: Sequence[int]) -> None:
    """Raise ValueError unless the run can be trained on so many samples of that shape C×H×W."""
    if run.n_train > samples:
        raise ValueError(f"n_train = {run.n_train}: {run.dataset} has {samples} training samples")
    if run.n_validation > samples - max(run.n_train, 1):
        raise ValueError(
            f"n_validation = {run.n_validation}: {run.dataset} has {samples} training samples, of which "
            f"{run.n_train or 'at least one'} must be left to train on"
        )
    if run.model == "vit":
        vit.check_patch(run.patch, in_shape)
    n = run.n_train or samples - run.n_validation
    least = max(min(run.batch_size, n % run.batch_size or run.batch_size, n) // run.parts, 1)
    if run.norm == "group" and run.n_validation == 1:
        least = 1
    if least > 1 or run.model not in HALVINGS:
        return
    stem, last = (math.prod(-(-side // 2**k) for side in in_shape[1:]) for k in (_stem(run), HALVINGS[run.model]))
    if (last if run.norm == "batch" else stem * run.width) == 1:
        raise ValueError(
            f"batch_size = {run.batch_size}: leaves a batch, or a part of one, of a single sample of {n}, of which a "
            f"{run.norm} norm sees one pixel, and one value cannot be normalized"
        )


def _stem(run) -> int:
    return 2 if run.model == "resnet50" else 0


def _check_loss(run) -> None:
    if data.regression(run.dataset) and run.loss == "cross_entropy":
        raise ValueError(f"loss = {run.loss!r}: the targets of {run.dataset!r} are vectors; take 'squared' or 'mse'")


def _check_pruning(run) -> None:
    masked = f"sparsity = {run.sparsity!r}" if run.sparsity else "strict_threshold = True"
    if run.pruner in masking.PATTERNS:
        masking.check_pattern(run.pruner, run.sparsity)
        if run.strict_threshold:
            raise ValueError(f"{masked}: a pattern such as {run.pruner!r} has no threshold; leave it False")
    if run.pruner != "random" and not run.sparsity:
        raise ValueError(f"pruner = {run.pruner!r}: at sparsity 0 nothing is pruned; leave it at 'random'")
    if run.masked and run.model == "vit":
        message = "masks are for Linear and Conv layers, not for the attention of a vit, so there must be none"
        raise ValueError(f"{masked}: {message}")
    if run.masked and run.linearize != "none":
        raise ValueError(f"{masked}: there must be no mask with linearize = {run.linearize!r}")
    if run.pruner == "snip" and data.regression(run.dataset):
        raise ValueError(f"pruner = 'snip': needs classes to draw samples from, and {run.dataset!r} has none")
    if run.snip_samples != type(run).snip_samples and run.pruner != "snip":
        raise ValueError(f"snip_samples = {run.snip_samples!r}: only pruner 'snip' scores samples; leave it alone")


def _check_options(run) -> None:
    for name, value in run.options.items():
        if name not in models.OPTIONS.get(run.model, ()):
            message = f"a {run.model} has no {name} to choose; leave it at {getattr(type(run), name)!r}"
            raise ValueError(f"{name} = {value!r}: {message}")


def _check_linearization(run) -> None:
    if run.alpha != 1 and (run.linearize == "none" or run.loss == "cross_entropy"):
        raise ValueError(
            f"alpha = {run.alpha!r}: scales the targets of a centered or tangent model, so that it takes "
            "linearize = 'centered' or 'tangent' and loss = 'squared' or 'mse'"
        )
    if run.linearize != "tangent":
        return
    if run.batch_norm or ("norm" in models.OPTIONS.get(run.model, ()) and run.norm == "batch"):
        message = "is of a function of one sample, and batch norm mixes those of a batch; take another network or norm"
        raise ValueError(f"linearize = 'tangent': the tangent model {message}")
    if run.model == "vit":
        raise ValueError("linearize = 'tangent': torch has no forward derivative of the attention of a vit")
