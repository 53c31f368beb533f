"""Products with the Hessians of each kind of layer against dense ones, in a network of a few parameters."""

import pytest
import torch
from test_hessian_any_model import CROSS_ENTROPY, agrees
from torch import nn

from lib import hessian

N, OUTPUTS = 3, 2
IMAGE, SERIES, ROW = (2, 4, 4), (2, 5), (4,)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.layer(x, x, x, need_weights=False)[0]


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(2, 1, 2, dropout=0.0, batch_first=True)

    def forward(self, x):
        return self.layer(x, x.flip(1))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Bilinear(2, 2, 2)

    def forward(self, x):
        return self.layer(x[:, :2], x[:, 2:])


def statistics(norm):
    """A norm with running statistics of its own."""
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    return norm


LAYERS = {
    "Linear": (lambda: nn.Linear(4, 3), ROW),
    "Bilinear": (Two, ROW),
    "Conv1d": (lambda: nn.Conv1d(2, 2, 3), SERIES),
    "Conv2d, strided": (lambda: nn.Conv2d(2, 2, 2, stride=2), IMAGE),
    "Conv2d, in groups": (lambda: nn.Conv2d(2, 2, 3, groups=2, padding=1, padding_mode="reflect"), IMAGE),
    "Conv2d, dilated": (lambda: nn.Conv2d(2, 1, 2, dilation=2), IMAGE),
    "Conv3d": (lambda: nn.Conv3d(1, 2, 2), (1, 2, 3, 3)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(2, 1, 2), SERIES),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 1, 2), IMAGE),
    "BatchNorm1d": (lambda: statistics(nn.BatchNorm1d(4)), ROW),
    "BatchNorm2d": (lambda: statistics(nn.BatchNorm2d(2)), IMAGE),
    "GroupNorm": (lambda: nn.GroupNorm(2, 2), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(4), ROW),
    "RMSNorm": (lambda: nn.RMSNorm(4), ROW),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(2, affine=True), IMAGE),
    "LocalResponseNorm": (lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.LocalResponseNorm(2)), IMAGE),
    "PReLU": (lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU()), ROW),
    "MultiheadAttention": (Attention, (2, 4)),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(2, 1, 2, batch_first=True), (2, 2)),
    "TransformerDecoderLayer": (Decoder, (2, 2)),
}
BETWEEN = {
    **{f"{kind.__name__}": kind for kind in (nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus)},
    **{f"{kind.__name__}": kind for kind in (nn.Softsign, nn.Sigmoid, nn.LogSigmoid, nn.Hardswish, nn.ReLU6)},
    **{f"{kind.__name__}": kind for kind in (nn.LeakyReLU, nn.Tanhshrink, nn.Hardtanh, nn.Softshrink)},
    "GLU": lambda: nn.GLU(1),
    "Softmax": lambda: nn.Softmax(1),
    "LogSoftmax": lambda: nn.LogSoftmax(1),
    "MaxPool2d": lambda: nn.MaxPool2d(2),
    "AvgPool2d": lambda: nn.AvgPool2d(2),
    "AdaptiveAvgPool2d": lambda: nn.AdaptiveAvgPool2d(1),
    "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d(1),
    "LPPool2d": lambda: nn.LPPool2d(2, 2),
    "Upsample": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "PixelShuffle": lambda: nn.PixelShuffle(1),
    "Unfold": lambda: nn.Unfold(2),
    "ReflectionPad2d": lambda: nn.ReflectionPad2d(1),
}


def network(layer, shape, last=None):
    """The layer, an activation that bends, and a head; or last after a convolution in place of the activation."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(layer(), last() if last else nn.Tanh()).double().eval()
        x = torch.randn(N, *shape, dtype=torch.float64)
        width = body(x)[0].numel()
        return nn.Sequential(*body, nn.Flatten(), nn.Linear(width, OUTPUTS).double()).eval(), x


@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_parameters(name):
    model, x = network(*LAYERS[name])
    agrees(model, "cross_entropy", x, torch.arange(N) % OUTPUTS)


@pytest.mark.parametrize("name", BETWEEN)
def test_what_stands_between_layers(name):
    model, x = network(lambda: nn.Conv2d(2, 2, 2), IMAGE, BETWEEN[name])
    agrees(model, CROSS_ENTROPY, x, torch.arange(N) % OUTPUTS)


class Bag(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(5, 2, mode=mode), nn.Linear(2, OUTPUTS)

    def forward(self, x):
        return self.head(self.bag(x).tanh())


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_of_embeddings_are_refused(mode):
    # torch has no second derivative of them: an Embedding and a mean over its rows has.
    x = torch.tensor([[0, 1], [1, 2], [4, 4]])
    with pytest.raises(ValueError, match=r"model has no second derivatives in torch: .*embedding_bag"):
        hessian.sharpness(Bag(mode).double(), "cross_entropy", x, torch.arange(N) % OUTPUTS)
