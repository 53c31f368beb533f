"""The reference loop: schedules, data order, curves, checkpoints and divergence, each against its definition."""

import math
import warnings

import pytest
import torch
from torch import nn

from lib import models
from lib.core import losses
from lib.models import pruning
from lib.runs import Run, origin
from lib.sam import SAM
from lib.training import engines, fitting, grouped
from lib.training.batches import Batches
from lib.training.loop import Loop, summary
from lib.training.schedule import learning_rate

CPU = torch.device("cpu")
MLP = Run(dataset="digits", model="mlp", width=0.1, epochs=5, batch_size=32, n_train=150, momentum=0.9)
RESNET = Run(dataset="digits", model="resnet18", width=1, epochs=5, batch_size=32, n_train=64, momentum=0.9)
LINEAR = Run(dataset="factorization", model="linear2", width=4, loss="squared", lr=1e-3, n_train=50, batch_size=10)


def fit(run: Run, **options) -> dict:
    (record,) = fitting.fit(Loop([run], CPU), **options)
    return record


def kept(records: list[dict]) -> list[dict]:
    """Records without what may differ between two repeats."""
    return [{part: value for part, value in record.items() if part != "provenance"} for record in records]


# Learning rates (Appendix A), for 8 epochs of 5 steps and lr = 0.1

POINTS = {
    "constant": {0: 0.1, 20: 0.1, 39: 0.1},
    "inverse": {0: 0.1, 4: 0.1, 5: 0.1 / (1 + 1 / 3), 9: 0.075, 15: 0.05, 39: 0.1 / (1 + 7 / 3)},
    "step": {0: 0.1, 19: 0.1, 20: 0.01, 29: 0.01, 30: 0.001, 39: 0.001},
    "three_steps": {0: 0.1, 9: 0.1, 10: 0.01, 19: 0.01, 20: 0.001, 29: 0.001, 30: 1e-4, 39: 1e-4},
    "cosine": {
        0: 0.1,
        10: 0.1 * (1 + math.sqrt(0.5)) / 2,
        20: 0.05,
        39: 0.1 * (1 - math.cos(math.pi / 40)) / 2,
    },
    # 10 steps up, 30 down: the top at the last step of the first and the first of the second.
    "warmup_cosine": {0: 0.01, 4: 0.05, 9: 0.1, 10: 0.1, 25: 0.05, 39: 0.1 * (1 - math.cos(math.pi / 30)) / 2},
}


@pytest.mark.parametrize("schedule", POINTS)
def test_learning_rates_at_the_boundaries(schedule):
    run = Run(lr=0.1, epochs=8, schedule=schedule, warmup_steps=10)
    for step, expected in POINTS[schedule].items():
        assert learning_rate(run, step, 5) == pytest.approx(expected, rel=1e-12)
    rates = [learning_rate(run, step, 5) for step in range(40)]
    assert min(rates) > 0 and max(rates) <= 0.1


def test_steps_of_an_odd_number_of_epochs_come_after_half_and_three_quarters():
    # 50% of 5 epochs are 2.5, 75% are 3.75: the first whole epochs after them are 3 and 4.
    run = Run(lr=1.0, epochs=5, schedule="step")
    rates = [learning_rate(run, epoch, 1) for epoch in range(5)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.01])


def test_a_warm_up_longer_than_the_run_is_a_line():
    run = Run(lr=0.1, epochs=2, schedule="warmup_cosine", warmup_steps=100)
    assert [learning_rate(run, step, 5) for step in range(10)] == pytest.approx([0.001 * k for k in range(1, 11)])


def test_without_warm_up_the_schedule_is_the_cosine():
    warm, plain = (Run(epochs=3, schedule=schedule) for schedule in ("warmup_cosine", "cosine"))
    assert [learning_rate(warm, s, 7) for s in range(21)] == [learning_rate(plain, s, 7) for s in range(21)]


# Losses


def test_losses_by_hand():
    output, label = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([1])
    onehot = torch.tensor([[0.0, 1.0, 0.0]])
    assert losses.per_sample("squared", output, onehot).tolist() == [1 + 1 + 0.25]
    assert losses.per_sample("mse", output, onehot).tolist() == [2.25 / 2]
    expected = -math.log(math.exp(2) / (math.exp(1) + math.exp(2) + math.exp(0.5)))
    assert losses.per_sample("cross_entropy", output, label).tolist() == pytest.approx([expected], rel=1e-6)


