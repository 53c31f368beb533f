"""A changed experiment is named as such: what runs have that no run of the preset's experiments has."""

import re
from collections.abc import Iterable, Mapping

from lib.runs import Measurement, Run

ALIKE = {"cifar10": "cifar10-jpeg"}  # one stands in for the other
KEY = re.compile(r"[0-9a-f]{16}")


def trained(known: Iterable[Run | Measurement]) -> dict[Run, None]:
    """The runs of experiments, each once and in their order, on the images that may stand in for their own."""
    return dict.fromkeys(alike(what.run if isinstance(what, Measurement) else what) for what in known)


def foreign(runs: Iterable[Run], known: Mapping[Run, None]) -> list[Run]:
    """Those of the runs that are not among the known ones (`trained`), nor are with the images that stand in for
    others."""
    return [run for run in runs if alike(run) not in known]


def alike(run: Run) -> Run:
    """The run on the images that may stand in for its own."""
    return run.but(dataset=ALIKE[run.dataset]) if run.dataset in ALIKE else run


def named(runs: Iterable[Run], known: Mapping[Run, None]) -> str:
    """In words, what foreign runs have in place of what the known run has that is most like them: "batch_size 8 instead
    of 128"; empty for none."""
    strange = foreign(runs, known)
    if not strange:
        return ""
    settings: dict[Setting, list[Run]] = {}
    for run in known:
        settings.setdefault(_setting(run), []).append(run)
    changes: dict[str, tuple[set, set]] = {}
    for setting in dict.fromkeys(_setting(alike(run)) for run in strange):
        nearest = min(settings, key=lambda other: len(_differing(setting, other)))
        for (field, value), (_, usual) in _differing(setting, nearest):
            _note(changes, field, [value], [usual])
    for run in map(alike, strange):
        for field in SEARCHED:
            usual = {getattr(other, field) for other in settings.get(_setting(run), ())}
            if usual and getattr(run, field) not in usual:
                _note(changes, field, [getattr(run, field)], usual)
    parts = [f"{field} {_listed(new)} instead of {_listed(usual)}" for field, (new, usual) in changes.items()]
    return "; ".join(parts) or "runs combined otherwise"


SEARCHED = ("optimizer", "rho", "seed")  # what every setting is trained with several values of
Setting = tuple[tuple[str, object], ...]


def _setting(run: Run) -> Setting:
    """All other fields and their values."""
    return tuple((name, value) for name, value in run.as_dict().items() if name not in SEARCHED)


def _differing(one: Setting, other: Setting) -> list[tuple]:
    return [pair for pair in zip(one, other, strict=True) if pair[0] != pair[1]]


def _note(changes: dict, field: str, new: Iterable, usual: Iterable) -> None:
    both = changes.setdefault(field, (set(), set()))
    both[0].update(new)
    both[1].update(usual)


def _listed(values: Iterable) -> str:
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in sorted(values)]
    return ", ".join(texts if len(texts) < 4 else [texts[0], "…", texts[-1]])


def keys_in(texts: Iterable[str]) -> set[str]:
    """The keys in these texts, each of one or several."""
    return {key for text in texts for key in KEY.findall(str(text))}
