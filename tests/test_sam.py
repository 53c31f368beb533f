"""SAM: against hand calculations, against another implementation, and in the corners of the optimizer's contract."""

import copy
import io
import math

import numpy as np
import pytest
import pytorch_optimizer
import torch
from torch import nn

from lib.core.seeds import generator
from lib.sam import SAM, gradient_norm

SGD, Adam = torch.optim.SGD, torch.optim.Adam


def vector(*values) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def closure_of(optimizer, loss, seen=None):
    """The closure that a user writes around `loss()`; `seen` collects the points at which it is called."""

    def closure():
        if seen is not None:
            seen.append([p.detach().clone() for group in optimizer.param_groups for p in group["params"]])
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def network(seed=0, dtype=torch.float64) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def batch(step: int, dtype=torch.float64):
    random = generator(step, "test batch")
    return torch.randn(16, 5, generator=random).to(dtype), torch.randint(3, (16,), generator=random)


def train(model, optimizer, steps, scheduler=None) -> list[float]:
    """Losses of steps on batches that depend on the step's number alone."""
    losses = []
    for step in steps:
        x, y = batch(step, next(model.parameters()).dtype)
        losses.append(optimizer.step(closure_of(optimizer, lambda: nn.functional.cross_entropy(model(x), y))).item())  # noqa: B023
        if scheduler:
            scheduler.step()
    return losses


def weights(model) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


# The step


@pytest.mark.parametrize(("rho", "normalized"), [(math.sqrt(5) / 2, True), (0.5, False)])
def test_a_step_on_a_quadratic_by_hand(rho, normalized):
    # f(w) = ½wᵀAw at w = (1, −1): g = Aw = (2, −1), ‖g‖ = √5, so that both variants have ε = g/2 = (1, −½),
    # w + ε = (2, −3/2), and the gradient there (9/2, −1). Weight decay ½ adds w/2 to it: (5, −3/2).
    # Were it in ε too, ε would be along (2.5, −1.5).
    a, w = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64), vector(1, -1)
    optimizer = SAM([w], SGD, rho=rho, normalized=normalized, lr=0.1, momentum=0.9, weight_decay=0.5)
    seen = []
    loss = optimizer.step(closure_of(optimizer, lambda: w @ a @ w / 2, seen))
    close = {"rtol": 0, "atol": 20 * torch.finfo(torch.float64).eps}  # twenty roundings of numbers near 1
    assert loss.item() == 1.5  # at w, not at w + ε
    torch.testing.assert_close(torch.cat(seen[0] + seen[1]), vector(1, -1, 2, -1.5).data, **close)
    torch.testing.assert_close(w.data, vector(0.5, -0.85).data, **close)


def test_the_second_step_carries_momentum_of_the_perturbed_gradient():
    # As above with ε = g/2: w₁ = (0.5, −0.85) and momentum (5, −1.5); then g = (0.65, −1.2), w₁ + ε = (0.825, −1.45),
    # gradient (1.025, −2.075), with decay (1.275, −2.5), momentum 0.9·(5, −1.5) + that = (5.775, −3.85).
    a, w = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64), vector(1, -1)
    optimizer = SAM([w], SGD, rho=0.5, normalized=False, lr=0.1, momentum=0.9, weight_decay=0.5)
    for _ in range(2):
        optimizer.step(closure_of(optimizer, lambda: w @ a @ w / 2))
    torch.testing.assert_close(w.data, vector(-0.0775, -0.465).data, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("base", "options"),
    [(SGD, dict(lr=0.1, momentum=0.9, weight_decay=1e-3)), (Adam, dict(lr=0.01, weight_decay=1e-3))],
)
def test_agrees_with_another_implementation_over_many_steps(base, options):
    ours, theirs, plain = network(), network(), network()
    optimizer = SAM(ours.parameters(), base, rho=0.1, **options)
    other = pytorch_optimizer.SAM(theirs.parameters(), base, rho=0.1, perturb_eps=0.0, **options)
    train(plain, base(plain.parameters(), **options), range(200))
    # That one keeps the norm in float32, so its ε = ρ = 0.1 long is off by up to 1.5·2⁻²⁴. Over 200 steps of an
    # effective size of at most 1, with a curvature of at most 1, this moves the weights by less than
    tolerance = 200 * 0.1 * 1.5 * 2**-24
    for step in range(200):
        x, y = batch(step)
        loss = closure_of(other, lambda: nn.functional.cross_entropy(theirs(x), y))  # noqa: B023
        expected = loss().item()  # that one wants the first gradient before its step
        other.step(loss)
        (result,) = train(ours, optimizer, [step])
        assert result == pytest.approx(expected, abs=tolerance)
    assert (weights(ours) - weights(theirs)).norm() < tolerance
    assert (weights(ours) - weights(plain)).norm() > 1e4 * tolerance  # what SAM does at all


