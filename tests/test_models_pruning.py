"""Masks at initialization: how many weights they keep, which, and that what they remove stays zero."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from lib import models
from lib.models import masking, pruning
from lib.paper import experiments
from lib.runs import Run, parameter_count
from lib.training import engines, fitting, grouped
from lib.training.loop import Loop

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
    with warnings.catch_warnings(action="ignore", category=pruning.LayerCollapse):
        masks = pruning.random_mask(model, share, seed=0)
    weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}  # norms and biases have one dimension
    assert masks.keys() == weights.keys()
    for layer, mask in masks.items():
        assert mask.dtype == torch.bool and mask.shape == weights[layer].shape
        assert mask.sum() == round((1 - share) * mask.numel())


def test_random_is_a_function_of_the_seed_and_leaves_the_global_state_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, again, other = (pruning.random_mask(network(), 0.5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[n], again[n]) for n in one)
    assert not any(torch.equal(one[n], other[n]) for n in one)


def test_random_keeps_every_position_of_a_layer_as_often():
    layer, seeds, share = nn.Linear(10, 5), 500, 0.7
    kept = sum(pruning.random_mask(layer, share, seed=seed)["weight"].double() for seed in range(seeds))
    # Drawn without replacement, the 50 counts have the variance p(1 − p)·seeds and one constraint: their sum.
    square = (kept - 0.3 * seeds).square().sum() / (0.3 * 0.7 * seeds) * 49 / 50
    assert 0.001 < stats.chi2.sf(float(square), 49) < 0.999


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "squared"])
def test_snip_keeps_the_largest_scores_of_all_layers_together(loss, samples):
    model = network()
    x, y = samples
    masks = pruning.snip_mask(model, loss, x, y, 0.8)
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
    masks = pruning.snip_mask(model, "squared", torch.ones(3, 1, 2, 2), torch.zeros(3, 2), 0.4)
    assert masks["1.weight"].tolist() == [[True] * 4, [True, False, False, False]]


def test_snip_leaves_gradients_and_buffers_as_they_were(samples):
    model = network("resnet18", 4).train()
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    pruning.snip_mask(model, "cross_entropy", *samples, 0.5)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())


class Remembers(nn.Module):
    """A linear layer that keeps its last input, or a mean of its inputs, in a buffer that forward binds or creates."""

    def __init__(self, way):
        super().__init__()
        self.linear, self.way = nn.Linear(64, 10), way
        self.register_buffer("last", torch.full((64,), 5.0))
        self.register_buffer("wide", torch.ones(1).expand(64), persistent=False)

    def forward(self, x):
        if self.way == "bound to the input":
            self.last = x
        elif self.way == "bound anew":
            self.last = self.last + x.mean((0, 1, 2, 3))
        else:
            self.register_buffer("created", x.mean(0), persistent=False)
        return self.linear(x.flatten(1))


@pytest.mark.parametrize("way", ["bound to the input", "bound anew", "created"])
def test_snip_restores_buffers_that_forward_binds_or_creates(samples, way):
    # given such a network, then the mask is that of its linear layer, and samples and buffers are as before.
    (x, y), model = samples, Remembers(way)
    kept_x, buffers = x.clone(), dict(model.named_buffers())
    (mask,) = pruning.snip_mask(model, "cross_entropy", x, y, 0.9).values()
    alone = nn.Sequential(nn.Flatten(), model.linear)
    assert torch.equal(mask, pruning.snip_mask(alone, "cross_entropy", x, y, 0.9)["1.weight"])
    assert torch.equal(x, kept_x)
    found = dict(model.named_buffers())
    assert found.keys() == buffers.keys() and all(found[name] is b for name, b in buffers.items())
    assert torch.equal(model.last, torch.full((64,), 5.0)) and list(model.state_dict()) == [
        "last",
        "linear.weight",
        "linear.bias",
    ]


def test_snip_takes_its_gradients_also_where_none_are_recorded(samples):
    expected = pruning.snip_mask(network(), "cross_entropy", *samples, 0.5)
    with torch.no_grad():
        result = pruning.snip_mask(network(), "cross_entropy", *samples, 0.5)
    assert all(torch.equal(result[name], mask) for name, mask in expected.items())


def test_a_layer_that_loses_everything_is_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 2))
    with pytest.warns(pruning.LayerCollapse, match=r"2\.weight: no weight is kept"):
        pruning.random_mask(model, 0.995, seed=0)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2, float("nan"), float("inf"), "0.5", None])
def test_a_sparsity_outside_0_to_1_is_refused(share, samples):
    for make in (
        lambda: pruning.random_mask(network(), share, seed=0),
        lambda: pruning.snip_mask(network(), "mse", *samples, share),
        lambda: masking.remaining(network(), share, "random"),
    ):
        with pytest.raises(ValueError, match=r"sparsity = .*: must be in \[0, 1\)"):
            make()


def test_snip_refuses_no_data_an_unknown_loss_and_broken_weights(samples):
    x, y = samples
    with pytest.raises(ValueError, match="0 and 0 samples"):
        pruning.snip_mask(network(), "mse", x[:0], y[:0], 0.5)
    for x_or_none, y_or_none, message in ((None, None, "no and no"), (x, None, "64 and no"), (None, y, "no and 64")):
        with pytest.raises(ValueError, match=f"x, y = {message} samples: SNIP needs as many labels as samples"):
            pruning.snip_mask(network(), "mse", x_or_none, y_or_none, 0.5)
    with pytest.raises(ValueError, match="64 and 63 samples"):
        pruning.snip_mask(network(), "mse", x, y[:63], 0.5)
    with pytest.raises(ValueError, match="loss = 'hinge': must be one of cross_entropy, mse, squared"):
        pruning.snip_mask(network(), "hinge", x, y, 0.5)
    with pytest.raises(ValueError, match="not all finite"):
        pruning.snip_mask(network(), "mse", x * float("nan"), y, 0.5)


LABELS = torch.arange(64) % 10
MISFITS = [
    ("cross_entropy", lambda x: x, LABELS.float(), "cross entropy takes labels, 64 of torch.int64"),
    ("cross_entropy", lambda x: x, LABELS.int(), r"y: of torch.int32 and shape \(64,\); labels are 64 of torch.int64"),
    ("mse", lambda x: x, LABELS + 1, "labels are 64 of torch.int64 in 0 to 9"),
    ("mse", lambda x: x, LABELS - 1, "labels are 64 of torch.int64 in 0 to 9"),
    ("cross_entropy", lambda x: x, torch.full((64,), -100), "labels are 64 of torch.int64 in 0 to 9"),
    ("cross_entropy", lambda x: x, LABELS[:, None], "labels are 64 of torch.int64 in 0 to 9"),
    ("squared", lambda x: x, torch.zeros(64, 1), r"targets are of the output's shape, \(64, 10\)"),
    ("squared", lambda x: x.numpy(), LABELS, "x, y: a ndarray, must be a torch.Tensor"),
    ("squared", lambda x: x, LABELS.tolist(), "x, y: a list, must be a torch.Tensor"),
    ("squared", lambda x: x, torch.tensor(3), "x, y = 64 and no samples"),
    ("squared", lambda x: x.double(), LABELS, "x: of torch.float64, the model is of torch.float32"),
    ("squared", lambda x: x.to("meta"), LABELS, "x: on meta, the model is on cpu"),
]


@pytest.mark.parametrize(("loss", "samples_of", "y", "message"), MISFITS)
def test_snip_refuses_samples_and_labels_that_do_not_fit(samples, loss, samples_of, y, message):
    with pytest.raises(ValueError, match=message):
        pruning.snip_mask(network(), loss, samples_of(samples[0]), y, 0.5)


def test_snip_refuses_scores_that_are_all_zero(samples):
    with pytest.raises(ValueError, match="are all 0: on these samples the loss does not depend on any weight"):
        pruning.snip_mask(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "mse", 0 * samples[0], samples[1], 0.5)


def test_snip_in_half_precision_does_not_round_small_scores_to_ties(samples):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)).half()
    with torch.no_grad():
        model[1].weight.copy_(torch.logspace(-7, -4, 640).view(10, 64))  # products with gradients of 1e-4 underflow
    x = samples[0].half() * 1e-4
    masks = pruning.snip_mask(model, "cross_entropy", x, samples[1], 0.5)
    output = model.float()(x.float())
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(output, samples[1]), [model[1].weight])
    least = (model[1].weight * gradient).abs().flatten().sort(descending=True).values[319]
    result = (model[1].weight * gradient).abs() >= least
    assert (result == masks["1.weight"]).float().mean() > 0.98  # gradients themselves are rounded to half precision


class Tied(nn.Module):
    """Two layers that share a weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(self.second(self.first(x.flatten(1)).relu()).relu())


