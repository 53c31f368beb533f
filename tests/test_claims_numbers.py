"""Numbers of the table of claims at lite, recomputed from the committed records by a few lines each that use none of
the analysis: only JSON, NumPy and SciPy's quantiles."""

import json
import math
from collections import defaultdict

import numpy as np
import pytest
from scipy import stats

from lib.core import paths

CLAIMS = json.loads((paths.ROOT / "figures/lite/claims.json").read_text(encoding="utf-8"))
ROWS = {name: row for rows in CLAIMS.values() for name, row in rows.items()}
RHOS = (0.01, 0.02, 0.05, 0.1, 0.2)


def records(name):
    """The records behind a claim."""
    files = [paths.ROOT / "data/records" / f"{key}.json" for key in ROWS[name]["keys"]]
    result = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for record in result:  # the oldest do not name what was added later
        record.get("run", {}).setdefault("sparsity", 0.0)
    return result


def accuracies(name, part="test_accuracy"):
    """network → ρ → seed → accuracy in points; a network is (width, sparsity, pruner)."""
    result = defaultdict(lambda: defaultdict(dict))
    for record in records(name):
        run = record["run"]
        network = run["width"], run["sparsity"], run["pruner"] if run["sparsity"] else "dense"
        result[network][run["rho"]][run["seed"]] = 100 * record["final"][part]
    return result


def best(means):
    """The radii of the highest mean."""
    return [rho for rho, mean in means.items() if mean > max(means.values()) - 1e-7]


def gaps(by_rho):
    """Seeds' gaps at ρ* of all seeds, averaged over equal ρ."""
    at = best({rho: np.mean(list(by_rho[rho].values())) for rho in by_rho if rho})
    return [np.mean([by_rho[rho][s] for rho in at]) - by_rho[0][s] for s in sorted(by_rho[0])]


def unbiased(name, network):
    """Seeds' gaps at the ρ that the other seeds choose on the other half of the test samples."""
    halves = [accuracies(name, f"test_accuracy_{half}")[network] for half in ("even", "odd")]
    result = []
    for s in sorted(halves[0][0]):
        parts = []
        for choose, report in (halves, halves[::-1]):
            at = best({rho: np.mean([choose[rho][o] for o in choose[rho] if o != s]) for rho in choose if rho})
            parts.append(np.mean([report[rho][s] for rho in at]) - report[0][s])
        result.append(np.mean(parts))
    return result


def pooled(groups, weights):
    """Value and 95% interval of Σ w ȳ with the pooled variance."""
    df = sum(len(g) - 1 for g in groups)
    variance = sum(np.var(g) * len(g) for g in groups) / df
    value = sum(w * np.mean(g) for w, g in zip(weights, groups, strict=True))
    error = math.sqrt(variance * sum(w**2 / len(g) for w, g in zip(weights, groups, strict=True)))
    half = stats.t.ppf(0.975, df) * error
    return value, value - half, value + half


def single(values):
    """The same of one value a seed."""
    return pooled([values], [1])


def line(x):
    """The weights of a least-squares slope."""
    x = np.array(x) - np.mean(x)
    return x / (x @ x)


def check(name, numbers):
    row = ROWS[name]
    assert (row["effect"], row["low"], row["high"]) == pytest.approx(numbers, rel=1e-4, abs=1e-7)


def parameters(width):
    """Of the MLP: 784 inputs, hidden layers of 300 and 100 times the width, 10 outputs."""
    a, b = round(300 * width), round(100 * width)
    return 785 * a + (a + 1) * b + (b + 1) * 10


def complete(by_network):
    return {n: by_rho for n, by_rho in sorted(by_network.items()) if set(by_rho) == {0, *RHOS}}


def test_3a_grows_and_what_the_figure_shows():
    cells = complete(accuracies("3a-grows"))
    logs = [math.log10(parameters(width)) for width, *_ in cells]
    check("3a-grows", pooled([gaps(cell) for cell in cells.values()], line(logs)))
    shown = [(0.25, 0.073), (0.5, 0.063), (1, 0.18), (4, 0.19), (10, 0.187)]
    x, y = zip(*((math.log10(parameters(w)), gap) for w, gap in shown), strict=True)
    assert ROWS["3a-grows"]["paper_value"] == pytest.approx(line(logs) @ np.interp(logs, x, y), rel=1e-4)


def test_3a_size():
    shown = {0.25: 0.073, 0.5: 0.063, 1.0: 0.18, 4.0: 0.19, 10.0: 0.187}
    off = [np.array(gaps(c)) - shown[w] for (w, *_), c in complete(accuracies("3a-size")).items() if w in shown]
    check("3a-size", pooled(off, [1 / len(off)] * len(off)))


