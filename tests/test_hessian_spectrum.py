"""`lib.hessian.spectrum` against dense per-sample Hessians in float64, and its solver against spectra that are
known."""

import copy
import itertools
import random
import subprocess
import sys

import pytest
import torch
from torch import nn

from lib import hessian, models
from lib.core import losses
from lib.hessian import lanczos, operators
from lib.hessian.autodiff import General
from lib.hessian.dead_units import Embedded
from lib.hessian.samples import Samples

N, OUTPUTS = 7, 3
CASES = list(itertools.product((nn.ReLU, nn.Tanh, nn.Identity), (True, False), losses.NAMES))
IDS = [f"{a.__name__}-{'bias' if b else 'nobias'}-{loss}" for a, b, loss in CASES]


def perceptron(activation=nn.ReLU, bias=True, sizes=(6, 5, 4, OUTPUTS), seed=0):
    torch.manual_seed(seed)
    layers = [nn.Flatten()]
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += ([activation()] if i else []) + [nn.Linear(a, b, bias=bias)]
    return nn.Sequential(*layers).double()


def convolutional(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(12, OUTPUTS),
    ).double()
    net(torch.randn(32, 1, 4, 4, dtype=torch.float64) + 1)  # statistics of its own
    return net.eval()


def batch(shape=(1, 2, 3), n=N, seed=1):
    torch.manual_seed(seed)
    return torch.randn(n, *shape, dtype=torch.float64), torch.randint(0, OUTPUTS, (n,))


def dense(model, loss, x, y):
    """Every H_i by torch.func.hessian of the losses as DESIGN writes them: N×P×P."""
    named = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def objective(v, x, y):
        parts = v.split([p.numel() for p in named.values()])
        weights = {n: part.view_as(p) for (n, p), part in zip(named.items(), parts, strict=True)}
        f = torch.func.functional_call(model, (weights, buffers), (x[None],))[0]
        if loss == "cross_entropy":
            return -(torch.log_softmax(f, 0) * y).sum()
        return {"mse": 0.5, "squared": 1.0}[loss] * (f - y).square().sum()

    target = y if y.is_floating_point() else nn.functional.one_hot(y, model(x[:1]).shape[1]).to(x.dtype)
    return torch.func.vmap(torch.func.hessian(objective), (None, 0, 0))(flat, x, target)


def moment(h, k):
    return torch.linalg.matrix_power(h, k).mean(0)


def central(h, k):
    return moment(h, k) - torch.linalg.matrix_power(h.mean(0), k)


def theorem9(h, eta, rho):
    eye = torch.eye(h.shape[-1], dtype=h.dtype)
    mean, second = h.mean(0), torch.linalg.matrix_power(h.mean(0), 2)
    middle = eye - eta * mean - eta * rho * second
    t = middle @ middle + eta * (eta - 2 * rho) * central(h, 2)
    return t + 2 * eta**2 * rho * central(h, 3) + eta**2 * rho**2 * central(h, 4)


def close(result, expected, scale, tolerance):
    assert (result - expected).norm() <= tolerance * scale


def both(model, loss, x, y):
    """The recursion and the general path on the same network."""
    fast = hessian.sample_hessians(model, loss, x, y)
    assert isinstance(fast, Embedded)
    target = y if loss == "cross_entropy" else nn.functional.one_hot(y, OUTPUTS).double()
    return fast, General(model, loss, Samples(x, target), outputs=OUTPUTS, memory=2**20)


# The products


@pytest.mark.parametrize("activation, bias, loss", CASES, ids=IDS)
def test_products_equal_dense_per_sample_hessians(activation, bias, loss):
    model, (x, y) = perceptron(activation, bias), batch()
    h = dense(model, loss, x, y)
    size = torch.linalg.matrix_norm(h, 2).max()
    v = torch.randn(h.shape[-1], dtype=torch.float64)
    for path in both(model, loss, x, y):
        close(operators.mean_hessian(path) @ v, h.mean(0) @ v, size * v.norm(), 1e-12)
        for k in range(1, 5):
            scale = size**k * v.norm()
            close(operators.mean_polynomial(path, {k: 1.0}) @ v, moment(h, k) @ v, scale, 1e-12)
            close(operators.central_moment(path, k) @ v, central(h, k) @ v, scale, 1e-12)
        t = theorem9(h, 0.3, 0.1)
        close(
            v + hessian.theorem9_operator(path, 0.3, 0.1) @ v, t @ v, torch.linalg.matrix_norm(t, 2) * v.norm(), 1e-12
        )


