"""Sharpness during training: what is beside which edge, and what counts towards the claim."""

import math

import numpy as np
import pandas
import pytest

from lib import theory
from lib.paper import analysis, experiments, plots

course = analysis.stability_course
EPOCHS = [0, 10, 20]


def network(rho, seed, a, **changes):
    row = {"status": "done", "key": f"{rho}-{seed}", "run_key": "r", "rho": rho, "seed": seed, "lr": 0.1, "epochs": 20}
    row |= {"epoch": EPOCHS, "a": a, "s2": [1.0, 2.0, 3.0], "batch_gradient": [0.5, 0.2, 0.1]}
    return row | {"a_converged": [True] * 3, "s2_converged": [True] * 3} | changes


SGD, SAM = [10.0, 8.0, 16.0], [10.0, 4.0, 4.0]
TABLE = pandas.DataFrame(
    [
        network(0.0, 0, SGD),
        network(0.1, 0, SAM),
        network(0.0, 1, SGD),
        network(0.1, 1, SAM, a_converged=[True, True, False]),
    ]
)


def test_the_edge_is_the_bound_on_a_at_the_radius_of_training():
    points = course.points(TABLE)
    assert len(points) == 12 and points["epoch"].tolist() == EPOCHS * 4
    assert (points[points["optimizer"] == "SGD"]["edge"] == 2 / 0.1).all()
    sam = points[points["key"] == "0.1-0"]["edge"]
    assert sam.tolist() == pytest.approx([theory.stability_bounds(0.1, 0.1 / g).a for g in (0.5, 0.2, 0.1)])
    assert points[points["key"] == "0.1-1"]["a"].tolist()[:2] == [10.0, 4.0] and math.isnan(points["a"].iloc[-1])


def test_the_claim_counts_the_second_half_and_what_converged():
    finding = course.lower(course.points(TABLE))
    # log₁₀ of 4/8 and 4/16 at seed 0; at seed 1 the last has not converged
    seeds = [(math.log10(0.5) + math.log10(0.25)) / 2, math.log10(0.5)]
    assert finding.effect.value == pytest.approx(np.mean(seeds)) and finding.effect.seeds == 2
    assert course.lower(course.points(TABLE[TABLE["rho"] == 0])).effect is None


def test_how_near_the_edge_and_since_when_less_sharp():
    points = course.points(TABLE.iloc[:2])
    edge = theory.stability_bounds(0.1, 1.0).a
    expected = f"SGD 0.8 of its edge at most, 0.8 at the end; SAM {4 / edge:.2g} of its edge at most"
    assert course.approach(points).startswith(expected)
    assert course.approach(points).endswith("SAM is less sharp from epoch 10 on")
    assert course.approach(course.points(pandas.DataFrame([network(0.0, 0, SAM), network(0.1, 0, SGD)]))).endswith(
        "SAM is not less sharp at the end"
    )


def test_lines_are_means_over_seeds_with_their_range_and_only_bounds_that_exist():
    tidy = course.lines(course.points(TABLE.assign(s2=[[1.0, 1.0, 1.0], [2.0] * 3, [3.0] * 3, [2.0] * 3])))
    assert set(tidy["label"]) == {"SGD", "SAM", "SGD| edge of stability, 2/η = 20", "SAM| edge of stability"} | {
        "SGD| bound of (7), 1/η = 10"  # for η ≤ 2ρ SAM has none
    }
    s2 = tidy[(tidy["label"] == "SGD") & (tidy["panel"] == "non-uniformity s₂")]
    assert s2[["x", "y", "low", "high"]].to_numpy().tolist() == [[epoch, 2.0, 1.0, 3.0] for epoch in EPOCHS]
    assert s2["keys"].iloc[0] == "0.0-0 0.0-1"


def test_without_runs_the_figure_says_so():
    grid = experiments.mnist_course("lite")
    rows = [m.run.as_dict() | {"status": "missing", "key": m.key, "run_key": m.run.key} for m in grid]
    table = pandas.DataFrame(rows)
    tidy = course.lines(course.points(table))
    figure = plots.panels(tidy, axes=course.AXES, title="none")
    assert len(tidy) == 0 and [axis.texts[0].get_text() for axis in figure.axes] == ["no runs with a record"] * 2
