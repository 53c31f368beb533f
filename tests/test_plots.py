"""Figures: what is saved, how runs are told apart, and that what is missing or diverged is said."""

import math

import pandas
import pytest
from matplotlib.figure import Figure

from lib import plots
from lib.runs import Run
from lib.sweep import sweep

SGD = Run(dataset="digits", width=0.05, epochs=2, batch_size=512)


@pytest.fixture
def table(tmp_path):
    store = tmp_path / "store"
    sweep([SGD], store=store, progress=False)
    return sweep([SGD, SGD.but(optimizer="sam", rho=0.1)], train=False, store=store)


def test_curves_hold_one_row_an_epoch_of_every_run_with_a_record(table):
    tidy = plots.curves(table)
    assert tidy["epoch"].tolist() == [1, 2]
    assert set(tidy["key"]) == {SGD.key}
    assert tidy["train_loss"].tolist() == table["curves"].iloc[0]["train_loss"]


def test_a_figure_is_saved_as_png_svg_and_csv_and_the_same_data_give_the_same_files(table, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    saved = []
    for _ in range(2):
        plots.save(plots.training_loss(plots.curves(table), title="t"), "fig", plots.curves(table), "smoke")
        saved.append({f.name: f.read_bytes() for f in (tmp_path / "smoke").iterdir()})
    assert sorted(saved[0]) == ["fig.csv", "fig.png", "fig.svg"]
    assert saved[0] == saved[1]
    assert len(pandas.read_csv(tmp_path / "smoke" / "fig.csv")) == 2


def test_a_title_wider_than_its_figure_is_broken_into_lines(table, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    figure = plots.training_loss(plots.curves(table), title="short\n" + "a setting that differs, " * 12)
    plots.save(figure, "fig", plots.curves(table), "smoke")
    figure.canvas.draw()
    title = figure.texts[0].get_window_extent()
    assert figure.bbox.x0 <= title.x0 < title.x1 <= figure.bbox.x1
    assert figure.get_suptitle().startswith("short\na setting")


def test_an_unknown_preset_is_refused_before_anything_is_written(table, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="preset = 'big': must be one of smoke, lite, paper"):
        plots.save(plots.training_loss(plots.curves(table), title="t"), "fig", plots.curves(table), "big")
    assert not (tmp_path / "none").exists()


def test_the_footnote_names_what_is_missing_and_what_diverged(table):
    table.loc[0, "status"] = "diverged"
    figure = plots.footnote(plots.training_loss(plots.curves(table), title="t"), table)
    text = figure.get_supxlabel()
    told = "missing: 1 of 2 runs (width 0.05: SAM); diverged: 1 of 2 runs (width 0.05: SGD)"
    assert text.replace("\n", " ") == told


def test_the_footnote_names_sparse_networks_and_layers_that_were_lost(table):
    sparse = table.iloc[[1, 1]].assign(sparsity=0.9, pruner="snip", status=["missing", "done"])
    sparse["provenance"] = [None, {"kept": {"1.weight": 3, "3.weight": 0}, "collapsed": ["3.weight"]}]
    text = plots.footnote(plots.training_loss(plots.curves(table), title="t"), sparse).get_supxlabel()
    network = "width 0.05 snip 90%"
    told = f"missing: 1 of 2 runs ({network}: SAM); layers without a weight left: 3.weight of {network}"
    assert text.replace("\n", " ") == told


TIDY = pandas.DataFrame(
    [
        {
            "panel": panel,
            "pruner": pruner,
            "removed": removed,
            "label": f"{removed}%",
            "seed": seed,
            "value": removed + seed,
        }
        for panel in ("one", "two")
        for pruner in ("random", "snip")
        for removed in (0, 50)
        for seed in (1, 2, 3)
    ]
)


@pytest.mark.parametrize("chosen", [None, 0.05])
def test_by_pruner_draws_every_seed_and_the_mean_or_what_was_chosen(chosen):
    tidy = TIDY if chosen is None else TIDY.assign(chosen=chosen)
    figure = plots.by_pruner(tidy, title="t", x="removed", xlabel="x", ylabel="y")
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    seeds, means = figure.axes[0].lines[:2]
    assert sorted(seeds.get_ydata()) == [1, 2, 3, 51, 52, 53]
    assert means.get_ydata() == pytest.approx([2, 52] if chosen is None else [0.05, 0.05], rel=1e-12)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["random", "snip"]


def test_by_pruner_stands_named_values_side_by_side():
    figure = plots.by_pruner(TIDY, title="t", x="label", xlabel="x", ylabel="y", joined=False)
    axis = figure.axes[1]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0%", "50%"]
    random, snip = axis.lines[1], axis.lines[3]
    assert (snip.get_xdata() - random.get_xdata() > 0).all() and random.get_linestyle() == "None"


def test_by_pruner_without_values_says_so():
    figure = plots.by_pruner(TIDY.iloc[:0], title="t", x="removed", xlabel="x", ylabel="y")
    assert [axis.get_title() for axis in figure.axes] == ["no run has a record"]


def test_the_footnote_tells_runs_apart_by_the_field_that_varies(table):
    table.loc[1, ["status", "alpha"]] = ["diverged", 30.0]
    figure = plots.footnote(plots.training_loss(plots.curves(table), title="t"), table, by="alpha")
    assert figure.get_supxlabel() == "diverged: 1 of 2 runs (alpha 30: all)"


def searched(lacking) -> pandas.DataFrame:
    """Two widths, SGD and two ρ, three seeds; the runs for which `lacking` is true are missing."""
    runs = [run.but(width=w, seed=s) for w in (4, 8) for run in (SGD, *TWO) for s in (0, 1, 2)]
    rows = [{**r.as_dict(), "status": "missing" if lacking(r) else "done", "provenance": None} for r in runs]
    return pandas.DataFrame(rows)


TWO = [SGD.but(optimizer="sam", rho=rho) for rho in (0.01, 0.02)]


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        (lambda r: r.rho == 0.02, "6 of 18 runs (width 4, 8: SAM with ρ 0.02)"),
        (lambda r: r.width == 8, "9 of 18 runs (width 8: all)"),
        (lambda r: r.width == 8 and r.rho > 0, "6 of 18 runs (width 8: SAM)"),
        (lambda r: r.seed == 0 and r.rho > 0, "4 of 18 runs (width 4, 8: SAM of seed 0)"),
        (
            lambda r: r.width == 8 and (r.seed > 0 or r.rho == 0.01),
            "7 of 18 runs (width 8: SAM with ρ 0.01 of seed 0, all of seeds 1, 2)",
        ),
        (
            lambda r: (r.width, r.seed, r.rho) in [(4, 1, 0), (4, 1, 0.02), (8, 2, 0.01)],
            "3 of 18 runs (width 4: SGD, SAM with ρ 0.02 of seed 1; width 8: SAM with ρ 0.01 of seed 2)",
        ),
    ],
)
def test_the_footnote_names_the_seeds_and_radii_that_are_missing(lacking, told):
    figure = plots.footnote(Figure(), searched(lacking))
    assert figure.get_supxlabel().replace("\n", " ") == f"missing: {told}"