def drawn(seed):
    """A network in single precision, the same in double, loss, x and y: everything drawn independently of the rest."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    activation, bias = draw.choice((nn.ReLU, nn.Tanh, nn.Identity)), draw.random() < 0.5
    loss = draw.choice(losses.NAMES)
    sizes = [draw.randint(2, 10) for _ in range(draw.randint(2, 4))] + [draw.randint(2, 6)]
    n = draw.randint(3, 30)
    layers = []
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        layers += ([activation()] if i else []) + [nn.Linear(a, b, bias=bias)]
    single, scale = nn.Sequential(*layers), draw.choice((0.5, 1, 2))
    with torch.no_grad():
        for p in single.parameters():
            p.mul_(scale)
    x, y = torch.randn(n, sizes[0]), torch.randint(sizes[-1], (n,))
    return single, copy.deepcopy(single).double(), loss, x, y


SEEDS = (*range(16), 97, 146, 180, 203, 218, 241, 673, 859, 998)  # from 97 on: clusters that rules have misfired on


@pytest.mark.parametrize("seed", SEEDS)
def test_products_of_random_networks(seed):
    """Given any network, then both paths' products are those of dense per-sample Hessians."""
    _, model, loss, x, y = drawn(seed)
    h, fast = dense(model, loss, x.double(), y), hessian.sample_hessians(model, loss, x.double(), y)
    assert isinstance(fast, Embedded)
    size = torch.linalg.matrix_norm(h, 2).max()
    target = losses.target(loss, y, fast.outputs, torch.float64)
    general = General(model, loss, Samples(x.double(), target), outputs=fast.outputs, memory=2**20)
    v = torch.randn(fast.size, dtype=torch.float64)
    for path in (fast, general):
        for k in range(1, 5):
            close(operators.mean_polynomial(path, {k: 1.0}) @ v, moment(h, k) @ v, size**k * v.norm(), 1e-10)
            close(operators.central_moment(path, k) @ v, central(h, k) @ v, size**k * v.norm(), 1e-10)
        t = theorem9(h, 0.3, 0.1)
        close(
            v + hessian.theorem9_operator(path, 0.3, 0.1) @ v, t @ v, torch.linalg.matrix_norm(t, 2) * v.norm(), 1e-10
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_eigenvalues_of_random_networks(seed):
    """Given any network, then a, all s_k and Theorem 9 are the dense ones: to 1e-8, in single precision to 1e-5."""
    single, double, loss, x, y = drawn(seed)
    h = dense(double, loss, x.double(), y)
    size = torch.linalg.matrix_norm(h.mean(0), 2).item()
    draw = random.Random(seed)
    eta, rho = draw.choice((0.05, 0.3, 1.0)) / size, draw.choice((0.0, 0.1, 1.0)) / size
    expected = {"a": h.mean(0)} | {f"s{k}": central(h, k) for k in (2, 3, 4)}
    expected["T"] = theorem9(h, eta, rho) - torch.eye(h.shape[-1], dtype=h.dtype)
    for model, inputs, tolerance in ((double, x.double(), 1e-8), (single, x, 1e-5)):
        moments = hessian.moments(model, loss, inputs, y)
        alone = {f"s{k}": hessian.nonuniformity(model, loss, inputs, y, k) for k in (2, 3, 4)}
        theorem = {"T": hessian.stability(model, loss, inputs, y, eta=eta, rho=rho)}
        for key, e in itertools.chain(moments.items(), alone.items(), theorem.items()):
            values = torch.linalg.eigvalsh(expected[key])
            # What is left of M_k − H^k where all H_i are alike is rounding.
            norm = max(values.abs().max().item(), 1e-3 * size ** int(key[1:] or 1))
            assert e.converged and abs(e.eigenvalue - values[-1].item()) <= tolerance * norm, key


def test_gauss_newton_is_the_hessian_at_interpolation():
    model, (x, _) = perceptron(nn.Tanh), batch()
    y = model(x).detach()  # every residual is zero
    for loss in ("mse", "squared"):
        h = dense(model, loss, x, y)
        data = hessian.sample_hessians(model, loss, x, y)
        v = torch.randn(data.size, dtype=torch.float64)
        root = operators.gauss_newton_root(data)
        close(root.T @ (root @ v), h.mean(0) @ v, v.norm(), 1e-12)
        for k in (2, 3, 4):
            scale = torch.linalg.matrix_norm(h, 2).max() ** k * v.norm()
            close(operators.gauss_newton_moment(data, k) @ v, central(h, k) @ v, scale, 1e-12)
        top = lanczos.lanczos(operators.gauss_newton_dual(data)).value
        assert top == pytest.approx(torch.linalg.eigvalsh(h.mean(0))[-1].item(), rel=1e-10)


@pytest.mark.parametrize("loss", losses.NAMES)
def test_gauss_newton_blocks_and_adjoints_of_both_paths(loss):
    (x, y), model = batch(), perceptron(nn.Tanh)
    fast, general = both(model, loss, x, y)
    close(fast.blocks(), general.blocks(), 1.0, 1e-12)
    u, v = torch.randn(N * OUTPUTS, dtype=torch.float64), torch.randn(fast.size, dtype=torch.float64)
    for path in (fast, general):
        root = operators.gauss_newton_root(path)
        assert (u @ (root @ v)).item() == pytest.approx((v @ (root.T @ u)).item(), rel=1e-12)


def test_chunks_and_recomputed_activations_change_nothing():
    model, (x, y) = perceptron(nn.Tanh), batch(n=11)
    whole, v = hessian.sample_hessians(model, "mse", x, y), None
    v = torch.randn(whole.size, dtype=torch.float64)
    tight = hessian.sample_hessians(model, "mse", x, y, memory=4000)
    assert tight.live._kept is None and len(tight.live._data) > 1
    _, general = both(model, "mse", x, y)
    general.chunk = general.batch = 3
    for path in (tight, general):
        for k in (1, 3):
            close(operators.central_moment(path, k) @ v, operators.central_moment(whole, k) @ v, v.norm(), 1e-11)
        close(path.jacobian(v), whole.jacobian(v), v.norm(), 1e-12)
        u = torch.randn(11, OUTPUTS, dtype=torch.float64)
        close(path.jacobian_t(u), whole.jacobian_t(u), u.norm(), 1e-11)


def test_the_general_path_takes_as_many_samples_at_once_as_memory_holds(monkeypatch):
    model, (x, y) = convolutional(), batch((1, 4, 4), n=12)
    vector, inputs = 8 * sum(p.numel() for p in model.parameters()), 8 * 16
    sizes = {"_each": [], "_product": []}
    for name, seen in sizes.items():
        plain = getattr(General, name)

        def counted(self, x, *rest, plain=plain, seen=seen):
            seen.append(len(x))
            return plain(self, x, *rest)

        monkeypatch.setattr(General, name, counted)
    for memory, most in ((1, 1), (3 * (8 * vector + 100 * inputs), 3), (2**30, 12)):
        data = hessian.sample_hessians(model, "mse", x, y, memory=memory)
        v = torch.randn(data.size, dtype=torch.float64)
        sizes["_each"].clear()
        operators.mean_polynomial(data, {2: 1.0}) @ v
        assert max(sizes["_each"]) == most and sum(sizes["_each"]) == 12
    data = hessian.sample_hessians(model, "mse", x, y, memory=5 * 200 * inputs)
    data.recorded = None  # as where no gradient can be recorded
    sizes["_product"].clear()
    operators.mean_hessian(data) @ v
    assert sizes["_product"] == [5, 5, 2]


def test_the_general_path_keeps_to_its_memory():
    """Given 600,000 parameters and 64 samples, of which 64 MiB hold three at a time, then no more is taken; all at
    once would take a gigabyte."""
    program = """if True:
        import resource, torch
        from lib import hessian
        from lib.hessian.operators import central_moment
        torch.set_num_threads(1)
        model = torch.nn.Sequential(torch.nn.Linear(300, 2000), torch.nn.GELU(), torch.nn.Linear(2000, 3))
        x, y = torch.randn(64, 300), torch.randint(3, (64,))
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        one = central_moment(hessian.sample_hessians(model, "mse", x[:1], y[:1]), 2)
        v = torch.randn(one.shape[1])
        one @ v
        before = peak()
        central_moment(hessian.sample_hessians(model, "mse", x, y, memory=2**26), 2) @ v
        print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) <= 64


def sparse(bias=True, seed=0):
    """Given dead units in both hidden layers and inputs that never vary, one of them 0."""
    model, (x, y) = perceptron(nn.ReLU, bias, seed=seed), batch(seed=seed + 1)
    x.view(N, -1)[:, [1, 4]] = torch.tensor([0.0, -0.4], dtype=torch.float64)
    with torch.no_grad():
        for layer, unit in ((1, 2), (3, 0)):
            if bias:
                model[layer].bias[unit] = -100
            else:
                model[layer].weight[unit] = -model[layer].weight[unit].abs()
                x.abs_()
    return model, x, y


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("loss", losses.NAMES)
def test_dead_units_and_constant_inputs_are_a_null_space(loss, bias):
    model, x, y = sparse(bias)
    h, data = dense(model, loss, x, y), hessian.sample_hessians(model, loss, x, y)
    v = torch.randn(data.size, dtype=torch.float64)
    assert data.live.size <= data.size - (5 + 5 + 4 + 3)  # a unit's row in, its column out, and more
    for k in (1, 2, 3):
        scale = torch.linalg.matrix_norm(h, 2).max() ** k * v.norm()
        close(operators.mean_polynomial(data, {k: 1.0}) @ v, moment(h, k) @ v, scale, 1e-12)
        close(operators.central_moment(data, k) @ v, central(h, k) @ v, scale, 1e-12)
    u = torch.randn(data.live.size, dtype=torch.float64)
    close(data.restrict(data.extend(u)), u, u.norm(), 1e-14)
    assert (data.extend(u) @ v).item() == pytest.approx((u @ data.restrict(v)).item(), rel=1e-12)
    for k, result in zip((2, 3, 4), list(hessian.moments(model, loss, x, y).values())[1:], strict=True):
        expected = torch.linalg.eigvalsh(central(h, k))[-1].item()
        assert result.eigenvalue == pytest.approx(expected, rel=1e-8)
        assert len(result.vector) == data.size
        close(central(h, k) @ result.vector, result.eigenvalue * result.vector, result.norm, 1e-6)


def test_a_network_without_anything_live():
    """Given hidden units that are off for all samples, then only the biases of the output matter: H is the loss'."""
    model, (x, y) = perceptron(nn.ReLU), batch()
    with torch.no_grad():
        model[3].bias.fill_(-100)
    assert hessian.sharpness(model, "mse", x, y).value == pytest.approx(1, rel=1e-12)
    assert hessian.nonuniformity(model, "mse", x, y, 2).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("layer", [1, 3])
def test_a_network_without_biases_that_is_off(layer):
    """Given no biases and a hidden layer that is off for all samples, then H is 0: so is all that is asked for."""
    model, (x, y) = perceptron(nn.ReLU, bias=False), batch()
    with torch.no_grad():
        model[layer].weight.copy_(-model[layer].weight.abs())
        x.abs_()
    assert torch.equal(model(x), torch.zeros(N, OUTPUTS, dtype=x.dtype))
    moments = hessian.moments(model, "mse", x, y) | {"s5": hessian.nonuniformity(model, "mse", x, y, 5)}
    moments |= {"a alone": hessian.sharpness(model, "mse", x, y, start=torch.ones(62, dtype=x.dtype))}
    bound = hessian.stability(model, "mse", x, y, eta=0.1, rho=0.1)
    assert bound.value == 1 and hessian.is_stable(bound)
    for e in (*moments.values(), bound):
        assert e.eigenvalue == e.residual == 0 and e.converged
        assert e.vector.shape == (62,) and e.vector.norm().item() == pytest.approx(1, abs=1e-12)
    assert {e.value for e in moments.values()} == {0.0}
    density = hessian.spectral_density(model, "mse", x, y)
    assert density.nodes.abs().max() == 0 and density.weights.sum().item() == pytest.approx(1, abs=1e-12)


def test_the_null_space_is_a_mass_of_the_density():
    model, x, y = sparse()
    data = hessian.sample_hessians(model, "mse", x, y)
    density = hessian.spectral_density(model, "mse", x, y, probes=2, steps=5)
    assert density.weights.sum().item() == pytest.approx(1, abs=1e-12)
    assert density.weights[-1].item() == pytest.approx(1 - data.live.size / data.size) and density.nodes[-1] == 0


# The public functions


@pytest.mark.parametrize("activation, bias, loss", CASES, ids=IDS)
def test_eigenvalues(activation, bias, loss):
    model, (x, y) = perceptron(activation, bias), batch()
    h = dense(model, loss, x, y)
    eigen = hessian.sharpness(model, loss, x, y)
    assert eigen.converged and eigen.value == pytest.approx(torch.linalg.eigvalsh(h.mean(0))[-1].item(), rel=1e-8)
    for k in range(1, 5):
        values = torch.linalg.eigvalsh(central(h, k))
        eigen = hessian.nonuniformity(model, loss, x, y, k)
        assert eigen.converged
        assert abs(eigen.eigenvalue - values[-1].item()) <= 1e-8 * values.abs().max().item() + 1e-14
        assert abs(eigen.value) ** k == pytest.approx(abs(eigen.eigenvalue)) and eigen.value * eigen.eigenvalue >= 0
    for eta, rho in ((0.05, 0.1), (0.5, 0.1), (0.3, 0.0)):
        t = theorem9(h, eta, rho)
        eigen = hessian.stability(model, loss, x, y, eta=eta, rho=rho)
        assert eigen.converged and eigen.value == 1 + eigen.eigenvalue
        assert abs(eigen.value - torch.linalg.eigvalsh(t)[-1].item()) <= 1e-8 * max(eigen.norm, 1)


@pytest.mark.parametrize("loss", losses.NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_moments_in_one_call(loss, seed):
    """Given networks at random, with indefinite Hessians, then all moments are the dense ones, in whatever order."""
    model, (x, y) = perceptron((nn.ReLU, nn.Tanh)[seed % 2], seed=seed), batch(seed=seed)
    h = dense(model, loss, x, y)
    moments = hessian.moments(model, loss, x, y, (4, 3, 1, 2))
    assert list(moments) == ["a", "s1", "s2", "s3", "s4"] and all(e.converged for e in moments.values())
    assert moments["a"].value == pytest.approx(torch.linalg.eigvalsh(h.mean(0))[-1].item(), rel=1e-8)
    for k in range(1, 5):
        values = torch.linalg.eigvalsh(central(h, k))
        assert abs(moments[f"s{k}"].eigenvalue - values[-1].item()) <= 1e-8 * values.abs().max().item() + 1e-14


def test_negative_moment_of_odd_power():
    """Given two parameters and outputs far below their targets, then λ_max(M_3 − H³) is negative, and no NaN comes."""
    torch.manual_seed(2137)
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 1, bias=False)).double()
    x, y = torch.randn(3, 1, dtype=torch.float64), 3 * torch.randn(3, 1, dtype=torch.float64)
    expected = torch.linalg.eigvalsh(central(dense(model, "mse", x, y), 3))[-1].item()
    assert expected < 0
    eigen = hessian.nonuniformity(model, "mse", x, y, 3)
    assert eigen.converged and eigen.eigenvalue == pytest.approx(expected, rel=1e-8)
    assert eigen.value == pytest.approx(-((-expected) ** (1 / 3)), rel=1e-8)


