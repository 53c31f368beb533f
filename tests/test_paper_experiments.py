"""The grids at `paper` against Appendix A, written out again here; what presets show; the stand-in of CIFAR-10."""

import pytest

from lib import data
from lib.paper import experiments
from lib.runs import Run, parameter_count
from lib.sweep import substitutes

FIVE = (0.01, 0.02, 0.05, 0.1, 0.2)
STEPPED = dict(lr=0.1, schedule="step", momentum=0.9, batch_size=128, warmup_steps=0, norm="batch")
COMMON = dict(loss="cross_entropy", normalized=True, n_train=0, sparsity=0.0, linearize="none")
# Of each workload its widths, and what all of its runs share.
APPENDIX_A = {
    "mnist_mlp": (
        (0.25, 0.5, 1, 2, 4, 5, 10),
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
    result = experiments.presets("imagenet_resnet50")
    assert list(result.columns) == list(experiments.PRESETS)
    assert result.loc["rho", "paper"] == "0, 0.0005, 0.01, 0.02, 0.05, 0.1, 0.2"
    assert result.loc["warmup_steps"].tolist() == ["5", "5000", "5000"]
    assert result.loc["lr"].tolist() == ["0.02", "0.1", "0.1"]
    assert result.loc["runs", "paper"] == str(3 * (2 * 7 + 3 * 6))
    assert "sparsity" not in result.index and "precision" not in result.index
    twice = experiments.presets("mnist_mlp", "mnist_mlp_twice")
    assert twice.loc["epochs"].tolist() == ["30, 60", "100, 200", "100, 200"]
    assert experiments.presets("cifar_resnet_without_decay").loc["weight_decay"].tolist() == ["0", "0", "0"]


def test_the_table_of_a_grid_calls_what_is_not_pruned_dense():
    result = experiments.table(experiments.mnist_sparse("smoke"))
    assert result["pruner"].tolist() == ["dense"] * 2 + ["random"] * 2 + ["snip"] * 2 + ["random"] * 2 + ["snip"] * 2
    assert "pruner" not in experiments.table(experiments.mnist_mlp("smoke"))


def test_as_released_differs_from_appendix_a_in_what_the_code_does_and_in_nothing_else():
    runs = experiments.mnist_as_released("lite")
    released = dict(schedule="three_steps", standardize=False, initialization="lecun", strict_threshold=True)
    text = dict(schedule="step", standardize=True, initialization="default", strict_threshold=False)
    fixed = {run for run in experiments.mnist_fixed_radius("lite") if run.seed < 10 and run.width in (0.25, 1)}
    assert {run.but(**text) for run in runs} == fixed and len(runs) == 2 * 3 * 10
    assert all({name: getattr(run, name) for name in released} == released for run in runs)
    paper = experiments.mnist_as_released("paper")
    assert {run.width for run in paper} == {0.25, 0.5, 1, 4, 10} and {run.rho for run in paper} == {0, *FIVE}
    assert {run.dataset for run in experiments.mnist_as_released("smoke")} == {"digits"}


def test_published_widths_have_the_numbers_of_parameters_of_the_published_figure():
    counts = [parameter_count.parameters(Run(width=width)) for width in (0.25, 0.5, 1, 4, 10)]
    assert [round(count / 1e6, 2) for count in counts] == [0.06, 0.13, 0.27, 1.43, 5.37]


def test_the_data_that_decide_are_parts_of_experiments_without_overlap():
    whole = {run for name in experiments.EXPERIMENTS for run in experiments.EXPERIMENTS[name]("lite")}
    parts = {name: item.runs("lite") for name, item in experiments.DECIDING.items()}
    assert all(parts.values()) and set().union(*parts.values()) <= whole
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))
    first = parts["deciding_1"]
    assert {(r.width, r.rho) for r in first} == {(w, rho) for w in (0.25, 1) for rho in (0, 0.05, 0.1)}
    assert {r.seed for r in first} == set(range(14))
    with pytest.raises(ValueError, match="preset = 'paper': the data that decide are of 'lite'"):
        experiments.DECIDING["deciding_1"].runs("paper")


def test_rates_at_which_sam_learns_are_tried_at_every_alpha():
    grid = experiments.vgg_rates("lite")
    assert {m.kind for m in grid} == {"laziness"} and len(grid) == 3 * 2 * 2 * 3
    figure = {m.run.but(lr=0.003) for m in experiments.vgg_linearization("lite") if m.run.rho in (0, 0.001)}
    assert figure <= {m.run for m in grid} and {m.run.lr for m in grid} == {0.001, 0.003}


