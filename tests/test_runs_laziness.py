"""What is measured of lazy training: closed forms on a network moved by hand, and on trained runs."""

import copy

import pytest
import torch

from lib.runs import Run, laziness
from lib.sam import SAM
from lib.training import fitting
from lib.training.batches import Batches
from lib.training.loop import Loop

CPU = torch.device("cpu")
RUN = Run(
    dataset="digits",
    width=0.1,
    loss="squared",
    lr=0.02,
    epochs=3,
    batch_size=32,
    n_train=96,
    precision="float64",
    linearize="centered",
    alpha=4.0,
)
SMALL = {"samples": 60, "hessian_samples": 20, "kernel_samples": 10, "outputs": 5}


def trained(run: Run):
    loop = Loop([run], CPU)
    before = loop.data.network(run)[0].eval()
    fitting.fit(loop)
    return before, loop.model.eval(), loop.data, run


def measured(run: Run) -> dict:
    return laziness.laziness(*trained(run), **SMALL)


def test_of_weights_moved_by_hand_everything_is_known():
    """All weights of a bias-free part doubled: ‖w − w₀‖ = ‖w₀‖ and every sign is kept."""
    batches = Batches(RUN, CPU)
    before, after = (batches.network(RUN)[0].eval() for _ in range(2))
    with torch.no_grad():
        for model in (before, after):
            for name, p in model.named_parameters():
                if name.endswith("bias"):
                    p.zero_()
        for p in after.parameters():
            p.mul_(2)
    result = laziness.laziness(before, after, batches, RUN, **SMALL)
    assert result["distance"] == pytest.approx(result["start_norm"], rel=1e-12) and result["stability"] == 1.0
    wanted = RUN.alpha * after(batches.test[0][:5]).detach()
    torch.testing.assert_close(torch.tensor(result["outputs"], dtype=torch.float64), wanted, rtol=1e-6, atol=1e-12)
    assert result["ascent_stability"] is None and result["swing"] is None
    assert result["sharpness_converged"] and result["sharpness"] > 0


def test_an_untrained_network_is_perfectly_lazy():
    batches = Batches(RUN, CPU)
    before, after = (batches.network(RUN)[0].eval() for _ in range(2))
    result = laziness.laziness(before, after, batches, RUN, **SMALL)
    assert (result["distance"], result["stability"], result["kernel_change"]) == (0.0, 1.0, 0.0)
    assert result["kernel_cosine"] == pytest.approx(1.0, abs=1e-12)
    assert result["start_sharpness"] == result["sharpness"]
    assert not torch.tensor(result["outputs"]).any()


@pytest.mark.parametrize("normalized", [True, False])
def test_the_ascent_is_that_of_sam(normalized):
    """Against `lib.sam`, which calls its closure at w + ε."""
    run = RUN.but(optimizer="sam", rho=0.3, normalized=normalized)
    batches = Batches(run, CPU)
    model = batches.network(run)[0]
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    x, y = batches.train[0][:32], batches.loss_target(batches.train[1][:32])
    result = laziness.ascended(model, run, x, y)
    other, seen = copy.deepcopy(model), []
    optimizer = SAM(other.parameters(), torch.optim.SGD, rho=0.3, normalized=normalized, lr=0.0)

    def closure():
        optimizer.zero_grad()
        seen.append([p.detach().clone() for p in other.parameters()])
        loss = (other(x) - y).square().sum(1).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    for a, b in zip(result.parameters(), seen[1], strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=1e-12, atol=1e-14)


def test_the_swing_is_alpha_times_what_the_ascent_does_to_the_outputs_and_linear_in_small_radii():
    swings = [measured(RUN.but(optimizer="sam", rho=rho, epochs=1))["swing"] for rho in (1e-5, 2e-5)]
    assert swings[1] / swings[0] == pytest.approx(2, rel=1e-3)
    # At w₀ all outputs are 0, so ε is along the gradient of −2⟨f̄, y⟩/α: the same direction at every α.
    other = measured(RUN.but(optimizer="sam", rho=1e-5, epochs=1, alpha=40.0))["swing"]
    assert other / swings[0] == pytest.approx(10, rel=1e-3)


def test_a_large_alpha_makes_training_lazy_and_sam_with_a_fixed_radius_keeps_it_from_that():
    """Distances fall as 1/α for SGD and for a radius that falls so too; at a fixed radius they stay."""
    far, near = RUN.but(alpha=1e3), RUN.but(alpha=1e5)
    sgd = [measured(run) for run in (far, near)]
    assert sgd[1]["distance"] == pytest.approx(sgd[0]["distance"] / 100, rel=0.01)
    assert sgd[1]["stability"] > 0.999 and sgd[1]["kernel_change"] < 1e-3
    fixed = [measured(run.but(optimizer="sam", rho=0.5))["distance"] for run in (far, near)]
    assert fixed[1] > 0.5 * fixed[0] > 50 * sgd[0]["distance"]
    falling = [measured(run.but(optimizer="sam", rho=1 / run.alpha))["distance"] for run in (far, near)]
    assert falling[1] == pytest.approx(falling[0] / 100, rel=0.05)