def test_a_direction_that_all_samples_share():
    """Given one direction that dominates every H_i alike, then M_k has it on top and M_k − H^k does not."""
    model, x = nn.Linear(5, 2, bias=False).double(), batch((5,))[0] / 10
    x[:, 0] = 3
    y = torch.zeros(N, 2, dtype=torch.float64)
    h = dense(model, "mse", x, y)
    for k in (2, 3, 4):
        values = torch.linalg.eigvalsh(central(h, k))
        eigen = hessian.nonuniformity(model, "mse", x, y, k)
        assert eigen.eigenvalue == pytest.approx(values[-1].item(), rel=1e-6)
        assert torch.linalg.eigvalsh(moment(h, k))[-1] > 10 * values[-1]


def test_result_is_an_eigenpair():
    model, (x, y) = perceptron(nn.Tanh), batch()
    a = central(dense(model, "mse", x, y), 2)
    eigen = hessian.nonuniformity(model, "mse", x, y, 2)
    norm = torch.linalg.matrix_norm(a, 2)
    assert eigen.vector.norm().item() == pytest.approx(1, abs=1e-12)
    assert eigen.norm == pytest.approx(norm.item(), rel=1e-8)
    residual = ((a @ eigen.vector - eigen.eigenvalue * eigen.vector).norm() / norm).item()
    assert residual <= 1e-7 and abs(residual - eigen.residual) <= 1e-10
    again = hessian.nonuniformity(model, "mse", x, y, 2)
    assert torch.equal(again.vector, eigen.vector)  # seeded
    assert not hessian.nonuniformity(model, "mse", x, y, 2, max_iterations=2).converged