def scaled(**changes) -> pandas.DataFrame:
    """Two methods at three α, two seeds."""
    rows = [
        {"alpha": a, "rho": rho, "label": label, "seed": s, "status": "done", "share": a + s + rho, "distance": 1 / a}
        for rho, label in ((0.0, "SGD"), (0.1, "SAM, ρ = 0.1"))
        for a in (1.0, 30.0, 1000.0)
        for s in (0, 1)
    ]
    return pandas.DataFrame(rows).assign(**changes)


def test_along_alpha_draws_every_run_and_the_mean_over_its_seeds():
    figure = plots.along_alpha(scaled(), title="t", panels={"share": "share (%)", "distance": "d"}, logs=["distance"])
    share, distance = figure.axes
    assert (share.get_xscale(), share.get_yscale(), distance.get_yscale()) == ("log", "linear", "log")
    assert (share.get_xlabel(), share.get_ylabel()) == ("scale α of the output", "share (%)")
    runs, mean, lost = share.lines[:3]
    assert sorted(runs.get_ydata()) == [1, 2, 30, 31, 1000, 1001]
    assert list(mean.get_xdata()) == [1, 30, 1000] and list(mean.get_ydata()) == [1.5, 30.5, 1000.5]
    assert len(lost.get_xdata()) == 0
    assert [text.get_text() for text in share.get_legend().get_texts()] == ["SGD", "SAM, ρ = 0.1"]
    assert mean.get_color() == plots.COLOURS["SGD"] and share.lines[4].get_color() == plots.COLOURS["SAM"]