def test_one_norm_over_all_groups():
    # f = 3a + 4b + ½(a² + b²) at 0: g = (3, 4), ‖g‖ = 5. With ρ = 5, ε = (3, 4) and the gradient there is (6, 8).
    # A norm for each group would give ε = (5, 5) and (8, 9).
    a, b = vector(0), vector(0)
    optimizer = SAM([{"params": [a]}, {"params": [b]}], SGD, rho=5.0, lr=1.0)
    optimizer.step(closure_of(optimizer, lambda: (3 * a + 4 * b + (a**2 + b**2) / 2).sum()))
    assert (a.item(), b.item()) == pytest.approx((-6, -8), abs=1e-14)


def test_a_group_may_have_its_own_rho_and_normalization():
    # As above; b with its own ρ = 10 has ε = 10·4/5 = 8, unnormalized with ρ = 2 too; with ρ = 0 it stays.
    for own, gradient in [({"rho": 10.0}, 12), ({"rho": 2.0, "normalized": False}, 12), ({"rho": 0.0}, 4)]:
        a, b = vector(0), vector(0)
        optimizer = SAM([{"params": [a]}, {"params": [b], **own}], SGD, rho=5.0, lr=1.0)
        optimizer.step(closure_of(optimizer, lambda: (3 * a + 4 * b + (a**2 + b**2) / 2).sum()))  # noqa: B023
        assert (a.item(), b.item()) == pytest.approx((-6, -gradient), abs=1e-13)


@pytest.mark.parametrize(
    ("base", "options"), [(SGD, dict(lr=0.1, momentum=0.9, weight_decay=1e-2)), (Adam, dict(lr=0.01))]
)
def test_rho_zero_is_the_base_optimizer_at_its_cost(base, options):
    ours, plain = network(dtype=torch.float32), network(dtype=torch.float32)
    sam, optimizer = SAM(ours.parameters(), base, rho=0, **options), base(plain.parameters(), **options)
    assert train(ours, sam, range(10)) == train(plain, optimizer, range(10))
    assert torch.equal(weights(ours), weights(plain))
    seen = []
    sam.step(closure_of(sam, lambda: ours(batch(0, torch.float32)[0]).square().sum(), seen))
    assert len(seen) == 1


# m-SAM: a closure for each part of the batch


@pytest.mark.parametrize("normalized", [True, False])
def test_every_part_climbs_by_itself_and_the_gradients_there_are_averaged(normalized):
    # f_i(w) = w'A_i w/2: the step is −lr · mean of A_i(w + ε_i), ε_i = ρ A_i w, over its length or not.
    matrices = [torch.diag(torch.tensor(d, dtype=torch.float64)) for d in ((1.0, 2.0), (3.0, 0.5), (0.0, 4.0))]
    w = vector(1.0, -2.0)
    optimizer = SAM([w], SGD, lr=0.1, rho=0.3, normalized=normalized)
    parts = [closure_of(optimizer, lambda a=a: w @ a @ w / 2) for a in matrices]
    before = w.detach().clone()
    loss = optimizer.step(parts)
    g = [a @ before for a in matrices]
    points = [before + 0.3 * each / (each.norm() if normalized else 1) for each in g]
    expected = before - 0.1 * sum(a @ p for a, p in zip(matrices, points, strict=True)) / 3
    torch.testing.assert_close(w.detach(), expected)
    assert loss.item() == pytest.approx(sum(float(before @ a @ before) / 2 for a in matrices) / 3)


