"""Pieces of what is recorded about a claim: the keys of the records, what is lacking, a mean with its spread."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import pandas

from lib.paper.claims.effect import Effect
from lib.runs import UNRECORDED

Verdict = tuple[str, bool | None]  # of a condition: what was measured, in words, and whether it holds; None: not tested


class Finding(NamedTuple):
    """What an analysis says of a claim, as `Book.record` takes it: `book.record(name, **finding._asdict())`."""

    measured: str
    holds: bool | None = None
    effect: Effect | None = None
    untested: str = ""
    undecided: str = ""


def keys(*tables: pandas.DataFrame) -> list[str]:
    """Of the records behind these tables: of runs, or of measurements and of the runs that these are of. Where a run
    diverged there is nothing to measure, and only the run has a record."""
    result = []
    for table in tables:
        recorded = table[~table["status"].isin(UNRECORDED)]
        if "run_key" in table:
            result += [*recorded["run_key"], *recorded["key"][~recorded["status"].isin(["diverged"])]]
        else:
            result += recorded["key"].tolist()
    return result


def behind(frame: pandas.DataFrame) -> list[str]:
    """The keys of the records behind a table of `sweep` or `measure`, or behind one with a column `keys` of several."""
    if "status" in frame:
        return keys(frame)
    return list(dict.fromkeys(key for text in frame["keys"] for key in text.split()))


def lacking(*tables: pandas.DataFrame, without: Iterable[str] = (*UNRECORDED, "diverged")) -> str:
    """How many of the runs in these tables have a status with which they cannot tell; empty where all can."""
    status = pandas.concat(tables)["status"]
    lost = [f"{(status == name).sum()} {name}" for name in without if (status == name).any()]
    return f"{' and '.join(lost)} of the {len(status)} runs that would tell" if lost else ""


def mean_and_spread(values: Iterable[float], unit: str = "", digits: int = 3) -> str:
    """ "mean ± standard deviation (n)" of the values, the form in which measured numbers are given."""
    values = pandas.Series(list(values), dtype=float)
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    middle = f"{values.mean():.{digits}g}" + ("" if math.isnan(spread) else f" ± {spread:.2g}")
    return f"{middle}{' ' * bool(unit)}{unit} (n = {len(values)})"
