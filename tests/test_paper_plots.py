"""Figures: what is saved, how runs are told apart, and that what is missing or diverged is said."""

import itertools
import math
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lib.paper import experiments, plots
from lib.runs import Run
from lib.sweep import sweep

SGD = Run(dataset="digits", width=0.05, epochs=2, batch_size=512)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


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
    saved, shown = [], plots.curves(table).assign(key=experiments.mnist_mlp("smoke")[0].key)
    for _ in range(2):
        plots.save(plots.training_loss(shown, title="t"), "fig", shown, "smoke")
        saved.append({f.name: f.read_bytes() for f in (tmp_path / "smoke").iterdir()})
    assert sorted(saved[0]) == ["fig.csv", "fig.png", "fig.svg"]
    assert saved[0] == saved[1]
    assert len(pandas.read_csv(tmp_path / "smoke" / "fig.csv")) == 2


def test_a_figure_is_laid_out_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    times, execute = [], ConstrainedLayoutEngine.execute
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda *given: times.append(execute(*given)))
    figure, _ = plt.subplots(layout="constrained")
    plots.save(figure, "figB4", pandas.DataFrame({"x": [1]}), "lite").figure.savefig(tmp_path / "shown.png")
    assert len(times) == 1


def test_a_title_wider_than_its_figure_is_broken_into_lines(table, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    figure = plots.training_loss(plots.curves(table), title="short\n" + "a setting that differs, " * 12)
    plots.save(figure, "fig", plots.curves(table), "smoke")
    figure.canvas.draw()
    title = figure.texts[0].get_window_extent()
    assert figure.bbox.x0 <= title.x0 < title.x1 <= figure.bbox.x1
    assert figure.get_suptitle().startswith("short\na setting")


def test_a_loss_that_spans_few_powers_of_ten_has_numbers_between_them(table):
    curves = plots.curves(table).assign(train_loss=[1.9, 0.7])
    axis = plots.training_loss(curves, title="t").axes[0]
    axis.figure.canvas.draw()
    low, high = axis.get_ylim()
    ticks = zip(axis.yaxis.get_minorticklocs(), axis.yaxis.get_minorticklabels(), strict=True)
    assert {text.get_text() for at, text in ticks if low < at < high} == {"0.7", "0.8", "0.9"}
    wide = plots.training_loss(curves.assign(train_loss=[1.9, 1e-6]), title="t").axes[0]
    wide.figure.canvas.draw()
    assert not any(text.get_text() for text in wide.yaxis.get_minorticklabels())


def test_an_unknown_preset_is_refused_before_anything_is_written(table, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="preset = 'big': must be one of smoke, lite, paper"):
        plots.save(plots.training_loss(plots.curves(table), title="t"), "fig", plots.curves(table), "big")
    assert not (tmp_path / "none").exists()


def test_the_footnote_names_what_is_missing_and_what_diverged(table):
    table.loc[0, "status"] = "diverged"
    figure = plots.footnote(plots.training_loss(plots.curves(table), title="t"), table)
    text = figure.get_supxlabel()
    message = "missing: 1 of 2 runs (width 0.05: SAM); diverged: 1 of 2 runs (width 0.05: SGD)"
    assert text.replace("\n", " ") == message


def test_the_footnote_names_sparse_networks_and_layers_that_were_lost(table):
    sparse = table.iloc[[1, 1]].assign(sparsity=0.9, pruner="snip", status=["missing", "done"])
    sparse["provenance"] = [None, {"kept": {"1.weight": 3, "3.weight": 0}, "collapsed": ["3.weight"]}]
    text = plots.footnote(plots.training_loss(plots.curves(table), title="t"), sparse).get_supxlabel()
    network = "width 0.05 SNIP 90%"
    message = f"missing: 1 of 2 runs ({network}: SAM); layers without a weight left: 3.weight of {network}"
    assert text.replace("\n", " ") == message


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
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["random", "SNIP"]


def test_by_pruner_begins_every_line_at_the_dense_network_which_is_drawn_once():
    dense = TIDY[TIDY["removed"] == 0].assign(pruner=lambda t: t["pruner"].replace("random", "dense"))
    tidy = pandas.concat([dense[dense["pruner"] == "dense"], TIDY[TIDY["removed"] > 0]])
    figure = plots.by_pruner(tidy, title="t", x="removed", xlabel="x", ylabel="y")
    lines = {line.get_label(): line for line in figure.axes[0].lines if line.get_marker() == "s"}
    assert {name: line.get_ydata().tolist() for name, line in lines.items()} == {
        "dense": [2],
        "random": [2, 52],
        "SNIP": [2, 52],
    }
    assert lines["dense"].get_zorder() > lines["SNIP"].get_zorder()
    dots = [line.get_ydata().tolist() for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots == [[1, 2, 3], [51, 52, 53], [51, 52, 53]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["dense", "random", "SNIP"]
    apart = plots.by_pruner(tidy, title="t", x="removed", xlabel="x", ylabel="y", joined=False)
    assert [len(line.get_ydata()) for line in apart.axes[0].lines if line.get_marker() == "s"] == [1, 1, 1]


def test_by_pruner_shows_searches_that_are_not_complete_hollow_and_takes_them_into_no_mean():
    one = TIDY[(TIDY["panel"] == "one") & (TIDY["pruner"] == "random")]
    partly = one.assign(complete=(one["removed"] == 0) | (one["seed"] < 3))
    figure = plots.by_pruner(partly, title="t", x="removed", xlabel="x", ylabel="y")
    hollow, full, means = figure.axes[0].lines[:3]
    assert hollow.get_markerfacecolor() == "none" and hollow.get_ydata().tolist() == [53]
    assert sorted(full.get_ydata()) == [1, 2, 3, 51, 52]
    assert means.get_ydata() == pytest.approx([2, 51.5], rel=1e-12)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["random", "some ρ missing"]
    none = plots.by_pruner(one.assign(complete=False), title="t", x="removed", xlabel="x", ylabel="y")
    assert len(none.axes[0].lines[0].get_ydata()) == 6 and len(none.axes[0].lines[1].get_ydata()) == 0


def test_by_pruner_stands_named_values_side_by_side():
    figure = plots.by_pruner(TIDY, title="t", x="label", xlabel="x", ylabel="y", joined=False)
    axis = figure.axes[1]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["0%", "50%"]
    random, snip = axis.lines[1], axis.lines[3]
    assert (snip.get_xdata() - random.get_xdata() > 0).all() and random.get_linestyle() == "None"
    assert (snip.get_xdata() + random.get_xdata()).tolist() == [0, 2]  # around the names
    # Those that a name has, so that one alone stands at it.
    alone = TIDY[(TIDY["removed"] == 50) | (TIDY["pruner"] == "random")].replace({"pruner": {"random": "2:4"}})
    axis = plots.by_pruner(alone, title="t", x="label", xlabel="x", ylabel="y", joined=False).axes[1]
    snip, pattern = axis.lines[1::2]
    assert pattern.get_xdata().tolist() == [0, 1.1] and snip.get_xdata().tolist() == [0.9]


def test_by_pruner_without_values_says_so():
    figure = plots.by_pruner(TIDY.iloc[:0], title="t", x="removed", xlabel="x", ylabel="y")
    assert [axis.get_title() for axis in figure.axes] == ["no run has a record"]


def test_by_pruner_keeps_panels_without_values_and_says_so():
    figure = plots.by_pruner(
        TIDY, title="t", x="label", xlabel="x", ylabel="y", panels=["one", "three", "two"], yticks=[0, 50]
    )
    assert [axis.get_title() for axis in figure.axes] == ["one", "three", "two"]
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes] == [[], ["not enough records"], []]
    assert [axis.axison for axis in figure.axes] == [True, False, True]
    assert len(figure.axes[0].get_xticks()) == 2
    assert not any(len(line.get_ydata()) for line in figure.axes[1].lines)  # nor one at zero, through the words
    empty = plots.by_pruner(TIDY.iloc[:0], title="t", x="removed", xlabel="x", ylabel="y", panels=["one"], log="y")
    assert not empty.axes[0].axison and empty.get_figheight() < 2  # one line, no page of empty axes


def test_by_pruner_gives_all_panels_the_same_logarithmic_x_as_costs_are_compared_across_them():
    def costs(small):
        pairs = zip(TIDY["panel"], TIDY["removed"], strict=True)
        return TIDY.assign(cost=[1 + (small if panel == "one" else 1) * removed for panel, removed in pairs])

    figure = plots.by_pruner(costs(0.1), title="t", x="cost", xlabel="x", ylabel="y", log="x")
    one, two = (axis.get_xlim() for axis in figure.axes)
    assert one == two and one[0] < 1 and one[1] > 51
    # Where all cost the same, up to a fifth, the pruners stand side by side, and the axis says what they cost.
    figure = plots.by_pruner(costs(0.001), title="t", x="cost", xlabel="cost", ylabel="y", log="x")
    one, two = figure.axes
    assert [label.get_text() for label in one.get_xticklabels()] == ["random", "SNIP"]
    assert re.fullmatch(r"cost: 1\.00 to 1\.0\d for all", one.get_xlabel()) and two.get_xlim()[1] > 51
    places = {float(x) for line in one.lines if line.get_marker() == "o" for x in line.get_xdata()}
    assert {round(x) for x in places} == {0, 1} and all(abs(x - round(x)) < 0.4 for x in places)
    apart = plots.by_pruner(costs(0.001), title="t", x="cost", xlabel="x", ylabel="y")
    assert apart.axes[0].get_xlim()[1] < 1.1 < 51 < apart.axes[1].get_xlim()[1]


def test_by_pruner_gives_every_panel_only_the_names_that_it_has():
    apart = TIDY[(TIDY["panel"] == "one") == (TIDY["removed"] == 50)]
    figure = plots.by_pruner(apart, title="t", x="label", xlabel="x", ylabel="y", joined=False)
    assert [[t.get_text() for t in axis.get_xticklabels()] for axis in figure.axes] == [["50%"], ["0%"]]
    assert [axis.lines[1].get_xdata().tolist() for axis in figure.axes] == [[-0.1], [-0.1]]


def test_by_pruner_puts_seeds_of_one_value_beside_each_other():
    alike = TIDY.assign(value=0.05, chosen=0.05)
    figure = plots.by_pruner(alike, title="t", x="label", xlabel="x", ylabel="y", joined=False)
    seeds, chosen = figure.axes[0].lines[:2]
    at = sorted(seeds.get_xdata())
    assert len(set(at)) == 6 and min(b - a for a, b in itertools.pairwise(at)) == pytest.approx(0.065)
    assert sum(at[:3]) / 3 == pytest.approx(chosen.get_xdata()[0]) and chosen.get_markerfacecolor() == "none"


def test_by_pruner_names_the_networks_above_the_panels():
    wide = TIDY.assign(width=TIDY["removed"].map({0: 4, 50: 8}))
    figure = plots.by_pruner(wide, title="t", x="removed", xlabel="x", ylabel="y", above="width")
    (top,) = figure.axes[0].child_axes
    assert [tick.get_text() for tick in top.get_xticklabels()] == [
        "4",
        "8",
    ] and top.get_xlabel() == "width before pruning"
    assert list(top.get_xticks()) == [0, 50]


def test_pruners_have_none_of_the_colours_of_the_optimizers():
    assert len(set(plots.PRUNERS.values())) == len(plots.PRUNERS)
    assert not set(plots.PRUNERS.values()) & set(plots.COLOURS.values())


def test_the_footnote_calls_the_dense_one_among_sparse_networks_dense(table):
    two = table.iloc[[1, 1]].assign(sparsity=[0.0, 0.9], pruner="random")
    footnote = plots.footnote(plots.training_loss(plots.curves(table), title="t"), two).get_supxlabel()
    assert footnote.replace("\n", " ") == "missing: 2 of 2 runs (width 0.05 dense, 0.05 random 90%: all)"


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
    ("lacking", "message"),
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
def test_the_footnote_names_the_seeds_and_radii_that_are_missing(lacking, message):
    figure = plots.footnote(Figure(), searched(lacking))
    assert figure.get_supxlabel().replace("\n", " ") == f"missing: {message}"


def scaled(**changes) -> pandas.DataFrame:
    """Two methods at three α, two seeds."""
    rows = [
        {"alpha": a, "rho": rho, "label": label, "seed": s, "status": "done", "share": a + s + rho, "distance": 1 / a}
        for rho, label in ((0.0, "SGD"), (0.1, "SAM, ρ = 0.1"))
        for a in (1.0, 30.0, 1000.0)
        for s in (0, 1)
    ]
    return pandas.DataFrame(rows).assign(**changes)


def test_along_draws_every_run_and_the_mean_over_its_seeds():
    figure = plots.along(scaled(), title="t", panels={"share": "share (%)", "distance": "d"}, logs=["distance"])
    share, distance = figure.axes
    assert (share.get_xscale(), share.get_yscale(), distance.get_yscale()) == ("log", "linear", "log")
    assert (share.get_xlabel(), share.get_ylabel()) == ("scale α of the output", "share (%)")
    runs, unlearned, mean, lost = share.lines[:4]
    assert sorted(runs.get_ydata()) == [1, 2, 30, 31, 1000, 1001]
    assert list(mean.get_xdata()) == [1, 30, 1000] and list(mean.get_ydata()) == [1.5, 30.5, 1000.5]
    assert len(lost.get_xdata()) == len(unlearned.get_xdata()) == 0
    assert [text.get_text() for text in share.get_legend().get_texts()] == ["SGD", "SAM, ρ = 0.1"]
    assert mean.get_color() == plots.COLOURS["SGD"] and share.lines[4].get_color() == plots.COLOURS["SAM"]
    assert share.get_title() == ""


def test_along_shows_what_diverged_and_leaves_it_out_of_the_mean():
    table = scaled()
    table.loc[(table["alpha"] == 30) & (table["rho"] > 0) & (table["seed"] == 1), "status"] = "diverged"
    table.loc[table["status"] == "diverged", ["share", "distance"]] = math.nan
    figure = plots.along(table, title="t", panels={"share": "s"}, levels={"share": ("a level", 5.0)})
    runs, _, mean, lost = figure.axes[0].lines[4:8]
    assert len(runs.get_xdata()) == 5 and mean.get_ydata()[1] == 30.1
    assert list(lost.get_xdata()) == [30] and lost.get_marker() == "x"
    assert figure.axes[0].lines[-1].get_ydata()[0] == 5.0
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][-1] == "diverged"


def test_along_tells_crosses_of_different_radii_apart():
    table = pandas.concat([scaled(), scaled().query("rho > 0").assign(rho=0.2, label="SAM, ρ = 0.2")])
    table.loc[(table["alpha"] == 1) & (table["rho"] > 0), ["status", "share"]] = ["diverged", math.nan]
    axis = plots.along(table, title="t", panels={"share": "s"}).axes[0]
    first, second = axis.lines[7], axis.lines[11]
    assert list(first.get_xdata()) == list(second.get_xdata()) == [1, 1]
    assert not set(first.get_ydata()) & set(second.get_ydata())


def test_along_shows_what_did_not_learn_by_open_markers_and_in_the_mean():
    table = scaled()
    table.loc[(table["alpha"] == 1000) & (table["rho"] > 0), "status"] = "not learned"
    axis = plots.along(table, title="t", panels={"share": "s"}).axes[0]
    runs, unlearned, mean, lost = axis.lines[4:8]
    assert sorted(runs.get_xdata()) == [1, 1, 30, 30] and len(lost.get_xdata()) == 0
    assert list(unlearned.get_xdata()) == [1000, 1000] and unlearned.get_markerfacecolor() == "white"
    assert list(unlearned.get_ydata()) == [1000.1, 1001.1] and mean.get_ydata()[-1] == pytest.approx(1000.6)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["SGD", "SAM, ρ = 0.1", "not learned"]


def test_the_footnote_names_what_has_not_learned():
    table = scaled().assign(model="vgg11", epochs=6, sparsity=0.0, normalized=True, provenance=None)
    table = pandas.concat([table, table[table["rho"] > 0].assign(rho=0.2)])
    table.loc[(table["alpha"] > 1) & (table["rho"] == 0.2), "status"] = "not learned"
    text = plots.footnote(Figure(), table, by="alpha").get_supxlabel()
    assert text.replace("\n", " ") == "not learned, but in the means: 4 of 18 runs (alpha 30, 1000: SAM with ρ 0.2)"


def test_along_without_a_single_record_is_empty(tmp_path):
    table = scaled(status="missing", share=math.nan, distance=math.nan)
    figure = plots.along(table, title="t", panels={"share": "s", "distance": "d"}, logs=["distance"])
    assert all(len(line.get_xdata()) == 0 for axis in figure.axes for line in axis.lines)
    assert all("not measured" in axis.texts[0].get_text() and not axis.axison for axis in figure.axes)
    figure.savefig(tmp_path / "empty.png")  # an empty log axis can be drawn


def test_lite_says_what_it_changes_of_appendix_c(tmp_path):
    run = Run(dataset="cifar10-jpeg", model="vgg11", width=8, epochs=6, loss="squared", linearize="centered")
    result = plots.title("VGG", sweep([run], train=False, store=tmp_path), "lite")
    assert "cifar10-jpeg in place of CIFAR-10, width 8 instead of 64, 6 epochs instead of 100" in result


def test_a_figure_without_a_single_record_says_so(tmp_path):
    table = sweep([SGD], train=False, store=tmp_path / "empty")
    figure = plots.training_loss(plots.curves(table), title=plots.title("MLP", table, "smoke"))
    assert figure.axes[0].texts[0].get_text() == "no run has a record" and not figure.axes[0].axison
    assert "0 seeds" in figure.get_suptitle()


def test_sgd_sam_and_unnormalized_sam_have_a_colour_each():
    sam = SGD.but(optimizer="sam", rho=0.1)
    names = [plots.optimizer_name(run) for run in (SGD, sam, sam.but(normalized=False), sam.but(rho=0))]
    assert names == ["SGD", "SAM", "unnormalized SAM", "SGD"]
    assert len({plots.COLOURS[name] for name in names}) == 3


def test_the_title_names_a_shorter_schedule_on_mnist():
    (whole, *_) = [run for run in experiments.mnist_mlp("lite") if run.width == 1]
    table = pandas.DataFrame([{**run.as_dict(), "status": "done"} for run in (whole, whole.but(epochs=20))])
    assert plots.title("What", table[1:], "lite").endswith("mnist, 20 epochs instead of 100, 1 seed")
    assert plots.title("What", table[:1], "lite").endswith("\npreset lite: mnist, 1 seed")


def test_a_changed_experiment_is_named_and_leaves_the_gallery_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    paper = [run for run in experiments.mnist_mlp("lite") if run.width == 1]
    changed = [run.but(batch_size=8, lr=0.5, weight_decay=0) for run in paper]
    tables = [
        pandas.DataFrame([{**run.as_dict(), "key": run.key, "status": "done", "x": 1} for run in runs])
        for runs in (paper, changed)
    ]
    names = [plots.title("MLP", table, "lite") for table in tables]
    assert names[0] == "MLP\npreset lite: mnist, 3 seeds"
    sentence = "lr 0.5 instead of 0.1; weight_decay 0 instead of 0.0001; batch_size 8 instead of 128"
    assert names[1] == f"MLP\nnot the preset lite: {sentence}: mnist, 3 seeds"
    shown = [("fig03a", names[0], tables[0]), ("fig03a", names[1], tables[1]), ("fig11", "no title", tables[1])]
    for name, title, table in shown:
        figure = plt.figure()
        figure.suptitle(title)
        plots.save(figure, name, table[["key", "x"]], "lite")
        if table is tables[0]:
            before = {file: file.read_bytes() for file in (tmp_path / "lite").iterdir()}
    assert {file: file.read_bytes() for file in (tmp_path / "lite").iterdir()} == before
    endings = ("csv", "png", "svg")
    names = sorted(f"{name}.{ending}" for name in ("fig03a", "fig11") for ending in endings)
    assert sorted(file.name for file in (tmp_path / "lite-changed").iterdir()) == names


def test_a_table_whose_numbers_have_the_name_of_a_field_has_a_title():
    runs = experiments.mnist_convergence("lite")
    for one, text in ((runs[0], "preset lite: mnist"), (runs[0].but(batch_size=8), "not the preset lite: other runs")):
        table = pandas.DataFrame([{**one.as_dict(), "key": one.key, "status": "done", "loss": 0.5}])
        assert plots.title("MLP", table, "lite").startswith(f"MLP\n{text}")


def test_the_title_alone_tells_a_changed_experiment_of_which_nothing_is_on_record(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    table = pandas.DataFrame([{**SGD.but(dataset="mnist").as_dict(), "status": "missing"}])
    figure = plots.training_loss(plots.curves(table.assign(curves=None)), title=plots.title("MLP", table, "lite"))
    plots.save(figure, "fig01b", pandas.DataFrame({"x": []}), "lite")
    assert not (tmp_path / "lite").exists() and (tmp_path / "lite-changed" / "fig01b.csv").exists()


def stability_grid() -> pandas.DataFrame:
    """Stable where ηρ < 1, promised where ηρ < ½; simulated on a coarser grid."""
    exact = pandas.DataFrame([(eta, rho) for eta in (0.1, 1, 10) for rho in (0.1, 1, 10, 100)], columns=["eta", "rho"])
    at = exact["eta"] * exact["rho"]
    exact = exact.assign(source="exact", growth=at**0.1, theorem9=2 * at, conditions=at / 2)
    coarse = exact[exact["eta"] != 1].assign(source="simulated", growth=2.0)
    return pandas.concat([exact, coarse])


def test_the_stability_map_shows_exact_and_simulated_growth_with_every_edge():
    figure = plots.stability_map(stability_grid(), sgd=0.5, title="t")
    exact, simulated = figure.axes[:2]
    assert [axis.get_title() for axis in (exact, simulated)] == ["exact", "simulated paths"]
    cells = [axis.collections[0] for axis in (exact, simulated)]
    assert [c.get_array().size for c in cells] == [12, 8] and cells[0].get_clim() == cells[1].get_clim()
    assert cells[1].get_array().min() == cells[1].get_clim()[1]  # growth of 2 is beyond the colours' end
    assert len(exact.collections) == 4 and len(simulated.collections) == 2  # cells and edges
    for axis in (exact, simulated):
        assert any(list(line.get_xdata()) == [0.5, 0.5] for line in axis.lines)
        assert axis.get_xlim() == (0.1, 10) and axis.get_ylim() == (0.1, 100)
    labels = [text.get_text() for text in exact.get_legend().get_texts()]
    assert len(labels) == 5 and "SGD's conditions: η = min(2/a, 1/s₂) = 0.50" in labels


def test_ticks_on_log_axes_are_plain_numbers():
    figure = plots.stability_map(stability_grid(), sgd=0.5, title="t")
    figure.canvas.draw()
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels(which="both") if text.get_text()]
    assert {"0.1", "0.2", "0.5", "1", "2", "5", "10"} <= set(labels) and not any("e" in label for label in labels)


def test_second_moments_draw_every_path_and_say_of_how_many_the_mean_is():
    rows = [("path", 0), ("path", 1), ("mean", -1), ("exact", -1)]
    tidy = pandas.DataFrame(
        [
            {"panel": panel, "kind": kind, "path": path, "step": step, "square": 0.5**step}
            for panel in ("below", "at", "beyond")
            for kind, path in rows
            for step in range(3)
        ]
    )
    figure = plots.second_moments(tidy, paths=2000, title="t")
    assert [axis.get_title() for axis in figure.axes] == ["below", "at", "beyond"]
    assert [len([line for line in axis.lines if len(line.get_xdata()) == 3]) for axis in figure.axes] == [4, 4, 4]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["single paths", "mean of 2000 paths", "exact E‖x‖²"]


def landscape(panel: str, sharpness: float) -> pandas.DataFrame:
    u, v = np.meshgrid(*2 * [np.linspace(-1, 1, 21)])
    return pandas.DataFrame(
        {"panel": panel, "u": u.ravel(), "v": v.ravel(), "loss": (0.01 + sharpness * (u**2 + v**2)).ravel()}
    )


def test_landscapes_share_axes_and_contours_and_are_smooth_between_the_points():
    figure = plots.landscapes(pandas.concat([landscape("SGD", 10.0), landscape("SAM", 1.0)]), title="t")
    sharp, flat = figure.axes[:2]
    assert sharp.get_xlim() == flat.get_xlim() and sharp.get_ylim() == flat.get_ylim()
    assert sharp.get_aspect() == flat.get_aspect() == 1
    fills, lines = zip(*(axis.collections for axis in (sharp, flat)), strict=True)
    assert (fills[0].levels == fills[1].levels).all() and (lines[0].levels == lines[1].levels).all()
    level = 5
    radii = [np.hypot(*line.get_paths()[level].vertices.T) for line in lines]
    for radius, sharpness in zip(radii, (10.0, 1.0), strict=True):  # circles, as they are, not polygons
        expected = math.sqrt((lines[0].levels[level] - 0.01) / sharpness)
        assert radius.min() == pytest.approx(expected, rel=0.02) and radius.max() == pytest.approx(expected, rel=0.02)
    assert any(line.get_marker() == "+" for line in sharp.lines)


def test_landscapes_without_a_record_are_empty(tmp_path):
    plots.landscapes(landscape("SGD", 1.0).iloc[:0], title="t").savefig(tmp_path / "empty.png")


def non_uniformity() -> pandas.DataFrame:
    """One quantity in two series at SGD and two ρ, two seeds; a bound of the first at SGD alone."""
    return pandas.DataFrame(
        [
            {
                "quantity": "s₂",
                "series": series,
                "rho": rho,
                "seed": seed,
                "value": scale / (1 + rho) + seed,
                "loss": 0.02,
            }
            for series, scale in (("single", 10.0), ("batches", 5.0))
            for rho in (0.0, 0.1, 0.2)
            for seed in (0, 1)
        ]
    ).assign(
        converged=True,
        bound=lambda t: np.where(t["series"] == "batches", 3.0 - t["rho"], np.where(t["rho"] == 0, 8.0, np.nan)),
    )


def lines_of(axis, **properties):
    return [line for line in axis.lines if all(getattr(line, f"get_{k}")() == v for k, v in properties.items())]


def test_against_rho_draws_every_seed_the_means_and_each_bound_even_a_single_one():
    axis = plots.against_rho(non_uniformity(), title="t").axes[0]
    squares, dots = lines_of(axis, marker="s"), lines_of(axis, marker="o")
    assert [sorted(line.get_ydata()) for line in squares] == [[10, 11], [5, 6]]
    assert [len(line.get_ydata()) for line in dots] == [4, 4]
    means = lines_of(axis, marker="None")
    assert [list(line.get_xdata()) for line in means] == [[0, 1, 2], [0, 1, 2]] and means[0].get_ydata()[0] == 10.5
    single, batches = lines_of(axis, marker="_")
    assert list(single.get_ydata()) == [8.0] and list(batches.get_ydata()) == pytest.approx([3.0, 2.9, 2.8])
    assert [line.get_color() for line in (single, batches)] == [line.get_color() for line in means]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["single", "bound of (7), single", "batches", "bound of (7), batches"]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["SGD\n0.02", "0.1\n0.02", "0.2\n0.02"]


def test_against_rho_shows_what_had_not_converged_hollow_and_leaves_it_out_of_the_mean():
    tidy = non_uniformity()
    lost = (tidy["series"] == "single") & (tidy["rho"] == 0) & (tidy["seed"] == 1)
    axis = plots.against_rho(tidy.assign(converged=~lost), title="t").axes[0]
    hollow = lines_of(axis, markerfacecolor="white")
    assert [list(line.get_ydata()) for line in hollow] == [[11.0]]
    assert lines_of(axis, marker="None")[0].get_ydata()[0] == 10.0


def test_against_rho_draws_a_series_that_has_only_a_bound():
    tidy = non_uniformity()
    tidy.loc[tidy["series"] == "batches", "value"] = np.nan
    axis = plots.against_rho(tidy, title="t").axes[0]
    assert len(lines_of(axis, marker="_")) == 2 and len(lines_of(axis, marker="None")) == 1
    plots.against_rho(tidy.iloc[:0], title="t")


def test_spectra_show_the_masses_that_the_smoothed_density_hides():
    smoothed = {"label": "SGD", "kind": "smoothed", "eigenvalue": [0.0, 1.0, 2.0], "density": [1.0, 1e-3, 1e-5]}
    masses = {"label": "SGD", "kind": "mass", "eigenvalue": [0.0, 1.0], "density": [1.0, 1e-6]}
    figure = plots.spectra(pandas.concat(map(pandas.DataFrame, (smoothed, masses))), title="t")
    line, dots = figure.axes[0].lines
    assert list(line.get_ydata()) == [1.0, 1e-3, 1e-5] and line.get_label() == "SGD"
    assert list(dots.get_ydata()) == [1.0, 1e-6] and dots.get_marker() == "o"
    assert dots.get_color() == line.get_color()


def test_what_is_lacking_is_named_by_radius_and_seed():
    table = pandas.DataFrame(
        [{"rho": rho, "seed": seed, "status": "done"} for rho in (0.0, 0.1, 0.2) for seed in (0, 1, 2)]
    )
    names = pandas.Series([[]] * len(table))
    figure = plots.spectra(pandas.DataFrame(columns=["label", "kind", "eigenvalue", "density"]), title="t")
    assert plots.lacking(figure, table, names).get_supxlabel() == ""
    table.loc[[1, 2, 4, 5, 6], "status"] = "missing"
    names[3] = ["a", "s3"]
    footnote = plots.lacking(figure, table, names).get_supxlabel().replace("\n", " ")
    assert footnote == (
        "missing: 5 of 9 networks (SAM with ρ = 0.2: seeds 0; SGD, SAM with ρ = 0.1: seeds 1, 2); "
        "not converged: a, s3 of SAM with ρ = 0.1, seed 0"
    )


def test_a_figure_does_not_depend_on_the_readers_matplotlibrc(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    table, drawn = pandas.DataFrame({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0]}), []
    for name, given in (
        ("plain", {}),
        ("odd", {"lines.linewidth": 9, "savefig.bbox": "tight", "font.family": "serif"}),
    ):
        with matplotlib.rc_context(given):
            with matplotlib.rc_context(plots.STYLE):
                figure, axis = matplotlib.pyplot.subplots()
                axis.plot(table["step"], table["loss"])
                axis.set_title("title")
            plots.save(figure, name, table, "smoke")
        drawn.append((tmp_path / "smoke" / f"{name}.png").read_bytes())
    assert drawn[0] == drawn[1]