def test_parts_of_equal_size_without_a_radius_are_the_batch():
    x, y = batch(0)
    models = [network() for _ in range(2)]
    whole, split = (SAM(model.parameters(), SGD, lr=0.1, rho=0.0) for model in models)
    whole.step(closure_of(whole, lambda: nn.functional.cross_entropy(models[0](x), y)))
    pieces = zip(x.split(4), y.split(4), strict=True)
    split.step([closure_of(split, lambda p=p: nn.functional.cross_entropy(models[1](p[0]), p[1])) for p in pieces])
    torch.testing.assert_close(weights(models[0]), weights(models[1]))
    with pytest.raises(ValueError, match="got no closure: it needs one for each part of the batch"):
        split.step([])


# Batch norm


def convolutional(seed=0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = (nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4), nn.BatchNorm1d(4))
        return nn.Sequential(*parts)


def statistics(model) -> dict:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def test_running_statistics_move_in_the_pass_at_w_only():
    # given a network with batch norm, when SAM knows it and takes steps, then every buffer is after each step what one
    # plain forward pass at the same weights leaves.
    model = convolutional()
    optimizer = SAM(model.parameters(), SGD, rho=0.5, model=model, lr=0.1, momentum=0.9)
    unaware = convolutional()
    doubled = SAM(unaware.parameters(), SGD, rho=0.5, lr=0.1)
    for step in range(5):
        x = torch.randn(8, 2, 6, 6, generator=generator(step, "images"))
        plain = copy.deepcopy(model)
        plain(x)
        optimizer.step(closure_of(optimizer, lambda: model(x).square().sum()))  # noqa: B023
        doubled.step(closure_of(doubled, lambda: unaware(x).square().sum()))  # noqa: B023
        result, expected = statistics(model), statistics(plain)
        assert len(result) == 6 and all(torch.equal(result[name], expected[name]) for name in expected)
    assert model[1].num_batches_tracked == 5
    assert unaware[1].num_batches_tracked == 10  # so that the above could have failed


def test_gradients_at_the_perturbed_weights_are_of_the_normalized_batch():
    # given statistics that are frozen in the second pass, then the layer still normalizes by the batch: the step is the
    # same as of the same network without running statistics.
    models = convolutional(), convolutional()
    for layer in (models[1][1], models[1][5]):
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        layer.track_running_stats = False
    x = torch.randn(8, 2, 6, 6, generator=generator(0, "images"))
    for model in models:
        optimizer = SAM(model.parameters(), SGD, rho=0.5, model=model, lr=0.1)
        optimizer.step(closure_of(optimizer, lambda: model(x)[:, 0].square().mean() + model(x)[:, 1].exp().mean()))  # noqa: B023
    assert torch.equal(weights(models[0]), weights(models[1]))


# Parameters without a gradient, and things that go wrong


def test_frozen_and_unused_parameters_stay_and_do_not_enter_the_norm():
    used, frozen, unused = vector(3.0), vector(7.0).requires_grad_(False), vector(5.0)
    optimizer = SAM([used, frozen, unused], SGD, rho=1.0, lr=0.1, weight_decay=0.0)
    optimizer.step(closure_of(optimizer, lambda: (used.square() / 2 * frozen).sum()))
    assert used.item() == pytest.approx(3 - 0.1 * 7 * 4, abs=1e-14)  # ε = 1 whatever else there is
    assert frozen.item() == 7.0 and unused.item() == 5.0 and unused.grad is None


def test_nothing_to_train_is_no_error():
    w = vector(1.0).requires_grad_(False)
    assert SAM([w], SGD, rho=1.0, lr=0.1).step(lambda: torch.ones(())) == 1 and w.item() == 1