def test_convolutions_with_evaluation_mode_batch_norm():
    model, (x, y) = convolutional(), batch((1, 4, 4), n=5)
    for loss in losses.NAMES:
        h = dense(model, loss, x, y)
        data = hessian.sample_hessians(model, loss, x, y)
        assert isinstance(data, General)
        v = torch.randn(data.size, dtype=torch.float64)
        close(
            operators.central_moment(data, 3) @ v, central(h, 3) @ v, torch.linalg.matrix_norm(h, 2).max() ** 3, 1e-10
        )
        expected = torch.linalg.eigvalsh(central(h, 2))[-1].item()
        assert hessian.nonuniformity(model, loss, x, y, 2).eigenvalue == pytest.approx(expected, rel=1e-8)
        expected = torch.linalg.eigvalsh(h.mean(0))[-1].item()
        assert hessian.sharpness(model, loss, x, y).value == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
@pytest.mark.parametrize("loss", losses.NAMES)
def test_single_precision(loss, activation, bias):
    """At widths of tens: single precision is within 1e-5 of double, Theorem 9 included, relative to the values."""
    model = perceptron(activation, bias, (16, 60, 20, OUTPUTS)).float()
    x, y = (t.float() if t.is_floating_point() else t for t in batch((1, 4, 4), n=40))

    def values(model, x):
        moments = list(hessian.moments(model, loss, x, y).values())
        moments += [hessian.stability(model, loss, x, y, eta=2.5 / moments[0].value, rho=0.1)]
        return [e.value for e in moments]

    assert values(model, x) == pytest.approx(values(model.double(), x.double()), rel=1e-5)


