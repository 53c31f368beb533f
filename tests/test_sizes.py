"""Counts of parameters against networks that are built, dense and sparse."""

import pytest
import torch

from lib import data, models, sizes, sparsity
from lib.batches import Batches
from lib.runs import Run

LINEAR = Run(dataset="factorization", model="linear2", width=4, loss="squared")


@pytest.mark.parametrize("run", [Run(), Run(width=0.04), LINEAR, Run(dataset="digits", model="resnet18", width=2)])
def test_parameters_are_counted_without_building(run):
    classes, in_shape = data.shapes(run.dataset)
    model = models.build(run.model, width=run.width, in_shape=in_shape, classes=classes, seed=0)
    assert sizes.parameters(run) == models.count_parameters(model)


def test_parameters_of_a_dense_run_are_those_of_its_network():
    run = Run(width=0.5)
    assert sizes.remaining(run) == sizes.parameters(run)


def test_parameters_of_a_vit_depend_on_its_patch():
    run = Run(dataset="digits", model="vit", width=32, patch=8)
    count = models.count_parameters(Batches(run, torch.device("cpu")).network(run)[0])
    assert sizes.remaining(run) == sizes.parameters(run) == count
    # More weights in the projection of a patch, fewer learned positions.
    assert count - sizes.remaining(run.but(patch=4)) == 32 * (8**2 - 4**2) + 32 * (1 - 4)


@pytest.mark.parametrize("pruner", ["random", "snip"])
def test_parameters_of_a_sparse_run_are_those_its_mask_leaves(pruner):
    run = Run(dataset="digits", width=0.3, sparsity=0.83, pruner=pruner)
    model = models.build("mlp", width=0.3, in_shape=(1, 8, 8), classes=10, seed=0)
    if pruner == "random":
        mask = sparsity.random_mask(model, 0.83, seed=0)
    else:
        mask = sparsity.snip_mask(model, "cross_entropy", torch.rand(50, 1, 8, 8), torch.arange(50) % 10, 0.83)
    biases = 90 + 30 + 10
    assert sizes.remaining(run) == sum(int(m.sum()) for m in mask.values()) + biases
    assert sizes.parameters(run) == models.count_parameters(model) > sizes.remaining(run)


def test_runs_of_one_network_share_its_outline():
    run = Run(width=0.5)
    assert sizes.outline(run) is sizes.outline(run.but(optimizer="sam", rho=0.1, seed=3, sparsity=0.5))
    assert sizes.outline(run) is not sizes.outline(run.but(width=1))