def test_a_weight_that_layers_share_is_masked_and_counted_once(samples):
    model = Tied()
    total = models.count_parameters(model)
    for masks in (pruning.random_mask(model, 0.5, seed=0), pruning.snip_mask(model, "mse", *samples, 0.5)):
        assert list(masks) == ["first.weight", "last.weight"]
        assert sum(masking.kept(masks).values()) == (64 * 64 + 640) // 2
    assert masking.remaining(model, 0.5, "random") == total - (64 * 64 + 640) // 2
    assert masking.matching(model, total) == 0
    masks = pruning.random_mask(model, 0.5, seed=0)
    assert (masking.apply(model, masks).second.weight != 0).sum() == 2048


def test_weights_that_cannot_be_masked_are_refused(samples):
    normed = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)))
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    for model, message in ((normed, "1: the weight is computed from others"), (lazy, "1: the weight has no shape yet")):
        for refused in (
            lambda model=model: pruning.random_mask(model, 0.5, seed=0),
            lambda model=model: pruning.snip_mask(model, "mse", *samples, 0.5),
            lambda model=model: pruning.nm_mask(model, 2, 4),
            lambda model=model: masking.matching(model, 100),
            lambda model=model: masking.apply(model, {}),
        ):
            with pytest.raises(ValueError, match=message):
                refused()