def test_float_targets_and_one_hot_labels_agree():
    model, (x, y) = perceptron(), batch()
    target = nn.functional.one_hot(y, OUTPUTS).float()
    assert hessian.sharpness(model, "mse", x, target).value == hessian.sharpness(model, "mse", x, y).value
    assert hessian.sharpness(model, "squared", x, y).value == pytest.approx(
        2 * hessian.sharpness(model, "mse", x, y).value
    )


@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_the_model_is_left_as_it_was(make):
    model, (x, y) = make(), batch((1, 4, 4) if make is convolutional else (1, 2, 3))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    hessian.nonuniformity(model, "mse", x, y, 2)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_which_networks_take_the_recursion():
    x, y = batch()
    tied = perceptron(sizes=(6, 6, 6, OUTPUTS))
    tied[3] = tied[1]
    hooked = perceptron()
    hooked[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    for model in (tied, hooked, nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3)).double()):
        data = hessian.sample_hessians(model, "mse", x, y)
        assert isinstance(data, General)
    model = models.build("linear2", width=4, in_shape=(1, 2, 3), classes=OUTPUTS, seed=0).double()
    assert isinstance(hessian.sample_hessians(model, "mse", x, y), Embedded)


def test_stability_at_an_interpolating_minimum():
    """A constant input of zero gives T − I a null space: λ_max(T − I) is 0 up to rounding until η is too large."""
    model, (x, _) = perceptron(nn.Tanh), batch()
    x[..., 0] = 0
    y = model(x).detach()
    top = torch.linalg.eigvalsh(dense(model, "mse", x, y))[:, -1].max().item()
    calm = hessian.stability(model, "mse", x, y, eta=0.5 / top, rho=0.1 / top)
    assert calm.converged and calm.value == pytest.approx(1, abs=1e-8) and hessian.is_stable(calm)
    wild = hessian.stability(model, "mse", x, y, eta=20 / top, rho=0.1 / top)
    assert wild.converged and wild.value > 1.01 and not hessian.is_stable(wild)


