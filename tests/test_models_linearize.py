"""Centered networks, tangent models, tangent kernels and stability of activations, each against its definition."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from lib import models
from lib.core import losses
from lib.models import linearize
from lib.models.linearize import Centered, Tangent, activation_stability
from lib.paper import experiments
from lib.sam import SAM

SHAPE = (1, 8, 8)
SMALL = [("mlp", 0.05), ("vgg11", 1), ("resnet18", 1)]


def network(name="mlp", width=0.05, seed=0) -> nn.Module:
    return models.build(name, width=width, in_shape=SHAPE, classes=4, seed=seed).double().eval()


def samples(n=6, seed=1) -> torch.Tensor:
    return torch.randn(n, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moved(model: nn.Module, length: float) -> nn.Module:
    """A copy with its weights moved by `length` in a random direction."""
    other = copy.deepcopy(model)
    w = parameters_to_vector(other.parameters()).detach()
    step = torch.randn(w.shape, dtype=w.dtype, generator=torch.Generator().manual_seed(2))
    vector_to_parameters(w + length * step / step.norm(), other.parameters())
    return other


def jacobian(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """N×K×P, a row for every output of every sample, one backward pass each."""
    rows = []
    for value in model(x).flatten():
        grads = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows).view(len(x), -1, len(rows[0]))


# Centered


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "width"), SMALL)
def test_a_centered_network_is_exactly_zero_at_initialization(name, width, training):
    for model in (network(name, width), network(name, width).float()):
        centered = Centered(model).train(training)
        x = samples().to(next(model.parameters()).dtype)
        assert torch.equal(centered(x), torch.zeros(6, 4, dtype=x.dtype))


def test_a_centered_network_is_the_model_minus_what_it_was():
    model, x = network(), samples()
    start = model(x).detach()
    centered = Centered(model)
    assert centered.model is model
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    assert torch.equal(centered(x), model(x) - start)


def test_only_the_model_is_trained_and_the_copy_stays_what_it_was():
    model, x = network(), samples()
    names = [name for name, _ in model.named_parameters()]
    centered = Centered(model)
    assert [id(p) for p in centered.parameters()] == [id(p) for p in model.parameters()]
    initial = copy.deepcopy(centered.initial.state_dict())
    assert list(initial) == names
    optimizer = torch.optim.SGD(centered.parameters(), lr=0.1, weight_decay=0.1)
    (centered(x) - 1).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(initial[name], value) for name, value in centered.initial.state_dict().items())
    assert centered(x).abs().max() > 0


def test_a_saved_centered_network_can_be_loaded_into_another():
    trained, other, x = Centered(network(seed=0)), Centered(network(seed=5)), samples()
    with torch.no_grad():
        next(trained.parameters()).add_(0.1)
    other.load_state_dict(trained.state_dict())
    assert torch.equal(other(x), trained(x)) and trained(x).abs().max() > 0


def test_the_copy_is_in_the_same_mode_and_moves_along():
    centered = Centered(network("resnet18", 1))
    for training in (True, False):
        centered.train(training)
        assert all(m.training == training for m in centered.modules())
    centered.float()
    assert all(b.dtype == torch.float32 for b in centered.buffers() if b.is_floating_point())


def test_tied_weights_are_one_in_the_copy_too():
    layer = nn.Linear(3, 3).double()
    model, x = nn.Sequential(layer, nn.Tanh(), layer), torch.randn(5, 3, dtype=torch.float64)
    tangent = Tangent(model, centered=True)
    assert len(list(tangent.parameters())) == 2
    step = [torch.randn_like(p) for p in model.parameters()]
    with torch.no_grad():
        for d, s in zip(tangent.parameters(), step, strict=True):
            d.copy_(s)
    wanted = jacobian(model, x) @ torch.cat([s.flatten() for s in step])
    torch.testing.assert_close(tangent(x), wanted, rtol=1e-12, atol=1e-13)


# The tangent model


@pytest.mark.parametrize(("name", "width"), SMALL)
def test_a_tangent_model_is_the_dense_jacobian_times_the_displacement(name, width):
    model, x = network(name, width), samples()
    target = moved(model, 0.7)
    tangent, centered = Tangent(model), Tangent(model, centered=True)
    assert torch.equal(tangent(x), model(x)) and not centered(x).any()
    for t in (tangent, centered):
        with torch.no_grad():
            for d, a, b in zip(t.displacement, target.parameters(), model.parameters(), strict=True):
                d.copy_(a - b)
    step = parameters_to_vector(target.parameters()) - parameters_to_vector(model.parameters())
    wanted = (jacobian(model, x) @ step).detach()
    torch.testing.assert_close(centered(x), wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(tangent(x), model(x) + wanted, rtol=1e-10, atol=1e-12)


def test_a_tangent_model_is_the_limit_of_finite_differences():
    """Central differences of a smooth network are off by O(h²): a tenth of h is off by a hundredth."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    x, tangent = samples(), Tangent(model, centered=True)
    direction = moved(model, 1.0)
    with torch.no_grad():
        for d, a, b in zip(tangent.displacement, direction.parameters(), model.parameters(), strict=True):
            d.copy_(a - b)
    errors = []
    for h in (1e-2, 1e-3):
        difference = (moved(model, h)(x) - moved(model, -h)(x)) / (2 * h)
        errors.append((difference - tangent(x)).norm().item())
    assert errors[0] < 1e-3 and errors[1] / errors[0] == pytest.approx(0.01, rel=0.05)