def test_sparsities_seeds_and_counts_may_be_numpy_s_and_not_of_other_types():
    plain = pruning.random_mask(network(), 0.5, seed=1)
    for share, seed in ((np.float16(0.5), 1), (np.float64(0.5), np.int64(1))):
        assert all(
            torch.equal(mask, plain[name]) for name, mask in pruning.random_mask(network(), share, seed=seed).items()
        )
    assert masking.remaining(nn.Linear(1000, 1000, bias=False), np.float16(0.5), "random") == 500_000
    assert masking.matching(network(), np.int64(500)) == masking.matching(network(), 500)
    for message, refused in {
        "seed = 1.0: must be a whole number": lambda: pruning.random_mask(network(), 0.5, seed=1.0),
        "sparsity = False": lambda: pruning.random_mask(network(), False, seed=1),
        "parameters = '500': must be a whole number": lambda: masking.matching(network(), "500"),
        "parameters = 500.5: must be a whole number": lambda: masking.matching(network(), 500.5),
        "keeps 2 of 4 weights, so the sparsity must be 0.5": lambda: masking.remaining(network(), 0.9, "2:4"),
        r"n, m = 2\.0, 4: must be 1 ≤ n ≤ m": lambda: pruning.nm_mask(network(), 2.0, 4),
        "n, m = None, 4: must be 1 ≤ n ≤ m": lambda: pruning.nm_mask(network(), None, 4),
    }.items():
        with pytest.raises(ValueError, match=message):
            refused()