# The solver


def spectrum(values, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))[0]
    return lanczos.Operator.dense(((q * values) @ q.T).to(dtype))


HARD = {
    "clustered top": torch.cat([torch.linspace(0, 0.9, 300), 1 - torch.tensor([4e-3, 3e-3, 1e-3, 0])]),
    "flat top": torch.cat([torch.linspace(0, 0.99, 400), torch.ones(5)]),
    "indefinite": torch.cat([torch.linspace(-50, 0.5, 300), torch.tensor([1.0])]),
    "all negative": -1 - torch.linspace(0, 3, 200).square(),
    "null space": torch.cat([torch.zeros(300), -torch.linspace(0.1, 1.1, 30)]),
    "one positive": torch.cat([torch.zeros(400), torch.tensor([1.0])]),
    "tiny": torch.tensor([2.0]),
    "zero": torch.zeros(20),
}


@pytest.mark.parametrize("values", HARD.values(), ids=HARD.keys())
def test_largest_eigenvalue_of_hard_spectra(values):
    values = values.double()
    eigen = lanczos.lanczos(spectrum(values))
    assert eigen.converged
    assert abs(eigen.eigenvalue - values.max().item()) <= 1e-8 * values.abs().max().item()


@pytest.mark.parametrize("name", ["clustered top", "flat top", "indefinite", "null space"])
def test_restarts_of_a_small_basis(name):
    values = HARD[name].double()
    eigen = lanczos.lanczos(spectrum(values), tol=1e-11, basis=15, max_iterations=1000)
    assert eigen.converged and eigen.iterations > 15
    assert abs(eigen.eigenvalue - values.max().item()) <= 1e-8 * values.abs().max().item()


def test_a_start_in_the_range_still_finds_the_null_space():
    operator = spectrum(HARD["null space"].double())
    start = operator @ torch.randn(operator.shape[1], dtype=torch.float64)
    assert abs(lanczos.lanczos(operator, start=start).eigenvalue) <= 1e-8


def test_the_residual_rule_does_not_misfire_in_single_precision():
    """Two values near each other over a continuum, as at trained minima: never the second one, nor a mixture."""
    for gap, seed in itertools.product((4e-3, 3e-4), range(10)):
        values = torch.cat([torch.linspace(0, 0.97, 500).double() ** 3, torch.tensor([1 - gap, 1.0]).double()])
        eigen = lanczos.lanczos(spectrum(values, seed, torch.float32), seed=seed)
        assert eigen.converged and eigen.eigenvalue == pytest.approx(1, abs=1e-5)


def test_a_start_at_the_second_eigenvector_does_not_deceive():
    """Given a start that satisfies any residual at once, then the minimum of products and the noise find the top."""
    values = torch.cat([torch.linspace(-1, 0.8, 50), torch.tensor([0.9, 1.0])]).double()
    operator = spectrum(values)
    second = torch.linalg.eigh(operator.matvec(torch.eye(len(values)).double()))[1][:, -2]
    assert lanczos.lanczos(operator, start=second, tol=1.0).iterations == 8
    assert lanczos.lanczos(operator, start=second).eigenvalue == pytest.approx(1, rel=1e-8)


