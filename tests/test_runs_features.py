"""Rank, active units and directions of hidden layers, where all three are known."""

import pytest
import torch
from torch import nn

from lib.runs import Measurement, Run, features
from lib.sweep import measure, rounds


def perceptron(rows, biases):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, len(rows)), nn.ReLU(), nn.Linear(len(rows), 2)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(rows).double())
        model[1].bias.copy_(torch.tensor(biases).double())
    return model


def test_a_layer_of_which_everything_is_known():
    # given five units, two of them one direction at different lengths, a third that points the other way, one that is
    # off everywhere, and one of zeros, on inputs ±e₁ and e₂ (the last has no component that a unit but the third sees).
    rows = [[1, 0, 0], [3, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, 0]]
    model = perceptron(rows, [0, 0, 0, -5, 0])
    x = torch.tensor([[2.0, 0, 0], [-2.0, 0, 0], [0, 1.0, 0]]).double()
    (row,) = features.layers(model, x)
    assert row["layers"] == "1" and row["units"] == 5
    assert row["active"] == 3 / 15 and row["live"] == 3 / 5 and row["directions"] == 2
    assert row["rank"] == 2  # rows (2, 6, 0), (0, 0, 2), 0 less their mean


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_the_rank_holds_99_percent_of_the_variance(noise):
    draws = torch.Generator().manual_seed(0)
    a = torch.randn(200, 3, generator=draws) @ torch.randn(3, 20, generator=draws)
    b = a + noise * torch.randn(200, 20, generator=draws)
    assert features.rank(b + 100) == features.rank(7 * b) == 3
    assert features.rank(a.T[:2]) == 1 and features.rank(torch.ones(5, 4)) == 0
    assert features.rank(torch.eye(50)) == 49  # of equal variance, of which 48/49 is too little


def test_channels_of_a_convolution_behind_a_norm():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
    with torch.no_grad():
        model[0].weight[1] = 2 * model[0].weight[0]
        model[0].bias[1] = 2 * model[0].bias[0]
        model[1].weight[3] = 0.0
        model[1].bias[3] = -1.0  # a channel that is off
    (row,) = features.layers(model, torch.randn(10, 1, 4, 4))
    assert row["layers"] == "0" and row["units"] == 4 and row["live"] == 3 / 4 and row["directions"] == 2
    with pytest.raises(ValueError, match="there are no units to count"):
        features.layers(nn.Sequential(nn.Linear(2, 2), nn.GELU()), torch.ones(1, 2))
    with pytest.raises(ValueError, match="'1': takes the output of no Linear or Conv"):
        features.layers(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.ones(1, 2))


def test_measured_in_the_call_that_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(rounds.groups, "cpu_count", lambda: 1)
    run = Run(dataset="digits", width=0.03, epochs=2, n_train=64)
    table = measure([Measurement(run, "features", {"samples": 40})], store=tmp_path, device="cpu", progress=False)
    assert table["status"].tolist() == ["done"] and table["units"][0] == [9, 3]
    assert all(0 < rank <= units for rank, units in zip(table["rank"][0], table["units"][0], strict=True))
    with pytest.raises(ValueError, match="linearize = 'centered': features are measured of networks as they are"):
        features.features(None, None, None, run.but(linearize="centered"))