def test_mse_at_twice_the_rate_is_squared_and_reads_half():
    # Doubling is exact in floating point, so this holds to the last bit.
    squared, half = fit(LINEAR.but(epochs=3)), fit(LINEAR.but(epochs=3, loss="mse", lr=2e-3))
    assert half["curves"]["train_loss"] == [value / 2 for value in squared["curves"]["train_loss"]]
    assert half["final"]["test_loss"] == squared["final"]["test_loss"] / 2


# What a run sees


def seen_by(run: Run, epochs: int = 2):
    """The initial weights of a Loop, and the batches that its steps get."""
    loop, batches = Loop([run], CPU), []
    initial = nn.utils.parameters_to_vector(loop.model.parameters()).detach().clone()
    step = loop.step

    def spy(number, x, y):
        batches.append((number, x.clone(), y.clone()))
        step(number, x, y)

    loop.step = spy
    for epoch in range(epochs):
        loop.epoch(epoch)
    return initial, batches


def same(one, other) -> bool:
    return len(one) == len(other) and all(
        a[0] == b[0] and torch.equal(a[1], b[1]) and torch.equal(a[2], b[2]) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("kind", ["plain", "augmented"])
def test_all_optimizers_of_a_seed_start_alike_and_see_the_same_batches(kind, pictures):
    run = MLP if kind == "plain" else Run(dataset=pictures, model="resnet18", width=1, batch_size=8)
    sgd, sam, far, other = (
        seen_by(r)
        for r in (
            run,
            run.but(optimizer="sam", rho=0.1),
            run.but(optimizer="sam", rho=0.5, normalized=False, lr=0.01, momentum=0.0),
            run.but(seed=1),
        )
    )
    assert torch.equal(sgd[0], sam[0]) and torch.equal(sgd[0], far[0])
    assert same(sgd[1], sam[1]) and same(sgd[1], far[1])
    assert not torch.equal(sgd[0], other[0]) and not same(sgd[1], other[1])


# What it measures


@pytest.mark.parametrize("loss", ["cross_entropy", "squared", "mse"])
def test_curves_are_means_at_w_and_final_is_over_everything(loss):
    # given a run, when its epochs are repeated by hand with plain torch, then curves and final numbers agree
    run = MLP.but(loss=loss, optimizer="sam", rho=0.05, lr=0.05, epochs=3, precision="float64", weight_decay=1e-3)
    record, batches = fit(run), Batches(run, CPU)
    model = models.build("mlp", width=0.1, in_shape=(1, 8, 8), classes=10, seed=0).double()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.05, momentum=0.9, weight_decay=1e-3)

    def loss_and_output(x, y):
        output = model(x)
        if loss == "cross_entropy":
            return nn.functional.cross_entropy(output, y), output
        distance = (output - torch.eye(10, dtype=torch.float64)[y]).norm(dim=1) ** 2
        return distance.mean() * (1 if loss == "squared" else 0.5), output

    expected = {"train_loss": [], "train_accuracy": [], "test_loss": [], "test_accuracy": []}
    test = [t for t in batches.test]
    for epoch in range(3):
        sums, hits = 0.0, 0
        for x, y in batches.epoch(0, epoch):
            with torch.no_grad():
                value, output = loss_and_output(x, y)
            sums, hits = sums + value.item() * len(y), hits + (output.argmax(1) == y).sum().item()

            def closure(x=x, y=y):
                optimizer.zero_grad()
                value, _ = loss_and_output(x, y)
                value.backward()
                return value

            optimizer.step(closure)
        with torch.no_grad():
            value, output = loss_and_output(*test)
        right = (output.argmax(1) == test[1]).double()
        for name, number in zip(expected, (sums / 150, hits / 150, value.item(), right.mean().item()), strict=True):
            expected[name].append(number)
    with torch.no_grad():
        whole, output = loss_and_output(*batches.train)
    accuracy = (output.argmax(1) == batches.train[1]).double().mean().item()
    # float64, 15 steps; the sums are taken in another order
    assert record["curves"].pop("epoch") == [1, 2, 3]
    assert record["curves"] == {name: pytest.approx(numbers, rel=1e-10) for name, numbers in expected.items()}
    final = {"train_loss": whole.item(), "train_accuracy": accuracy}
    final |= {"test_loss": expected["test_loss"][-1], "test_accuracy": right.mean().item()}
    final |= {"test_accuracy_even": right[::2].mean().item(), "test_accuracy_odd": right[1::2].mean().item()}
    assert record["final"] == pytest.approx(final, rel=1e-10) and record["status"] == "done"
    assert len({*final.values()}) == len(final)  # no two of them are the same number by chance