def test_weights_come_back_when_the_second_pass_raises():
    model = convolutional()
    optimizer = SAM(model.parameters(), SGD, rho=0.3, model=model, lr=0.1)
    x, before, calls = torch.randn(8, 2, 6, 6, generator=generator(0, "images")), weights(model), []

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        calls.append(weights(model))
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return loss

    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step(closure)
    assert not torch.equal(calls[1], before) and torch.equal(weights(model), before)
    assert all(m.track_running_stats for m in model if hasattr(m, "track_running_stats"))


def test_a_gradient_that_is_not_finite_is_not_hidden():
    for bad in (math.nan, math.inf):
        w, factor = vector(1.0, 2.0), torch.tensor([bad, 1.0], dtype=torch.float64)
        optimizer = SAM([w], SGD, rho=0.1, lr=0.1)
        optimizer.step(closure_of(optimizer, lambda: (factor * w).sum()))  # noqa: B023
        assert not w.isfinite().all()
    assert gradient_norm([torch.ones(3), torch.tensor([math.nan])]).isnan()


def test_a_zero_gradient_gives_no_nan():
    for normalized in (True, False):
        w = vector(0.0, 0.0)
        optimizer = SAM([w], SGD, rho=0.1, normalized=normalized, lr=0.1)
        optimizer.step(closure_of(optimizer, lambda: w.square().sum()))  # noqa: B023
        assert torch.equal(w.data, torch.zeros(2, dtype=torch.float64))


def test_a_missing_closure_is_explained():
    with pytest.raises(TypeError, match="needs a closure that zeroes the gradients, calls backward"):
        SAM([vector(1.0)], SGD, rho=0.1, lr=0.1).step()


@pytest.mark.parametrize("rho", [-0.1, math.nan, math.inf, "0.1", None])
def test_a_bad_rho_is_refused_wherever_it_is_given(rho):
    message = f"rho = {rho!r}: the radius of SAM must be a finite number, 0 or more"
    with pytest.raises(ValueError) as caught:
        SAM([vector(1.0)], SGD, rho=rho, lr=0.1)
    assert str(caught.value) == message
    with pytest.raises(ValueError) as caught:
        SAM([{"params": [vector(1.0)], "rho": rho}], SGD, rho=0.1, lr=0.1)
    assert str(caught.value) == message
    optimizer = SAM([vector(1.0)], SGD, rho=0.1, lr=0.1)
    with pytest.raises(ValueError) as caught:
        optimizer.add_param_group({"params": [vector(1.0)], "rho": rho})
    assert str(caught.value) == message and len(optimizer.param_groups) == 1


@pytest.mark.parametrize("number", [1, np.float32(1), np.float64(1), np.int64(1)])
def test_any_real_number_is_a_rho(number):
    w = vector(3.0)
    optimizer = SAM([w], SGD, rho=number, lr=0.1)
    optimizer.step(closure_of(optimizer, lambda: w.square().sum() / 2))
    assert w.item() == pytest.approx(3 - 0.1 * 4, abs=1e-14)


def test_a_group_added_later_is_trained_like_the_others():
    a, b = vector(0), vector(0)
    optimizer = SAM([a], SGD, rho=5.0, lr=1.0, momentum=0.9)
    optimizer.add_param_group({"params": [b]})
    optimizer.step(closure_of(optimizer, lambda: (3 * a + 4 * b + (a**2 + b**2) / 2).sum()))
    assert (a.item(), b.item()) == pytest.approx((-6, -8), abs=1e-14)
    assert optimizer.param_groups[1]["momentum"] == 0.9


# Saving and loading


