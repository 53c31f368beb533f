"""SAM's advantage on the regression, against numbers written down by hand."""

import itertools
import math

import pandas
import pytest

from lib.paper import analysis, plots
from lib.runs import Run

BASE = Run(dataset="student-teacher", model="two_layer", width=455, loss="squared")


def table(losses, **changes) -> pandas.DataFrame:
    """As of `sweep`: {(rho, seed): test loss}, None for a missing run and inf for one that diverged."""
    rows = []
    for (rho, seed), loss in losses.items():
        run = BASE.but(optimizer="sam" if rho else "sgd", rho=rho, seed=seed, **changes)
        status = "missing" if loss is None else "diverged" if math.isinf(loss) else "done"
        rows.append(run.as_dict() | {"key": run.key, "status": status, "test_loss": loss if status == "done" else None})
    return pandas.DataFrame(rows).astype({"test_loss": float})


LOSSES = {(0, 0): 1.0, (0, 1): 2.0, (0, 2): 3.0, (0.1, 0): 0.1, (0.1, 1): 1.9, (0.1, 2): 1.9}
LOSSES |= {(0.2, 0): 0.9, (0.2, 1): 1.0, (0.2, 2): 1.8}


def test_each_seed_is_judged_at_the_radius_that_the_others_choose():
    advantages = analysis.student_teacher.advantages(table(LOSSES)).set_index("seed")
    # Others of 0: 1.9 + 1.9 at 0.1, 1.0 + 1.8 at 0.2. Of 1: 0.1 + 1.9, 0.9 + 1.8. Of 2: 0.1 + 1.9, 0.9 + 1.0.
    assert advantages["rho"].tolist() == [0.2, 0.1, 0.2]
    assert advantages["advantage"].tolist() == pytest.approx([0.1, 0.1, 1.2])
    assert set(advantages["parameters"]) == {10_011} and len(advantages["keys"][0].split()) == 3


def test_seeds_without_a_whole_search_are_left_out_and_a_radius_that_diverges_is_not_chosen():
    missing = analysis.student_teacher.advantages(table(LOSSES | {(0.1, 2): None}))
    assert missing["seed"].tolist() == [0, 1]
    diverged = analysis.student_teacher.advantages(table(LOSSES | {(0.2, seed): math.inf for seed in range(3)}))
    assert diverged["rho"].tolist() == [0.1] * 3
    without = analysis.student_teacher.advantages(table(LOSSES | {(0, 1): math.inf}))
    assert without["seed"].tolist() == [0, 2]
    assert analysis.student_teacher.advantages(table({**LOSSES, **{(0.1, s): None for s in range(3)}})).empty


def test_growth_is_the_mean_of_the_seeds_slopes_for_each_setting():
    rows = [
        (noise, 0.0, parameters, seed, (noise + 0.1) * (math.log10(parameters) + seed * math.log10(parameters)))
        for noise, parameters, seed in itertools.product((0.0, 0.6), (10_000, 20_000, 100_000), (0, 1, 2))
    ]
    frame = pandas.DataFrame(rows, columns=["label_noise", "weight_decay", "parameters", "seed", "advantage"])
    result = analysis.student_teacher.growth(frame)
    assert result["slope"].tolist() == pytest.approx([0.2, 1.4]) and result["seeds"].tolist() == [3, 3]
    # Slopes 0.1, 0.2, 0.3: the mean 0.2 ± 4.303 · 0.1/√3.
    assert result["low"][0] == pytest.approx(0.2 - 4.3027 * 0.1 / 3**0.5, rel=1e-4)
    assert result["smallest"][0] == pytest.approx(0.8) and result["largest"][0] == pytest.approx(1.0)
    lonely = analysis.student_teacher.growth(frame[frame["parameters"] == 10_000])
    assert lonely["slope"].isna().all()


def test_the_figure_has_a_panel_a_share_of_noise_and_says_when_it_is_empty():
    parts = [table(LOSSES, width=w, label_noise=n) for w, n in itertools.product((455, 909), (0.0, 0.6))]
    tidy = analysis.student_teacher.advantages(pandas.concat(parts))
    figure = plots.advantages(tidy, title="t")
    assert [axis.get_title() for axis in figure.axes] == ["clean targets", "60% of the targets are wrong"]
    empty = plots.advantages(tidy.iloc[:0], title="t")
    assert not empty.axes[0].axison and empty.axes[0].texts[0].get_text() == "no two seeds have SGD and SAM at every ρ"


def test_the_growth_of_the_advantage_is_a_slope_of_one_setting():
    rows = [
        dict(label_noise=noise, weight_decay=0.0, parameters=p, seed=seed, advantage=slope * i + 0.001 * seed)
        for noise, slope in ((0.0, 0.1), (0.6, 0.3))
        for i, p in enumerate((10_000, 100_000))
        for seed in (0, 1, 2)
    ]
    for noise, slope in ((0.0, 0.1), (0.6, 0.3)):
        result = analysis.student_teacher.advantage_slope(pandas.DataFrame(rows), noise)
        assert result.effect.value == pytest.approx(slope) and result.effect.seeds == 3
    assert analysis.student_teacher.advantage_slope(pandas.DataFrame(rows), 0.2).effect is None
