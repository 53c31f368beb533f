"""Costs: multiplications against closed forms, and kept weights from records."""

import pandas
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib import models
from lib.models import masking
from lib.paper import analysis
from lib.runs import Run
from lib.sweep import sweep


@pytest.mark.parametrize(
    ("name", "width", "shape"), [("mlp", 0.5, (1, 28, 28)), ("resnet18", 4, (3, 32, 32)), ("resnet18", 3, (1, 8, 8))]
)
def test_of_an_outline_all_operations_of_the_real_network_are_counted_and_half_of_them_are_multiplications(
    name, width, shape
):
    model = models.build(name, width=width, in_shape=shape, classes=10, seed=0).eval()
    outline = models.outline(name, width=width, in_shape=shape, classes=10)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    counts = analysis.sparsity_cost.multiplications(outline, shape)
    assert list(counts) == list(masking.prunable(model))
    assert 2 * sum(counts.values()) == counter.get_total_flops()


def test_a_linear_layer_uses_each_weight_once_and_a_convolution_once_a_position():
    counts = analysis.sparsity_cost.multiplications(
        models.outline("mlp", width=1, in_shape=(1, 28, 28), classes=10), (1, 28, 28)
    )
    assert list(counts.values()) == [784 * 300, 300 * 100, 100 * 10]
    counts = analysis.sparsity_cost.multiplications(
        models.outline("resnet18", width=4, in_shape=(3, 32, 32), classes=10), (3, 32, 32)
    )
    assert counts["0.weight"] == 32 * 32 * 4 * 3 * 9 and counts["13.weight"] == 32 * 10
    assert counts["5.downsample.0.weight"] == 16 * 16 * 8 * 4 and counts["5.conv1.weight"] == 16 * 16 * 8 * 4 * 9


@pytest.mark.parametrize(
    ("layer", "shape", "count"),
    [
        (nn.Linear(3, 2), (3,), 3 * 2),
        (nn.Conv1d(2, 5, 3), (2, 9), 7 * 5 * 2 * 3),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2, bias=False), (4, 9, 9), 25 * 8 * 2 * 9),
    ],
)
def test_a_single_layer_is_counted_with_its_stride_padding_and_groups(layer, shape, count):
    assert analysis.sparsity_cost.multiplications(layer, shape) == {"weight": count}


def test_a_weight_that_is_used_twice_counts_twice():
    layer, tied = nn.Linear(4, 4), nn.Linear(4, 4)
    tied.weight = layer.weight
    for again in (layer, nn.Sequential(layer), tied):
        model = nn.Sequential(layer, nn.ReLU(), again)
        assert analysis.sparsity_cost.multiplications(model, (4,)) == {"0.weight": 2 * 16}


RUN = Run(dataset="digits", width=0.2, epochs=1, batch_size=512)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    grid = [RUN, RUN.but(sparsity=0.8), RUN.but(sparsity=0.8, pruner="snip"), RUN.but(sparsity=0.5, pruner="2:4")]
    grid += [run.but(optimizer="sam", rho=0.1) for run in grid]
    sweep(grid, store=store, progress=False)
    return sweep([*grid, RUN.but(sparsity=0.9)], train=False, store=store)  # the last has no record


def test_layers_come_once_a_mask_with_what_it_keeps_and_none_is_invented(table):
    result = analysis.sparsity_cost.layers(table)
    assert len(result) == 4 * 3
    dense, random, snip, pattern = (part for _, part in result.groupby(["sparsity", "pruner"], sort=False))
    assert dense["weights"].tolist() == dense["kept"].tolist() == [64 * 60, 60 * 20, 20 * 10]
    assert random["kept"].tolist() == [768, 240, 40]
    assert snip["kept"].sum() == round(0.2 * 5240) and snip["share"].nunique() == 3
    assert pattern["share"].tolist() == [0.5] * 3
    networks = [RUN, RUN.but(sparsity=0.8), RUN.but(sparsity=0.8, pruner="snip"), RUN.but(sparsity=0.5, pruner="2:4")]
    assert list(dict.fromkeys(result["key"])) == [run.key for run in networks]
    assert list(dict.fromkeys(result["pruner"])) == ["dense", "random", "snip", "2:4"]
    assert (result["dense"] == result["weights"]).all() and (result["counted"] == result["kept"]).all()


