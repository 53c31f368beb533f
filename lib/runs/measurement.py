"""What is measured on a trained network: a frozen specification with a key of its own, as a `Run` has one.

Weights are not committed, so a measurement is taken in the call that trained the network, and filed as a record. A kind
of measurement is a function

    kind(before, after, batches, run, **options) -> dict

of the network at initialization and after training (on the device, in evaluation mode), the run's data
(`lib.training.batches.Batches`) and the run; what it returns are plain JSON values. Its keyword arguments are the
options of the kind. A kind of DURING is asked before each epoch and after the last, as

    kind(network, epochs, batches, run, **options) -> dict or None

and its record has the lists of what it gave.
"""

import dataclasses
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lib import data
from lib.runs import ascent, course, features, flatness, laziness
from lib.runs.run import Run

_TAKEN = (flatness.flatness, flatness.landscape, laziness.laziness, features.features, course.course, ascent.ascent)
KINDS: dict[str, Callable] = {kind.__name__: kind for kind in _TAKEN}
DURING = ("course",)
CHECKS = {"laziness": laziness.check, "features": features.check, "course": course.check, "ascent": ascent.check}
LEAST = {"points": 2, "groups": 0, "rho": 0.0}  # of options; of all others 1, or more than 0 where they are no integers
BALANCED = ("flatness", "landscape", "features", "course")  # which take as many samples of each class
# Of the kinds that came to measure something else, or by other names, under the same options; all others have 1.
RECIPES = {"flatness": 2, "course": 2}


@dataclass(frozen=True)
class Measurement:
    """A measurement of `kind`, a name of KINDS, on the network that `run` trains.

    options: the kind's keyword arguments; those not given have the kind's defaults, which never change.
    Raises ValueError for an unknown kind or option, for a value of another type than the default's or that cannot be
    measured with, for what the kind cannot measure of such a run, and for a sparse run: the kinds look at all weights,
    also in the directions that a mask forbids.

    >>> Measurement(Run(), "flatness", {"samples": 100}).options["samples"]
    100
    """

    PARTS = ("measurement", "values", "status", "provenance")

    run: Run
    kind: str
    options: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind = {self.kind!r}: must be one of {', '.join(KINDS)}")
        if self.run.masked:
            raise ValueError(f"sparsity = {self.run.sparsity!r}: {self.kind} is measured of dense networks only")
        defaults = options_of(self.kind)
        for name, value in dict(self.options).items():
            if name not in defaults:
                raise ValueError(f"{name} = {value!r}: {self.kind} has no such option; it has {', '.join(defaults)}")
            if type(value) is not type(defaults[name]):
                kind = type(defaults[name]).__name__
                raise ValueError(f"{name} = {value!r}: must be a {kind}, such as {defaults[name]!r}")
            self._check_value(name, value)
        CHECKS.get(self.kind, lambda run: None)(self.run)
        if self.kind != "laziness" and data.regression(self.run.dataset):
            raise ValueError(f"dataset = {self.run.dataset!r}: has no classes, which {self.kind} takes samples of")
        object.__setattr__(self, "options", defaults | dict(self.options))

    def _check_value(self, name: str, value) -> None:
        least = LEAST.get(name, 1 if isinstance(value, int) else sys.float_info.min)
        least = min(least, options_of(self.kind)[name])  # 0 where that is the default, which leaves something out
        if name == "samples" and self.kind in BALANCED and not data.in_folder(self.run.dataset):
            least = data.shapes(self.run.dataset)[0]  # as many of each class
        if not least <= value < float("inf"):
            wanted = "more than 0" if least == sys.float_info.min else f"at least {least}"
            raise ValueError(f"{name} = {value!r}: must be a finite number, {wanted}")

    @property
    def dataset(self) -> str:
        """Of the run: it decides in which store the records of both are."""
        return self.run.dataset

    @property
    def during(self) -> bool:
        """Whether it is taken while the network is trained."""
        return self.kind in DURING

    @property
    def recipe(self) -> int:
        """The version of the meaning of the kind, raised in RECIPES when the same options come to measure another
        thing: earlier records are then of no measurement that could be asked for."""
        return RECIPES.get(self.kind, 1)

    def located(self) -> "Measurement":
        """This measurement of `Run.located`."""
        return dataclasses.replace(self, run=self.run.located())

    def __hash__(self):
        return hash(self.key)

    @property
    def key(self) -> str:
        """16 hexadecimal digits: the hash of the kind, the run's key, the options that differ from the defaults, and
        the recipe unless it is the first."""
        defaults = options_of(self.kind)
        differing = {name: value for name, value in self.options.items() if value != defaults[name]}
        later = [self.recipe] if self.recipe > 1 else []
        text = json.dumps([self.kind, self.run.key, differing, *later], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_dict(self) -> dict:
        """As a record stores it."""
        return {"kind": self.kind, "recipe": self.recipe, "options": dict(self.options), "run": self.run.as_dict()}

    @classmethod
    def of_record(cls, record: dict) -> "Measurement":
        """The measurement that a record is of, also one written before a later option was added. ValueError for a
        record of another recipe than the present one."""
        stored = record["measurement"]
        result, recipe = cls(Run.from_dict(stored["run"]), stored["kind"], stored["options"]), stored.get("recipe", 1)
        if recipe != result.recipe:
            raise ValueError(
                f"recipe = {recipe!r}: {result.kind} now has {result.recipe}, which measures something else"
            )
        return result


def options_of(kind: str) -> dict[str, object]:
    """The options of a kind and their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(KINDS[kind]).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