def test_batch_norm_trains_once_a_step_and_is_only_read_in_evaluation():
    # given SAM on a network with batch norm, evaluated every epoch, then its statistics have moved once a step, by the
    # batches of training; and what is reported uses them.
    loop = Loop([RESNET.but(optimizer="sam", rho=0.05, epochs=3)], CPU)
    (record,) = fitting.fit(loop)
    tracked = {int(buffer) for name, buffer in loop.model.named_buffers() if name.endswith("num_batches_tracked")}
    assert tracked == {3 * 2}
    with torch.no_grad():
        output = loop.model.eval()(loop.data.test[0])
    # One batch or several: float32 sums in another order
    expected = nn.functional.cross_entropy(output, loop.data.test[1]).item()
    assert record["final"]["test_loss"] == pytest.approx(expected, rel=1e-5)


def test_summary_splits_even_and_odd_indices():
    values = torch.tensor([[1, 2, 3, 4, 5], [1, 0, 1, 0, 0]], dtype=torch.float64)
    result = summary(*values)
    assert result == {"loss": 3, "accuracy": 0.4, "accuracy_even": pytest.approx(2 / 3), "accuracy_odd": 0}


def test_evaluation_is_every_so_often_and_at_the_end():
    every, some = fit(MLP.but(epochs=7)), fit(MLP.but(epochs=7, eval_every=3))
    assert some["curves"]["epoch"] == [1, 2, 3, 4, 5, 6, 7]
    for name in ("test_loss", "test_accuracy"):
        chosen = [value if epoch in (3, 6, 7) else None for epoch, value in enumerate(every["curves"][name], 1)]
        assert some["curves"][name] == chosen
    assert some["curves"]["train_loss"] == every["curves"]["train_loss"] and some["final"] == every["final"]


def test_a_regression_has_no_accuracy():
    record = fit(LINEAR.but(epochs=2))
    assert record["curves"]["train_accuracy"] == record["curves"]["test_accuracy"] == [None, None]
    numbers = {name: value for name, value in record["final"].items() if value is not None}
    assert set(numbers) == {"train_loss", "test_loss"} and record["status"] == "done"


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sam", "rho": 0.05}], ids=["sgd", "sam"])
def test_it_learns_digits(changes):
    record = fit(MLP.but(width=0.25, n_train=0, epochs=8, lr=0.05, **changes))
    assert record["final"]["test_accuracy"] > 0.9 and record["final"]["train_accuracy"] > 0.97
    assert record["curves"]["train_loss"][-1] < record["curves"]["train_loss"][0] / 5


# Divergence


def test_a_run_that_diverges_says_so_and_stops():
    loop = Loop([MLP.but(lr=1e20, loss="squared", epochs=50)], CPU)
    epochs, epoch = [], loop.epoch
    loop.epoch = lambda number: epochs.append(number) or epoch(number)
    (record,) = fitting.fit(loop)
    assert record["status"] == "diverged" and len(epochs) < 5
    assert set(record["final"]) == set(fit(MLP.but(epochs=1))["final"])
    assert all(value is None for value in record["final"].values())