def test_the_estimate_of_the_second_eigenvalue_is_from_above():
    values = torch.cat([torch.linspace(-1, 0.8, 300), torch.tensor([0.9, 1.0])]).double()
    for seed in range(5):
        eigen = lanczos.lanczos(spectrum(values, seed), tol=1e-3, seed=seed)
        assert 0.9 <= eigen.second < 1


def test_what_is_known_of_the_second_eigenvalue():
    """Given a start near the top, then one product proves it if all else is below; if not, it is as without."""
    values = torch.cat([torch.linspace(-1, 0.8, 50), torch.tensor([0.9, 1.0])]).double()
    operator = spectrum(values)
    second, top = torch.linalg.eigh(operator.matvec(torch.eye(len(values)).double()))[1][:, -2:].T
    assert lanczos.lanczos(operator, start=top, below=0.95).iterations == 1
    for below in (0.95, 0.91):
        eigen = lanczos.lanczos(operator, start=second, below=below)
        assert eigen.converged and eigen.eigenvalue == pytest.approx(1, rel=1e-8)


def test_inner_products_of_millions_of_entries():
    v = torch.rand(5_000_000, generator=torch.Generator().manual_seed(0))
    exact = v.double().square().sum().sqrt().item()
    assert lanczos.norm2(v) == pytest.approx(exact, rel=1e-7)


def test_operators_compose():
    torch.manual_seed(0)
    a, b, c = torch.randn(3, 4), torch.randn(4, 4), torch.randn(4, 3)
    one, two, three = (lanczos.Operator.dense(m) for m in (a, b, c))
    v = torch.randn(3)
    torch.testing.assert_close((one @ two**2 @ three - 2 * (one @ three)) @ v, (a @ b @ b @ c - 2 * a @ c) @ v)
    torch.testing.assert_close((one * 2) @ c[:, 0].new_ones(4), 2 * a.sum(1))
    torch.testing.assert_close((one * 2).T @ v, (2 * one).T @ v)
    torch.testing.assert_close((one @ two).T @ v, (a @ b).T @ v)
    torch.testing.assert_close((one.T + three) @ v, (a.T + c) @ v)
    with pytest.raises(ValueError, match=r"shape \(3, 4\) cannot be applied to shape \(3,\)"):
        one @ v
    with pytest.raises(ValueError, match="cannot be added"):
        one + two
    with pytest.raises(ValueError, match="square"):
        lanczos.lanczos(one)


def test_spectral_density():
    """Given all eigenvalues, then moments and the mass at zero come back within the error of the Gaussian probes."""
    values = torch.cat([torch.zeros(400), torch.linspace(1, 2, 99), torch.tensor([10.0])]).double()
    density = lanczos.spectral_density(spectrum(values), probes=20, steps=40)
    assert density.weights.sum().item() == pytest.approx(1, abs=1e-10)
    sigma = (2 / (len(values) * 20)) ** 0.5
    assert density.weights[density.nodes.abs() < 0.1].sum().item() == pytest.approx(0.8, abs=5 * sigma)
    for k in (1, 2):
        spread = 5 * sigma * values.pow(2 * k).mean().sqrt().item()
        assert (density.weights * density.nodes**k).sum().item() == pytest.approx(
            values.pow(k).mean().item(), abs=spread
        )
    grid = torch.linspace(-5, 15, 2001)
    assert density.smooth(grid, 0.1).sum().item() * 0.01 == pytest.approx(1, abs=1e-6)


def test_spectral_density_of_a_network():
    model, (x, y) = perceptron(nn.Tanh), batch()
    density = hessian.spectral_density(model, "mse", x, y, probes=3, steps=80)
    values = torch.linalg.eigvalsh(dense(model, "mse", x, y).mean(0))
    assert density.nodes.max().item() == pytest.approx(values[-1].item(), rel=1e-8)


# What is refused


def refused(match, model=None, loss="mse", x=None, y=None):
    data = batch()
    with pytest.raises(ValueError, match=match):
        hessian.sharpness(model or perceptron(), loss, data[0] if x is None else x, data[1] if y is None else y)