def test_along_alpha_shows_what_diverged_and_leaves_it_out_of_the_mean():
    table = scaled()
    table.loc[(table["alpha"] == 30) & (table["rho"] > 0) & (table["seed"] == 1), "status"] = "diverged"
    table.loc[table["status"] == "diverged", ["share", "distance"]] = math.nan
    figure = plots.along_alpha(table, title="t", panels={"share": "s"}, levels={"share": ("a level", 5.0)})
    runs, mean, lost = figure.axes[0].lines[3:6]
    assert len(runs.get_xdata()) == 5 and mean.get_ydata()[1] == 30.1
    assert list(lost.get_xdata()) == [30] and lost.get_marker() == "x"
    assert figure.axes[0].lines[-1].get_ydata()[0] == 5.0


def test_along_alpha_without_a_single_record_is_empty(tmp_path):
    table = scaled(status="missing", share=math.nan, distance=math.nan)
    figure = plots.along_alpha(table, title="t", panels={"share": "s", "distance": "d"}, logs=["distance"])
    assert all(len(line.get_xdata()) == 0 for axis in figure.axes for line in axis.lines)
    figure.savefig(tmp_path / "empty.png")  # an empty log axis can be drawn


def test_lite_says_what_it_changes_of_appendix_c(tmp_path):
    run = Run(dataset="cifar10-jpeg", model="vgg11", width=8, epochs=6, loss="squared", linearize="centered")
    found = plots.title("VGG", sweep([run], train=False, store=tmp_path), "lite")
    assert "cifar10-jpeg in place of CIFAR-10, width 8 instead of 64, 6 epochs instead of 100" in found


def test_a_figure_without_a_single_record_says_so(tmp_path):
    table = sweep([SGD], train=False, store=tmp_path / "empty")
    figure = plots.training_loss(plots.curves(table), title=plots.title("MLP", table, "smoke"))
    assert figure.axes[0].get_title() == "no run has a record"
    assert "0 seeds" in figure.get_suptitle()


def test_sgd_sam_and_unnormalized_sam_have_a_colour_each():
    sam = SGD.but(optimizer="sam", rho=0.1)
    names = [plots.optimizer_name(run) for run in (SGD, sam, sam.but(normalized=False), sam.but(rho=0))]
    assert names == ["SGD", "SAM", "unnormalized SAM", "SGD"]
    assert len({plots.COLOURS[name] for name in names}) == 3


def test_the_title_names_a_shorter_schedule_on_mnist():
    run = SGD.but(dataset="mnist", epochs=20)
    table = pandas.DataFrame([{**run.as_dict(), "status": "done"}])
    assert plots.title("What", table, "lite").endswith("preset lite: mnist, 20 epochs instead of 100, 1 seed")
    whole = table.assign(epochs=100)
    assert plots.title("What", whole, "lite").endswith("preset lite: mnist, 1 seed")