def test_the_curves_of_a_diverged_run_end_with_its_last_finite_epoch():
    # Far beyond the stable rate the loss of a product of two factors grows with a power of itself: one step an epoch
    # takes some epochs to leave float32.
    record = fit(MLP.but(model="linear2", width=4, loss="squared", momentum=0, n_train=50, batch_size=50, epochs=60))
    length = len(record["curves"]["epoch"])
    assert record["status"] == "diverged" and 2 <= length < 60
    assert record["curves"]["train_loss"][-1] > 1e6
    assert all(len(curve) == length for curve in record["curves"].values())
    assert all(math.isfinite(value) for value in record["curves"]["train_loss"])
    assert all(value is None or math.isfinite(value) for value in record["curves"]["test_loss"])


def test_a_run_that_diverges_in_its_last_step_is_diverged():
    # given one step, from a finite loss to weights that are none, then only the final numbers can tell
    record = fit(MLP.but(lr=1e30, loss="squared", epochs=1, n_train=32))
    assert record["curves"]["epoch"] == [1] and math.isfinite(record["curves"]["train_loss"][0])
    assert record["status"] == "diverged" and set(record["final"].values()) == {None}


# Checkpoints

ENGINES = {
    "mlp": (Loop, [MLP.but(optimizer="sam", rho=0.05)]),
    "resnet18 with batch norm": (Loop, [RESNET.but(optimizer="sam", rho=0.05)]),
    "stack": (engines.Stack, [MLP, MLP.but(optimizer="sam", rho=0.05), MLP.but(optimizer="sam", rho=0.1, seed=1)]),
}


def content(engine) -> list[torch.Tensor]:
    """All that an engine is at the end: weights, batch-norm statistics, momentum."""
    result = []

    def walk(part):
        if isinstance(part, torch.Tensor):
            result.append(part.clone())
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            walk(inner)

    walk(engine.state_dict())
    return result


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) > 1 and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ENGINES)
def test_stopped_and_resumed_gives_the_same_bytes(kind, tmp_path):
    make, runs = ENGINES[kind]
    whole = make(runs, CPU)
    expected = fitting.fit(whole)
    calls, checkpoint = [], tmp_path / "group.pt"
    with pytest.raises(fitting.Stopped):
        fitting.fit(make(runs, CPU), checkpoint=checkpoint, stop=lambda epoch, last: calls.append(last) or epoch == 2)
    assert len(calls) == 3 and calls[0] == 0 and min(calls[1:]) > 0  # asked before each epoch, with the last one's time
    resumed, epochs = make(runs, CPU), []
    outcome = fitting.fit(resumed, checkpoint=checkpoint, stop=lambda epoch, last: epochs.append(epoch))
    assert epochs == [2, 3, 4]
    assert kept(outcome) == kept(expected) and equal(content(resumed), content(whole))
    assert {file.name for file in tmp_path.iterdir()} == {"group.pt"}


@pytest.mark.parametrize("kind", ENGINES)
def test_killed_in_an_epoch_it_goes_on_from_the_last_checkpoint(kind, tmp_path, monkeypatch):
    make, runs = ENGINES[kind]
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", 0.0)
    killed, checkpoint = make(runs, CPU), tmp_path / "group.pt"
    epoch = killed.epoch

    def dies(number):
        result = epoch(number)
        if number == 3:
            raise KeyboardInterrupt
        return result

    killed.epoch = dies
    with pytest.raises(KeyboardInterrupt):
        fitting.fit(killed, checkpoint=checkpoint)
    monkeypatch.undo()
    whole, resumed, epochs = make(runs, CPU), make(runs, CPU), []
    outcome = fitting.fit(resumed, checkpoint=checkpoint, stop=lambda number, last: epochs.append(number))
    assert epochs == [3, 4]
    assert kept(outcome) == kept(fitting.fit(whole)) and equal(content(resumed), content(whole))