def test_gradients_in_the_displacement_are_those_of_the_linear_model():
    model, x = network("vgg11", 1), samples()
    tangent, target = Tangent(model, centered=True), torch.randn(6, 4, dtype=torch.float64)
    (tangent(x) - target).square().sum().backward()
    wanted = -2 * torch.einsum("nk,nkp->p", target, jacobian(model, x))
    result = torch.cat([p.grad.flatten() for p in tangent.parameters()])
    torch.testing.assert_close(result, wanted, rtol=1e-9, atol=1e-10 * wanted.abs().max().item())


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="linearize = 'lazy': must be one of none, centered, tangent"):
        linearize.wrap(network(), "lazy")
    model = network()
    assert linearize.wrap(model, "none") is model


# Training: a large α gives the tangent model, and what SAM makes of α


def trained(model: nn.Module, alpha: float, rho: float = 0.0, normalized=True, steps=40) -> torch.Tensor:
    """αf on other samples after full-batch training on ‖f − y/α‖²."""
    x, y = samples(12, seed=3), one_hot(torch.arange(12) % 4, 4).double() / alpha
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=rho, normalized=normalized, lr=0.05, momentum=0.9)

    def closure():
        optimizer.zero_grad()
        loss = losses.per_sample("squared", model(x), y).mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return alpha * model(samples(20, seed=4)).detach()


def test_at_large_alpha_a_centered_network_predicts_what_its_tangent_model_does():
    """The weights move by O(1/α), so αf̄ differs from the tangent model's by O(1/α) where no ReLU changes sign, and not
    by much more where a few do: below 1e-3 at α = 1e4, and a thousandth of that at 1e7."""
    wanted = trained(Tangent(network(), centered=True), alpha=1.0)
    errors = {}
    for alpha in (1.0, 1e4, 1e7):
        result = trained(Centered(network()), alpha)
        errors[alpha] = ((result - wanted).norm() / wanted.norm()).item()
    assert errors[1.0] > 0.1 and errors[1e4] < 1e-3 and errors[1e7] < 1e-6


