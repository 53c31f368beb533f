"""The grids at `paper` against Appendix A, written out again here; what presets show; the stand-in of CIFAR-10."""

import pytest

from lib import data
from lib.paper import experiments
from lib.sweep import substitutes

FIVE = (0.01, 0.02, 0.05, 0.1, 0.2)
STEPPED = dict(lr=0.1, schedule="step", momentum=0.9, batch_size=128, warmup_steps=0, norm="batch")
COMMON = dict(loss="cross_entropy", normalized=True, n_train=0, sparsity=0.0, linearize="none")
# Of each workload its widths, and what all of its runs share.
APPENDIX_A = {
    "mnist_mlp": (
        (0.25, 0.5, 1, 2, 5, 10),
        STEPPED | dict(dataset="mnist", model="mlp", epochs=100, weight_decay=1e-4),
    ),
    "cifar_resnet": (
        (4, 8, 16, 32, 64, 128, 256),
        STEPPED | dict(dataset="cifar10", model="resnet18", epochs=200, weight_decay=5e-4),
    ),
    "cifar_resnet_without_decay": (
        (4, 8, 16, 32, 64, 128, 256),
        STEPPED | dict(dataset="cifar10", model="resnet18", epochs=200, weight_decay=0),
    ),
    "cifar_vit": (
        (32, 64, 128, 256, 512, 1024),
        STEPPED | dict(dataset="cifar10", model="vit", epochs=200, weight_decay=1e-4, schedule="cosine"),
    ),
    "imagenet_resnet50": (
        (16, 32, 48, 64, 80),
        dict(dataset="imagenet", model="resnet50", epochs=90, batch_size=512, lr=0.1, momentum=0.9, weight_decay=1e-4)
        | dict(schedule="warmup_cosine", warmup_steps=5000),
    ),
}


@pytest.mark.parametrize("name", APPENDIX_A)
def test_at_paper_a_workload_is_that_of_appendix_a(name):
    widths, shared = APPENDIX_A[name]
    runs = experiments.EXPERIMENTS[name]("paper")
    for field, value in (COMMON | shared).items():
        assert {getattr(run, field) for run in runs} == {value}, field
    small = {16, 32} if name == "imagenet_resnet50" else set()
    radii = {width: (0, 0.0005, *FIVE) if width in small else (0, *FIVE) for width in widths}
    wanted = [(width, rho, seed) for width in widths for rho in radii[width] for seed in (0, 1, 2)]
    assert sorted((run.width, run.rho, run.seed) for run in runs) == sorted(wanted)
    assert {run.optimizer for run in runs if run.rho} == {"sam"}
    assert {run.optimizer for run in runs if not run.rho} == {"sgd"}


@pytest.mark.parametrize("name", ["mnist_mlp", "cifar_resnet", "cifar_vit"])
@pytest.mark.parametrize("preset", experiments.PRESETS)
def test_the_compute_matched_runs_are_those_of_sgd_for_twice_the_epochs(name, preset):
    sgd = [run for run in experiments.EXPERIMENTS[name](preset) if run.optimizer == "sgd"]
    assert experiments.EXPERIMENTS[f"{name}_twice"](preset) == [run.but(epochs=2 * run.epochs) for run in sgd]


@pytest.mark.parametrize("name", APPENDIX_A)
def test_lite_shortens_cifar_alone_and_smoke_takes_digits(name, monkeypatch):
    monkeypatch.setattr(data, "available", lambda dataset: True)
    paper, lite = (experiments.EXPERIMENTS[name](preset) for preset in ("paper", "lite"))
    epochs = 24 if name.startswith("cifar") else paper[0].epochs
    assert lite == [run.but(epochs=epochs) for run in paper]
    monkeypatch.setattr(data, "available", lambda dataset: False)
    assert experiments.EXPERIMENTS[name]("lite") == substitutes.stand_in(lite)
    assert {run.dataset for run in experiments.EXPERIMENTS[name]("smoke")} == {"digits"}


def test_presets_stand_side_by_side_in_plain_words():
    found = experiments.presets("imagenet_resnet50")
    assert list(found.columns) == list(experiments.PRESETS)
    assert found.loc["rho", "paper"] == "0, 0.0005, 0.01, 0.02, 0.05, 0.1, 0.2"
    assert found.loc["warmup_steps"].tolist() == ["5", "5000", "5000"]
    assert found.loc["lr"].tolist() == ["0.02", "0.1", "0.1"]
    assert found.loc["runs", "paper"] == str(3 * (2 * 7 + 3 * 6))
    assert "sparsity" not in found.index and "precision" not in found.index
    twice = experiments.presets("mnist_mlp", "mnist_mlp_twice")
    assert twice.loc["epochs"].tolist() == ["30, 60", "100, 200", "100, 200"]
    assert experiments.presets("cifar_resnet_without_decay").loc["weight_decay"].tolist() == ["0", "0", "0"]


def test_the_table_of_a_grid_calls_what_is_not_pruned_dense():
    found = experiments.table(experiments.mnist_sparse("smoke"))
    assert found["pruner"].tolist() == ["dense"] * 2 + ["random"] * 2 + ["snip"] * 2 + ["random"] * 2 + ["snip"] * 2
    assert "pruner" not in experiments.table(experiments.mnist_mlp("smoke"))


def test_the_table_of_a_changed_grid_lists_what_is_changed():
    grid = [run.but(batch_size=8, lr=0.5) for run in experiments.mnist_mlp("lite")]
    table = experiments.table(grid)
    assert set(table["batch_size"]) == {8} and set(table["lr"]) == {0.5}
    assert "batch_size" not in experiments.table(experiments.mnist_mlp("lite"))
    for preset in experiments.PRESETS:
        for name, experiment in experiments.EXPERIMENTS.items():
            runs = [getattr(what, "run", what) for what in experiment(preset)]
            assert experiments.changed(runs, preset) == "", name
