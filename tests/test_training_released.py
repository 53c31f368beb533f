"""Training as the paper's released code does it, against that code's rules written out again in NumPy."""

import math

import numpy as np
import pytest
import torch
from recursion import loss_and_gradients
from scipy import stats

from lib import data, models
from lib.models import pruning
from lib.runs import Run, parameter_count
from lib.training.batches import Batches
from lib.training.loop import Loop
from lib.training.stack import Stack

CPU = torch.device("cpu")
RELEASED = dict(schedule="three_steps", standardize=False, initialization="lecun", strict_threshold=True)
# Hidden layers of 12 and 4; 100 samples in batches of 48, 48 and 4; four epochs, one at each learning rate.
BASE = Run(dataset="digits", width=0.04, epochs=4, batch_size=48, n_train=100, momentum=0.9, weight_decay=0.01)
BASE = BASE.but(precision="float64", lr=0.2, **RELEASED)


def trained(run: Run, start, masks, x, y, orders):
    """The weights after training, step by step: every device climbs with the gradient of its part of the batch."""
    w, momentum = [np.array(p) for p in start], [np.zeros_like(p) for p in start]
    per_epoch = math.ceil(len(y) / run.batch_size)
    boundaries = [int(run.epochs * share * per_epoch) for share in (0.25, 0.5, 0.75)]
    step = 0
    for order in orders:
        for i in range(per_epoch):
            batch, means = order[i * run.batch_size : (i + 1) * run.batch_size], []
            for part in np.array_split(batch, run.parts):
                g = loss_and_gradients(w, masks, x[part], y[part])[1]
                norm = math.sqrt(sum((each**2).sum() for each in g))
                climbed = [p + run.rho * each / norm for p, each in zip(w, g, strict=True)]
                means.append(loss_and_gradients(climbed, masks, x[part], y[part])[1])
            rate = run.lr * 0.1 ** sum(step >= boundary for boundary in boundaries)
            for j in range(6):
                g = sum(part[j] for part in means) / run.parts + run.weight_decay * w[j]
                momentum[j] = run.momentum * momentum[j] + g
                w[j] = w[j] - rate * momentum[j]
            step += 1
    return w


@pytest.mark.parametrize("engine", [Stack, Loop], ids=lambda kind: kind.name)
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("mask", [{}, dict(sparsity=0.6), dict(sparsity=0.6, pruner="snip", snip_samples=0)])
def test_training_follows_the_released_code(engine, parts, mask):
    run = BASE.but(optimizer="sam", rho=0.1, parts=parts, seed=3, **mask)
    images = data.load("digits", "train")
    x, y = images.x[:100].flatten(1).double().numpy(), images.y[:100].numpy()
    x = x / 255 if images.x.dtype == torch.uint8 else x
    batches = Batches(run, CPU)
    model, masks = batches.network(run)
    start = [p.detach().numpy().copy() for p in model.parameters()]
    masks = [m.numpy() for m in masks.values()]
    removed = [m.size - m.sum() for m in masks]
    sizes = [m.size for m in masks]
    if run.pruner == "snip":
        assert sum(removed) == math.floor(0.6 * sum(sizes)) + 1
    else:
        assert removed == [math.floor(run.sparsity * size) + 1 for size in sizes]  # at sparsity 0 one a layer
    left = sum(p.size for p in start) - sum(removed)
    assert parameter_count.remaining(run) == left
    orders = [batches.order(run.seed, epoch).numpy() for epoch in range(run.epochs)]
    expected = trained(run, start, masks, x, y, orders)
    trainer = engine([run], CPU)
    for epoch in range(run.epochs):
        trainer.epoch(epoch)
    result = [p.detach().numpy() for p in trainer.network(0).parameters()]
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)  # 12 steps in float64
    moved = np.concatenate([(a - b).ravel() for a, b in zip(result, start, strict=True)])
    assert np.abs(moved).max() > 0.01


def test_parts_of_a_batch_make_a_difference_to_sam_and_none_may_be_asked_of_sgd():
    sam = BASE.but(optimizer="sam", rho=0.5)
    outcomes = [Loop([sam.but(parts=parts)], CPU) for parts in (1, 2, 48)]
    for trainer in outcomes:
        trainer.epoch(0)
    whole, halves, singles = (torch.cat([p.flatten() for p in t.model.parameters()]) for t in outcomes)
    assert (whole - halves).norm() > 1e-3 and (halves - singles).norm() > 1e-3
    with pytest.raises(ValueError, match="parts = 2: only SAM climbs"):
        BASE.but(parts=2)
    with pytest.raises(ValueError, match="parts = 5: must divide batch_size = 48"):
        sam.but(parts=5)
    with pytest.raises(ValueError, match="parts = 0: must be 1 or more"):
        sam.but(parts=0)