class Beside(nn.Module):
    """A layer that nothing passes."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(64, 10), nn.Linear(3, 3)

    def forward(self, x):
        return self.used(x.flatten(1))


def test_weights_without_a_gradient_are_named(samples):
    with pytest.raises(ValueError, match=r"unused\.weight: no sample passes these layers"):
        pruning.snip_mask(Beside(), "cross_entropy", *samples, 0.5)
    frozen = network()
    frozen.get_parameter("3.weight").requires_grad_(False)
    for refused in (
        lambda: pruning.snip_mask(frozen, "cross_entropy", *samples, 0.5),
        lambda: masking.matching(frozen, 500),
        lambda: masking.remaining(frozen, 0.5, "random"),
    ):
        with pytest.raises(ValueError, match=r"^3\.weight: frozen, .* call requires_grad_\(\) first"):
            refused()


def test_a_model_with_nothing_to_prune_is_refused(samples):
    for refused in (
        lambda: pruning.snip_mask(nn.Flatten(), "mse", *samples, 0.5),
        lambda: masking.matching(nn.BatchNorm1d(3), 3),
    ):
        with pytest.raises(ValueError, match="the model has no Linear or convolution layer"):
            refused()


def test_an_unknown_pruner_has_no_count():
    with pytest.raises(ValueError, match="pruner = 'foo': must be one of random, snip, 2:4, 1:4"):
        masking.remaining(network(), 0.5, "foo")


def test_runs_score_a_thousand_balanced_samples():
    """The number is no field of a run: another one would give masks that differ from those of the records under the
    same keys. Whoever changes it has to raise `Run.recipe`."""
    asked = []

    class Batches:
        def balanced(self, count):
            asked.append(count)
            return torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 10

    pruning.masks_of(RUN.but(sparsity=0.5, pruner="snip"), network(), Batches())
    assert asked == [1000]


# N:M


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 5), (4, 4)])
@pytest.mark.parametrize(("name", "width"), [("mlp", 0.09), ("resnet18", 3)])  # 9 and 27 inputs; 3, 6, 12, 24 channels
def test_a_pattern_holds_in_every_group_also_the_last_and_keeps_the_largest(name, width, n, m):
    model = network(name, width)
    masks = pruning.nm_mask(model, n, m)
    weights = {name: p.detach() for name, p in model.named_parameters() if p.dim() > 1}
    assert masks.keys() == weights.keys()
    for layer, mask in masks.items():
        assert mask.dtype == torch.bool and mask.shape == weights[layer].shape
        for start in range(0, mask.shape[1], m):
            group, size = mask[:, start : start + m], weights[layer].abs()[:, start : start + m]
            assert (group.sum(1) == min(n, group.shape[1])).all()
            least, most = size.masked_fill(~group, math.inf).amin(1), size.masked_fill(group, -math.inf).amax(1)
            assert (least >= most).all()


def test_a_pattern_breaks_ties_by_position_and_groups_along_the_inputs():
    model = nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1, -1, 1, 1, 0, 0], [0, 3, -4, 2, 1, -2]]))
    mask = pruning.nm_mask(model, 1, 4)["weight"]
    assert mask.int().tolist() == [[1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1]]
    mask = pruning.nm_mask(model, 2, 4)["weight"]
    assert mask.int().tolist() == [[1, 1, 0, 0, 1, 1], [0, 1, 1, 0, 1, 1]]


@pytest.mark.parametrize(("n", "m"), [(0, 4), (5, 4), (-1, 4)])
def test_a_pattern_that_is_none_is_refused(n, m):
    with pytest.raises(ValueError, match=f"n, m = {n}, {m}: must be 1 ≤ n ≤ m"):
        pruning.nm_mask(network(), n, m)


def test_a_pattern_refuses_weights_that_cannot_be_compared():
    model = nn.Linear(4, 2)
    nn.init.constant_(model.weight, float("nan"))
    with pytest.raises(ValueError, match="weight: the weights hold NaN"):
        pruning.nm_mask(model, 2, 4)


@pytest.mark.parametrize("pruner", masking.PRUNERS)
@pytest.mark.parametrize(("name", "width"), [("mlp", 0.09), ("resnet18", 3)])
def test_remaining_counts_what_each_mask_leaves_without_drawing_it(pruner, name, width, samples):
    model = network(name, width)
    n, m = masking.PATTERNS.get(pruner, (3, 10))
    masks = {
        "random": lambda: pruning.random_mask(model, 1 - n / m, seed=0),
        "snip": lambda: pruning.snip_mask(model, "cross_entropy", *samples, 1 - n / m),
    }.get(pruner, lambda: pruning.nm_mask(model, n, m))()
    left = sum(int(masks[name].sum()) if name in masks else p.numel() for name, p in model.named_parameters())
    outline = models.outline(name, width=width, in_shape=(1, 8, 8), classes=10)
    assert masking.remaining(outline, 1 - n / m, pruner) == left
    assert masking.remaining(outline, 0.0, "random") == models.count_parameters(model)


# Applied to a model


def test_applying_a_mask_zeroes_what_it_removes_and_nothing_else():
    model, before = network(), network().state_dict()
    masks = pruning.random_mask(model, 0.5, seed=0)
    assert masking.apply(model, masks) is model
    for name, p in model.named_parameters():
        mask = masks.get(name, torch.ones_like(p, dtype=torch.bool))
        assert torch.equal(p[mask], before[name][mask]) and (p[~mask] == 0).all()


def test_a_mask_removes_also_what_is_not_finite():
    model = nn.Linear(4, 2)
    nn.init.constant_(model.weight, float("nan"))
    masking.apply(model, {"weight": torch.zeros(2, 4, dtype=torch.bool)})
    assert (model.weight == 0).all()


def test_a_digest_tells_masks_apart():
    one, other = (pruning.random_mask(network(), 0.5, seed=seed) for seed in (0, 1))
    assert masking.digest(one) == masking.digest({name: mask.clone() for name, mask in one.items()})
    swapped = {name: mask.clone() for name, mask in one.items()}
    swapped["1.weight"][0, :2] = swapped["1.weight"][0, :2].logical_not()
    assert len({masking.digest(masks) for masks in (one, other, swapped, {})}) == 4


def test_a_mask_that_does_not_fit_the_model_is_refused_before_anything_is_changed():
    model, before = network(), network().state_dict()
    masks = pruning.random_mask(model, 0.5, seed=0)
    misfits = {
        r"mask of '9\.weight': no Linear or convolution weight of the model; it has 1\.weight": {
            "9.weight": torch.ones(1)
        },
        r"mask of '1\.bias': no Linear or convolution weight": {"1.bias": torch.ones(30, dtype=torch.bool)},
        r"mask of '5\.weight': of shape \(10, 3\), the weight's is \(10, 10\)": {"5.weight": masks["5.weight"][:, :3]},
        r"mask of '5\.weight': a list, must be a torch\.Tensor": {"5.weight": masks["5.weight"].tolist()},
        r"mask of '5\.weight': of torch\.float32, must be torch\.bool": {"5.weight": masks["5.weight"].float()},
        r"mask of '5\.weight': on meta, the weight is on cpu": {"5.weight": masks["5.weight"].to("meta")},
    }
    for message, misfit in misfits.items():
        with pytest.raises(ValueError, match=message):
            masking.apply(model, masks | misfit)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


# In training

MASKED = [
    RUN.but(sparsity=0.5),
    RUN.but(sparsity=0.9, pruner="snip"),
    RUN.but(sparsity=0.5, pruner="2:4", seed=1),
    RUN.but(sparsity=0.5, optimizer="sam", rho=0.1),
    RUN.but(sparsity=0.75, pruner="1:4", optimizer="sam", rho=0.1),
    RUN.but(optimizer="sam", rho=0.1),
    RUN.but(sparsity=0.9, pruner="snip", optimizer="sam", rho=0.05, normalized=False),
]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_removed_weights_are_exactly_zero_after_every_step_of_both_engines(momentum, weight_decay):
    runs = [run.but(momentum=momentum, weight_decay=weight_decay) for run in MASKED]
    stack, loops = engines.Stack(runs, CPU), [Loop([run], CPU) for run in runs]
    masks = [stack.data.network(run)[1] for run in runs]
    assert [bool(mask) for mask in masks] == [run.sparsity > 0 for run in runs]

    def check(i, parameters):
        for name, p in parameters:
            if name in masks[i]:
                assert (p[~masks[i][name]] == 0).all()
                assert (p[masks[i][name]] != 0).all()

    for step, (x, y) in enumerate(stack.batches(0)):
        stack.step(step, x, y)
        for i in range(len(runs)):
            check(i, stack.network(i).named_parameters())
    for i, loop in enumerate(loops):
        for step, (x, y) in enumerate(loop.batches(0)):
            loop.step(step, x, y)
            check(i, loop.model.named_parameters())


@pytest.mark.parametrize("engine", [Loop, grouped.Grouped])
@pytest.mark.parametrize("pruner", masking.PRUNERS)
def test_removed_weights_of_a_convolutional_network_stay_zero_and_its_norms_train(pruner, engine):
    run = RUN.but(model="resnet18", width=2, n_train=128, batch_size=64, optimizer="sam", rho=0.1, precision="float32")
    run = run.but(pruner=pruner, sparsity=0.75 if pruner == "1:4" else 0.5)
    trained = engine([run], CPU)
    model, masks = trained.data.network(run)
    start = dict(model.named_parameters())
    assert trained.kept == [masking.kept(masks)]
    for step, (x, y) in enumerate(trained.batches(0)):
        trained.step(step, x, y)
        now = dict(trained.network(0).named_parameters())
        assert all((now[name][~mask] == 0).all() for name, mask in masks.items())
    assert all(not torch.equal(now[name], p) for name, p in start.items() if name not in masks)


def test_a_record_says_what_each_layer_keeps_and_which_collapsed():
    lost = RUN.but(sparsity=0.998, epochs=1)  # of the 10·10 weights of the last layer round(0.2) are kept
    with pytest.warns(pruning.LayerCollapse, match=r"5\.weight: no weight is kept"):
        records = fitting.fit(engines.Stack([RUN.but(epochs=1), RUN.but(sparsity=0.5, epochs=1), lost], CPU))
        records += fitting.fit(Loop([lost], CPU))
    dense, half, *collapsed = [record["provenance"] for record in records]
    assert "kept" not in dense
    assert half["kept"] == {"1.weight": 960, "3.weight": 150, "5.weight": 50} and half["collapsed"] == []
    for one in collapsed:
        assert one["kept"] == {"1.weight": 4, "3.weight": 1, "5.weight": 0} and one["collapsed"] == ["5.weight"]


@pytest.mark.parametrize("engine", [engines.Stack, Loop])
def test_layers_that_snip_loses_are_warned_of_and_recorded(engine):
    run = RUN.but(sparsity=0.9992, pruner="snip", epochs=1)  # two weights are left, of three layers
    with pytest.warns(pruning.LayerCollapse, match="no weight is kept") as warned:
        (record,) = fitting.fit(engine([run], CPU))
    kept, collapsed = record["provenance"]["kept"], record["provenance"]["collapsed"]
    assert sum(kept.values()) == 2 and collapsed
    assert collapsed == [name for name, count in kept.items() if count == 0]
    messages = {str(warning.message).split(":")[0] for warning in warned if warning.category is pruning.LayerCollapse}
    assert messages == set(collapsed)


def test_sparse_and_dense_runs_stacked_agree_with_each_trained_alone():
    together = fitting.fit(engines.Stack(MASKED, CPU))
    for run, record in zip(MASKED, together, strict=True):
        (alone,) = fitting.fit(Loop([run], CPU))
        # Both sum in float64 in another order; two epochs of eight steps amplify that far less than a thousandfold.
        for name in ("train_loss", "test_loss"):
            assert record["curves"][name] == pytest.approx(alone["curves"][name], rel=1e-11)


@pytest.mark.parametrize("pruner", masking.PRUNERS)
def test_the_perturbation_lives_on_what_remains_and_has_length_rho(pruner):
    share = 0.75 if pruner == "1:4" else 0.5
    run = RUN.but(sparsity=share, pruner=pruner, optimizer="sam", rho=0.3, n_train=128)
    loop, stack, seen = Loop([run], CPU), engines.Stack([run], CPU), []
    model, masks = loop.data.network(run)
    start = [p.detach() for p in model.parameters()]
    loop.model.register_forward_pre_hook(lambda m, _: seen.append([p.detach().clone() for p in m.parameters()]))
    for engine in (loop, stack):
        engine.epoch(0)  # one step: a pass at w, one at w + ε
    for perturbed in (seen[1], [layer[0] for layer in stack.perturbed.layers]):
        moved = [b - a for a, b in zip(start, perturbed, strict=True)]
        assert torch.cat([m.flatten() for m in moved]).norm() == pytest.approx(0.3, rel=1e-12)
        for (name, _), m in zip(model.named_parameters(), moved, strict=True):
            assert (m[~masks[name]] == 0).all() if name in masks else m.any()


@pytest.mark.parametrize("pruner", ["random", "snip", "2:4"])
def test_in_a_network_with_batch_norm_the_perturbation_has_length_rho_over_all_that_remains(pruner):
    run = RUN.but(model="resnet18", width=2, n_train=64, batch_size=64, optimizer="sam", rho=0.3)
    run = run.but(sparsity=0.5, pruner=pruner)
    loop, seen = Loop([run], CPU), []
    loop.model.register_forward_pre_hook(lambda m, _: seen.append([p.detach().clone() for p in m.parameters()]))
    runs = [run.but(optimizer="sgd", rho=0.0), run, run.but(rho=0.1, seed=1)]
    stack = grouped.Grouped(runs, CPU)
    for engine in (loop, stack):
        engine.epoch(0)  # one step: a pass at w, one at w + ε
    perturbed = [p.detach().unflatten(0, (2, -1)) for p in stack.climbed.parameters()]
    cases = [(run, seen[1]), *((one, [p[i] for p in perturbed]) for i, one in enumerate(runs[1:]))]
    for one, at in cases:
        model, masks = loop.data.network(one)
        moved = {n: b.view_as(a) - a.detach() for (n, a), b in zip(model.named_parameters(), at, strict=True)}
        # Weights of size 1 are rounded to 1e-16, and so is what is subtracted from them.
        assert torch.cat([m.flatten() for m in moved.values()]).norm() == pytest.approx(one.rho, rel=1e-12)
        assert all((moved[name][~mask] == 0).all() for name, mask in masks.items())
        assert all(m.any() for name, m in moved.items() if name not in masks)


def test_runs_with_different_masks_share_a_group():
    runs = [RUN, RUN.but(sparsity=0.5), RUN.but(sparsity=0.9, pruner="snip"), RUN.but(sparsity=0.5, pruner="2:4")]
    assert len(engines.partition(runs, CPU)) == 1


@pytest.mark.parametrize(("width", "kept"), [(0.5, 61035), (1.0, 61035), (2.0, 61035)])
def test_matching_sparsity_leaves_the_parameters_of_the_small_network(width, kept):
    model = models.outline("mlp", width=width, in_shape=(1, 28, 28), classes=10)
    share = masking.matching(model, kept)
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    weights = sum(p.numel() for p in model.parameters()) - biases
    assert round((1 - share) * weights) + biases == kept


@pytest.mark.parametrize("count", [0, 410, 266_611])
def test_a_count_that_cannot_be_reached_is_refused(count):
    model = models.outline("mlp", width=1.0, in_shape=(1, 28, 28), classes=10)
    with pytest.raises(ValueError, match=f"parameters = {count}: the model has 266610, of which 410 are never pruned"):
        masking.matching(model, count)


@pytest.mark.parametrize("preset", experiments.PRESETS)
def test_the_grids_of_section_6_hold_networks_of_equal_counts(preset):
    for grid in (experiments.mnist_sparse(preset), experiments.cifar_sparse(preset)):
        for budget, runs in experiments.budgets(grid).items():
            widths = {run.width for run in runs}
            assert {run.width for run in runs if run.sparsity == 0} == {min(widths)} and len(widths) >= 3
            for run in runs:
                assert abs(parameter_count.remaining(run) - budget) <= (21 if run.pruner == "random" else 0)
    assert sorted(experiments.budgets(experiments.cifar_sparse("paper"))) == [44_622, 701_466]  # "45k" and "701k"
    assert list(experiments.budgets(experiments.mnist_sparse("paper"))) == [61_035]  # "61k"


@pytest.mark.parametrize("preset", experiments.PRESETS)
def test_patterns_are_compared_with_masks_of_their_count(preset):
    grid = experiments.mnist_structured(preset)
    assert {run.pruner for run in grid} == set(masking.PRUNERS)
    for width in {run.width for run in grid}:
        counts = {run.pruner: parameter_count.remaining(run) for run in grid if run.width == width}
        assert len(counts) == 3 and max(counts.values()) - min(counts.values()) <= 2


def test_sparse_grids_of_mnist_keep_the_keys_of_their_records():
    keys = sorted(run.key for run in experiments.mnist_sparse("lite"))
    assert (len(keys), keys[0], keys[-1]) == (126, "07ca1ffa27b00046", "fe9c33cde59e7a59")
