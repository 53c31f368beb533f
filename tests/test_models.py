"""The networks: sizes, shapes, structure, seeds, and widths that make no sense."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from torch import nn

from lib import models

DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "width", "in_shape", "count"),
    [
        ("mlp", 0.25, MNIST, 61_035),
        ("mlp", 1, MNIST, 266_610),
        ("mlp", 10, MNIST, 784 * 3000 + 3000 + 3000 * 1000 + 1000 + 1000 * 10 + 10),
        ("mlp", 0.01, DIGITS, 64 * 3 + 3 + 3 * 1 + 1 + 1 * 10 + 10),
        ("linear2", 4, (6, 1, 1), 6 * 4 + 4 * 10),
        ("resnet18", 4, CIFAR, 44_622),
        ("resnet18", 16, CIFAR, 701_466),
        ("resnet18", 64, CIFAR, 11_173_962),
    ],
)
def test_parameter_counts(name, width, in_shape, count):
    with torch.device("meta"):
        model = models.build(name, width=width, in_shape=in_shape, classes=10, seed=0)
    assert models.count_parameters(model) == count


def test_only_trainable_numbers_count():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    assert models.count_parameters(model) == 6 + 4


@pytest.mark.parametrize("in_shape", [DIGITS, MNIST, CIFAR])
@pytest.mark.parametrize(("name", "width"), [("linear2", 3), ("mlp", 0.04), ("resnet18", 2)])
def test_outputs(name, width, in_shape):
    model = models.build(name, width=width, in_shape=in_shape, classes=7, seed=0)
    x = torch.randn(3, *in_shape)
    output = model(x)
    assert output.shape == (3, 7) and output.dtype == torch.float32 and output.isfinite().all()
    assert model.eval()(x[:1]).shape == (1, 7)


@pytest.mark.parametrize(("name", "width"), [("linear2", 3), ("mlp", 0.04), ("resnet18", 2)])
def test_weights_come_from_the_seed_alone(name, width):
    def built(seed):
        model = models.build(name, width=width, in_shape=DIGITS, classes=10, seed=seed)
        return nn.utils.parameters_to_vector(model.parameters())

    torch.manual_seed(1)
    first, state = built(5), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # the global state was left as it was
    torch.manual_seed(2)
    assert torch.equal(built(5), first)
    assert not torch.equal(built(6), first)


def test_linear2_is_a_linear_map_of_its_rank():
    model = models.build("linear2", width=3, in_shape=(6, 1, 1), classes=10, seed=0).double()
    matrix = model(torch.eye(6, dtype=torch.float64).view(6, 6, 1, 1))
    assert torch.linalg.matrix_rank(matrix) == 3
    x = torch.randn(4, 6, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(model(x), x.flatten(1) @ matrix, rtol=0, atol=1e-14)  # and so without any bias


def test_mlp_is_lenet_300_100():
    model = models.build("mlp", width=1, in_shape=MNIST, classes=10, seed=0)
    kinds = [type(layer) for layer in model]
    assert kinds == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == [300, 100, 10]


def test_resnet18_is_torchvisions_with_the_stem_for_small_images():
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    ours = models.build("resnet18", width=64, in_shape=CIFAR, classes=10, seed=0)
    state = theirs.state_dict()
    ours.load_state_dict(dict(zip(ours.state_dict(), state.values(), strict=True)))
    x = torch.randn(4, *CIFAR)
    assert torch.equal(ours(x), theirs(x))  # in training mode: batch statistics
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_convolutions_keep_the_variance_of_what_flows_back():
    # He's initialization for ReLU: variance 2/(outputs × kernel area). The sample variance of n Gaussian numbers has
    # the relative standard error √(2/n).
    model = models.build("resnet18", width=16, in_shape=CIFAR, classes=10, seed=0)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            expected = 2 / (layer.out_channels * math.prod(layer.kernel_size))
            assert abs(layer.weight.var() / expected - 1) < 5 * math.sqrt(2 / layer.weight.numel())


@pytest.mark.parametrize(
    ("name", "width", "told"),
    [
        ("mlp", 0, "must round to 1 or more"),
        ("mlp", 0.004, "must round to 1 or more"),
        ("mlp", -1.0, "at least one each"),
        ("mlp", math.nan, "must round to 1 or more"),
        ("mlp", math.inf, "must round to 1 or more"),
        ("linear2", 0, "a linear2 needs a whole number of neurons or filters, 1 or more"),
        ("linear2", 2.5, "whole number"),
        ("resnet18", 0.5, "a resnet18 needs a whole number"),
        ("resnet18", -4, "1 or more"),
        ("resnet18", math.inf, "whole number"),
    ],
)
def test_widths_without_neurons_are_refused(name, width, told):
    with pytest.raises(ValueError) as caught:
        models.build(name, width=width, in_shape=DIGITS, classes=10, seed=0)
    assert f"width = {width!r}" in str(caught.value) and told in str(caught.value)


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(ValueError) as caught:
        models.build("resnet19", width=4, in_shape=DIGITS, classes=10, seed=0)
    assert "model = 'resnet19'" in str(caught.value) and all(name in str(caught.value) for name in models.NAMES)


def test_networks_built_by_several_threads_at_once_are_those_of_their_seeds():
    def parameters(seed):
        model = models.build("mlp", width=1, in_shape=(1, 8, 8), classes=10, seed=seed)
        return nn.utils.parameters_to_vector(model.parameters()).detach()

    expected = [parameters(seed) for seed in range(8)]
    for _ in range(5):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(parameters, range(8)))
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