def test_a_stack_of_parts_is_every_run_by_itself():
    runs = [BASE.but(optimizer="sam", rho=rho, seed=seed, parts=3) for seed in (0, 1) for rho in (0.05, 0.5)]
    stack = Stack(runs, CPU)
    rows = stack.epoch(0)
    for i, run in enumerate(runs):
        alone = Loop([run], CPU)
        assert rows[i] == pytest.approx(alone.epoch(0)[0], rel=1e-10)
        for a, b in zip(stack.network(i).parameters(), alone.model.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_images_are_only_scaled_where_they_are_not_standardized():
    raw = data.load("digits", "train").x[:50]
    plain = Batches(BASE.but(n_train=50), CPU).train[0]
    assert torch.equal(plain, raw.double() / (255 if raw.dtype == torch.uint8 else 1))
    assert plain.min() == 0 and 0.9 < plain.max() <= 1
    standard = Batches(BASE.but(n_train=50, standardize=True), CPU).train[0]
    torch.testing.assert_close(standard, (plain - 0.3054) / 0.3755)


@pytest.mark.parametrize(("name", "width"), [("mlp", 1), ("resnet18", 8)])
def test_lecun_weights_are_a_normal_that_is_cut_off_at_two_deviations(name, width):
    shape = dict(width=width, in_shape=(3, 16, 16), classes=10)
    model = models.build(name, **shape, seed=0, initialization="lecun")
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d)]
    for layer in layers:
        w = layer.weight.detach().double()
        scaled = w.flatten().numpy() * math.sqrt(w[0].numel())
        deviation = 1 / stats.truncnorm(-2, 2).std()
        assert stats.kstest(scaled, stats.truncnorm(-2, 2, scale=deviation).cdf).pvalue > 1e-4
        assert np.abs(scaled).max() <= 2 * deviation + 1e-6
        assert layer.bias is None or not layer.bias.any()
    again, other = (models.build(name, **shape, seed=seed, initialization="lecun") for seed in (0, 1))
    first = [next(p for p in m.parameters() if p.dim() > 1) for m in (model, again, other)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])
    with pytest.raises(ValueError, match="initialization = 'he': must be one of default, lecun"):
        models.build(name, **shape, seed=0, initialization="he")
    with pytest.raises(ValueError, match="initialization = 'lecun': a vit has no initialization to choose"):
        Run(dataset="digits", model="vit", width=32, initialization="lecun")


def test_snip_scores_on_the_first_batch_that_the_seed_trains_on():
    run = BASE.but(sparsity=0.8, pruner="snip", snip_samples=0, strict_threshold=False, seed=5)
    batches = Batches(run, CPU)
    x, y = next(iter(batches.epoch(5, 0)))
    model = models.build("mlp", width=0.04, in_shape=(1, 8, 8), classes=10, seed=5, initialization="lecun").double()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    kernels = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    scores = torch.cat([(k.weight * k.weight.grad).abs().flatten() for k in kernels])
    _, masks = batches.network(run)
    kept = torch.cat([m.flatten() for m in masks.values()])
    assert kept.sum() == round(0.2 * len(scores)) and scores[kept].min() >= scores[~kept].max()
    with pytest.raises(ValueError, match="snip_samples = 0: only pruner 'snip'"):
        run.but(pruner="random")


def test_all_that_ties_with_the_strict_threshold_goes():
    model = torch.nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0, 1.0, 3.0]]))
    x, y = torch.ones(1, 4), torch.zeros(1, 1)
    assert pruning.snip_mask(model, "mse", x, y, 0.25, strict=True)["weight"].tolist() == [[False, False, False, True]]
    assert pruning.snip_mask(model, "mse", x, y, 0.25)["weight"].sum() == 3


@pytest.mark.parametrize("wrong", [dict(sparsity=0.5, pruner="2:4"), dict(linearize="centered", loss="squared")])
def test_a_strict_threshold_is_refused_where_there_is_none(wrong):
    with pytest.raises(ValueError):
        Run(strict_threshold=True, **wrong)
