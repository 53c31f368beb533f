"""A network and a data set of your own in `sweep`: `python examples/own_cnn.py STORE` trains it with SGD and SAM.

`stripes` and `cnn` below are all there is to register: runs name them as "own_cnn:stripes" and "own_cnn:cnn", that is
module and entry, and worker processes import this file by the same name. Raise an entry's `version` when what it means
changes: the name that is recorded, and so the key, is "own_cnn:cnn@1".
"""

import sys

import torch
from torch import nn

from lib.data import DatasetInfo
from lib.models import OwnModel
from lib.runs import Run
from lib.sweep import sweep

SIDE, SAMPLES = 8, {"train": 96, "test": 48}


def read(split, folder):
    """Noisy stripes, horizontal, vertical or diagonal; a set of yours would be read from `folder`, or from anywhere."""
    draws = torch.Generator().manual_seed(len(split))
    y = torch.randint(3, (SAMPLES[split],), generator=draws)
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    stripes = torch.stack([row, column, row + column])[y] // 2 % 2
    x = 0.5 * stripes + 0.5 * torch.rand(len(y), SIDE, SIDE, generator=draws)
    return (255 * x).to(torch.uint8)[:, None], y


def build(width, in_shape, classes):
    """Two convolutions; `width` is the filters of the first. The weights are drawn by torch's usual initialization."""
    return nn.Sequential(
        nn.Conv2d(in_shape[0], width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * (in_shape[1] // 2) * (in_shape[2] // 2), classes),
    )


stripes = DatasetInfo(
    read, outputs=3, shape=(1, SIDE, SIDE), samples=(96, 48), mean=(0.5,), deviation=(0.25,), version=1
)
cnn = OwnModel(build, version=1)


def grid(epochs=4):
    """SGD and SAM at two widths."""
    sgd = Run(dataset="own_cnn:stripes", model="own_cnn:cnn", lr=0.05, momentum=0.9, batch_size=32, epochs=epochs)
    return [run.but(width=width) for width in (2, 4) for run in (sgd, sgd.but(optimizer="sam", rho=0.05))]


if __name__ == "__main__":
    table = sweep(grid(), store=sys.argv[1] if len(sys.argv) > 1 else "records")
    print(table[["model", "dataset", "width", "optimizer", "status", "test_accuracy"]].to_string(index=False))
