"""Grouped convolutional runs: equal to the reference loop run by run, batch norm included."""

import pytest
import torch
from equality import SCHEDULES, differences, every_case, masked, second_epoch
from torch import nn

from lib import models
from lib.runs import Run
from lib.training import engines, fitting
from lib.training.grouped import Grouped, merge
from lib.training.loop import Loop

CPU = torch.device("cpu")
# Batch norm over few samples stretches rounding errors: a small step size keeps that apart from real differences.
RESNET = Run(dataset="digits", model="resnet18", width=2, lr=1e-3, epochs=2, batch_size=20, n_train=40, momentum=0.9)
RESNET = RESNET.but(precision="float64")


def grid(base: Run, seeds=(0, 1)) -> list[Run]:
    sam = base.but(optimizer="sam")
    kinds = [base, sam.but(rho=0.05), sam.but(rho=0.1, normalized=False)]
    return [kind.but(seed=seed) for kind in kinds for seed in seeds]


def vector(model: nn.Module) -> torch.Tensor:
    """Weights and statistics of batch norm."""
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


@every_case
def test_a_step_and_an_epoch_equal_those_of_the_loop(mask, schedule, precision):
    base = RESNET.but(weight_decay=0.01, precision=precision, **SCHEDULES[schedule])
    runs = masked(grid(base), mask)
    one_step, epoch = differences(second_epoch(Grouped(runs, CPU)), runs)
    if precision == "float64":
        assert max(one_step) < 1e-14 and max(epoch) < 1e-14  # 100 roundings of 1e-16
        return
    # In float32 a ReLU whose input is within rounding of 0 may open for one and not for the other, and behind batch
    # norm over the 20 samples of a layer of one pixel that counts: the loop itself in float64, started 3e-6 off, is off
    # by up to 1e-3 after four steps. The kernels for channels last round twice as much, in the loop too.
    off = torch.maximum(one_step, epoch).sort().values
    assert off[-2] < 1e-6 and off[-1] < 5e-3


VARIANTS = {
    "momentum": RESNET,
    "squared": RESNET.but(loss="squared", lr=1e-4),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_group_equals_its_runs_trained_alone(variant):
    runs = grid(VARIANTS[variant])
    group = Grouped(runs, CPU)
    rows = [group.epoch(epoch) for epoch in range(2)]
    result = [vector(group.network(i)) for i in range(len(runs))]
    evaluated = group.evaluate("test")
    for i, run in enumerate(runs):
        loop = Loop([run], CPU)
        curve = [loop.epoch(epoch)[0] for epoch in range(2)]
        expected = vector(loop.model)
        # 4 steps of 18 layers in float64: far fewer than 1e6 roundings of 1e-16 one after another.
        assert (result[i] - expected).norm() < 1e-9 * expected.norm()
        assert [row[i][0] for row in rows] == pytest.approx([loss for loss, _ in curve], rel=1e-9)
        assert [row[i][1] for row in rows] == [accuracy for _, accuracy in curve]
        (alone,) = loop.evaluate("test")
        assert evaluated[i]["loss"] == pytest.approx(alone["loss"], rel=1e-9)
        assert evaluated[i]["accuracy_even"] == alone["accuracy_even"]
    assert min((result[i] - result[j]).norm() for i in range(6) for j in range(i)) > 1e-5


def test_a_merged_network_does_what_each_does_to_its_channels():
    networks = [models.build("resnet18", width=2, in_shape=(3, 8, 8), classes=10, seed=s).double() for s in range(3)]
    x = torch.randn(4, 9, 8, 8, dtype=torch.float64)
    outputs = merge(networks)(x)
    for i, network in enumerate(networks):
        torch.testing.assert_close(outputs[:, i], network(x[:, 3 * i : 3 * i + 3]))


def test_a_diverging_member_does_not_disturb_the_others():
    calm = grid(RESNET, seeds=(0,))
    wild = RESNET.but(optimizer="sam", rho=1e30, normalized=False)
    records = fitting.fit(Grouped([*calm, wild], CPU))
    assert [record["status"] for record in records] == ["done", "done", "done", "diverged"]
    for run, record in zip(calm, records, strict=False):
        (alone,) = fitting.fit(Loop([run], CPU))
        assert record["curves"]["train_loss"] == pytest.approx(alone["curves"]["train_loss"], rel=1e-9)


def test_a_group_goes_on_from_its_checkpoint(tmp_path):
    runs, file = grid(RESNET), tmp_path / "group.pt"
    whole = fitting.fit(Grouped(runs, CPU))
    with pytest.raises(fitting.Stopped):
        fitting.fit(Grouped(runs, CPU), checkpoint=file, stop=lambda epoch, _: epoch == 1)
    again = fitting.fit(Grouped(runs, CPU), checkpoint=file)
    assert [record["curves"] for record in again] == [record["curves"] for record in whole]
    assert [record["final"] for record in again] == [record["final"] for record in whole]


def test_who_is_grouped_is_a_function_of_model_width_and_device():
    narrow = grid(Run(dataset="cifar10-jpeg", model="resnet18", width=4), seeds=(0, 1, 2))
    assert max(map(len, engines.partition(narrow, CPU))) == 2
    assert isinstance(engines.engine(grid(RESNET), CPU), Grouped)
    for wide in (Run(dataset="digits", model="resnet18", width=8), RESNET.but(optimizer="sam", rho=0.1)):
        assert isinstance(engines.engine([wide], CPU), Loop)
    assert set(map(len, engines.partition([run.but(width=16) for run in narrow], CPU))) == {1}
    assert set(map(len, engines.partition(narrow, torch.device("cuda")))) == {1}
