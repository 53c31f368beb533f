"""The networks: sizes, shapes, structure, seeds, and widths that make no sense."""

import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from torch import nn

from lib import hessian, models
from lib.core import paths
from lib.runs import Run
from lib.training.batches import Batches

DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)
SMALLEST = [
    ("linear2", 3),
    ("two_layer", 3),
    ("mlp", 0.04),
    ("resnet18", 2),
    ("resnet50", 2),
    ("preact_resnet18", 2),
    ("preact_resnet34", 2),
    ("vgg11", 2),
    ("vit", 32),
]


@pytest.mark.parametrize(
    ("name", "width", "in_shape", "count"),
    [
        ("mlp", 0.25, MNIST, 61_035),
        ("mlp", 1, MNIST, 266_610),
        ("mlp", 10, MNIST, 784 * 3000 + 3000 + 3000 * 1000 + 1000 + 1000 * 10 + 10),
        ("mlp", 0.01, DIGITS, 64 * 3 + 3 + 3 * 1 + 1 + 1 * 10 + 10),
        ("linear2", 4, (6, 1, 1), 6 * 4 + 4 * 10),
        ("two_layer", 455, (20, 1, 1), 455 * (20 + 1 + 10) + 10),
        ("resnet18", 4, CIFAR, 44_622),
        ("resnet18", 16, CIFAR, 701_466),
        ("resnet18", 64, CIFAR, 11_173_962),
        ("vgg11", 64, CIFAR, 9_225_610),
        # The paper: "209k parameters" and "3.2m" for its vision transformers.
        ("vit", 64, CIFAR, 208_970),
        ("vit", 256, CIFAR, 3_195_146),
    ],
)
def test_parameter_counts(name, width, in_shape, count):
    with torch.device("meta"):
        model = models.build(name, width=width, in_shape=in_shape, classes=10, seed=0)
    assert models.count_parameters(model) == count


def test_resnet50_counts_as_torchvisions_at_width_64():
    ours = models.outline("resnet50", width=64, in_shape=(3, 224, 224), classes=1000)
    assert models.count_parameters(ours) == 25_557_032  # torchvision's ResNet50_Weights.IMAGENET1K_V2.meta


def test_parameters_of_a_vit_add_up():
    d, patches, side = 96, 49, 4
    layer = 2 * 2 * d + (3 * d * d + 3 * d) + (d * d + d) + (d * 2 * d + 2 * d) + (2 * d * d + d)
    count = side**2 * d + d + d + (patches + 1) * d + 6 * layer + 2 * d + d * 10 + 10
    assert models.count_parameters(models.outline("vit", width=d, in_shape=MNIST, classes=10)) == count


def test_only_trainable_numbers_count():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    assert models.count_parameters(model) == 6 + 4


@pytest.mark.parametrize("in_shape", [DIGITS, MNIST, CIFAR])
@pytest.mark.parametrize(("name", "width"), SMALLEST)
def test_outputs(name, width, in_shape):
    model = models.build(name, width=width, in_shape=in_shape, classes=7, seed=0)
    x = torch.randn(3, *in_shape)
    output = model(x)
    assert output.shape == (3, 7) and output.dtype == torch.float32 and output.isfinite().all()
    assert model.eval()(x[:1]).shape == (1, 7)


@pytest.mark.parametrize(("name", "width"), SMALLEST)
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


def test_torchvision_is_loaded_by_the_first_network_of_its_and_changes_no_weight():
    """Its import happens while tensors are made on the meta device and while the seed's random numbers are drawn."""
    code = (
        "import sys; from lib import models; assert 'torchvision' not in sys.modules\n"
        "asked = dict(width=2, in_shape=(3, 32, 32), classes=10)\n"
        "models.outline('resnet18', **asked); assert 'torchvision' in sys.modules\n"
        "print(sum(p.double().abs().sum().item() for p in models.build('resnet18', seed=3, **asked).parameters()))"
    )
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    model = models.build("resnet18", width=2, in_shape=(3, 32, 32), classes=10, seed=3)
    assert float(answer.stdout) == sum(p.double().abs().sum().item() for p in model.parameters())


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


def test_vgg11_is_torchvisions_with_one_linear_layer_behind():
    theirs = torchvision.models.vgg11()
    ours = models.build("vgg11", width=64, in_shape=CIFAR, classes=10, seed=0)
    *features, linear, bias = ours.state_dict()
    assert ours.state_dict()[linear].shape == (10, 512) and not ours.state_dict()[bias].any()
    state = dict(zip(features, theirs.features.state_dict().values(), strict=True))
    ours.load_state_dict(state, strict=False)
    x = torch.randn(4, *CIFAR)
    assert torch.equal(ours(x), ours[-1](theirs.features(x).flatten(1)))


def test_vgg11_has_batch_norm_only_where_asked_for():
    kinds = [
        [type(m) for m in models.build("vgg11", width=2, in_shape=CIFAR, classes=10, seed=0, batch_norm=norm).modules()]
        for norm in (False, True)
    ]
    assert [k.count(nn.BatchNorm2d) for k in kinds] == [0, 8]
    assert [k.count(nn.ReLU) for k in kinds] == [8, 8]


