"""A learning rate for each α and optimizer, as Chizat et al. search it (Appendix C follows their setup)."""

import pandas

from lib.paper.analysis.linearization import CONSTANT


def at_best_rate(table: pandas.DataFrame) -> pandas.DataFrame:
    """Of a table of `linearization.scored` the runs at the rate with the lowest mean training loss over seeds, for each
    α and label; a rate at which a run diverged, or has no record, is not chosen. Where fewer than two rates are left
    nothing is searched, and there is no row.

    learned: whether all seeds of that α and label end below the loss of the best constant answer.

    >>> runs = pandas.DataFrame({"alpha": [1, 1], "label": ["SGD"] * 2, "lr": [0.1, 0.2], "loss": [0.4, 0.3]})
    >>> at_best_rate(runs.assign(status="done"))["lr"].tolist()
    [0.2]
    """
    known = table["loss"].where(table["status"].isin(["done", "not learned"]))
    by_rate = table.assign(known=known).groupby(["alpha", "label", "lr"], sort=False)["known"]
    means = by_rate.mean().where(by_rate.count() == by_rate.size()).dropna().reset_index()
    means = means[means.groupby(["alpha", "label"])["lr"].transform("size") > 1]
    best = means.loc[means.groupby(["alpha", "label"], sort=False)["known"].idxmin(), ["alpha", "label", "lr"]]
    result = table.merge(best)
    worst = result.groupby(["alpha", "label"])["loss"].transform("max")
    return result.assign(learned=worst < CONSTANT)
