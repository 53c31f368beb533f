"""The figures of notebooks 06 and 07 draw every row of their tables."""

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest

from lib.paper import plots
from lib.paper.plots.lines import OPTIMIZERS


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_panels_draw_lines_points_and_intervals_in_the_colour_of_their_label():
    tidy = pandas.DataFrame(
        {
            "panel": ["a", "a", "a", "b", "b"],
            "label": ["GD", "GD", "SAM|, ρ = 1", "other", "other"],
            "look": ["-", "-", "o", "--", "--"],
            "x": [1.0, 2, 1, 1, 3],
            "y": [1.0, 4, 2, 5, 6],
        }
    )
    figure = plots.panels(tidy, title="t", axes={"a": dict(xlabel="step"), "b": dict(yscale="log", title="named")})
    left, right = figure.axes
    assert [line.get_xydata().tolist() for line in left.lines] == [[[1, 1], [2, 4]], [[1, 2]]]
    assert [line.get_color() for line in left.lines] == [OPTIMIZERS["GD"], OPTIMIZERS["SAM"]]
    assert left.get_legend().get_texts()[1].get_text() == "SAM, ρ = 1"
    assert (left.get_title(), right.get_title(), right.get_yscale()) == ("a", "named", "log")
    shaded = plots.panels(tidy.assign(low=tidy["y"] - 1, high=tidy["y"] + 1), title="t", axes={"a": {}})
    assert len(shaded.axes[0].collections) == 2


def test_panels_without_rows_are_empty():
    columns = ["panel", "label", "look", "x", "y"]
    figure = plots.panels(pandas.DataFrame(columns=columns), title="t", axes={"a": {}, "b": {}})
    assert all(not axis.lines for axis in figure.axes) and len(figure.axes) == 2
    assert [text.get_text() for text in figure.axes[0].texts] == ["no runs with a record"]


def test_paths_are_shown_from_afar_and_where_they_end():
    parts = [
        pandas.DataFrame(dict(problem=problem, start=start, step=range(10), w1=np.arange(10.0), w2=1.0))
        for problem in "pq"
        for start in (0, 1)
    ]
    figure = plots.paths(pandas.concat(parts), title="t")
    assert len(figure.axes) == 4
    lengths = [len(line.get_xdata()) for line in figure.axes[0].lines]
    assert lengths.count(10) == 2 and [len(line.get_xdata()) for line in figure.axes[2].lines][:2] == [5, 5]


def test_a_potential_has_its_points_and_paths():
    u = np.linspace(-2, 2, 9)
    grid = pandas.DataFrame([(a, b, a * a + b * b - 1) for a in u for b in u], columns=["u1", "u2", "J"])
    path = pandas.DataFrame({"start": 0, "step": range(3), "u1": [1.0, 0.5, 0], "u2": 0.0, "J": [0, -0.75, -0.9]})
    points = [("minimum", "*", 0, 0), ("saddle", "X", 1, 1)]
    left, right = plots.potential(path, grid.assign(least=-1), points, title="t").axes
    assert right.lines[0].get_ydata() == pytest.approx([1, 0.25, 0.1])
    assert {text.get_text() for text in left.get_legend().get_texts()} == {"minimum", "saddle"}


def test_a_valley_has_both_optimizers():
    path = pandas.DataFrame({"optimizer": ["GD", "GD", "SAM", "SAM"], "step": [0, 1] * 2, "w1": 0.5, "w2": 1.0})
    figure = plots.valley(path.assign(curvature=1.0), lambda w1, w2: w1**2, title="t")
    assert [line.get_label() for line in figure.axes[1].lines] == ["GD", "SAM"]


def test_boundaries_ring_the_flipped_samples():
    axis = np.linspace(-1, 1, 5)
    grid = pandas.DataFrame([(s, t, s + t) for s in axis for t in axis], columns=["s", "t", "output"])
    samples = pandas.DataFrame({"s": [0.5, -0.5, 0.2], "t": 0.0, "clean": [1, -1, 1], "flipped": [False, False, True]})
    figure = plots.boundaries({"one": (grid, samples, "t"), "two": (grid, samples, "t")}, title="t")
    ringed = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert sum(len(line.get_xdata()) for line in ringed) == 1 and figure.axes[1].get_title() == "two"