def test_vgg11s_initialization_keeps_a_signal_at_the_least_sharpness():
    """Against torch's default, behind which the outputs hardly depend on the image, and He's form for what flows
    forward, whose loss is much sharper; on one digit of each class."""
    run = Run(dataset="digits", model="vgg11", width=8, loss="squared")
    batches = Batches(run, torch.device("cpu"))
    x, y = batches.balanced(10)
    ours, default, forward = (batches.network(run)[0] for _ in range(3))
    torch.manual_seed(0)
    for layer in default.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    for layer in forward.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    with torch.no_grad():
        spread = {model: (model(x) - model(x).mean(0)).norm(dim=1).mean() for model in (ours, default)}
    assert spread[default] < spread[ours] / 100
    sharp = [hessian.sharpness(model, "squared", x, y).value for model in (ours, forward)]
    assert sharp[1] > 5 * sharp[0]


def test_vgg11_scales_smaller_images_up():
    model = models.build("vgg11", width=2, in_shape=DIGITS, classes=10, seed=0)
    x = torch.randn(3, *DIGITS)
    larger = nn.functional.interpolate(x, size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.equal(model(x), model[1:](larger))


def test_resnet50_is_torchvisions():
    theirs = torchvision.models.resnet50(num_classes=10)
    ours = models.build("resnet50", width=64, in_shape=CIFAR, classes=10, seed=0)
    # Theirs names the shortcut of a block after its layers, and so does ours: the order is the same.
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(4, *CIFAR)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_a_vit_is_six_layers_of_attention_and_mlp():
    """Against the equations: z ← z + MSA(LN(z)), z ← z + MLP(LN(z)), y = head(LN(z)_class)."""
    model = models.build("vit", width=64, in_shape=DIGITS, classes=10, seed=0).eval()
    nn.init.normal_(model.heads.head.weight)  # its initialization is 0
    x = torch.randn(3, *DIGITS)
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(3, 4, 16)
    z = patches @ model.conv_proj.weight.view(64, 16).T + model.conv_proj.bias
    z = torch.cat([model.class_token.expand(3, -1, -1), z], 1) + model.encoder.pos_embedding
    layers = list(model.encoder.layers)
    assert len(layers) == 6
    for layer in layers:
        h = layer.ln_1(z) @ layer.self_attention.in_proj_weight.T + layer.self_attention.in_proj_bias
        q, k, v = h.view(3, 5, 3, 2, 32).permute(2, 0, 3, 1, 4)  # two heads of 32
        a = (q @ k.mT / 32**0.5).softmax(-1) @ v
        z = z + layer.self_attention.out_proj(a.transpose(1, 2).reshape(3, 5, 64))
        first, second = (m for m in layer.mlp if isinstance(m, nn.Linear))
        assert first.out_features == 128
        z = z + second(nn.functional.gelu(first(layer.ln_2(z))))
    wanted = model.encoder.ln(z)[:, 0] @ model.heads.head.weight.T
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)


def test_the_patch_of_a_vit_may_be_given():
    model = models.build("vit", width=32, in_shape=CIFAR, classes=10, seed=0, patch=8)
    assert model.conv_proj.weight.shape == (32, 3, 8, 8) and model.encoder.pos_embedding.shape == (1, 17, 32)
    with pytest.raises(ValueError, match=r"patch = 5: cannot tile images of 32×32; 1, 2, 4, 8, 16, 32 can"):
        models.build("vit", width=32, in_shape=CIFAR, classes=10, seed=0, patch=5)


