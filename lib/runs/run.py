"""What a training run is: a frozen specification, and the key under which its record is filed.

A `Run` holds everything that decides the result and nothing else. Its key is a hash of the fields that differ from
their defaults, so a field added later leaves the keys of all earlier records as they were. For that, a default
never changes, and `recipe` is raised when the same fields come to mean another training.
"""

import dataclasses
import functools
import hashlib
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, fields

from lib import data, models
from lib.core import losses
from lib.models import linearize, masking, pruning, resnet
from lib.runs import climbing, compatible, precision

OPTIMIZERS = ("sgd", "sam")
SCHEDULES = ("constant", "inverse", "step", "three_steps", "cosine", "warmup_cosine")
UNRECORDED = ("missing", "failed")  # statuses, in tables, of runs that have no record


@dataclass(frozen=True)
class Run:
    """One training run. Invalid values raise ValueError naming the field, the value and what is allowed.

    dataset, model: a name of `lib.data` and of `lib.models`, or "MODULE:ENTRY", a user's own (`lib.core.own`), to which
        the present version is added.
    loss: "cross_entropy"; "squared" ‖f(x) − y‖² as in Appendix A, or "mse", half of it; both summed over
        outputs and averaged over samples, class labels made one-hot.
    optimizer, rho, normalized: "sgd", or "sam" with radius ρ and ε = ρg/‖g‖ or, unnormalized, ε = ρg.
    lr, schedule, warmup_steps: the initial learning rate and its course over the epochs (`lib.training.schedule`).
    momentum, weight_decay: of the base optimizer, SGD.
    epochs, batch_size: passes over the data and samples a step; the smaller last batch is kept.
    seed: from which initialization, data order and augmentation derive.
    n_train: train on the first so many samples; 0 takes all.
    label_noise: the share of training labels that are replaced by wrong ones (`lib.data.noisy`).
    eval_every: epochs between two evaluations on the test set; the last epoch is always evaluated.
    sparsity, pruner: the share of weights removed at initialization, and by what: "random", the same share of each
        layer, "snip", the least important of all, or a pattern such as "2:4", which sets the share
        (`lib.models.pruning`).
    snip_samples: of how many training samples SNIP takes its scores, balanced over the classes; 0 takes one batch, the
        first that the run's seed trains on.
    strict_threshold: keep only the weights whose score is above the one of rank ⌊sparsity · n⌋ from below, which
        removes one more than that, also at sparsity 0; else round((1 − sparsity) · n) are kept.
    precision: in which weights and arithmetic are kept, "float32" or "float64" (`lib.runs.precision`).
    standardize: whether inputs in [0, 1] are standardized by channel.
    initialization: "default", that of each model, or "lecun", LeCun normal weights and biases 0 (`lib.models.build`).
    parts: into how many parts SAM splits a batch; each climbs by its own gradient, and the gradients at these points
        are averaged: m-SAM with m = batch_size/parts.
    ascent_steps, ascent_step, ascent_batch, perturbation, clip, rho_schedule, switch, decay_in_ascent,
        batch_norm_passes: how SAM climbs, and when (`lib.runs.climbing`).
    n_validation: the last so many training samples are held out, and evaluated as the test set is.
    norm_curve: whether the curves also have `weight_norm`, ‖w‖₂ of all parameters after each epoch, with which
        train_loss + ½·weight_decay·‖w‖² is the objective that is trained on.
    norm: "batch" or "group", of a network that has norms to choose, a resnet (`lib.models.resnet`).
    batch_norm: whether a vgg11 has batch norms; it has none by default, as Appendix C linearizes it (`lib.models.vgg`).
    patch: the side of the patches of a vit in pixels, which must tile the images (`lib.models.vit`).
    linearize: "none", "centered" (the network minus itself at initialization), or "tangent", the model that is linear
        in the weights around there, without its constant (`lib.models.linearize`, Appendix C).
    alpha: the loss is ‖f(x) − y/α‖² (or half of it); with a large α a centered network is trained close to its
        linearization. Losses are recorded as they stand here: times α² they are those of αf.
    digest: of the data in an image folder, whose path says nothing of them (`lib.data.digest`); left empty, `sweep`
        fills it in. Training on other data is refused.
    recipe: the version of the meaning of all other fields.

    >>> run = Run(optimizer="sam", rho=0.1)
    >>> run.but(rho=0.2).rho
    0.2
    >>> Run().key == Run(width=1).key  # a key says which training it is
    True
    """

    PARTS = ("run", "curves", "final", "status", "provenance")  # of its record

    dataset: str = "mnist"
    model: str = "mlp"
    width: float = 1.0
    loss: str = "cross_entropy"
    optimizer: str = "sgd"
    rho: float = 0.0
    normalized: bool = True
    lr: float = 0.1
    schedule: str = "constant"
    warmup_steps: int = 0
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 100
    batch_size: int = 128
    seed: int = 0
    n_train: int = 0
    eval_every: int = 1
    precision: str = "float32"
    sparsity: float = 0.0
    pruner: str = "random"
    snip_samples: int = pruning.SNIP_SAMPLES
    strict_threshold: bool = False
    norm: str = "batch"
    batch_norm: bool = False
    patch: int = 4
    linearize: str = "none"
    alpha: float = 1.0
    standardize: bool = True
    initialization: str = "default"
    parts: int = 1
    label_noise: float = 0.0
    ascent_steps: int = 1
    ascent_step: float = 0.0
    ascent_batch: str = "same"
    perturbation: str = "gradient"
    clip: bool = False
    rho_schedule: str = "constant"
    switch: float = 0.0
    decay_in_ascent: bool = False
    batch_norm_passes: str = "first"
    n_validation: int = 0
    norm_curve: bool = False
    digest: str = ""
    recipe: int = 1

    def __post_init__(self):
        for field in _fields(type(self)):
            value = getattr(self, field.name)
            if type(value) is not field.type or field.type is float:
                object.__setattr__(self, field.name, _cast(field, value))
        object.__setattr__(self, "dataset", data.canonical(self.dataset))
        object.__setattr__(self, "model", models.canonical(self.model))
        if self.digest and not data.in_folder(self.dataset):
            raise ValueError(f"digest = {self.digest!r}: is of image folders; leave it empty for {self.dataset!r}")
        for name, allowed in _CHOICES.items():
            _one_of(name, getattr(self, name), allowed)
        precision.check(self.precision, self.rho)
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be {least} or more")
        for name, most in _MOST.items():
            if not getattr(self, name) <= most:
                raise ValueError(f"{name} = {getattr(self, name)!r}: must be {most:g} or less")
        if not self.label_noise <= 1:
            raise ValueError(f"label_noise = {self.label_noise!r}: must be in [0, 1]")
        if not self.lr > 0:
            raise ValueError(f"lr = {self.lr!r}: must be more than 0")
        if not self.sparsity < 1:
            raise ValueError(f"sparsity = {self.sparsity!r}: must be in [0, 1)")
        if not self.alpha > 0:
            raise ValueError(f"alpha = {self.alpha!r}: must be more than 0")
        compatible.check(self)

    @property
    def masked(self) -> bool:
        """Whether a mask removes any of its weights."""
        return self.sparsity > 0 or self.strict_threshold

    @functools.cached_property
    def key(self) -> str:
        """16 hexadecimal digits: the hash of the canonical JSON of the fields that differ from their defaults."""
        values = ((field, getattr(self, field.name)) for field in _fields(type(self)))
        differing = {field.name: value for field, value in values if value != field.default}
        text = json.dumps(differing, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return hash(self.key)  # a sweep of thousands asks for it often

    def but(self, **changes) -> "Run":
        """This run with some fields changed."""
        return dataclasses.replace(self, **changes)

    def located(self) -> "Run":
        """This run with the digest of its image folder as it is now; itself where that has no say, is absent or is
        given."""
        if self.digest or not data.in_folder(self.dataset):
            return self
        try:
            return self.but(digest=data.digest(self.dataset))
        except data.DataUnavailable:
            return self

    @property
    def options(self) -> dict[str, str | int | bool]:
        """The options of `models.build` that this run sets."""
        names = ("norm", "batch_norm", "patch", "initialization")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(Run, name)}

    def as_dict(self) -> dict:
        """All fields, as a record stores them."""
        return {field.name: getattr(self, field.name) for field in _fields(type(self))}

    @classmethod
    def of_record(cls, record: dict) -> "Run":
        """The run that a record is of."""
        return cls.from_dict(record["run"])

    @classmethod
    def of_row(cls, row: Mapping) -> "Run":
        """The run of a row of a table of `sweep`, whatever other columns there are."""
        return cls(**{f.name: row[f.name] for f in fields(cls)})

    @classmethod
    def from_dict(cls, stored: dict) -> "Run":
        """The run of a record, also of one written before a later field was added. ValueError for an unknown field."""
        unknown = set(stored) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}: written by a later version of this project?")
        return cls(**stored)


