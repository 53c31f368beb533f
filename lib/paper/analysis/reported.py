"""Which accuracy of a run is reported: of its last epoch, as here, or of its best, as by the paper's released code.

The best of all epochs is chosen on the test samples on which it is reported, which favours whatever scatters more from
one epoch to the next.
"""

import math

import pandas

from lib.paper.analysis.fixed_rho import fixed_gaps


def best_epoch(table: pandas.DataFrame) -> pandas.DataFrame:
    """A table of `sweep` with the highest test accuracy of all evaluated epochs in place of the last one's.

    Accuracies on halves of the test samples, which have no curves, are NaN.

    >>> table = pandas.DataFrame({"test_accuracy": [0.5], "curves": [{"test_accuracy": [0.4, None, 0.6, 0.5]}]})
    >>> best_epoch(table)["test_accuracy"].tolist()
    [0.6]
    """
    best = [
        max((value for value in (curves or {}).get("test_accuracy", []) if value is not None), default=math.nan)
        for curves in table["curves"]
    ]
    halves = [name for name in ("test_accuracy_even", "test_accuracy_odd") if name in table]
    kept = table["test_accuracy"].notna()  # a run that diverged has no accuracy
    return table.assign(test_accuracy=pandas.Series(best, table.index).where(kept), **dict.fromkeys(halves, math.nan))


def readings(text: pandas.DataFrame, released: pandas.DataFrame) -> pandas.DataFrame:
    """The gap at fixed ρ by the text's settings and by those of the released code, each at the last and at the best
    epoch: the rows of `fixed_rho.fixed_gaps` with the column setting, of the networks and seeds that both tables have.

    text, released: tables of `sweep` of one grid with either's settings.
    """
    # An empty table has no types of its own.
    has = (fixed_gaps(table)[["width", "seed"]].astype({"width": float, "seed": int}) for table in (text, released))
    shared = pandas.merge(*has)
    parts = [
        fixed_gaps(read(table))
        .astype({"width": float, "seed": int})
        .merge(shared)
        .assign(setting=f"{name}, {epoch} epoch")
        for name, table in (("Appendix A", text), ("released code", released))
        for epoch, read in (("last", lambda table: table), ("best", best_epoch))
    ]
    return pandas.concat(parts, ignore_index=True)