@pytest.mark.parametrize("alpha", [0.1, 30.0, 1000.0])
def test_a_tangent_model_is_the_same_at_every_alpha_with_the_same_learning_rate(alpha):
    once, scaled = (trained(Tangent(network(), centered=True), a) for a in (1.0, alpha))
    torch.testing.assert_close(scaled, once, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("alpha", [0.1, 30.0, 1000.0])
def test_on_a_tangent_model_sam_at_alpha_is_sam_with_the_radius_times_alpha(alpha):
    rho = 0.05
    once = trained(Tangent(network(), centered=True), 1.0, rho)
    scaled = trained(Tangent(network(), centered=True), alpha, rho / alpha)
    torch.testing.assert_close(scaled, once, rtol=1e-8, atol=1e-10)
    # Unnormalized, ε = ρg shrinks with the gradient by itself, and ρ stays what it is.
    once, scaled = (trained(Tangent(network(), centered=True), a, rho, normalized=False) for a in (1.0, alpha))
    torch.testing.assert_close(scaled, once, rtol=1e-8, atol=1e-10)


# Stability of activations


def test_stability_counts_units_and_samples_whose_sign_is_kept():
    """Four units of weights 1, −1, 2 and −2 on the inputs 1 and −1, half of them active; then two units are turned."""

    def relus(weights):
        model = nn.Sequential(nn.Linear(1, 4, bias=False), nn.ReLU())
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor(weights)[:, None])
        return model

    x, before = torch.tensor([[1.0], [-1.0]]), relus([1.0, -1.0, 2.0, -2.0])
    assert activation_stability(before, relus([3.0, -0.1, 2.0, -2.0]), x) == 1.0
    assert activation_stability(before, relus([-1.0, -1.0, 2.0, 2.0]), x) == 0.5
    assert activation_stability(before, relus([-1.0, 1.0, -2.0, 2.0]), x) == 0.0
    # At 0 a unit is not active: it agrees with the unit of weight 1 on −1 only, and with that of −1 on 1 only.
    assert activation_stability(before, relus([0.0, -1.0, 2.0, -2.0]), x) == 7 / 8


def test_stability_counts_every_layer_by_its_size_and_every_call():
    """Against the pre-activations of an MLP, layer by layer, and for the ReLU that a residual block calls twice."""
    before, after = network(width=0.1), moved(network(width=0.1), 2.0)
    x, same, units = samples(40), 0, 0
    for depth in (2, 4):
        signs = [m[:depth](x) > 0 for m in (before, after)]
        same, units = same + (signs[0] == signs[1]).sum().item(), units + signs[0].numel()
    assert activation_stability(before, after, x) == same / units
    assert 0.5 < same / units < 1
    calls = linearize._active(network("resnet18", 1), x[:1])
    assert len(calls) == 1 + 8 * 2 and calls[0].shape == (1, 1, 8, 8)


def test_stability_of_many_samples_is_the_mean_of_its_parts():
    before, after, x = network(), moved(network(), 2.0), samples(2 * linearize.CHUNK + 7)
    parts = [activation_stability(before, after, part) * len(part) for part in x.split(200)]
    assert activation_stability(before, after, x) == pytest.approx(sum(parts) / len(x), rel=1e-12)


def test_of_a_centered_network_the_trained_part_counts_and_nothing_is_changed():
    before, after, x = network("resnet18", 1), moved(network("resnet18", 1), 2.0).train(), samples()
    wanted = activation_stability(before, after, x)
    state = copy.deepcopy(after.state_dict())
    assert wanted < 1 and activation_stability(Centered(before), Centered(after), x) == wanted
    assert activation_stability(before, Centered(after), x) == wanted
    assert after.training and all(m.training for m in after.modules())
    assert all(torch.equal(state[name], value) for name, value in after.state_dict().items())
    assert not any(m._forward_hooks for m in after.modules())


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (network("linear2", 2), network("linear2", 2), "before is a Sequential without nn.ReLU modules"),
        (network(width=0.05), network(width=0.06), r"different architectures: at '1.weight' one has \(15, 64\)"),
        (network(), network("vgg11", 1), "different architectures"),
        (nn.Sequential(nn.Linear(64, 4), nn.ReLU()), nn.Sequential(nn.Linear(64, 4), nn.GELU()), "at '1' one has ReLU"),
    ],
)
def test_what_has_no_stability_of_activations_is_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        activation_stability(before, after, samples())


class Idle(nn.Module):
    """A network with a ReLU module that its forward pass leaves out."""

    def __init__(self):
        super().__init__()
        self.layer, self.relu = nn.Linear(64, 4).double(), nn.ReLU()

    def forward(self, x):
        return torch.relu(self.layer(x.flatten(1)))


