"""Masks at initialization: how many weights they keep, which, and that what they remove stays zero."""

import warnings

import pytest
import torch
from torch import nn

from lib import ensemble, models, sparsity, train
from lib.runs import Run

CPU = torch.device("cpu")
RUN = Run(
    dataset="digits",
    width=0.1,
    epochs=2,
    batch_size=128,
    momentum=0.9,
    weight_decay=1e-2,
    precision="float64",
    n_train=500,
)


def network(name="mlp", width=0.1):
    return models.build(name, width=width, in_shape=(1, 8, 8), classes=10, seed=3)


@pytest.fixture
def samples():
    random = torch.Generator().manual_seed(0)
    return torch.randn(64, 1, 8, 8, generator=random), torch.arange(64) % 10


@pytest.mark.parametrize("share", [0.0, 0.5, 0.77, 0.999])
@pytest.mark.parametrize(("name", "width"), [("mlp", 0.1), ("resnet18", 4)])
def test_random_keeps_the_rounded_share_of_every_layer_and_touches_no_bias_or_norm(name, width, share):
    model = network(name, width)
    with warnings.catch_warnings(action="ignore", category=sparsity.LayerCollapse):
        masks = sparsity.random_mask(model, share, seed=0)
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}  # norms and biases have one dimension
    assert masks.keys() == weights.keys()
    for layer, mask in masks.items():
        assert mask.dtype == torch.bool and mask.shape == weights[layer].shape
        assert mask.sum() == round((1 - share) * mask.numel())


def test_random_is_a_function_of_the_seed_and_leaves_the_global_state_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, again, other = (sparsity.random_mask(network(), 0.5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[n], again[n]) for n in one)
    assert not any(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "squared"])
def test_snip_keeps_the_largest_scores_of_all_layers_together(loss, samples):
    model = network()
    x, y = samples
    masks = sparsity.snip_mask(model, loss, x, y, 0.8)
    target = y if loss == "cross_entropy" else nn.functional.one_hot(y, 10).float()
    value = {
        "cross_entropy": lambda f: nn.functional.cross_entropy(f, target),
        "mse": lambda f: 0.5 * (f - target).square().sum(1).mean(),
        "squared": lambda f: (f - target).square().sum(1).mean(),
    }[loss](model(x))
    value.backward()
    scores = {n: (p * p.grad).abs().detach() for n, p in model.named_parameters() if n in masks}
    count = sum(mask.numel() for mask in masks.values())
    assert sum(mask.sum() for mask in masks.values()) == round(0.2 * count)
    least_kept = min(scores[n][mask].min() for n, mask in masks.items() if mask.any())
    assert all((scores[n][~mask] <= least_kept).all() for n, mask in masks.items())


def test_snip_breaks_ties_by_position_and_keeps_the_exact_number():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    nn.init.ones_(model[1].weight)
    masks = sparsity.snip_mask(model, "squared", torch.ones(3, 1, 2, 2), torch.zeros(3, 2), 0.4)
    assert masks["1.weight"].tolist() == [[True] * 4, [True, False, False, False]]


def test_snip_leaves_gradients_and_buffers_as_they_were(samples):
    model = network("resnet18", 4).train()
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    sparsity.snip_mask(model, "cross_entropy", *samples, 0.5)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())


def test_a_layer_that_loses_everything_is_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 2))
    with pytest.warns(sparsity.LayerCollapse, match=r"2\.weight: no weight is kept"):
        sparsity.random_mask(model, 0.995, seed=0)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, float("nan")])
def test_a_sparsity_outside_0_to_1_is_refused(share, samples):
    for make in (
        lambda: sparsity.random_mask(network(), share, seed=0),
        lambda: sparsity.snip_mask(network(), "mse", *samples, share),
    ):
        with pytest.raises(ValueError, match=r"sparsity = .*: must be in \[0, 1\)"):
            make()


def test_snip_refuses_no_data_an_unknown_loss_and_broken_weights(samples):
    x, y = samples
    with pytest.raises(ValueError, match="0 and 0 samples"):
        sparsity.snip_mask(network(), "mse", x[:0], y[:0], 0.5)
    with pytest.raises(ValueError, match="64 and 63 samples"):
        sparsity.snip_mask(network(), "mse", x, y[:63], 0.5)
    with pytest.raises(ValueError, match="loss = 'hinge': must be one of cross_entropy, mse, squared"):
        sparsity.snip_mask(network(), "hinge", x, y, 0.5)
    with pytest.raises(ValueError, match="not all finite"):
        sparsity.snip_mask(network(), "mse", x * float("nan"), y, 0.5)


# In training

MASKED = [
    RUN.but(sparsity=0.5),
    RUN.but(sparsity=0.9, pruner="snip"),
    RUN.but(sparsity=0.5, optimizer="sam", rho=0.1),
    RUN.but(optimizer="sam", rho=0.1),
    RUN.but(sparsity=0.9, pruner="snip", optimizer="sam", rho=0.05, normalized=False),
]


def test_removed_weights_are_exactly_zero_after_training_and_kept_ones_are_not():
    stack = ensemble.Stack(MASKED, CPU)
    stack.epoch(0)
    loops = [train.Loop([run], CPU) for run in MASKED]
    for i, (run, loop) in enumerate(zip(MASKED, loops, strict=True)):
        loop.epoch(0)
        _, masks = stack.data.network(run)
        assert bool(masks) == (run.sparsity > 0)
        for at, (name, p) in enumerate(loop.model.named_parameters()):
            for trained in (p.detach(), stack.weights.layers[at][i].reshape(p.shape)):
                if name in masks:
                    assert (trained[~masks[name]] == 0).all()
                    assert (trained[masks[name]] != 0).all()


def test_sparse_and_dense_runs_stacked_agree_with_each_trained_alone():
    together = train.fit(ensemble.Stack(MASKED, CPU))
    for run, record in zip(MASKED, together, strict=True):
        (alone,) = train.fit(train.Loop([run], CPU))
        # Both sum in float64 in another order; two epochs of eight steps amplify that far less than a thousandfold.
        for name in ("train_loss", "test_loss"):
            assert record["curves"][name] == pytest.approx(alone["curves"][name], rel=1e-11)


def test_the_perturbation_lives_on_what_remains_and_has_length_rho(monkeypatch):
    run = RUN.but(sparsity=0.8, optimizer="sam", rho=0.3, n_train=128)
    loop, seen = train.Loop([run], CPU), []
    weights = [p.detach().clone() for p in loop.model.parameters()]
    loop.model.register_forward_pre_hook(lambda m, _: seen.append([p.detach().clone() for p in m.parameters()]))
    loop.epoch(0)
    moved = [b - a for a, b in zip(weights, seen[1], strict=True)]
    assert torch.cat([m.flatten() for m in moved]).norm() == pytest.approx(0.3, rel=1e-12)
    _, masks = loop.data.network(run)
    for (name, _), m in zip(loop.model.named_parameters(), moved, strict=True):
        assert name not in masks or (m[~masks[name]] == 0).all()


def test_runs_with_different_masks_share_a_group():
    runs = [RUN, RUN.but(sparsity=0.5), RUN.but(sparsity=0.9, pruner="snip")]
    assert len(ensemble.partition(runs, CPU)) == 1
