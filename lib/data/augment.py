"""Random crops and flips of a whole batch on its device, as one gather.

An epoch's crops and flips are drawn at once from a CPU generator, so they are the same on every device.
"""

import torch
from torch import nn

MARGIN = 4  # zeros around an image that is cropped at random


def pad(x: torch.Tensor) -> torch.Tensor:
    """Images N×C×H×W with MARGIN zeros on every side, N×C×(H+8)×(W+8): what `apply` crops from."""
    return nn.functional.pad(x, (MARGIN,) * 4)


def draw(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """For n images, the top left corner of the crop (row and column, int64, n×2, in 0..8) and whether to flip (n)."""
    offsets = torch.randint(0, 2 * MARGIN + 1, (n, 2), generator=generator)
    return offsets, torch.randint(0, 2, (n,), generator=generator).bool()


def apply(padded: torch.Tensor, index: torch.Tensor, offsets: torch.Tensor, flips: torch.Tensor) -> torch.Tensor:
    """The images `index` (B) of `padded`, cropped at `offsets` (B×2), then flipped left to right where `flips` (B).

    All on one device; B×C×H×W of padded's type. One gather of flat positions, so a batch costs one pass.
    """
    _, channels, height, width = padded.shape
    row = offsets[:, :1] + torch.arange(height - 2 * MARGIN, device=padded.device)
    column = torch.arange(width - 2 * MARGIN, device=padded.device)
    column = offsets[:, 1:] + torch.where(flips[:, None], column.flip(0), column)
    plane = index[:, None] * channels + torch.arange(channels, device=padded.device)
    position = (plane[:, :, None, None] * height + row[:, None, :, None]) * width + column[:, None, None, :]
    return padded.reshape(-1).index_select(0, position.reshape(-1)).reshape(position.shape)