DAMAGE = {
    "cut short": lambda whole, weights: whole[: len(whole) // 2],
    "empty": lambda whole, weights: b"",
    "not a checkpoint": lambda whole, weights: b"PK\x03\x04" + bytes(500),
    "a weight changed": lambda whole, weights: whole.replace(weights[:4], b"\0\0\0\0"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_reported_and_training_starts_over(kind, tmp_path):
    run, checkpoint = MLP.but(optimizer="sam", rho=0.05), tmp_path / "group.pt"
    with pytest.raises(fitting.Stopped):
        fitting.fit(stopped := Loop([run], CPU), checkpoint=checkpoint, stop=lambda epoch, last: epoch == 3)
    whole, weights = checkpoint.read_bytes(), stopped.model[1].weight.detach().numpy().tobytes()
    assert whole.count(weights) == 1
    checkpoint.write_bytes(DAMAGE[kind](whole, weights))
    with pytest.warns(UserWarning, match=r"group.pt: cannot be used .* start again from epoch 0"):
        record = fit(run, checkpoint=checkpoint)
    assert kept([record]) == kept([fit(run)])


def test_a_checkpoint_of_other_runs_is_not_taken(tmp_path):
    checkpoint = tmp_path / "group.pt"
    with pytest.raises(fitting.Stopped):
        fitting.fit(Loop([MLP.but(seed=1)], CPU), checkpoint=checkpoint, stop=lambda epoch, last: epoch == 3)
    with pytest.warns(UserWarning, match="it is of other runs"):
        record = fit(MLP, checkpoint=checkpoint)
    assert kept([record]) == kept([fit(MLP)])


SNIP = {"sparsity": 0.5, "pruner": "snip", "epochs": 3}
PRUNED = {
    "loop": (Loop, [MLP.but(**SNIP)]),
    "stack": (engines.Stack, [MLP.but(**SNIP), MLP.but(**SNIP, seed=1)]),
    "grouped": (grouped.Grouped, [RESNET.but(**SNIP), RESNET.but(**SNIP, seed=1)]),
}


@pytest.mark.parametrize("kind", PRUNED)
def test_a_checkpoint_with_another_mask_is_not_taken(kind, tmp_path, monkeypatch):
    make, runs = PRUNED[kind]
    checkpoint, chosen = tmp_path / "group.pt", pruning.snip_mask

    def otherwise(*given, **options):
        """SNIP as on a machine that rounds otherwise: one weight of a layer is kept in another's place."""
        masks = chosen(*given, **options)
        partly = next(mask.view(-1) for mask in masks.values() if mask.any() and not mask.all())
        had, lacked = partly.nonzero()[0], (~partly).nonzero()[0]
        partly[had], partly[lacked] = False, True
        return masks

    with monkeypatch.context() as patch, pytest.raises(fitting.Stopped):
        patch.setattr(pruning, "snip_mask", otherwise)
        fitting.fit(make(runs, CPU), checkpoint=checkpoint, stop=lambda epoch, last: epoch == 2)
    with pytest.warns(UserWarning, match="its masks are not those that this machine chooses.*from epoch 0"):
        outcome = fitting.fit(make(runs, CPU), checkpoint=checkpoint)
    assert kept(outcome) == kept(fitting.fit(make(runs, CPU)))


@pytest.mark.parametrize("lost", ["optimizer", "curves"])
def test_a_checkpoint_that_lacks_a_part_leaves_nothing_behind(lost, tmp_path):
    # given a checkpoint of which some parts can be loaded and one cannot, then none of it is used
    checkpoint = tmp_path / "group.pt"
    with pytest.raises(fitting.Stopped):
        fitting.fit(Loop([MLP], CPU), checkpoint=checkpoint, stop=lambda epoch, last: epoch == 3)
    state = torch.load(checkpoint, weights_only=True)
    (state if lost in state else state["engine"]).pop(lost)
    torch.save(state, checkpoint)
    with pytest.warns(UserWarning, match="start again from epoch 0"):
        record = fit(MLP, checkpoint=checkpoint)
    assert kept([record]) == kept([fit(MLP)])


def test_without_a_checkpoint_there_is_no_warning(tmp_path):
    with warnings.catch_warnings(action="error"):
        fit(MLP.but(epochs=1), checkpoint=tmp_path / "absent.pt")


def test_the_same_run_twice_gives_the_same_bytes():
    for run in (MLP.but(optimizer="sam", rho=0.1), RESNET):
        one, other = Loop([run], CPU), Loop([run], CPU)
        assert kept(fitting.fit(one)) == kept(fitting.fit(other)) and equal(content(one), content(other))


# Scaled and linearized runs (Appendix C)

VGG = Run(dataset="digits", model="vgg11", width=1, loss="squared", epochs=2, batch_size=16, n_train=48, momentum=0.9)


def test_alpha_divides_the_targets():
    run = VGG.but(linearize="centered", alpha=50.0)
    batches = Batches(run, CPU)
    _, y = next(batches.epoch(0, 0))
    onehot = nn.functional.one_hot(y, 10).float()
    assert torch.equal(batches.loss_target(y), onehot / 50)
    # At initialization the output is 0 and the loss ‖y/α‖² = 1/α², whatever the network.
    loop = Loop([run], CPU)
    assert loop.evaluate("test")[0]["loss"] == pytest.approx(1 / 2500, rel=1e-6)


@pytest.mark.parametrize(
    ("form", "batch_norm", "lr"), [("centered", False, 0.01), ("centered", True, 1e-4), ("tangent", False, 0.01)]
)
def test_a_linearized_run_starts_from_the_network_of_its_seed_and_is_trained_and_resumed(
    form, batch_norm, lr, tmp_path
):
    run = VGG.but(linearize=form, batch_norm=batch_norm, alpha=2.0, lr=lr, optimizer="sam", rho=0.01, seed=3)
    loop = Loop([run], CPU)
    plain = models.build("vgg11", width=1, in_shape=(1, 8, 8), classes=10, seed=3, batch_norm=batch_norm)
    assert any(isinstance(m, nn.BatchNorm2d) for m in loop.model.modules()) == batch_norm
    frozen = loop.model.initial.state_dict()
    assert all(torch.equal(frozen[name], p) for name, p in plain.named_parameters())
    whole = fit(run)
    assert whole["status"] == "done" and whole["curves"]["train_loss"][-1] < whole["curves"]["train_loss"][0]

    checkpoint = tmp_path / "run.pt"
    with pytest.raises(fitting.Stopped):
        fit(run, checkpoint=checkpoint, stop=lambda epoch, last: epoch == 1)
    assert kept([fit(run, checkpoint=checkpoint)]) == kept([whole])


def test_a_diverged_linearized_run_is_recorded_as_such():
    record = fit(VGG.but(linearize="centered", alpha=1.0, lr=1e3))
    assert record["status"] == "diverged" and record["final"]["train_loss"] is None


def stopped_by(monkeypatch, checkpoint, **other) -> None:
    """Train MLP for three epochs as a process would whose origin differs in this."""
    with monkeypatch.context() as patch:
        here = origin.origin
        patch.setattr(origin, "origin", lambda device: here(device) | other)
        with pytest.raises(fitting.Stopped):
            fitting.fit(Loop([MLP], CPU), checkpoint=checkpoint, stop=lambda epoch, last: epoch == 3)


@pytest.mark.parametrize("other", [{"code": "0" * 16}, {"torch": "2.0.0"}])
def test_a_checkpoint_of_other_code_or_another_torch_is_not_taken(tmp_path, monkeypatch, other):
    stopped_by(monkeypatch, tmp_path / "group.pt", **other)
    with pytest.warns(UserWarning, match=f"it was written with other {next(iter(other))}.*start again from epoch 0"):
        record = fit(MLP, checkpoint=tmp_path / "group.pt")
    assert kept([record]) == kept([fit(MLP)]) and "begun_by" not in record["provenance"]


def test_a_record_names_all_that_trained_it(tmp_path, monkeypatch):
    stopped_by(monkeypatch, tmp_path / "group.pt", commit="0" * 12, device="another processor")
    record = fit(MLP, checkpoint=tmp_path / "group.pt")
    (before,) = record["provenance"]["begun_by"]
    assert (before["commit"], before["device"]) == ("0" * 12, "another processor")
    assert record["provenance"]["commit"] != "0" * 12 and kept([record]) == kept([fit(MLP)])


def test_the_code_is_the_same_whatever_is_said_about_it(tmp_path):
    (tmp_path / "a.py").write_text('"""One."""\nx = 1  # what\n\n\ndef f():\n    """Two."""\n    return x\n')
    (tmp_path / "b.py").write_text('x = 1\ndef f():\n    "Three"\n    return (x)\n')
    (tmp_path / "c.py").write_text("x = 2\ndef f():\n    return x\n")
    a, b, c = (origin._statements(tmp_path / f"{name}.py") for name in "abc")
    assert a == b != c
