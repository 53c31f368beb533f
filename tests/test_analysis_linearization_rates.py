"""The rate that is chosen for each α and optimizer."""

import pandas
import pytest

from lib.paper import analysis, plots


@pytest.fixture
def table():
    rows = [
        # alpha, label, lr, seed, loss, status
        (1, "SGD", 0.1, 0, 0.2, "done"),
        (1, "SGD", 0.1, 1, 0.8, "done"),  # mean 0.5
        (1, "SGD", 0.2, 0, 0.4, "done"),
        (1, "SGD", 0.2, 1, 0.4, "done"),  # mean 0.4: chosen, though not the lowest loss of all
        (30, "SGD", 0.1, 0, 0.95, "not learned"),
        (30, "SGD", 0.2, 0, 0.99, "not learned"),
        (1, "SAM", 0.1, 0, 0.6, "done"),
        (1, "SAM", 0.2, 0, 0.5, "done"),
        (1, "SAM", 0.2, 1, None, "diverged"),  # a rate that diverges for one seed is out
        (1, "SAM", 0.3, 0, 0.7, "done"),
        (30, "SAM", 0.1, 0, 0.5, "done"),  # one rate is no search
    ]
    return pandas.DataFrame(rows, columns=["alpha", "label", "lr", "seed", "loss", "status"])


def test_the_rate_with_the_lowest_mean_loss_is_taken_where_two_are_known(table):
    result = analysis.linearization_rates.at_best_rate(table)
    rows = result[["alpha", "label", "lr", "learned"]].itertuples(index=False)
    chosen = {(row.alpha, row.label): (row.lr, row.learned) for row in rows}
    assert chosen == {(1, "SGD"): (0.2, True), (30, "SGD"): (0.1, False), (1, "SAM"): (0.1, True)}
    assert len(result) == 4  # all seeds of a chosen rate
    shuffled = analysis.linearization_rates.at_best_rate(table.sample(frac=1, random_state=0))
    assert shuffled.sort_values(["alpha", "label", "seed"])["lr"].tolist() == [0.1, 0.2, 0.2, 0.1]
    nothing = analysis.linearization_rates.at_best_rate(table[table["label"] == "none"])
    figure = plots.along(nothing.assign(rho=0.0), title="t", panels={"loss": "training loss"}, logs=("loss",))
    assert nothing.empty and "no run has a record" in figure.axes[0].texts[0].get_text()


def test_a_seed_that_has_not_every_rate_takes_no_part(table):
    lost = table.assign(status=table["status"].mask((table["seed"] == 1) & (table["lr"] == 0.2), "missing"))
    lost = lost[(lost["alpha"] == 1) & (lost["label"] == "SGD")]
    result = analysis.linearization_rates.at_best_rate(lost)
    assert (result["lr"].tolist(), result["seed"].tolist()) == ([0.1], [0])  # of seed 0 alone, 0.2 before 0.4