@pytest.mark.parametrize(("name", "depths"), [("preact_resnet18", (2, 2, 2, 2)), ("preact_resnet34", (3, 4, 6, 3))])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_preactivation_resnet_is_what_its_equations_say(name, depths, norm):
    # given its parameters in the order of the forward pass, when the equations are applied one by one, then these are
    # its outputs, in training mode (batch statistics; width/2 groups), and no parameter is left over
    width, f = 4, nn.functional
    model = models.build(name, width=width, in_shape=CIFAR, classes=10, seed=1, norm=norm).double().train()
    with torch.no_grad():
        for p in model.parameters():  # norms and biases start at 1 and 0
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    left, x = dict(model.named_parameters()), torch.randn(6, *CIFAR, dtype=torch.float64)

    def norm_relu(x, at):
        weight, bias = left.pop(f"{at}.weight"), left.pop(f"{at}.bias")
        if norm == "batch":
            return f.relu(f.batch_norm(x, None, None, weight, bias, training=True))
        return f.relu(f.group_norm(x, width // 2, weight, bias))

    z, block = f.conv2d(x, left.pop("0.weight"), padding=1), 0
    for stage, depth in enumerate(depths):
        for i in range(depth):
            block += 1
            stride = 2 if stage and not i else 1
            a = norm_relu(z, f"{block}.norm1")
            resized = f"{block}.shortcut.weight" in left
            assert resized == (stride == 2)  # stage 0 starts with as many filters as the stem has
            shortcut = f.conv2d(a, left.pop(f"{block}.shortcut.weight"), stride=stride) if resized else z
            inner = norm_relu(
                f.conv2d(a, left.pop(f"{block}.conv1.weight"), stride=stride, padding=1), f"{block}.norm2"
            )
            z = shortcut + f.conv2d(inner, left.pop(f"{block}.conv2.weight"), padding=1)
    pooled = norm_relu(z, str(block + 1)).mean((2, 3))
    linear = next(at for at in left if at.endswith("bias")).removesuffix("bias")
    expected = f.linear(pooled, left.pop(linear + "weight"), left.pop(linear + "bias"))
    torch.testing.assert_close(model(x), expected)
    assert not left and z.shape[1:] == (8 * width, 4, 4)


def test_a_preactivation_resnet_starts_as_released():
    # convolutions of He's normal by fan-out, norms 1 and 0, no bias at the output, whose weights are torch's
    model = models.build("preact_resnet18", width=16, in_shape=CIFAR, classes=10, seed=0)
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.out_channels * m.kernel_size[0] ** 2
            size = m.weight.numel()
            assert m.bias is None
            assert abs(m.weight.std().item() * (fan_out / 2) ** 0.5 - 1) < 5 / (2 * size) ** 0.5  # five deviations
    assert not model[-1].bias.any() and model[-1].weight.abs().max() <= 128**-0.5
    # The convolutions of resnet18, whose norms have 2 · 1200 numbers; here 2 · (64 + 112 + 224 + 448 + 128).
    assert models.count_parameters(model) == 701_466 - 2 * 1200 + 2 * 976
    with pytest.raises(ValueError, match="norm = 'layer': must be one of batch, group"):
        models.build("preact_resnet18", width=4, in_shape=CIFAR, classes=10, seed=0, norm="layer")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_group_norm_takes_the_place_of_batch_norm_with_as_many_parameters(name):
    batch, group = (models.outline(name, width=8, in_shape=CIFAR, classes=10, norm=n) for n in ("batch", "group"))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in group.modules())
    assert models.count_parameters(batch) == models.count_parameters(group)
    norms = [m for m in group.modules() if isinstance(m, nn.GroupNorm)]
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in batch.modules())
    assert all(m.num_channels // m.num_groups >= 4 and m.num_groups <= 32 for m in norms)


def test_with_group_norm_a_sample_does_not_depend_on_its_batch():
    model = models.build("resnet18", width=4, in_shape=DIGITS, classes=10, seed=0, norm="group").train()
    x = torch.randn(5, *DIGITS)
    torch.testing.assert_close(model(x)[:2], model(x[:2]), rtol=1e-5, atol=1e-5)


def test_group_norm_does_not_touch_the_other_weights_of_a_seed():
    batch, group = (
        models.build("resnet18", width=4, in_shape=DIGITS, classes=10, seed=3, norm=n) for n in ("batch", "group")
    )
    assert all(torch.equal(a, b) for a, b in zip(batch.parameters(), group.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"norm": "group"}, "norm = 'group': no option of mlp; it has initialization"),
        ("vgg11", {"norm": "group"}, "norm = 'group': no option of vgg11; it has batch_norm"),
        ("resnet18", {"patch": 4}, "patch = 4: no option of resnet18; it has norm"),
        ("resnet18", {"norm": "layer"}, "norm = 'layer': must be one of batch, group"),
    ],
)
def test_options_that_are_none_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(name, width=4, in_shape=DIGITS, classes=10, seed=0, **options)


def test_convolutions_keep_the_variance_of_what_flows_back():
    # He's initialization for ReLU: variance 2/(outputs × kernel area). The sample variance of n Gaussian numbers has
    # the relative standard error √(2/n).
    for layer in (
        layer
        for name in ("resnet18", "vgg11")
        for layer in models.build(name, width=16, in_shape=CIFAR, classes=10, seed=0).modules()
    ):
        if isinstance(layer, nn.Conv2d):
            expected = 2 / (layer.out_channels * math.prod(layer.kernel_size))
            assert abs(layer.weight.var() / expected - 1) < 5 * math.sqrt(2 / layer.weight.numel())


@pytest.mark.parametrize(
    ("name", "width", "message"),
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
        ("vgg11", 2.5, "a vgg11 needs a whole number"),
        ("resnet18", math.inf, "whole number"),
        ("resnet50", 2.5, "a resnet50 needs a whole number"),
        ("vit", 48, "a head for every 32 dimensions"),
        ("vit", 0, "a head for every 32 dimensions"),
    ],
)
def test_widths_without_neurons_are_refused(name, width, message):
    with pytest.raises(ValueError) as caught:
        models.build(name, width=width, in_shape=DIGITS, classes=10, seed=0)
    assert f"width = {width!r}" in str(caught.value) and message in str(caught.value)


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
            result = list(pool.map(parameters, range(8)))
        assert all(torch.equal(a, b) for a, b in zip(expected, result, strict=True))
