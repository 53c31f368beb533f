"""How a run climbs, every way of it: against the recursion of tests/recursion.py, for every engine that trains it."""

import numpy as np
import pytest
import recursion
import torch
from torch import nn

from lib import data
from lib.runs import Run, climbing
from lib.sweep import calibration
from lib.training import engines, fitting
from lib.training.batches import Batches
from lib.training.loop import Loop
from lib.training.schedule import climb_scale
from lib.training.stack import Stack

CPU = torch.device("cpu")
# Hidden layers of 12 and 4; 103 samples in batches of 48, 48 and 7; four epochs, one at each learning rate.
BASE = Run(dataset="digits", width=0.04, epochs=4, batch_size=48, n_train=103, momentum=0.9, weight_decay=0.05)
BASE = BASE.but(precision="float64", lr=0.2, schedule="three_steps", optimizer="sam", rho=0.3, seed=3)
FREE = dict(normalized=False)
WAYS = {
    "as ever": {},
    "unnormalized": FREE,
    "three steps": dict(ascent_steps=3),
    "three long steps": dict(ascent_steps=3, ascent_step=0.2),
    "three steps, unnormalized": dict(ascent_steps=3, **FREE),
    "three long steps, clipped": dict(ascent_steps=3, ascent_step=2.0, clip=True, **FREE),
    "clipped": dict(clip=True, **FREE, rho=0.05),
    "other batch": dict(ascent_batch="other"),
    "other batch, two steps": dict(ascent_batch="other", ascent_steps=2),
    "four parts": dict(parts=4),
    "sixteen parts": dict(parts=16),
    "four parts, unnormalized": dict(parts=4, **FREE),
    "four parts, two steps": dict(parts=4, ascent_steps=2),
    "four parts, clipped": dict(parts=4, clip=True, **FREE),
    "four parts, other batch": dict(parts=4, ascent_batch="other"),
    "random": dict(perturbation="random"),
    "random, unnormalized": dict(perturbation="random", rho=0.02, **FREE),
    "decay inside": dict(decay_in_ascent=True),
    "decay inside, four parts": dict(decay_in_ascent=True, parts=4),
    "decay inside, two steps, random order": dict(decay_in_ascent=True, ascent_steps=2, ascent_batch="other"),
    "decay inside, random": dict(decay_in_ascent=True, perturbation="random"),
    "radius in proportion": dict(rho_schedule="lr"),
    "steps in proportion": dict(rho_schedule="lr", ascent_steps=2, ascent_step=0.2),
    "to SGD": dict(switch=0.5),
    "from SGD": dict(optimizer="sgd", switch=0.5),
    "four parts to SGD": dict(parts=4, switch=0.5),
    "four parts in proportion": dict(parts=4, rho_schedule="lr"),
    "from SGD, other batch": dict(optimizer="sgd", switch=0.3, ascent_batch="other"),
}
MASKS = {"dense": {}, "masked": dict(sparsity=0.5)}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("way", WAYS)
def test_every_engine_follows_the_recursion(way, mask):
    run = BASE.but(**WAYS[way], **MASKS[mask])
    batches = Batches(run, CPU)
    model, masks = batches.network(run)
    start = [p.detach().numpy().copy() for p in model.parameters()]
    kernels = start[::2]
    masks = [m.numpy() for m in masks.values()] or [np.ones_like(k) for k in kernels]
    x, y = (part.numpy() for part in batches.train)
    orders = [batches.order(run.seed, epoch).numpy() for epoch in range(run.epochs)]
    expected, losses = recursion.trained(run, start, masks, x.reshape(103, -1), y, orders)
    plain, _ = recursion.trained(BASE.but(**MASKS[mask]), start, masks, x.reshape(103, -1), y, orders)
    if way != "as ever":
        assert max(np.abs(a - b).max() for a, b in zip(expected, plain, strict=True)) > 1e-5  # so it could fail
    for kind in {Loop, engines.engine_class([run])}:
        engine = kind([run], CPU)
        measured = [engine.epoch(epoch)[0][0] for epoch in range(run.epochs)]
        assert measured == pytest.approx(losses, rel=1e-9)
        for a, b in zip(engine.network(0).parameters(), expected, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-9, atol=1e-11)  # 12 steps in float64


@pytest.mark.parametrize("way", WAYS)
def test_stopped_and_resumed_gives_the_same_bytes(way, tmp_path):
    run = BASE.but(**WAYS[way])
    (group,) = engines.partition([run], CPU)
    (whole,) = fitting.fit(engines.engine(group, CPU))
    with pytest.raises(fitting.Stopped):
        fitting.fit(engines.engine(group, CPU), checkpoint=tmp_path / "c.pt", stop=lambda epoch, _: epoch == 2)
    (resumed,) = fitting.fit(engines.engine(group, CPU), checkpoint=tmp_path / "c.pt")
    assert [resumed[part] for part in ("curves", "final")] == [whole[part] for part in ("curves", "final")]


