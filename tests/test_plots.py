"""Figures: what is saved, how runs are told apart, and that what is missing or diverged is said."""

import pandas
import pytest

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


def test_an_unknown_preset_is_refused_before_anything_is_written(table, tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="preset = 'big': must be one of smoke, lite, paper"):
        plots.save(plots.training_loss(plots.curves(table), title="t"), "fig", plots.curves(table), "big")
    assert not (tmp_path / "none").exists()


def test_the_footnote_names_what_is_missing_and_what_diverged(table):
    table.loc[0, "status"] = "diverged"
    figure = plots.footnote(plots.training_loss(plots.curves(table), title="t"), table)
    text = figure.get_supxlabel()
    told = "missing: 1 of 2 runs (SAM at width 0.05); diverged: 1 of 2 runs (SGD at width 0.05)"
    assert text.replace("\n", " ") == told


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