def test_students_differ_in_width_noise_decay_optimizer_and_seed_alone():
    runs, smoke = (experiments.student_teacher(preset) for preset in ("lite", "smoke"))
    assert set(smoke) < set(runs) and runs == experiments.student_teacher("paper")
    assert len(set(runs)) == len(runs) == 4 * 3 * 2 * 4 * 20
    assert {round(parameter_count.parameters(run), -3) for run in runs} == {10_000, 20_000, 50_000, 100_000}
    assert all(run.lr == 10 / run.width for run in runs)
    shared = {run.but(width=1, lr=1, label_noise=0, weight_decay=0, optimizer="sgd", rho=0, seed=0) for run in runs}
    assert len(shared) == 1


def test_texts_without_keys_are_compared_with_no_experiment(monkeypatch):
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"mnist_mlp": pytest.fail})
    assert experiments.changed_keys(["no key", "0.25"], "lite") == []


def test_the_table_of_a_changed_grid_lists_what_is_changed():
    grid = [run.but(batch_size=8, lr=0.5) for run in experiments.mnist_mlp("lite")]
    table = experiments.table(grid)
    assert set(table["batch_size"]) == {8} and set(table["lr"]) == {0.5}
    assert "batch_size" not in experiments.table(experiments.mnist_mlp("lite"))
    for preset in experiments.PRESETS:
        for name, experiment in experiments.EXPERIMENTS.items():
            runs = [getattr(what, "run", what) for what in experiment(preset)]
            assert experiments.changed(runs, preset) == "", name


def test_what_only_sam_may_have_is_named_among_the_changes():
    grid = [Run(dataset="digits", epochs=3, optimizer="sam", rho=0.1, parts=2), Run(dataset="digits", epochs=3)]
    assert "epochs 3 instead of" in experiments.changed(grid, "smoke")
    assert experiments.table(grid)["parts"].tolist() == [2, 1]


COMPANIONS = [grid for grids in experiments.TOGETHER.values() for grid in grids]


@pytest.mark.parametrize("grid", COMPANIONS, ids=lambda grid: grid.__name__)
def test_at_paper_the_companions_have_the_recipe_of_the_released_code(grid):
    runs = [getattr(what, "run", what) for what in grid("paper")]
    shared = dict(dataset="cifar10", model="preact_resnet18", n_validation=5000, standardize=False, weight_decay=5e-4)
    for field, value in (shared | dict(lr=0.1, schedule="step", momentum=0.9)).items():
        assert {getattr(run, field) for run in runs} == {value}, field
    sam = [run for run in runs if run.rho]
    assert all(run.decay_in_ascent for run in sam)
    assert all(run.batch_norm_passes == "all" for run in sam if run.norm == "batch")
    grouped = grid.__name__ in ("m_sam", "ascent_steps", "batch_sizes", "minima")  # Figures 2 to 4, 16 and 17
    assert {run.norm for run in runs} == {"group" if grouped else "batch"}
    long = {"switching", "unnormalized", "objectives"}
    if grid.__name__ != "lengths":
        assert {run.epochs for run in runs} == {1000 if grid.__name__ in long else 200}


def test_at_lite_the_companions_have_every_m_and_share_with_and_without_wrong_labels():
    m_sam = experiments.m_sam("lite")
    sizes = {(r.width, r.label_noise, r.batch_size // r.parts, r.rho) for r in m_sam if r.rho}
    assert len(sizes) == 2 * 2 * 5 * 3 and {m for _, _, m, _ in sizes} == {1, 4, 16, 64, 128}
    assert {r.seed for r in m_sam} == set(range(5)) and {r.epochs for r in m_sam} == {100}
    switching = experiments.switching("lite")
    orders = {(r.optimizer, r.switch) for r in switching}
    assert orders == {("sgd", 0.0), ("sam", 0.0), *((o, s) for o in ("sgd", "sam") for s in (0.1, 0.3, 0.5, 0.7, 0.9))}
    assert {r.rho for r in switching if r.switch and r.optimizer == "sgd"} == {0.05, 0.1, 0.2, 0.4}
    forms = {(r.label_noise, r.normalized, r.clip) for r in experiments.unnormalized("lite") if r.rho}
    assert forms == {(n, *f) for n in (0.0, 0.6) for f in ((True, False), (False, False), (False, True))}


def test_random_perturbations_are_longer_and_several_steps_have_the_size_of_the_radius():
    random = {r.rho for r in experiments.perturbations("lite") if r.perturbation == "random"}
    assert random == {0.5, 1.0, 2.0}
    many = [r for r in experiments.ascent_steps("lite") if r.ascent_steps > 1]
    assert {r.ascent_steps for r in many} == {10} and all(r.ascent_step == r.rho for r in many)


@pytest.mark.parametrize("preset", experiments.PRESETS)
def test_a_word_of_the_command_stands_for_all_that_its_notebook_trains(preset):
    for name, grids in experiments.TOGETHER.items():
        every = experiments.together(name, preset)
        assert len(set(every)) == len(every) and set(every) == {what for grid in grids for what in grid(preset)}