def test_networks_count_what_is_kept_and_what_is_executed(table):
    networks = analysis.sparsity_cost.networks(table).set_index("pruner")
    dense = networks.loc["dense"]
    assert dense["dense"] == dense["counted"] == dense["executed"] == 5240
    random, pattern = networks.loc["random"], networks.loc["2:4"]
    assert (random["counted"], random["executed"]) == (1048, 5240)
    assert (pattern["counted"], pattern["executed"]) == (2620, 2620)


def test_without_a_record_there_are_no_networks(table):
    missing = table[table["status"] == "missing"]
    assert analysis.sparsity_cost.layers(missing).empty and analysis.sparsity_cost.networks(missing).empty


def test_products_are_timed_by_every_kernel_and_a_smaller_one_takes_less():
    result = analysis.sparsity_cost.product_seconds(1024, 1024, 1 / 16, batch=256, repeats=5)
    assert isinstance(result, pandas.Series) and (result > 0).all()
    assert result["small dense"] < result["dense"]


def test_products_are_timed_on_one_thread_and_the_others_come_back():
    threads, seen = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(analysis.sparsity_cost, "_time", lambda kernel: seen.add(torch.get_num_threads()) or 1.0)
            analysis.sparsity_cost.product_seconds(8, 8, 0.5, repeats=1)
        assert seen == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def times(**columns):
    return pandas.DataFrame({"dense": 4.0, "masked": 5.0, "small dense": 1.0, **columns}, index=["half", "most"])


@pytest.mark.parametrize(
    ("rows", "holds"),
    [([3.0, 2.0], True), ([8.0, 2.0], False), ([8.0, 6.0], False), ([3.5, 2.0], None), ([4.5, 2.0], None)],
)
def test_sparsity_saves_time_where_sparse_rows_beat_the_parent_at_every_sparsity(rows, holds):
    finding = analysis.sparsity_cost.relieves(times(**{"sparse rows": rows}))
    sentence = finding.measured
    assert finding.holds is holds and bool(finding.undecided) == (holds is None)
    assert "timed while this was computed, on one core of " in sentence
    assert f"{rows[0] / 4:.2g} at half, {rows[1] / 4:.2g} at most" in sentence and f"to {rows[0]:.2g}" in sentence


def test_a_pattern_pays_for_inputs_that_are_filled_up():
    run = RUN.but(dataset="mnist", width=0.5, sparsity=0.5, pruner="2:4")
    outline = models.outline("mlp", width=0.5, in_shape=(1, 28, 28), classes=10)
    kept = dict(zip(masking.prunable(outline), (58_800, 3_800, 260), strict=True))  # of 150 and of 50 inputs 76 and 26
    row = {**run.as_dict(), "status": "done", "provenance": {"kept": kept}}
    networks = analysis.sparsity_cost.networks(pandas.DataFrame([row])).iloc[0]
    assert (networks["dense"], networks["counted"], networks["executed"]) == (125_600, 62_860, 62_860)
    row |= {"pruner": "random"}
    assert analysis.sparsity_cost.networks(pandas.DataFrame([row])).iloc[0]["executed"] == 125_600


def test_a_layer_whose_weights_are_taken_without_calling_it_is_refused():
    with pytest.raises(ValueError, match=r"out_proj\.weight.*: never called as a layer"):
        analysis.sparsity_cost.multiplications(
            models.outline("vit", width=32, in_shape=(3, 32, 32), classes=10), (3, 32, 32)
        )


def test_a_forward_pass_is_measured_layer_by_layer_by_the_faster_kernel(table, monkeypatch):
    asked = []

    def seconds(inputs, outputs, kept):
        asked.append((inputs, outputs, kept))
        return pandas.Series({"dense": 2.0, "masked": 9.0, "sparse rows": 1.0 if kept < 0.4 else 3.0, "small dense": 0})

    monkeypatch.setattr(analysis.sparsity_cost, "product_seconds", seconds)
    result = analysis.sparsity_cost.measured(table).set_index("pruner")["measured"]
    assert result["dense"] == result["2:4"] == 6 and result["random"] == 3
    assert (64, 60, 0.2) in asked and (20, 10, 0.5) in asked


def test_networks_with_convolutions_are_not_measured():
    row = {**RUN.but(model="resnet18", width=2).as_dict(), "provenance": None}
    with pytest.raises(ValueError, match="resnet18: has convolutions"):
        analysis.sparsity_cost.measured(pandas.DataFrame([row]))
