"""Gaps at fixed radii: of complete seeds alone, their difference by Welch's interval, a verdict that can be each."""

import numpy as np
import pandas
import pytest
from findings import outcome
from scipy import stats

from lib.paper import analysis, experiments, plots
from lib.sweep import COLUMNS


def table(gaps: dict[float, list[float]], sgd: float = 0.98) -> pandas.DataFrame:
    """A table of `sweep` in which SAM gains these points, 0.2 more at ρ = 0.1 than at 0.05, a list of seeds a width."""
    rows = []
    for run in experiments.mnist_fixed_radius("lite"):
        if run.seed < len(gaps.get(run.width, [])):
            gain = (gaps[run.width][run.seed] + (0.1 if run.rho == 0.1 else -0.1)) / 100 if run.rho else 0.0
            row = run.as_dict() | {"key": run.key, "status": "done", "test_accuracy": sgd + gain}
            rows.append(row)
    return pandas.DataFrame(rows, columns=COLUMNS)


def test_a_gap_is_the_mean_over_radii_of_a_complete_seed():
    runs = table({0.25: [0.1, 0.3], 1.0: [0.2, 0.4, 0.6]})
    frame = analysis.fixed_rho.fixed_gaps(runs)
    assert frame["gap"].tolist() == pytest.approx([0.1, 0.3, 0.2, 0.4, 0.6])
    assert frame["parameters"].tolist() == [61_035] * 2 + [266_610] * 3
    assert all(len(keys.split()) == 3 for keys in frame["keys"])
    for status in ("missing", "failed", "diverged"):
        lost = (runs["width"] == 1.0) & (runs["seed"] == 1) & (runs["rho"] == 0.05)
        part = analysis.fixed_rho.fixed_gaps(runs.assign(status=runs["status"].mask(lost, status)))
        assert part["gap"].tolist() == pytest.approx([0.1, 0.3, 0.2, 0.6])


def test_the_difference_is_welchs():
    small, large = [0.1, 0.3, 0.2, 0.0], [0.5, 0.4, 0.9]
    result = analysis.fixed_rho.difference(analysis.fixed_rho.fixed_gaps(table({0.25: small, 1.0: large})))
    expected = stats.ttest_ind(large, small, equal_var=False).confidence_interval()
    assert result.value == pytest.approx(np.mean(large) - np.mean(small)) and result.seeds == 3
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("shift", "scatter", "holds"), [(0.3, 0.05, True), (0.0, 0.02, False), (0.0, 0.5, None), (-0.3, 0.05, False)]
)
def test_every_verdict_can_be_reached(shift, scatter, holds):
    noise = scatter * np.linspace(-1, 1, 8)
    frame = analysis.fixed_rho.fixed_gaps(table({0.25: list(0.1 + noise), 1.0: list(0.1 + shift + noise)}))
    result = analysis.fixed_rho.larger(frame)
    assert outcome("3a-fixed", result) is holds
    assert result.measured.startswith(f"difference {shift:+.3f} points (95% ") and result.measured.count("n = 8") == 2
    assert analysis.fixed_rho.larger(frame.sample(frac=1, random_state=0)).effect.low == pytest.approx(
        result.effect.low
    )


def test_one_seed_or_one_network_tells_nothing():
    for gaps in ({0.25: [0.1], 1.0: [0.4] * 8}, {0.25: [], 1.0: [0.4] * 8}, {0.25: [], 1.0: []}):
        result = analysis.fixed_rho.larger(analysis.fixed_rho.fixed_gaps(table(gaps)))
        assert outcome("3a-fixed", result) is None


def test_the_figure_has_a_dot_for_every_gap_and_their_interval():
    frame = analysis.fixed_rho.fixed_gaps(table({0.25: [0.1, 0.3], 1.0: [0.2, 0.4, 0.6]}))
    (axis,) = plots.fixed_radius(frame, title="t").axes
    dots = [value for line in axis.lines if line.get_marker() == "o" for value in line.get_ydata()]
    assert dots == pytest.approx(frame["gap"].tolist())
    assert plots.fixed_radius(frame[:0], title="t").axes[0].texts[0].get_text() == "no seed is complete"


def test_the_trend_over_networks_is_the_slope_of_their_means():
    gaps = {0.25: [0.0, 0.1], 0.5: [0.1, 0.2], 1.0: [0.2, 0.3], 4.0: [0.5, 0.4]}
    frame = analysis.fixed_rho.fixed_gaps(table(gaps))
    result = analysis.fixed_rho.trend(frame)
    means = frame.groupby("parameters")["gap"].mean()
    assert result.effect.value == pytest.approx(np.polyfit(np.log10(means.index), means, 1)[0])
    assert result.effect.networks == 4 and outcome("3a-fixed-trend", result) is True
    assert outcome("3a-fixed-trend", analysis.fixed_rho.trend(frame[frame["width"] == 1])) is None