def test_3a_unbiased_and_selection():
    for name in ("3a-unbiased", "selection"):
        cells = list(complete(accuracies(name)))
        wide = np.array([unbiased(name, n) for n in cells])
        weights = line([math.log10(parameters(n[0])) for n in cells]) if name == "3a-unbiased" else 1 / len(cells)
        values = (weights @ wide) if name == "3a-unbiased" else wide.mean(0)
        check(name, single(values))


def test_3a_fixed():
    groups = []
    for width in (1.0, 0.25):
        [cell] = [c for (w, *_), c in accuracies("3a-fixed").items() if w == width]
        whole = set.intersection(*(set(seeds) for seeds in cell.values()))
        groups.append([np.mean([cell[r][s] for r in (0.05, 0.1)]) - cell[0][s] for s in whole])
    a, b = (np.var(g, ddof=1) / len(g) for g in groups)
    df = (a + b) ** 2 / (a**2 / (len(groups[0]) - 1) + b**2 / (len(groups[1]) - 1))
    value, half = np.mean(groups[0]) - np.mean(groups[1]), stats.t.ppf(0.975, df) * math.sqrt(a + b)
    check("3a-fixed", (value, value - half, value + half))


def test_5a_grows():
    cells = complete(accuracies("5a-grows"))
    logs = []
    for cell in cells.values():
        own = [best({rho: cell[rho][s] for rho in RHOS}) for s in sorted(cell[0])]
        logs.append([np.mean(np.log10(radii)) for radii in own])
    check("5a-grows", pooled(logs, line([math.log10(parameters(width)) for width, *_ in cells])))


def test_9a_loss():
    cells, losses = complete(accuracies("9a-loss")), defaultdict(dict)
    for record in records("9a-loss"):
        run = record["run"]
        losses[run["width"], run["rho"]][run["seed"]] = record["final"]["test_loss"]
    groups = []
    for (width, *_), cell in cells.items():
        at = best({rho: np.mean(list(cell[rho].values())) for rho in RHOS})
        sam = {s: np.mean([losses[width, rho][s] for rho in at]) for s in cell[0]}
        groups.append([losses[width, 0][s] - sam[s] for s in sorted(sam)])
    check("9a-loss", pooled(groups, line([math.log10(parameters(width)) for width, *_ in cells])))


def test_11_smooth():
    lack = free = inside = number = within = 0
    for cell in complete(accuracies("11-smooth")).values():
        x = np.log(np.repeat(RHOS, [len(cell[rho]) for rho in RHOS]))
        y = np.concatenate([list(cell[rho].values()) for rho in RHOS])
        pure = sum(np.var(list(cell[rho].values())) * len(cell[rho]) for rho in RHOS)
        lack += np.sum((y - np.polyval(np.polyfit(x, y, 2), x)) ** 2) - pure
        free, inside, number, within = free + 2, inside + pure, number + len(y), within + len(y) - 5
    variance = inside / within
    value = math.sqrt(max(0, lack - free * variance) / number)
    assert ROWS["11-smooth"]["effect"] == pytest.approx(value, rel=1e-4, abs=1e-7)
    shift = ROWS["11-smooth"]["high"] ** 2 * number / variance
    ratio = max(1.0, lack / free / variance)
    assert stats.ncf.cdf(ratio, free, within, shift) == pytest.approx(0.025, abs=1e-4)


def sparse(name, pruner):
    """% removed → network, of the dense one and of one pruner."""
    return {round(100 * n[1], 6): n for n in sorted(accuracies(name), key=lambda n: n[1]) if n[2] in ("dense", pruner)}


def test_15_grows_and_15_snip():
    slopes = {}
    for name, pruner in (("15-grows", "random"), ("15-snip", "snip"), ("15-snip", "random")):
        cells = {removed: n for removed, n in sparse(name, pruner).items() if removed <= 95}
        slopes[name, pruner] = line([r / 10 for r in cells]) @ np.array([unbiased(name, n) for n in cells.values()])
    check("15-grows", single(slopes["15-grows", "random"]))
    parts = [single(slopes["15-snip", "snip"]), single(slopes["15-snip", "snip"] - slopes["15-snip", "random"])]
    check("15-snip", min(parts, key=lambda part: part[1]))  # the weaker


def test_6_better_mlp():
    by_network, parts = accuracies("6-better-mlp"), []
    for pruner in ("random", "snip"):
        cells = sparse("6-better-mlp", pruner)
        groups = [list(by_network[n][0].values()) for removed, n in cells.items() if 0 < removed <= 95]
        dense = list(by_network[cells[0.0]][0].values())
        parts.append(pooled([*groups, dense], [*[1 / len(groups)] * len(groups), -1]))
    check("6-better-mlp", min(parts, key=lambda part: part[1]))


def test_6_trainable():
    losses = defaultdict(list)
    for record in records("6-trainable"):
        run = record["run"]
        if run["rho"] == 0 and 0 < run["sparsity"] <= 0.95:
            losses[run["sparsity"], run["pruner"]].append(math.log10(record["final"]["train_loss"]))
    signs = {"random": 2, "snip": -2}
    check("6-trainable", pooled(list(losses.values()), [signs[pruner] / len(losses) for _, pruner in losses]))


