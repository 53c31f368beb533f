"""What is measured at a minimum, against dense per-sample Hessians in float64."""

import itertools
import math
import types

import pytest
import torch
from torch import nn

from lib import models
from lib.runs import Run, flatness
from lib.training import fitting
from lib.training.batches import Batches
from lib.training.loop import Loop

RUN = Run(
    dataset="digits", width=0.05, loss="squared", lr=0.05, batch_size=20, epochs=3, n_train=40, precision="float64"
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained():
    loop = Loop([RUN], CPU)
    fitting.fit(loop)
    return loop.model.eval(), loop.data


def dense(model, x, y, classes=10):
    """H_i of the squared loss, from autograd."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    w = nn.utils.parameters_to_vector(model.parameters()).detach()

    def loss(flat, sample, label):
        parts = flat.split([math.prod(shape) for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        output = torch.func.functional_call(model, weights, (sample[None],))[0]
        return (output - nn.functional.one_hot(label, classes)).square().sum()

    hessian = torch.func.hessian(loss)
    return torch.stack([hessian(w, a, b) for a, b in zip(x, y, strict=True)])


def top(matrix):
    return torch.linalg.eigvalsh(matrix)[-1].item()


def test_sharpness_and_moments_are_those_of_dense_hessians(trained):
    model, batches = trained
    measured = flatness.flatness(None, model, batches, RUN, samples=20, batch=4, draws=2)
    x, y = batches.balanced(20)
    each = dense(model, x, y)
    h = each.mean(0)
    assert measured["a"] == pytest.approx(top(h), rel=1e-6)
    for k in (2, 3, 4):
        moment = torch.linalg.matrix_power(each, k).mean(0) - torch.linalg.matrix_power(h, k)
        assert measured[f"s{k}"] == pytest.approx(top(moment) ** (1 / k), rel=1e-6)
        assert measured[f"s{k}_converged"]
    b = torch.eye(len(h), dtype=h.dtype) - RUN.lr * each
    assert measured["stability"] == pytest.approx(top((b @ b).mean(0)), rel=1e-6)
    assert sum(measured["density_weights"]) == pytest.approx(1)


def test_the_second_moment_of_batches_is_the_expectation_over_all_of_them(trained):
    """Given 3 samples and batches of 2, then batch_s2 is the moment of the mean over all 9 draws."""
    model, batches = trained
    x, y = (part[:3] for part in batches.balanced(20))
    three = types.SimpleNamespace(balanced=lambda samples: (x, y))
    measured = flatness.flatness(None, model, three, RUN, samples=3, batch=2, draws=2)
    each = dense(model, x, y)
    h = each.mean(0)
    pairs = [(each[i] + each[j]) / 2 for i, j in itertools.product(range(3), repeat=2)]
    over_batches = top(torch.stack([p @ p for p in pairs]).mean(0) - h @ h) ** 0.5
    assert measured["batch_s2"] == pytest.approx(over_batches, rel=1e-6)


def test_what_is_drawn_comes_with_its_number_and_error(trained):
    model, batches = trained
    x, y = batches.balanced(20)
    measured = flatness.flatness(None, model, batches, RUN, samples=20, batch=4, draws=3)
    assert measured["batch_draws"] == 3 and measured["density_probes"] == 4
    assert len(measured["density_nodes"]) % 4 == 1 and measured["density_nodes"][-1] == 0  # and the null space
    for k, name in ((2, "batch_s2_drawn"), (3, "batch_s3"), (4, "batch_s4")):
        expected, error = flatness.batch_moment(model, "squared", x, y, k, 4, 3, seed=RUN.seed)
        assert (measured[name], measured[f"{name}_error"], measured[f"{name}_converged"]) == (
            expected.value,
            error,
            True,
        )
    norms = []
    for index in flatness.draw_batches(20, 4, 3, RUN.seed):
        loss = (model(x[index]) - nn.functional.one_hot(y[index], 10)).square().sum(1).mean()
        norms.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).norm())
    assert measured["batch_gradient"] == pytest.approx(torch.stack(norms).mean().item())
    assert measured["batch_gradient_error"] == pytest.approx(torch.stack(norms).std().item() / 3**0.5)
    alone = flatness.flatness(None, model, batches, RUN, samples=20, batch=4, draws=1)
    assert alone["batch_s3_error"] is None and alone["batch_gradient_error"] is None


def test_a_moment_from_few_draws_is_an_estimate_from_above(trained):
    """Given s₂(B) = s₂/√B exactly, then the mean over many estimates from two draws each is well above it."""
    model, batches = trained
    x, y = batches.balanced(20)
    exact = flatness.flatness(None, model, batches, RUN, samples=20, batch=4, draws=1)["batch_s2"]
    few = [flatness.batch_moment(model, "squared", x, y, 2, 4, 2, seed=seed)[0].eigenvalue for seed in range(40)]
    mean = torch.tensor(few).mean().item()
    assert mean - 3 * torch.tensor(few).std().item() / 40**0.5 > exact**2


@pytest.mark.parametrize(("k", "batch", "draws"), [(0, 4, 2), (2.5, 4, 2), (3, 0, 2), (3, 4, 0)])
def test_a_moment_of_no_batches_is_refused(trained, k, batch, draws):
    model, batches = trained
    with pytest.raises(ValueError, match=r"k = .*1 or more|batch = .*, draws = .*: both must be 1 or more"):
        flatness.batch_moment(model, "squared", *batches.balanced(20), k, batch, draws)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_the_moments_of_drawn_batches_are_those_of_dense_hessians(trained, k, monkeypatch):
    model, batches = trained
    x, y = batches.balanced(20)
    drawn = []
    plain = torch.randint
    monkeypatch.setattr(torch, "randint", lambda *a, **b: drawn.append(plain(*a, **b)) or drawn[-1])
    result, error = flatness.batch_moment(model, "squared", x, y, k, batch=5, draws=3)
    each = dense(model, x, y)
    means = [each[index].mean(0) for index in drawn]
    moment = torch.stack([torch.linalg.matrix_power(m, k) for m in means]).mean(0)
    assert len(means) == 3
    value = top(moment - torch.linalg.matrix_power(each.mean(0), k))
    assert result.eigenvalue == pytest.approx(value, rel=1e-6)
    # How the root moves with the weight of a draw, by the change of the whole eigenvalue: the infinitesimal jackknife.
    step, moved = 1e-5, []
    for m in means:
        more = moment + step * (torch.linalg.matrix_power(m, k) - moment)
        moved.append((top(more - torch.linalg.matrix_power(each.mean(0), k)) ** (1 / k) - value ** (1 / k)) / step)
    assert error == pytest.approx(torch.tensor(moved).std().item() / 3**0.5, rel=1e-3)


def test_the_gradient_of_batches_is_the_mean_of_its_norm(trained, monkeypatch):
    """Given batches that are the whole set in another order, then its norm is that of the whole."""
    model, batches = trained
    orders = iter([torch.randperm(20), torch.arange(20).flip(0)])
    monkeypatch.setattr(flatness, "draw_batches", lambda n, batch, draws, seed: list(orders) or [torch.arange(n)])
    measured = flatness.flatness(None, model, batches, RUN, samples=20, batch=20, draws=2)
    x, y = batches.balanced(20)
    loss = (model(x) - nn.functional.one_hot(y, 10)).square().sum(1).mean()
    norm = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).norm().item()
    assert [measured["gradient"], measured["batch_gradient"]] == pytest.approx([norm, norm])


def test_eigenvalues_that_are_equal_are_both_found():
    """Given H with its largest eigenvalue twice, when the first vector is taken out, then the second is the same."""
    run = RUN.but(width=0.02, seed=0)  # so narrow that it is dead: H is 2I on the last biases and 0 elsewhere
    model = models.build("mlp", width=0.02, in_shape=(1, 8, 8), classes=10, seed=0).double()
    with torch.no_grad():
        model[-1].weight.zero_()
        model[3].bias.fill_(-1e3)
    measured = flatness.landscape(None, model, Batches(run, CPU), run, samples=20, points=3)
    assert measured["eigenvalues"] == pytest.approx([2, 2])


def test_the_landscape_bends_along_its_axes_as_the_eigenvalues_say(trained):
    model, batches = trained
    before = [p.clone() for p in model.parameters()]
    step = 1e-4
    measured = flatness.landscape(None, model, batches, RUN, samples=20, radius=step, points=3)
    values = torch.linalg.eigvalsh(dense(model, *batches.balanced(20)).mean(0))
    assert measured["eigenvalues"] == pytest.approx(values[[-1, -2]].tolist(), rel=1e-6)
    assert measured["eigenvalues_converged"] == [True, True] and max(measured["eigenvalues_residual"]) <= 1e-8
    f = torch.tensor(measured["surface"], dtype=torch.float64)
    along = [(f[1, 2] - 2 * f[1, 1] + f[1, 0]) / step**2, (f[2, 1] - 2 * f[1, 1] + f[0, 1]) / step**2]
    assert [a.item() for a in along] == pytest.approx(measured["eigenvalues"], rel=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_an_eigenvalue_that_has_not_converged_is_told(trained, monkeypatch):
    model, batches = trained
    plain = flatness.lanczos
    monkeypatch.setattr(flatness, "lanczos", lambda *args, **options: plain(*args, **options, max_iterations=2))
    measured = flatness.landscape(None, model, batches, RUN, samples=20, points=3)
    assert measured["eigenvalues_converged"] == [False, False] and min(measured["eigenvalues_residual"]) > 1e-8


def test_millions_of_entries_are_summed_in_double_precision():
    v = torch.rand(5_000_000, generator=torch.Generator().manual_seed(0)) + 0.5
    exact = 2 * v.double().square().sum().item() * v[0].item()
    result = flatness._rank_one(types.SimpleNamespace(eigenvalue=1.0, vector=v), v)
    assert result[0].item() == pytest.approx(exact, rel=3e-7)


def test_the_loss_and_its_gradient_vanish_where_the_network_interpolates(trained):
    """Given a linear network that fits its data exactly, then all that is first-order is zero and T is stable."""
    _, batches = trained
    model = models.build("linear2", width=10, in_shape=(1, 8, 8), classes=10, seed=0).double()
    with torch.no_grad():
        x, y = batches.balanced(10)
        first, second = model.parameters()
        second.copy_(torch.eye(10))
        first.copy_((torch.linalg.pinv(x.flatten(1)) @ nn.functional.one_hot(y, 10).double()).T)
    measured = flatness.flatness(None, model, batches, RUN.but(model="linear2", width=10, lr=1e-4), samples=10, draws=1)
    assert measured["sample_loss"] < 1e-20
    assert measured["gradient"] < 1e-9
    assert measured["stable"]
