"""Power laws of known exponents, and how often their intervals cover them."""

import numpy as np
import pytest

from lib.theory.fit import power_law


def test_an_exact_power_law_is_found_with_an_interval_of_no_width():
    x = np.geomspace(1, 1000, 20)
    fit = power_law(x, 3 * x**-1.5)
    assert (fit.exponent, fit.low, fit.high, fit.factor) == pytest.approx((-1.5, -1.5, -1.5, 3))
    assert fit.r2 == pytest.approx(1)


def test_the_interval_covers_the_exponent_when_whole_groups_scatter():
    random, covered = np.random.default_rng(0), 0
    x, groups = np.tile(np.geomspace(1, 100, 5), 20), np.repeat(np.arange(20), 5)
    for _ in range(200):
        slopes = 0.5 + 0.2 * random.normal(size=20)
        fit = power_law(x, x ** slopes[groups], groups=groups, resamples=300)
        covered += fit.low <= 0.5 <= fit.high
    assert 0.88 <= covered / 200 <= 0.99  # a bootstrap of 20 groups covers a little less than 95%
    alone = power_law(x, x ** slopes[groups], resamples=300)
    assert fit.high - fit.low > 1.1 * (alone.high - alone.low)  # as if points were independent: too narrow


@pytest.mark.parametrize(
    ("x", "y", "message"), [([1, 2], [0, 1], "positive"), ([1, 1], [1, 2], "1 distinct"), ([1, 2], [1], "as many")]
)
def test_what_has_no_slope_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        power_law(x, y)
