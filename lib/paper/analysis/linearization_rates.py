"""A learning rate for each α and optimizer, as Chizat et al. search it (Appendix C follows their setup)."""

import pandas

from lib.paper.analysis.linearization import CONSTANT
from lib.runs import UNRECORDED


def at_best_rate(table: pandas.DataFrame) -> pandas.DataFrame:
    """Of a table of `linearization.scored` the runs at the rate of lowest mean training loss, for each α and label.

    Only seeds that have a record at all rates take part. A rate at which a run diverged is not chosen. Where fewer than
    two rates are left nothing is searched, and there is no row.

    learned: whether all seeds of that α and label end below the loss of the best constant answer.

    >>> runs = pandas.DataFrame({"alpha": 1, "label": "SGD", "seed": 0, "lr": [0.1, 0.2], "loss": [0.4, 0.3]})
    >>> at_best_rate(runs.assign(status="done"))["lr"].tolist()
    [0.2]
    """
    absent = table["status"].isin(UNRECORDED).groupby([table[name] for name in ("alpha", "label", "seed")])
    table = table[~absent.transform("any")]
    known = table["loss"].where(table["status"].isin(["done", "not learned"]))
    by_rate = table.assign(known=known).groupby(["alpha", "label", "lr"], sort=False)["known"]
    means = by_rate.mean().where(by_rate.count() == by_rate.size()).dropna().reset_index()
    means = means[means.groupby(["alpha", "label"])["lr"].transform("size") > 1]
    best = means.loc[means.groupby(["alpha", "label"], sort=False)["known"].idxmin(), ["alpha", "label", "lr"]]
    result = table.merge(best)
    worst = result.groupby(["alpha", "label"])["loss"].transform("max")
    return result.assign(learned=worst < CONSTANT)