def test_of_a_tangent_model_distance_and_outputs_are_measured_and_agree_with_a_lazy_network():
    tangent, lazy = measured(RUN.but(linearize="tangent")), measured(RUN.but(alpha=1e6))
    assert set(tangent) == {"distance", "outputs"}
    torch.testing.assert_close(torch.tensor(tangent["outputs"]), torch.tensor(lazy["outputs"]), rtol=1e-3, atol=1e-5)
    assert RUN.alpha * tangent["distance"] == pytest.approx(1e6 * lazy["distance"], rel=1e-3)


def dense_sharpness(model, batches, run) -> float:
    """λ_max of the dense Hessian of mean ‖f(x; w) − f(x; w₀) − y/α‖² at the weights of a centered model."""
    x, labels = batches.balanced(SMALL["hessian_samples"])
    wanted = model.initial(x) + torch.nn.functional.one_hot(labels, 10).double() / run.alpha
    names, shapes = zip(*((name, p.shape) for name, p in model.model.named_parameters()), strict=True)

    def loss(flat):
        parts = flat.split([shape.numel() for shape in shapes])
        weights = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return (torch.func.functional_call(model.model, weights, (x,)) - wanted).square().sum(1).mean()

    flat = torch.nn.utils.parameters_to_vector(model.model.parameters()).detach()
    return torch.linalg.eigvalsh(torch.func.hessian(loss)(flat))[-1].item()


def test_sharpness_is_that_of_the_dense_hessian_of_the_runs_own_loss_before_and_after():
    before, after, batches, run = trained(RUN.but(width=0.05, alpha=2.0, lr=0.1))
    result = laziness.laziness(before, after, batches, run, **SMALL)
    for name, model in (("start_sharpness", before), ("sharpness", after)):
        assert result[name] == pytest.approx(dense_sharpness(model, batches, run), rel=1e-4)
        assert result[f"{name}_converged"]
    assert abs(result["sharpness"] / result["start_sharpness"] - 1) > 0.1


def kernel(model, x) -> torch.Tensor:
    rows = []
    for value in model(x).flatten():
        grads = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows) @ torch.stack(rows).T


def test_the_kernels_change_is_measured_from_the_kernel_at_the_start():
    before, after, batches, run = trained(RUN.but(alpha=1.0, lr=0.1))
    result = laziness.laziness(before, after, batches, run, **SMALL)
    old, new = (kernel(model, batches.balanced(SMALL["kernel_samples"])[0]) for model in (before, after))
    assert result["kernel_change"] == pytest.approx(((new - old).norm() / old.norm()).item(), rel=1e-9)
    cosine = ((new * old).sum() / new.norm() / old.norm()).item()
    assert result["kernel_cosine"] == pytest.approx(cosine, rel=1e-9)
    assert abs(new.norm() / old.norm() - 1) > 0.1 and cosine < 0.99


def signs(model, x) -> list[torch.Tensor]:
    """Which units of the two hidden layers of an MLP are active."""
    return [model.model[:depth](x) > 0 for depth in (2, 4)]


def kept(before, after, x) -> float:
    pairs = list(zip(signs(before, x), signs(after, x), strict=True))
    return sum((a == b).sum().item() for a, b in pairs) / sum(a.numel() for a, _ in pairs)


def test_the_ascent_is_measured_at_the_start_on_the_first_batch():
    """The step w₀ + ρg/‖g‖ written out: how far the outputs swing on that batch, and how many test signs are kept."""
    before, after, batches, run = trained(RUN.but(optimizer="sam", rho=0.5, lr=0.1))
    result = laziness.laziness(before, after, batches, run, **SMALL)
    x, labels = batches.train[0][: run.batch_size], batches.train[1][: run.batch_size]
    target = torch.nn.functional.one_hot(labels, 10).double() / run.alpha
    gradients = torch.autograd.grad((before(x) - target).square().sum(1).mean(), list(before.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    moved = copy.deepcopy(before)
    with torch.no_grad():
        for p, g in zip(moved.parameters(), gradients, strict=True):
            p.add_(run.rho * g / norm)
        outputs = run.alpha * (moved.model(x) - before.model(x))
    assert result["swing"] == pytest.approx(outputs.square().sum(1).sqrt().mean().item(), rel=1e-9)
    test = batches.test[0][: SMALL["samples"]]
    assert result["ascent_stability"] == kept(before, moved, test) < 1
    assert result["stability"] == kept(before, after, test) < 1


def test_what_is_not_linearized_is_refused():
    before, after, batches, _ = trained(RUN.but(epochs=1))
    for wrong in (dict(linearize="none", alpha=1.0), dict(loss="cross_entropy", alpha=1.0)):
        with pytest.raises(ValueError, match="laziness is measured of a 'centered' or 'tangent' run"):
            laziness.laziness(before, after, batches, RUN.but(**wrong))