_fields = functools.cache(fields)  # a grid of thousands asks for them often
_CHOICES = {
    "loss": losses.NAMES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "pruner": masking.PRUNERS,
    "norm": resnet.NORMS,
    "linearize": linearize.FORMS,
    "initialization": models.INITIALIZATIONS,
    **climbing.CHOICES,
    "recipe": (1,),
}
_LEAST = {
    "rho": 0,
    "momentum": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "epochs": 1,
    "batch_size": 1,
    "seed": 0,
    "n_train": 0,
    "eval_every": 1,
    "sparsity": 0,
    "snip_samples": 0,
    "patch": 1,
    "parts": 1,
    "label_noise": 0,
    **climbing.LEAST,
    "n_validation": 0,
}
_MOST = {"width": 1e6, "batch_size": 1e12, "lr": 1e38}  # beyond which numbers do not fit into torch's


_ALLOWED = {
    float: lambda v: (type(v) is float or _is_number(v)) and math.isfinite(v),
    int: lambda v: _is_number(v) and v == int(v),
    bool: lambda v: v in (True, False),
    str: lambda v: isinstance(v, str),
}


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _cast(field, value):
    """The value as the field's own type, so that width 1 and 1.0, or a NumPy number, are one run."""
    try:
        if _ALLOWED[field.type](value):
            return field.type(value)
    except (OverflowError, ValueError):
        pass
    kind = {float: "a finite number", int: "a whole number", bool: "True or False", str: "a string"}[field.type]
    raise ValueError(f"{field.name} = {value!r}: must be {kind}")


def _one_of(name: str, value, allowed) -> None:
    if value not in allowed:
        raise ValueError(f"{name} = {value!r}: must be one of {', '.join(map(str, allowed))}")
