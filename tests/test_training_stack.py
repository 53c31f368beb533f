"""Stacks: equal to the reference loop run by run, whoever trains beside whom; and how runs are put into them."""

import copy
import random

import pytest
import torch
from equality import SCHEDULES, differences, every_case, masked, second_epoch
from torch import nn

from lib import models
from lib.runs import Run, parameter_count
from lib.training import engines, fitting
from lib.training.loop import Loop
from lib.training.stack import Stack
from lib.training.stack_passes import Parameters, unformed

CPU, CUDA = torch.device("cpu"), torch.device("cuda")

# Hidden layers of 12 and 4; 120 samples in batches of 50, 50 and 20.
MLP = Run(dataset="digits", model="mlp", width=0.04, epochs=1, batch_size=50, n_train=120, precision="float64")
LINEAR = MLP.but(dataset="factorization", model="linear2", width=4, loss="squared", lr=1e-3)


def grid(base: Run, seeds=(0, 1)) -> list[Run]:
    """SGD, SAM with ρ = 0, SAM at two ρ, unnormalized SAM; of every seed, in another order with ρ than without."""
    sam = base.but(optimizer="sam")
    kinds = [base, sam, sam.but(rho=0.05), sam.but(rho=0.5), sam.but(rho=0.1, normalized=False)]
    runs = [kind.but(seed=seed) for kind in kinds for seed in seeds]
    return sorted(runs, key=lambda run: (run.rho > 0, -run.seed if run.rho else 0))


def weights(engine) -> list[torch.Tensor]:
    """All weights of each member in one vector."""
    if isinstance(engine, Loop):
        return [nn.utils.parameters_to_vector(engine.model.parameters()).detach()]
    return [torch.cat([layer[i].flatten() for layer in engine.weights.layers]) for i in range(len(engine.runs))]


def trained(engine, epochs: int = 1):
    """Weights, and (loss, accuracy) at w of each epoch, of every member."""
    rows = [engine.epoch(epoch) for epoch in range(epochs)]
    return weights(engine), [[row[i] for row in rows] for i in range(len(engine.runs))]


def kept(records: list[dict]) -> list[dict]:
    """Records without what may differ between two repeats."""
    return [{part: value for part, value in record.items() if part != "provenance"} for record in records]


def close(value):
    """A number up to the rounding of a few steps in float64; or None, where there is none."""
    return value if value is None else pytest.approx(value, rel=1e-10)


# A stack against the loop


@every_case
def test_a_step_and_an_epoch_equal_those_of_the_loop(mask, schedule, precision):
    base = MLP.but(momentum=0.9, weight_decay=0.01, epochs=2, precision=precision, **SCHEDULES[schedule])
    runs = masked(grid(base), mask)
    one_step, epoch = differences(second_epoch(Stack(runs, CPU)), runs)
    # The roundings of the weights themselves, 6e-8 or 1e-16 of their size a step, and as much again of the gradients,
    # whose sums of at most 64 terms are taken in another order.
    unit = 6e-8 if precision == "float32" else 1.1e-16
    assert max(one_step) < 4 * unit and max(epoch) < 3 * 4 * unit