def test_relus_that_are_not_called_and_units_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="its forward pass calls none: there is no unit to count"):
        activation_stability(Idle(), Idle(), samples())
    before, after = (nn.Sequential(nn.Conv2d(1, 2, 3, stride=s), nn.ReLU()).double() for s in (1, 2))
    message = r"different architectures: the units of their ReLUs are \[\(2, 6, 6\)\] and \[\(2, 3, 3\)\]"
    with pytest.raises(ValueError, match=message):
        activation_stability(before, after, samples())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_samples_that_are_not_finite_are_refused(value):
    x = samples()
    x[2, 0, 3, 3] = value
    with pytest.raises(ValueError, match="x has values that are NaN or infinite"):
        activation_stability(network(), network(), x)


def test_diverged_weights_and_no_samples_are_refused():
    model = network()
    with pytest.raises(ValueError, match="x has no samples"):
        activation_stability(model, model, samples(0))
    broken = copy.deepcopy(model)
    with torch.no_grad():
        next(broken.parameters())[0] = torch.nan
    with pytest.raises(ValueError, match="after has weights that are NaN or infinite"):
        activation_stability(model, broken, samples())
    with torch.no_grad():
        for weights, sound in zip(broken.parameters(), model.parameters(), strict=True):
            weights.copy_(1e200 * sound)  # finite, but what they put out is not
    with pytest.raises(ValueError, match="NaN or infinity at a ReLU"):
        activation_stability(model, broken, 1e200 * samples())


# Tangent kernels


@pytest.mark.parametrize(("name", "width"), SMALL)
def test_a_tangent_kernel_is_the_gram_matrix_of_the_jacobian(name, width):
    model, x = network(name, width), samples()
    j = jacobian(model, x).flatten(0, 1)
    torch.testing.assert_close(linearize.tangent_kernel(model, x), j @ j.T, rtol=1e-10, atol=1e-12)
    assert all(p.grad is None for p in model.parameters())


def test_centered_and_tangent_models_have_the_kernel_of_the_network_wherever_the_displacement_is():
    model, x = network("vgg11", 1), samples(3)
    kernel, tangent = linearize.tangent_kernel(model, x), Tangent(model)
    with torch.no_grad():
        for d in tangent.displacement:
            d.normal_()
    for other in (Centered(model), tangent):
        torch.testing.assert_close(linearize.tangent_kernel(other, x), kernel, rtol=1e-10, atol=1e-12)


def test_a_kernel_needs_parameters_and_its_change_something_to_compare_with():
    with pytest.raises(ValueError, match="no trainable parameters"):
        linearize.tangent_kernel(nn.Flatten(), samples())
    one = torch.eye(2)
    assert linearize.relative_change(one, 3 * one) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="before is 0"):
        linearize.relative_change(0 * one, one)


# The grid of Figure 17


def test_the_papers_grid_is_trained_as_appendix_c_says():
    """Seven α from 1 to 1000, three radii and SGD, three seeds; the setting is that of Chizat et al."""
    grid = experiments.vgg_linearization("paper")
    runs = [m.run for m in grid]
    assert len(runs) == len(set(runs)) == 7 * 4 * 3
    assert {run.alpha for run in runs} == {1, 3, 10, 30, 100, 300, 1000}
    assert {run.rho for run in runs} == {0, 0.001, 0.01, 0.1} and {run.seed for run in runs} == {0, 1, 2}
    fixed = dict(
        dataset="cifar10",
        model="vgg11",
        width=64,
        loss="squared",
        normalized=True,
        lr=0.03,
        schedule="inverse",
        momentum=0.9,
        weight_decay=0.0,
        epochs=100,
        batch_size=128,
        n_train=0,
        sparsity=0.0,
        norm="batch",
        linearize="centered",
    )
    for run in runs:
        assert {name: getattr(run, name) for name in fixed} == fixed
        assert (run.optimizer == "sam") == (run.rho > 0)
    assert {m.kind for m in grid} == {"laziness"}


@pytest.mark.parametrize("preset", ["smoke", "lite", "paper"])
def test_the_learning_rate_is_looked_for_at_alpha_1_by_runs_that_differ_in_nothing_else(preset):
    search = experiments.vgg_learning_rate(preset)
    figure = [m.run for m in experiments.vgg_linearization(preset)]
    (chosen,) = {run.lr for run in figure}
    assert len({run.lr for run in search}) == len(search) >= 4
    (result,) = {run.but(lr=chosen) for run in search}
    assert result in figure and result in search and (result.alpha, result.optimizer) == (1, "sgd")