def test_bad_arguments():
    (x, y), model = batch(), perceptron()
    refused("loss = 'hinge': must be one of cross_entropy, mse, squared", loss="hinge")
    refused("x has 0 samples", x=x[:0], y=y[:0])
    refused("x has 6 samples and y has 7", x=x[:6])
    refused("float32 on cpu, the model torch.float64", x=x.float())
    refused("x has entries that are NaN", x=x / 0)
    refused(r"x is a numpy.ndarray: give a tensor, torch.as_tensor\(x\)", x=x.numpy())
    refused("y is a builtins.list: give a tensor", y=y.tolist())
    refused("cannot take x of shape", x=x[..., :2])
    refused("labels must be 7 numbers in 0..2", y=y + 1)
    refused("labels must be", y=y[:, None])
    refused(r"targets of shape \(7, 3\)", y=torch.randn(7, 2))
    refused("y has entries that are NaN", y=torch.full((7, 3), torch.nan))
    refused("takes class indices", loss="cross_entropy", y=torch.randn(7, 3))
    refused(r"x is a single number: .*x\[None\]", x=x[0, 0].sum())
    refused("y is a single number", y=y[0])
    refused("y is torch.bool: labels must be whole numbers", y=y > 0)
    refused("y is torch.complex64: labels must be whole numbers", y=y.to(torch.complex64))
    refused("no parameters", model=nn.Flatten())
    refused("model.float", model=perceptron().half())
    for k in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match=r"k = .*1 or more"):
            hessian.nonuniformity(model, "mse", x, y, k)
    with pytest.raises(ValueError, match=r"ks = 2: must be a sequence of powers, such as \(2,\)"):
        hessian.moments(model, "mse", x, y, 2)
    for memory in (0, -1, "1G", float("nan")):
        with pytest.raises(ValueError, match=r"memory = .*bytes above 0"):
            hessian.sharpness(model, "mse", x, y, memory=memory)
    data = hessian.sample_hessians(model, "mse", x, y)
    for length in (3, data.size + 1):
        with pytest.raises(ValueError, match=rf"start of shape \({length},\): the model has {data.size} parameters"):
            hessian.sharpness(model, "mse", x, y, start=torch.ones(length, dtype=torch.float64))
    for power in (0, 2.5, True):
        with pytest.raises(ValueError, match=r"k = .*1 or more"):
            operators.mean_hessian(data) ** power
    for power in (1, 2.5):
        with pytest.raises(ValueError, match=r"k = .* or more"):
            operators.gauss_newton_moment(data, power)
    for eta, rho in ((0.0, 0.1), (float("nan"), 0.1), (0.1, -0.1)):
        with pytest.raises(ValueError, match=r"eta = |rho = "):
            hessian.stability(model, "mse", x, y, eta=eta, rho=rho)


def test_a_power_that_overflows_is_named():
    (x, y), model = batch(), perceptron().float()
    with pytest.raises(ValueError, match=r"k = 40: .* overflow in torch.float32: take a smaller k or float64"):
        hessian.nonuniformity(model, "mse", 100 * x.float(), y, 40)
    with pytest.raises(ValueError, match=r"not finite: .* a smaller power or float64"):
        hessian.moments(model, "mse", 100 * x.float(), y, (40,))


@pytest.mark.parametrize("general", [False, True])
def test_targets_may_come_from_a_network(general):
    """Given targets with a gradient, then they are taken as the numbers that they are."""
    x, _ = batch((1, 4, 4)) if general else batch()
    model = convolutional() if general else perceptron()
    target = model(x) + 1
    eigen = hessian.sharpness(model, "mse", x, target)
    assert eigen.eigenvalue == hessian.sharpness(model, "mse", x, target.detach()).eigenvalue


def test_a_start_may_be_in_another_precision():
    (x, y), model = batch(), perceptron()
    eigen = hessian.sharpness(model, "mse", x, y)
    again = hessian.sharpness(model, "mse", x, y, start=eigen.vector.float())
    assert again.eigenvalue == pytest.approx(eigen.eigenvalue, rel=1e-8)


def test_running_statistics_are_left_as_they_are():
    x, y = batch((1, 4, 4))
    norm = nn.InstanceNorm2d(1, track_running_stats=True)
    model = nn.Sequential(norm, nn.Flatten(), nn.Linear(16, OUTPUTS)).double()
    before = norm.running_mean.clone()
    refused("InstanceNorm2d '0' would change its running statistics: model.eval", model=model, x=x)
    assert hessian.sharpness(model.eval(), "mse", x, y).converged
    assert torch.equal(norm.running_mean, before)


def test_bad_models():
    broken = perceptron()
    with torch.no_grad():
        broken[1].weight[0, 0] = torch.nan
    refused("weights that are NaN", model=broken)
    x, _ = batch((1, 4, 4))
    refused("BatchNorm2d '1' normalizes by the statistics of the batch.*model.eval", model=convolutional().train(), x=x)
    model = convolutional()
    model[4].train()
    refused("Dropout '4': dropout is on.*model.eval", model=model, x=x)
    model[4].p = 1  # an integer, and no chance
    refused("Dropout '4': dropout is on.*model.eval", model=model, x=x)
    refused(
        "BatchNorm2d", model=nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), model).double().eval(), x=x
    )
    refused("one row of outputs", model=nn.Conv2d(1, 2, 2).double(), x=x)

    class Coupled(nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1) - x.flatten(1).mean(0))

    class Random(nn.Linear):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x.flatten(1)))

    for kind in (Coupled, Random):
        refused("depends on the other samples or on chance|draws random numbers", model=kind(6, OUTPUTS).double())