def test_m_of_the_batch_one_step_and_the_same_batch_are_the_default():
    # given every new field at what the main paper's SAM does, then the run is the same run, of today's key and bytes
    explicit = dict(ascent_steps=1, ascent_step=0.0, ascent_batch="same", perturbation="gradient", clip=False, parts=1)
    explicit |= dict(rho_schedule="constant", switch=0.0, decay_in_ascent=False, batch_norm_passes="first")
    assert BASE.but(**explicit) == BASE and BASE.but(**explicit).key == BASE.key
    assert Run().key == "44136fa355b3678a"


# When


def test_the_optimizer_is_replaced_at_the_first_whole_epoch_after_its_share():
    for switch, epochs, first in [
        (0.5, 4, 2),
        (0.55, 100, 55),
        (0.7, 10, 7),
        (0.3, 10, 3),
        (0.25, 10, 3),
        (0.01, 10, 1),
    ]:
        run = BASE.but(switch=switch, epochs=epochs)
        assert [climbing.climbs(run, epoch) for epoch in range(epochs)] == [epoch < first for epoch in range(epochs)]
        back = run.but(optimizer="sgd")
        assert [climbing.climbs(back, epoch) for epoch in range(epochs)] == [epoch >= first for epoch in range(epochs)]


def test_the_radius_follows_the_learning_rate():
    run = BASE.but(rho_schedule="lr", schedule="step")
    assert [climb_scale(run, step, 1) for step in range(4)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [climb_scale(BASE, step, 1) for step in range(4)] == [1] * 4
    assert climb_scale(BASE.but(optimizer="sgd", rho=0), 0, 1) == 0


# Statistics of batch norm

RESNET = Run(dataset="digits", model="preact_resnet18", width=2, epochs=1, batch_size=32, n_train=96, optimizer="sam")
RESNET = RESNET.but(rho=0.1, precision="float64")


def buffers(model: nn.Module) -> list[torch.Tensor]:
    return [b.clone() for b in model.buffers()]


@pytest.mark.parametrize(
    "way", [{}, dict(ascent_batch="other"), dict(perturbation="random"), dict(ascent_steps=3), dict(parts=2)], ids=str
)
def test_statistics_move_at_w_by_the_batch_of_the_step(way):
    # given the loop at some w, when it takes a step, then its statistics are those that one pass of the step's batch,
    # or of each part, leaves at w
    run = RESNET.but(**way)
    loop, expected = Loop([run], CPU), Loop([run], CPU)
    for i, (x, y) in enumerate(loop.batches(0)):
        expected.model.load_state_dict(loop.model.state_dict())
        for part in x.split(len(x) // run.parts):
            expected.model.train()(part)
        loop.model.train()
        loop.step(i, x, y)
        for a, b in zip(buffers(loop.model), buffers(expected.model), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("way", "passes"),
    [({}, 2), (dict(ascent_batch="other"), 2), (dict(perturbation="random"), 1), (dict(ascent_steps=3), 4)],
    ids=str,
)
def test_all_passes_with_a_gradient_may_move_them(way, passes):
    loop = Loop([RESNET.but(batch_norm_passes="all", **way)], CPU)
    loop.epoch(0)
    assert {int(b) for name, b in loop.model.named_buffers() if name.endswith("tracked")} == {3 * passes}
    plain = Loop([RESNET.but(**way)], CPU)
    plain.epoch(0)
    assert {int(b) for name, b in plain.model.named_buffers() if name.endswith("tracked")} == {3}


# Samples held out


@pytest.mark.parametrize("model", [{}, dict(model="preact_resnet18", width=1)], ids=str)
def test_the_last_training_samples_are_held_out_and_evaluated(model):
    run = Run(dataset="digits", width=0.04, epochs=3, eval_every=2, batch_size=500, n_validation=437).but(**model)
    (group,) = engines.partition([run], CPU)
    engine = engines.engine(group, CPU)
    (record,) = fitting.fit(engine)
    images = data.load("digits", "train")
    assert engine.data.n == 1000 and torch.equal(engine.data.validation[1], images.y[1000:])
    assert engine.data.validation[0].shape == (437, 1, 8, 8)
    with torch.no_grad():
        output = engine.network(0).eval()(engine.data.validation[0])
    accuracy = (output.argmax(1) == images.y[1000:]).double().mean().item()
    loss = nn.functional.cross_entropy(output, images.y[1000:]).item()
    assert record["final"]["validation_accuracy"] == pytest.approx(accuracy)
    assert record["final"]["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert record["curves"]["validation_accuracy"][0] is None and record["curves"]["validation_loss"][1] > 0
    assert record["curves"]["validation_accuracy"][2] == record["final"]["validation_accuracy"]
    # and training is on the others alone
    short = fitting.fit(engines.engine([run.but(n_validation=0, n_train=1000)], CPU))[0]
    assert short["curves"].items() <= record["curves"].items() and short["final"].items() <= record["final"].items()


@pytest.mark.parametrize("model", [{}, dict(model="preact_resnet18", width=1)], ids=str)
def test_the_norm_of_the_weights_is_in_the_curves_if_asked_for(model):
    run = Run(dataset="digits", width=0.04, epochs=2, batch_size=50, n_train=100, weight_decay=0.1).but(**model)
    plain, normed = (
        fitting.fit(engine := engines.engine([r], CPU))[0] | {"network": engine.network(0)}
        for r in (run, run.but(norm_curve=True))
    )
    norms = normed["curves"].pop("weight_norm")
    assert normed["curves"] == plain["curves"] and normed["final"] == plain["final"]
    assert len(norms) == 2 and norms[0] != norms[1]
    square = sum(p.double().square().sum().item() for p in normed["network"].parameters())
    assert norms[1] == pytest.approx(square**0.5, rel=1e-6)


def test_too_many_samples_held_out_are_refused():
    with pytest.raises(
        ValueError, match="n_validation = 1437: digits has 1437 training samples, of which at least one"
    ):
        Run(dataset="digits", n_validation=1437)
    with pytest.raises(ValueError, match="n_validation = 438: digits has 1437 training samples, of which 1000 must"):
        Run(dataset="digits", n_train=1000, n_validation=438)
    assert Run(dataset="digits", n_train=1000, n_validation=437)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(optimizer="sgd", rho=0, ascent_steps=2), "ascent_steps = 2: only SAM climbs; it must be 1 for optimizer"),
        (dict(optimizer="sgd", rho=0, perturbation="random"), "perturbation = 'random': only SAM climbs"),
        (dict(optimizer="sgd"), "rho = 0.3: must be 0 for optimizer 'sgd', or take optimizer 'sam' or a switch"),
        (dict(switch=1.0), r"switch = 1.0: must be in \[0, 1\)"),
        (dict(switch=0.5, rho=0), "switch = 0.5: from or to SAM without a radius; rho must be more than 0"),
        (dict(ascent_step=0.1), "ascent_step = 0.1: a single step is of size rho"),
        (dict(ascent_steps=0), "ascent_steps = 0: must be 1 or more"),
        (dict(clip=True), "clip = True: is for a gradient that is not normalized"),
        (dict(clip=True, normalized=False, perturbation="random"), "clip = True: is for a gradient"),
        (dict(perturbation="random", parts=2), "parts = 2: a random perturbation is drawn once a step"),
        (dict(perturbation="random", ascent_batch="other"), "ascent_batch = 'other': a random perturbation is drawn"),
        (dict(decay_in_ascent=True, weight_decay=0), "decay_in_ascent = True: there is no weight decay"),
        (dict(batch_norm_passes="all"), "batch_norm_passes = 'all': its network has no batch norm"),
        (dict(ascent_batch="next"), "ascent_batch = 'next': must be one of same, other"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(wrong, message):
    with pytest.raises(ValueError, match=message):
        BASE.but(**wrong)


# Company


def test_runs_that_climb_in_parts_train_together_and_those_that_switch_with_their_like():
    runs = [BASE.but(parts=4, rho=rho, seed=seed) for seed in (0, 1) for rho in (0.0, 0.1)]
    assert len(engines.partition(runs, CPU)) == 1
    switching = [BASE.but(switch=0.5, optimizer=name, rho=rho) for name in ("sgd", "sam") for rho in (0.1, 0.2)]
    groups = engines.partition(switching, CPU)
    assert all(len({run.optimizer for run in group}) == 1 for group in groups)


def test_a_plan_times_runs_that_switch_hold_samples_out_or_score_a_batch():
    # given runs that are timed at another number of epochs, samples and kind of mask, then that is still a valid run
    snip = dict(sparsity=0.5, pruner="snip", snip_samples=0)
    for way in (dict(optimizer="sgd", switch=0.9), dict(parts=16, n_train=0, n_validation=400), snip):
        run = BASE.but(**way)
        (timed,) = calibration.alike([run])
        assert climbing.climbs(timed, 0) and calibration.calibrate([timed], CPU).train > 0
    assert calibration.n_samples(BASE.but(n_train=0, n_validation=400)) == (1037, 360)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_stack_is_every_run_by_itself(way, masked):
    # given members of two seeds and several radii, of SAM without one too, then each is trained as the loop trains it
    run = BASE.but(epochs=2, n_train=60, **WAYS[way])
    radii = (0.1, 0.5) if run.switch else (0.0, 0.1, 0.5)
    runs = [run.but(rho=rho, seed=seed) for seed in (0, 1) for rho in radii]
    if not (run.clip or run.switch):
        runs += [run.but(rho=0.02, normalized=False), run.but(rho=0.2, normalized=True)]
    runs = [run.but(sparsity=0.5 * (masked and i % 2)) for i, run in enumerate(runs)]
    (group,) = engines.partition(runs, CPU)
    stack = Stack(group, CPU)
    rows = [stack.epoch(epoch) for epoch in range(2)]
    for i, run in enumerate(group):
        alone = Loop([run], CPU)
        for epoch in range(2):
            assert rows[epoch][i] == pytest.approx(alone.epoch(epoch)[0], rel=1e-9)
        for a, b in zip(stack.network(i).parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