def test_6_restores():
    cells = accuracies("6-restores")
    widths = sorted({n[0] for n in cells if 0 < n[1] <= 0.95 and (n[0], 0.0, "dense") in complete(cells)})
    groups, weights = [], []
    for width in widths:
        pruned = [n for n in cells if n[0] == width and n[1] > 0]
        groups += [gaps(cells[n]) for n in pruned] + [gaps(cells[width, 0.0, "dense"])]
        weights += [1 / len(pruned) / len(widths)] * len(pruned) + [-1 / len(widths)]
    check("6-restores", pooled(groups, weights))


def test_8_structured():
    cells = [n for n in accuracies("8-structured") if ":" in n[2]]
    check("8-structured", single(np.mean([unbiased("8-structured", n) for n in cells], axis=0)))


def test_16_pattern():
    cells = complete(accuracies("16-pattern"))
    logs = [[np.mean(np.log10(best({r: c[r][s] for r in RHOS}))) for s in sorted(c[0])] for c in cells.values()]
    inside = sum(np.var(g) * len(g) for g in logs)
    number = sum(map(len, logs))
    between = np.var(np.concatenate(logs)) * number - inside
    variance = inside / (number - len(logs))
    value = math.sqrt(max(0, between - (len(logs) - 1) * variance) / number)
    assert ROWS["16-pattern"]["effect"] == pytest.approx(value, rel=1e-4, abs=1e-7)


def losses_of(name, width, rho, normalized):
    runs = [r for r in records(name) if (r["run"]["width"], r["run"]["rho"]) == (width, rho)]
    return [r["final"]["train_loss"] for r in runs if r["run"]["normalized"] is normalized]


def test_1a_normalized_and_1a_faster():
    normalized, plain = (np.log10(losses_of("1a-normalized", 10, 0.05, kind)) for kind in (True, False))
    check("1a-normalized", pooled([normalized, plain], [1, -1]))
    short, enough = (np.log10(losses_of("1a-faster", rank, 0.05, False)) for rank in (4, 10))
    check("1a-faster", pooled([short, enough], [1, -1]))


def test_1a_lost():
    tails = [np.log10(r["curves"]["train_loss"]) for r in records("1a-lost")]
    check("1a-lost", single([(tail[-51] - tail[-1]) / 50 for tail in tails]))


def test_1b_faster_and_1b_linear():
    curves = defaultdict(list)
    for record in records("1b-faster"):
        curves[record["run"]["width"]].append(record["curves"]["train_loss"])
    narrow, wide = curves[min(curves)], curves[max(curves)]
    level = max(curve[-1] for curve in narrow)
    epochs = [[next(i + 1 for i, loss in enumerate(c) if loss <= level) for c in part] for part in (narrow, wide)]
    check("1b-faster", pooled(epochs, [1, -1]))
    squares = [np.corrcoef(np.arange(len(c)), np.log(c))[0, 1] ** 2 for c in wide]
    assert f"R² {min(squares):.3f} to {max(squares):.3f}" in ROWS["1b-linear"]["measured"]


def test_2ab_flatter():
    result = [r for r in records("2ab-flatter") if r.get("measurement", {}).get("kind") == "flatness"]
    values = {(r["measurement"]["run"]["rho"], r["measurement"]["run"]["seed"]): r["values"] for r in result}
    weakest = []
    for cut in (0.01, 0.03):
        near = {key: v for key, v in values.items() if v["sample_loss"] < cut}
        pairs = [(rho, s) for rho, s in near if rho and (0.0, s) in near]
        by_rho = defaultdict(list)
        for rho, s in pairs:
            by_rho[rho].append(math.log10(near[rho, s]["a"] / near[0.0, s]["a"]))
        most = max(map(len, by_rho.values()))
        weakest.append(np.mean([np.mean(logs) for logs in by_rho.values() if len(logs) == most]))
    assert any(ROWS["2ab-flatter"]["effect"] == pytest.approx(value, rel=1e-4) for value in weakest)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row["keys"]])
def test_seeds_and_seconds_are_those_of_the_records(name):
    seconds, seeds = 0.0, set()
    for record in records(name):
        run = record["run"] if "run" in record else record["measurement"]["run"]
        seconds, seeds = seconds + (record["provenance"].get("seconds") or 0.0), seeds | {run["seed"]}
    assert ROWS[name]["seconds"] == pytest.approx(seconds, abs=0.06) and 0 < ROWS[name]["seeds"] <= len(seeds)


def test_these_are_at_least_fifteen_claims():
    tested = {
        name for test in globals().copy() if test.startswith("test_") for name in ROWS if name.replace("-", "_") in test
    }
    assert len(tested) >= 15, sorted(tested)
    assert all(ROWS[name]["keys"] for name in tested)
