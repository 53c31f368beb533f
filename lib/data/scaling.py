"""What networks see of raw inputs: numbers in [0, 1], standardized by channel."""

import functools

import torch

from lib.data.datasets import IMAGENET, info


def scale(x: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Raw images to [0, 1]: x/255 of bytes; numbers that are no bytes as they are.

    >>> scale(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    return x.to(dtype) / (255 if x.dtype == torch.uint8 else 1)


def standardize(x: torch.Tensor, name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Raw images N×C×H×W on any device to what networks see: [0, 1], minus the mean, over the deviation, by channel.
    Folders of colour images take ImageNet's statistics, others 0.5.

    >>> white = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    >>> round(standardize(white, "mnist").max().item(), 4)  # (1 − 0.1307)/0.3081
    2.8215
    """
    mean, deviation = _statistics(name, x.shape[1], dtype, x.device)
    return (scale(x, dtype) - mean) / deviation


@functools.cache  # so that a batch on an accelerator waits for no copy
def _statistics(name: str, channels: int, dtype: torch.dtype, device: torch.device):
    if known := info(name):
        both = known.mean, known.deviation
    else:
        both = tuple(IMAGENET.values()) if channels == 3 else ((0.5,), (0.5,))
    return [torch.tensor(s, dtype=dtype, device=device)[:, None, None] for s in both]
