"""Counts of parameters against networks that are built, dense and sparse."""

import pytest
import torch

from lib import data, models
from lib.models import pruning
from lib.runs import Run, parameter_count
from lib.training.batches import Batches

LINEAR = Run(dataset="factorization", model="linear2", width=4, loss="squared")


@pytest.mark.parametrize("run", [Run(), Run(width=0.04), LINEAR, Run(dataset="digits", model="resnet18", width=2)])
def test_parameters_are_counted_without_building(run):
    classes, in_shape = data.shapes(run.dataset)
    model = models.build(run.model, width=run.width, in_shape=in_shape, classes=classes, seed=0)
    assert parameter_count.parameters(run) == models.count_parameters(model)


def test_parameters_of_a_dense_run_are_those_of_its_network():
    run = Run(width=0.5)
    assert parameter_count.remaining(run) == parameter_count.parameters(run)


def test_parameters_of_a_vit_depend_on_its_patch():
    run = Run(dataset="digits", model="vit", width=32, patch=8)
    count = models.count_parameters(Batches(run, torch.device("cpu")).network(run)[0])
    assert parameter_count.remaining(run) == parameter_count.parameters(run) == count
    # More weights in the projection of a patch, fewer learned positions.
    assert count - parameter_count.remaining(run.but(patch=4)) == 32 * (8**2 - 4**2) + 32 * (1 - 4)


@pytest.mark.parametrize("pruner", ["random", "snip"])
def test_parameters_of_a_sparse_run_are_those_its_mask_leaves(pruner):
    run = Run(dataset="digits", width=0.3, sparsity=0.83, pruner=pruner)
    model = models.build("mlp", width=0.3, in_shape=(1, 8, 8), classes=10, seed=0)
    if pruner == "random":
        mask = pruning.random_mask(model, 0.83, seed=0)
    else:
        mask = pruning.snip_mask(model, "cross_entropy", torch.rand(50, 1, 8, 8), torch.arange(50) % 10, 0.83)
    biases = 90 + 30 + 10
    assert parameter_count.remaining(run) == sum(int(m.sum()) for m in mask.values()) + biases
    assert parameter_count.parameters(run) == models.count_parameters(model) > parameter_count.remaining(run)


def test_runs_of_one_network_share_its_outline():
    run = Run(width=0.5)
    assert parameter_count.outline(run) is parameter_count.outline(
        run.but(optimizer="sam", rho=0.1, seed=3, sparsity=0.5)
    )
    assert parameter_count.outline(run) is not parameter_count.outline(run.but(width=1))