@pytest.mark.parametrize("base", [SGD, Adam])
def test_saved_and_loaded_it_continues_to_the_last_bit(base):
    def fresh(rho, lr, **options):
        model = network(dtype=torch.float32)
        optimizer = SAM(model.parameters(), base, rho=rho, lr=lr, **options)
        return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)

    options = dict(momentum=0.9, weight_decay=1e-3) if base is SGD else {}
    model, optimizer, scheduler = fresh(0.1, 0.05, **options)
    train(model, optimizer, range(5), scheduler)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (model, optimizer, scheduler)], file)
    expected = train(model, optimizer, range(5, 12), scheduler)

    file.seek(0)
    again = fresh(0.7, 0.9)  # all that differs here must come from the file
    for part, state in zip(again, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert train(again[0], again[1], range(5, 12), again[2]) == expected
    assert torch.equal(weights(again[0]), weights(model))
    assert again[1].param_groups[0]["lr"] == 0.05 * 0.5**4


# The norm


@pytest.mark.parametrize(
    "gradient",
    [torch.randn(5_000_000, generator=generator(0, "gradient")), torch.full((5_000_000,), 0.1)],
    ids=["gaussian", "constant"],
)
def test_the_norm_of_five_million_entries_is_accurate(gradient):
    expected = gradient.double().norm()
    assert abs(gradient_norm([gradient]) / expected - 1) < 1e-5
    parts = gradient[:4_000_000].view(2000, 2000), gradient[4_000_000:]
    assert abs(gradient_norm(list(parts)) / expected - 1) < 1e-5


def test_a_deep_copy_steps_as_the_original_does_and_apart_from_it():
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = SAM([w], torch.optim.SGD, rho=0.1, lr=0.1, momentum=0.9)
    other = copy.deepcopy(optimizer)
    (copied,) = other.param_groups[0]["params"]

    def closure_of(o, p):
        def closure():
            o.zero_grad()
            loss = p.square().sum()
            loss.backward()
            return loss

        return closure

    for _ in range(3):
        optimizer.step(closure_of(optimizer, w))
    assert torch.equal(copied, torch.tensor([1.0, 2.0]))
    for _ in range(3):
        other.step(closure_of(other, copied))
    assert torch.equal(copied, w)


# Several steps, other gradients, clipping: on f(w) = ½ wᵀAw, whose gradients are by hand


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize(
    ("steps", "size", "clip"), [(3, None, False), (4, 0.2, False), (1, None, True), (3, 0.4, True)]
)
def test_each_ascent_step_climbs_from_where_the_last_arrived(normalized, steps, size, clip):
    matrix = torch.tensor([[3.0, 1.0], [1.0, 0.5]], dtype=torch.float64)
    w, rho, calls = vector(1.0, -2.0), 0.3, []
    before = w.detach().clone()
    optimizer = SAM([w], SGD, lr=0.1, rho=rho, normalized=normalized, steps=steps, step_size=size, clip=clip)
    loss = optimizer.step(closure_of(optimizer, lambda: calls.append(w.detach().clone()) or w @ matrix @ w / 2))
    offset = torch.zeros(2, dtype=torch.float64)
    for k in range(steps):
        torch.testing.assert_close(calls[k], before + offset)
        g = matrix @ (before + offset)
        offset = offset + (size if size and steps > 1 else rho / steps) * (g / g.norm() if normalized else g)
        if (normalized or clip) and offset.norm() > rho:
            offset = offset * rho / offset.norm()
    torch.testing.assert_close(calls[steps], before + offset)
    torch.testing.assert_close(w.detach(), before - 0.1 * matrix @ (before + offset))
    assert len(calls) == steps + 1 and loss.item() == pytest.approx(float(before @ matrix @ before) / 2)
    assert offset.norm() <= rho * (1 + 1e-12) or not (normalized or clip)


def test_it_climbs_by_another_batch_in_as_many_steps_as_asked_for():
    # f descends by A, climbs by B: w − lr·A(w + ε) with ε of two steps of B
    a, b = (torch.diag(torch.tensor(d, dtype=torch.float64)) for d in ((1.0, 2.0), (3.0, 0.5)))
    w = vector(1.0, -2.0)
    before = w.detach().clone()
    optimizer = SAM([w], SGD, lr=0.1, rho=0.3)
    descent, ascent = (closure_of(optimizer, lambda m=m: w @ m @ w / 2) for m in (a, b))
    loss = optimizer.step(descent, ascent=ascent, steps=2)
    offset = torch.zeros(2, dtype=torch.float64)
    for _ in range(2):
        g = b @ (before + offset)
        offset = offset + 0.15 * g / g.norm()
    torch.testing.assert_close(w.detach(), before - 0.1 * a @ (before + offset))
    assert loss.item() == pytest.approx(float(before @ b @ before) / 2)
    # and with a sequence each part has its own
    with pytest.raises(ValueError, match="ascent: 1 closures for 2 parts of the batch; each needs one"):
        optimizer.step([descent, descent], ascent=[ascent])
    w2 = vector(1.0, -2.0)
    parted = SAM([w2], SGD, lr=0.1, rho=0.3)
    descents, ascents = ([closure_of(parted, lambda m=m: w2 @ m @ w2 / 2) for m in pair] for pair in ((a, b), (b, a)))
    parted.step(descents, ascent=ascents)
    points = [before + 0.3 * m @ before / (m @ before).norm() for m in (b, a)]
    torch.testing.assert_close(w2.detach(), before - 0.05 * (a @ points[0] + b @ points[1]))


@pytest.mark.parametrize("radii", [(0.3, 0.3), (0.3, 1.0)])
def test_groups_with_their_own_radii_stay_in_one_ball(radii):
    # given f = 6p + 8q, then long steps end where the lengths ε_k/ρ_k together are 1: at (0.18, 0.24) for equal radii
    p, q, seen = vector(0), vector(0), []
    groups = [{"params": [one], "rho": rho} for one, rho in zip((p, q), radii, strict=True)]
    optimizer = SAM(groups, SGD, rho=0.3, lr=1.0, steps=3, step_size=5.0)
    optimizer.step(closure_of(optimizer, lambda: seen.append((p.item(), q.item())) or (6 * p + 8 * q).sum()))
    assert math.hypot(*(one / rho for one, rho in zip(seen[-1], radii, strict=True))) == pytest.approx(1)
    assert radii[0] != radii[1] or seen[-1] == pytest.approx((0.18, 0.24))


def test_a_group_without_a_radius_does_not_climb_in_long_steps():
    p, q, seen = vector(0), vector(0), []
    optimizer = SAM([{"params": [p]}, {"params": [q], "rho": 0.0}], SGD, rho=0.3, lr=1.0, steps=3, step_size=0.2)
    optimizer.step(closure_of(optimizer, lambda: seen.append((p.item(), q.item())) or (6 * p + 8 * q).sum()))
    assert seen[-1] == pytest.approx((0.3, 0.0))


@pytest.mark.parametrize("wrong", [dict(steps=0), dict(steps=1.5), dict(step_size=0.0), dict(step_size=math.inf)])
def test_impossible_ascents_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} = "):
        SAM([vector(1.0)], SGD, rho=0.1, lr=0.1, **wrong)
    w = vector(1.0)
    with pytest.raises(ValueError, match="steps = 0: SAM takes a whole number of ascent steps, 1 or more"):
        SAM([w], SGD, rho=0.1, lr=0.1).step(lambda: w.sum(), steps=0)


def test_one_closure_in_a_list_is_that_closure_to_the_byte():
    models = [network(dtype=torch.float32) for _ in range(2)]
    x, y = batch(0, torch.float32)
    for model, wrapped in zip(models, (lambda c: c, lambda c: [c]), strict=True):
        optimizer = SAM(model.parameters(), SGD, rho=0.1, lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.step(wrapped(closure_of(optimizer, lambda: nn.functional.cross_entropy(model(x), y))))  # noqa: B023
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_statistics_move_once_however_many_steps_climb():
    model = convolutional()
    optimizer = SAM(model.parameters(), SGD, rho=0.5, model=model, lr=0.1, steps=3)
    x = torch.randn(8, 2, 6, 6, generator=generator(0, "images"))
    plain = copy.deepcopy(model)
    plain(x)
    optimizer.step(closure_of(optimizer, lambda: model(x).square().sum()))
    assert all(torch.equal(value, statistics(plain)[name]) for name, value in statistics(model).items())