# The same with other losses, models and sizes
VARIANTS = {
    "plain": MLP,
    "momentum": MLP.but(momentum=0.9),
    "weight decay": MLP.but(weight_decay=0.01),
    "squared": MLP.but(loss="squared"),
    "mse": MLP.but(loss="mse"),
    "linear2 on digits": MLP.but(model="linear2", width=3),
    "regression": LINEAR.but(momentum=0.5, epochs=3),
    "two layers": MLP.but(model="two_layer", width=30, momentum=0.9, weight_decay=0.01),
    "noisy regression by two layers": Run(
        dataset="student-teacher",
        model="two_layer",
        width=40,
        loss="squared",
        lr=0.05,
        batch_size=16,
        n_train=40,
        label_noise=0.5,
        epochs=1,
        precision="float64",
    ),
    "half the regression": LINEAR.but(loss="mse"),
    "batches of more samples than inputs": MLP.but(batch_size=70),
    "large hidden layers": MLP.but(width=0.2, batch_size=5, n_train=15, momentum=0.9, weight_decay=0.01),
}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one seed", "two seeds"])
@pytest.mark.parametrize("steps", ["one step", "epochs"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_stack_equals_its_runs_trained_alone(variant, steps, seeds):
    base = VARIANTS[variant] if steps == "epochs" else VARIANTS[variant].but(n_train=50)
    epochs = base.epochs if steps == "epochs" else 1
    runs = grid(base, seeds)
    result, curves = trained(Stack(runs, CPU), epochs)
    for i, run in enumerate(runs):
        (expected,), (curve,) = trained(Loop([run], CPU), epochs)
        # At most 12 steps in float64, whose sums of at most 64 terms are taken in another order: 12·64 roundings of
        # 1e-16 make 1e-13 of the weights' size, and the dynamics of so few steps stretch that little.
        assert (result[i] - expected).norm() < 1e-10 * expected.norm()
        assert [loss for loss, _ in curves[i]] == pytest.approx([loss for loss, _ in curve], rel=1e-10)
        assert [accuracy for _, accuracy in curves[i]] == [accuracy for _, accuracy in curve]
    far = [(result[i] - result[j]).norm() for i in range(len(runs)) for j in range(i) if runs[i].rho != runs[j].rho]
    assert min(far) > 1e-6  # so that members mixed up would show


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one seed", "two seeds"])
@pytest.mark.parametrize("variant", ["squared", "linear2 on digits"])
def test_in_float32_a_stack_is_as_exact_as_the_loop(variant, seeds):
    # given the run in float64 as the truth, then the stack in float32 is off by no more than the loop in float32 is,
    # but for the luck of single roundings: four times, as two random errors of one size seldom differ by.
    exact = grid(VARIANTS[variant], seeds)
    runs = [run.but(precision="float32") for run in exact]
    result, curves = trained(Stack(runs, CPU))
    truths, errors, own = [], [], []
    for i, run in enumerate(runs):
        (truth,), _ = trained(Loop([exact[i]], CPU))
        (alone,), (curve,) = trained(Loop([run], CPU))
        truths.append(truth.norm())
        errors.append((alone.double() - truth).norm())
        own.append((result[i].double() - truth).norm())
        assert result[i].dtype == torch.float32 and curves[i][0][0] == pytest.approx(curve[0][0], rel=1e-5)
    assert max(own) < 4 * max(errors) and max(errors) < 1e-5 * min(truths)


@pytest.mark.parametrize("base", [MLP.but(epochs=4, momentum=0.9), LINEAR.but(epochs=3)], ids=["mlp", "linear2"])
def test_records_of_a_stack_equal_those_of_the_loop(base):
    runs = grid(base.but(eval_every=2))
    for run, record in zip(runs, fitting.fit(Stack(runs, CPU)), strict=True):
        (expected,) = fitting.fit(Loop([run], CPU))
        assert record["run"] == run.as_dict() and record["status"] == "done"
        assert record["final"] == {name: close(value) for name, value in expected["final"].items()}
        curves = expected["curves"].items()
        assert record["curves"] == {name: [close(value) for value in curve] for name, curve in curves}


def test_training_goes_on_over_epochs_as_in_the_loop_after_a_checkpoint():
    # given the state of a stack after two epochs, when another stack takes it, then it goes on to the last bit
    runs = grid(MLP.but(epochs=4, momentum=0.9))
    one, other = Stack(runs, CPU), Stack(runs, CPU)
    trained(one, 2)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    rows = [[engine.epoch(2), engine.epoch(3)] for engine in (one, other)]
    assert rows[0] == rows[1] and torch.equal(one.weights.flat, other.weights.flat)


def test_a_zero_gradient_gives_no_nan():
    # given two factors that are both zero, then so is the gradient, and ε
    stack = Stack(grid(LINEAR), CPU)
    stack.weights.flat.zero_()
    stack.epoch(0)
    assert (stack.weights.flat == 0).all()


# Companions


@pytest.mark.parametrize("base", [MLP, LINEAR], ids=["mlp", "linear2"])
def test_initialization_and_order_are_those_of_the_own_seed(base):
    stack = Stack(grid(base, seeds=(3, 1, 4)), CPU)
    batches = list(stack.batches(epoch=2))
    for i, run in enumerate(stack.runs):
        alone = Loop([run], CPU)
        model = models.build(
            run.model, width=run.width, in_shape=alone.data.in_shape, classes=alone.data.classes, seed=run.seed
        )
        assert torch.equal(weights(stack)[i], nn.utils.parameters_to_vector(model.parameters()).double())
        for (x, y), (own_x, own_y) in zip(batches, alone.data.epoch(run.seed, 2), strict=True):
            at = stack.seeds.index(run.seed)
            assert torch.equal(x[at], own_x.flatten(1)) and torch.equal(y[at], own_y)


def test_a_run_trains_alike_beside_anyone():
    run = MLP.but(optimizer="sam", rho=0.05, seed=1, momentum=0.9)
    companies = [
        [run],
        [run.but(optimizer="sgd", rho=0.0), run],
        [run, *(run.but(seed=seed) for seed in range(2, 6))],
        [run.but(seed=0, rho=0.5), run.but(seed=0, normalized=False), run],
    ]
    result = [trained(Stack(runs, CPU), 3) for runs in companies]
    for (all_weights, curves), runs in zip(result, companies, strict=True):
        i = runs.index(run)
        assert (all_weights[i] - result[0][0][0]).norm() < 1e-10 * result[0][0][0].norm()
        assert curves[i] == [(pytest.approx(loss, rel=1e-10), accuracy) for loss, accuracy in result[0][1][0]]


def test_the_same_grid_twice_gives_the_same_bytes():
    runs = grid(MLP.but(epochs=3, momentum=0.9, precision="float32"))
    one, other = Stack(runs, CPU), Stack(runs, CPU)
    assert kept(fitting.fit(one)) == kept(fitting.fit(other))
    assert torch.equal(one.weights.flat, other.weights.flat)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one seed", "two seeds"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_diverging_member_does_not_disturb_the_others(seeds, precision):
    # given two stacks that differ in the ρ of one member, when it is so large that this member diverges, then all
    # others are the same to the last bit.
    base = MLP.but(epochs=3, momentum=0.9, weight_decay=1e-3, precision=precision)
    calm = grid(base, seeds)
    wild = [run.but(rho=1e300) if not run.normalized and run.seed == 0 else run for run in calm]
    (at,) = (i for i, run in enumerate(wild) if run not in calm)
    one, other = Stack(calm, CPU), Stack(wild, CPU)
    expected, result = fitting.fit(one), fitting.fit(other)
    assert result[at]["status"] == "diverged" and set(result[at]["final"].values()) == {None}
    assert not weights(other)[at].isfinite().all() and expected[at]["status"] == "done"
    for i in set(range(len(calm))) - {at}:
        assert kept([result[i]]) == kept([expected[i]]) and result[i]["status"] == "done"
        assert torch.equal(weights(other)[i], weights(one)[i])


# Cost


def spy(sizes, gradient):
    def spied(*arguments, **options):
        activations, signals = gradient(*arguments, **options)
        sizes.append(len(activations[-1]))
        return activations, signals

    return spied


def test_second_passes_are_of_those_with_a_rho_only():
    runs = grid(MLP)
    stack, sizes = Stack(runs, CPU), []
    for part in (stack.at_w, stack.at_perturbed):
        part.gradient = spy(sizes, part.gradient)
    stack.epoch(0)
    assert sizes == [10, 6] * 3  # three batches; 4 of the 10 runs have ρ = 0


@pytest.mark.parametrize(("batch", "formed"), [(50, 4), (70, 10)])
def test_the_first_layer_s_gradient_is_formed_only_where_it_is_needed(batch, formed):
    """Given a batch with fewer samples than inputs, then at w only the runs with ρ = 0 have that gradient formed."""
    stack = Stack(grid(MLP.but(batch_size=batch)), CPU)
    assert stack.unformed == ([0] if formed == 4 else [])
    assert (stack.at_w.descending if stack.unformed else stack.at_w.members) == formed
    stack.gradients.flat.fill_(torch.nan)
    x, _ = next(iter(stack.batches(0)))
    stack.at_w.gradient(x, stack.at_w.first(x), lambda output: torch.ones_like(output))
    known = [bool(rows.isfinite().all()) for rows in stack.gradients.layers[0]]
    assert known == [True] * formed + [False] * (10 - formed)


def test_which_layers_are_not_formed_is_a_matter_of_operations():
    # two products with B×B matrices, or more, in place of one with the layer's own
    assert unformed([784, 3000, 1000, 10], 128) == [0, 1]
    assert unformed([784, 300, 100, 10], 128) == [0]
    assert unformed([64, 60, 20, 10], 5) == [0, 1]
    assert unformed([10, 4, 6], 10) == []


def test_memory_is_four_times_the_parameters_with_sam_and_three_without():
    # weights, momentum, gradients, and the perturbed weights, of which the first layer is never formed
    base = MLP.but(momentum=0.9)
    first = 64 * 12
    for runs, copies, left_out in [(grid(base), 4, first), ([base, base.but(seed=1)], 3, 0)]:
        stack = Stack(runs, CPU)
        buffers = [part for part in vars(stack).values() if isinstance(part, Parameters)]
        count = sum(buffer.flat.numel() for buffer in buffers)
        assert count == (copies * parameter_count.parameters(MLP) - left_out) * len(runs)
        for buffer in buffers:  # the layers are views of it
            storages = {layer.untyped_storage().data_ptr() for layer in buffer.layers}
            assert storages == {buffer.flat.untyped_storage().data_ptr()}


# Partition


def mixed() -> list[Run]:
    """Grids of several widths, models and sizes, some of more runs than a stack takes."""
    small = Run(dataset="digits", model="mlp", width=0.1, epochs=3)
    bases = [small, small.but(width=1.0), small.but(width=10.0), small.but(batch_size=64), small.but(lr=0.05)]
    bases += [small.but(dataset="factorization", model="linear2", width=4, loss="squared")]
    bases += [small.but(model="resnet18", width=4)]
    runs = [run for base in bases for run in grid(base, seeds=(0, 1, 2))]
    runs += [small.but(sparsity=share, pruner=pruner) for share in (0.5, 0.9) for pruner in ("random", "snip")]
    return runs + [small.but(optimizer="sam", rho=k / 100) for k in range(1, 20)]


SHARED = set(Run.__dataclass_fields__) - {"optimizer", "rho", "normalized", "seed", "sparsity", "pruner"}


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_groups_hold_every_run_once_and_share_all_else(device):
    runs = list(dict.fromkeys(mixed()))
    groups = engines.partition(runs, device)
    assert sorted(run.key for group in groups for run in group) == sorted(run.key for run in runs)
    for group in groups:
        assert len({tuple(getattr(run, name) for name in sorted(SHARED)) for run in group}) == 1
        assert [run.rho > 0 for run in group] == sorted(run.rho > 0 for run in group)
        assert len(group) <= engines.members(group[0], device)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_groups_do_not_depend_on_the_order_of_the_runs(device):
    runs = mixed()
    expected = engines.partition(runs, device)
    assert expected == engines.partition(runs, device)
    for seed in range(5):
        shuffled = random.Random(seed).sample(runs, len(runs))
        result = engines.partition(shuffled, device)
        assert sorted([run.key for run in group] for group in result) == sorted(
            [run.key for run in group] for group in expected
        )


def test_groups_have_equal_shares_of_second_passes():
    base = Run(dataset="digits", model="mlp", width=0.25)
    sam = base.but(optimizer="sam")
    runs = [base, sam, sam.but(normalized=False), *(sam.but(rho=k / 100) for k in range(1, 10))]
    groups = engines.partition(runs, CPU)
    assert [(len(group), sum(run.rho > 0 for run in group)) for group in groups] == [(6, 4), (6, 5)]


def test_what_cannot_or_should_not_be_stacked_trains_alone():
    wide, convolutional = Run(dataset="digits", width=10.0), Run(dataset="digits", model="resnet18", width=8)
    augmented = Run(dataset="cifar10")  # its batches are made one run at a time
    centered = MLP.but(linearize="centered")
    for run, device in [
        (centered, CPU),
        (centered, CUDA),
        (wide, CPU),
        (convolutional, CPU),
        (convolutional, CUDA),
        (augmented, CPU),
        (augmented, CUDA),
    ]:
        groups = engines.partition([run, run.but(optimizer="sam", rho=0.1)], device)
        assert [len(group) for group in groups] == [1, 1]
    assert isinstance(engines.engine([convolutional], CPU), Loop)
    assert isinstance(engines.engine([MLP], CPU), Stack)
    assert isinstance(engines.engine([centered], CPU), Loop)
    assert not engines.stackable(augmented)


def test_a_stack_refuses_the_wrong_order():
    with pytest.raises(ValueError, match="must have those with rho = 0 first"):
        Stack([MLP.but(optimizer="sam", rho=0.1), MLP], CPU)
