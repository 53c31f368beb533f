"""Batches of data in memory: their order, their augmentation, how many there are. (Of streams: test_streams.)"""

import pytest
import torch

from lib import data
from lib.data import augment
from lib.runs import Run
from lib.training.batches import Batches

CPU = torch.device("cpu")


def test_every_epoch_is_another_order_of_all_samples_with_the_last_partial_batch():
    run = Run(dataset="digits", n_train=70, batch_size=32)
    batches = Batches(run, CPU)
    orders = [batches.order(0, epoch) for epoch in range(3)]
    assert all(sorted(order.tolist()) == list(range(70)) for order in orders)
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders[1], orders[2])
    seen = list(batches.epoch(0, 1))
    assert [len(y) for _, y in seen] == [32, 32, 6] and batches.steps_per_epoch == 3
    x, y = batches.train
    assert torch.equal(torch.cat([x for x, _ in seen]), x[orders[1]])
    assert torch.equal(torch.cat([y for _, y in seen]), y[orders[1]])


def test_augmentation_is_drawn_for_each_seed_and_epoch_and_never_touches_evaluation(pictures, monkeypatch):
    batches, draws, draw = Batches(Run(dataset=pictures, model="resnet18", batch_size=8), CPU), [], augment.draw
    monkeypatch.setattr(augment, "draw", lambda n, random: draws.append(draw(n, random)) or draws[-1])
    epochs = [torch.cat([x for x, _ in batches.epoch(*at)]) for at in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert torch.equal(epochs[0], epochs[1])
    first, again, *others = [offsets for offsets, _ in draws]
    assert torch.equal(first, again) and not any(torch.equal(first, other) for other in others)
    images = {split: torch.cat([x for x, _ in batches.chunks(split)]) for split in ("train", "test")}
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    raw = data.load(pictures, "train").x
    torch.testing.assert_close(images["train"], (raw / 255 - mean) / deviation)
    # The order of an epoch, undone, is not the images themselves: they were cropped and flipped.
    assert not torch.equal(epochs[0], images["train"][batches.order(0, 0)])


def test_too_many_samples_are_refused():
    with pytest.raises(ValueError, match="n_train = 2000: digits has 1437 training samples"):
        Batches(Run(dataset="digits", n_train=2000), CPU)
