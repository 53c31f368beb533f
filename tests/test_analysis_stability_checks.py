"""What the docs/hessian.md shows: each check holds, and would show a fault if there were one."""

import pytest
import torch

from lib.hessian.operators import mean_polynomial
from lib.hessian.per_sample import sample_hessians
from lib.paper import analysis


def test_dense_hessians_are_those_of_a_linear_map():
    """Given one linear layer and ½‖Wx + b − y‖², then H_i is x̄x̄ᵀ for each output."""
    net, x = torch.nn.Linear(2, 1).double(), torch.tensor([[3.0, -1.0], [0.5, 2.0]]).double()
    result = analysis.stability_checks.dense_hessians(net, x, torch.zeros(2, 1).double())
    bar = torch.cat([x, torch.ones(2, 1).double()], 1)
    assert torch.allclose(result, bar[:, :, None] * bar[:, None, :], atol=1e-14)


def test_products_agree_with_dense_hessians_and_blocks_have_rank_two():
    result = analysis.stability_checks.against_dense(*analysis.stability_checks.small_network())
    assert result.index.tolist() == [1, 2, 3, 4]
    assert (result < 1e-12).all(axis=None)


def test_a_wrong_product_shows(monkeypatch):
    net, x, y = analysis.stability_checks.small_network()
    wrong = sample_hessians(net, "mse", x, y + 1e-3)
    monkeypatch.setattr(analysis.stability_checks, "sample_hessians", lambda *_: wrong)
    assert (analysis.stability_checks.against_dense(net, x, y)[["M_k", "M_k − H^k"]].iloc[1:] > 1e-6).all(axis=None)


def test_nothing_is_hidden_outside_the_live_parameters():
    net, x, y = analysis.stability_checks.small_network()
    operator = sample_hessians(net, "mse", x, y)
    assert operator.live.size < operator.size and analysis.stability_checks.hidden_curvature(net, x, y) == 0
    assert (mean_polynomial(operator, {1: 1.0}) @ torch.ones(operator.size).double()).norm() > 0


def test_products_of_one_and_two_layers():
    assert analysis.stability_checks.products([5, 3]) == {"hvp": 2 * 15, "power": 0}
    assert analysis.stability_checks.products([5, 3, 2]) == {"hvp": 2 * 15 + 6 * 6, "power": 2 * 6}


def test_gauss_newton_is_exact_at_interpolation_alone():
    result = analysis.stability_checks.gauss_newton_errors(shares=(1.0, 0.0), powers=(2,))
    assert result.index.tolist() == pytest.approx([1.05, 0.0], abs=0.05)
    assert abs(result["s2"].iloc[0]) > 0.1 and abs(result["s2"].iloc[1]) < 1e-6
    assert (
        abs(analysis.stability_checks.gram_error(k=2)) < 1e-8 and abs(analysis.stability_checks.gram_error(k=3)) < 1e-8
    )


def test_the_residual_is_the_safest_rule():
    off = analysis.stability_checks.stopping_rules(starts=20)
    assert len(off) == 20 and (off >= -1e-12).all(axis=None)
    wrong = (off > 1e-4).sum()
    assert wrong["residual"] == 0 < wrong["residual²/gap"] and wrong["power iteration"] == 20


def test_only_sums_in_double_precision_are_exact():
    result = analysis.stability_checks.norm_errors(1_000_000)
    assert abs(result["norm2"]) < 1e-7 and set(result) == {"torch.norm", "root of torch.dot", "norm2"}


def test_a_negative_moment_has_a_negative_root():
    result = analysis.stability_checks.negative_moment()
    assert result.eigenvalue < 0 and result.value == pytest.approx(-((-result.eigenvalue) ** (1 / 3)))
