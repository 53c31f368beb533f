"""Wrong labels: how many, which, and that only training sees them."""

import pytest
import torch

from lib import data
from lib.core.seeds import generator
from lib.runs import Run
from lib.training.batches import Batches

CPU = torch.device("cpu")


def test_a_share_of_labels_becomes_each_other_class_as_often():
    y = torch.arange(20_000) % 4
    wrong = data.noisy(y, 0.6, 4)
    changed = wrong != y
    assert changed.sum() == 12_000 and not torch.equal(changed[:10_000], changed[10_000:])
    shifts = ((wrong - y) % 4)[changed].bincount(minlength=4)
    assert shifts[0] == 0 and (shifts[1:] - 4000).abs().max() < 4 * (12_000 * 2 / 9) ** 0.5  # four deviations
    assert torch.equal(wrong, data.noisy(y, 0.6, 4)) and torch.equal(y, torch.arange(20_000) % 4)


def test_targets_are_those_of_other_noisy_samples():
    y = torch.arange(100.0)[:, None].double()
    wrong = data.noisy(y, 0.35, 1)
    changed = (wrong != y).flatten()
    assert changed.sum() == 35 and torch.equal(wrong[changed].sort(0).values, y[changed].sort(0).values)
    assert torch.equal(data.noisy(y, 0, 1), y) and torch.equal(data.noisy(y, 0.01, 1), y)
    with pytest.raises(ValueError, match=r"share = 1.5: must be in \[0, 1\]"):
        data.noisy(y, 1.5, 1)


@pytest.mark.parametrize(
    "run",
    [
        Run(dataset="digits", label_noise=0.2, n_train=500),
        Run(dataset="student-teacher", model="two_layer", width=3, loss="squared", label_noise=0.2, n_train=500),
    ],
)
def test_only_training_sees_wrong_labels_and_every_seed_the_same(run):
    noisy, clean = Batches(run, CPU), Batches(run.but(label_noise=0), CPU)
    assert (noisy.train[1] != clean.train[1]).sum() == 100
    assert torch.equal(noisy.test[1], clean.test[1]) and torch.equal(noisy.train[0], clean.train[0])
    assert torch.equal(noisy.train[1], Batches(run.but(seed=7), CPU).train[1])
    with pytest.raises(ValueError, match=r"label_noise = 1.1: must be in \[0, 1\]"):
        run.but(label_noise=1.1)


def test_the_teacher_is_a_two_layer_network_of_ten_neurons():
    splits = [data.load("student-teacher", split) for split in ("train", "test")]
    for part, count in zip(splits, (1000, 10_000), strict=True):
        assert part.x.shape == (count, 20, 1, 1) and part.y.shape == (count, 1) and part.y.dtype == torch.float64
        # Each has mean 0 and deviation 1 up to four standard errors, of which heavy tails may double the second.
        assert abs(part.y.mean()) < 4 / count**0.5 and abs(part.y.std() - 1) < 8 / (2 * count) ** 0.5
    # Given the teacher's own ten directions, a least-squares fit with a constant leaves nothing.
    drawn = generator(0, "student-teacher", "teacher")
    b = torch.randn(10, 20, dtype=torch.float64, generator=drawn)
    features = (splits[1].x.flatten(1).double() @ b.T).relu()
    features = torch.cat([features, torch.ones(len(features), 1)], 1)
    fitted = torch.linalg.lstsq(features, splits[1].y).solution
    assert (features @ fitted - splits[1].y).abs().max() < 1e-9
    assert not torch.equal(splits[0].x, splits[1].x[:1000])
