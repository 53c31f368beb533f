"""Crops and flips of a batch: what torchvision does image by image."""

import pytest
import torch
from torchvision.transforms import functional

from lib.data import augment


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 6, 9)])
def test_augment_is_torchvisions_crop_and_flip(shape):
    n, (_, height, width) = 200, shape
    x = torch.randint(0, 256, (n, *shape), dtype=torch.uint8)
    padded = augment.pad(x)
    assert padded.dtype == torch.uint8 and padded.shape == (n, shape[0], height + 8, width + 8)
    offsets, flips = augment.draw(n, torch.Generator().manual_seed(0))
    index = torch.randperm(n)
    result = augment.apply(padded, index, offsets, flips)
    assert result.dtype == torch.uint8 and result.is_contiguous()
    for i in range(n):
        top, left = offsets[i].tolist()
        wanted = functional.crop(functional.pad(x[index[i]], 4), top, left, height, width)
        assert torch.equal(result[i], functional.hflip(wanted) if flips[i] else wanted)


def test_no_augmentation_is_the_image():
    x = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    centre, never = torch.full((5, 2), augment.MARGIN), torch.zeros(5, dtype=torch.bool)
    assert torch.equal(augment.apply(augment.pad(x), torch.arange(5), centre, never), x)


def test_draws_are_uniform_and_the_generators_own():
    n = 90_000
    offsets, flips = augment.draw(n, torch.Generator().manual_seed(1))
    assert (
        offsets.shape == (n, 2) and offsets.dtype == torch.int64 and flips.shape == (n,) and flips.dtype == torch.bool
    )
    pairs = (offsets[:, 0] * 9 + offsets[:, 1]).bincount(minlength=81)
    assert len(pairs) == 81 and (pairs - n / 81).abs().max() < 5 * (n / 81) ** 0.5
    assert abs(flips.double().mean() - 0.5) < 5 * 0.5 / n**0.5
    again = augment.draw(n, torch.Generator().manual_seed(1))
    assert torch.equal(again[0], offsets) and torch.equal(again[1], flips)
    assert not torch.equal(augment.draw(n, torch.Generator().manual_seed(2))[0], offsets)
