"""What the figures of Appendix C plot over the scale α, and what they say: does SAM gain by lazy training? (Figure 17)

A finding on a claim is what was measured, in words, and whether its condition is met. Where a record is lacking its
words are what is lacking; runs that have not learned test nothing. Tables are those of `scored`.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas
import torch

from lib.models import linearize
from lib.paper.analysis import effects
from lib.paper.claims import Effect, Finding, lacking, mean_and_spread
from lib.runs import UNRECORDED

CONSTANT = 0.9  # α²·loss of the best constant answer to ten balanced classes, 1/10 for each: (1 − 1/10)² + 9/10²
LAZY = 0.99  # of the activations: what the paper calls close to 100%
NEAR = 0.1  # of the length of the outputs
FAR, CLOSE = 10.0, 5.0  # points of accuracy
EXPONENT = 0.1  # how far a fitted exponent may be from the one expected
BENEFIT = 1.0  # points; the standard error of an accuracy on 5,000 images is up to 0.7
NUMBERS = (
    "stability",
    "distance",
    "start_norm",
    "kernel_change",
    "kernel_cosine",
    "start_sharpness",
    "sharpness",
    "swing",
    "ascent_stability",
)


def scored(table: pandas.DataFrame, trained: pandas.DataFrame | None = None) -> pandas.DataFrame:
    """A table of `sweep`, or one of `measure` with that of its runs (trained), row for row, with more columns.

    accuracy: on test samples (%); loss, in place of its name: α²·training loss, 1 for an untrained network; label: the
    optimizer, for a legend; and every number that `laziness` measures, NaN where it has not. status: "not learned"
    where the loss is above CONSTANT.
    """
    trained = table if trained is None else trained
    result = table.reindex(columns=list(dict.fromkeys([*table, *NUMBERS, "outputs"])))
    result = result.astype(dict.fromkeys(NUMBERS, float)).assign(
        accuracy=100 * trained["test_accuracy"].to_numpy(),
        loss=result["alpha"] ** 2 * trained["train_loss"].to_numpy(),
        label=[f"SAM, ρ = {rho:g}" if rho else "SGD" for rho in result["rho"]],
    )
    failed = (result["status"] == "done") & (result["loss"] > CONSTANT)
    return result.assign(status=result["status"].mask(failed, "not learned"))


def distance_to_tangent(runs: pandas.DataFrame, tangent: pandas.DataFrame) -> pandas.Series:
    """How far αf of each run is from that of the tangent model of its seed on the same samples, relative to the
    latter's length: 0 is agreement, 1 what an answer of 0 would have. NaN without either.

    tangent: its rows by one optimizer, one a seed."""
    answers = {t.seed: torch.tensor(t.outputs) for t in tangent.itertuples() if isinstance(t.outputs, list)}
    result = [
        linearize.relative_change(answers[r.seed], torch.tensor(r.outputs))
        if isinstance(r.outputs, list) and r.seed in answers
        else math.nan
        for r in runs.itertuples()
    ]
    return pandas.Series(result, index=runs.index, dtype=float)


def later(runs: pandas.DataFrame) -> pandas.DataFrame:
    """The runs at all but the smallest α, at which nothing asks for laziness yet."""
    return runs[runs["alpha"] > runs["alpha"].min()]


def distances(runs: pandas.DataFrame) -> pandas.DataFrame:
    """How the distance that training travels depends on α and ρ, one row a label: the exponent of α, by least squares
    over the `later` α; at the largest ‖w − w₀‖, ‖w − w₀‖/ρ (NaN for SGD) and the swing of SAM's ascent."""
    rows = {}
    for label, part in later(runs).groupby("label", sort=False):
        last = part[part["alpha"] == runs["alpha"].max()]
        ratio = (last["distance"] / last["rho"].mask(last["rho"] == 0)).mean()
        ends = {"‖w − w₀‖": last["distance"].mean(), "‖w − w₀‖/ρ": ratio, "swing": last["swing"].mean()}
        rows[label] = {"exponent of α": _exponent(part)} | ends
    return pandas.DataFrame.from_dict(rows, orient="index")


def _exponent(runs: pandas.DataFrame) -> float:
    result = runs[["alpha", "distance"]].dropna()
    if result["alpha"].nunique() < 2:
        return math.nan
    return float(np.polyfit(*np.log(result.T.to_numpy(float)), 1)[0])


# ------------------------------------------------------------------------------------------------------------- verdicts


def best_learning_rate(search: pandas.DataFrame, lr: float) -> Finding:
    """Whether no other learning rate of the search ends with a higher accuracy than `lr`."""
    runs = zip(search["lr"], search["status"], search["accuracy"], strict=True)
    sentence = [f"{f'{accuracy:.1f}%' if status == 'done' else status} at η = {at:g}" for at, status, accuracy in runs]
    holds = search.loc[search["lr"] == lr, "accuracy"].iloc[0] >= search["accuracy"].max()
    return _verdict(", ".join(sentence), holds, search, without=UNRECORDED, whatever_learned=True)


def lazy(sgd: pandas.DataFrame, sam: pandas.DataFrame) -> Finding:
    """Whether training keeps more than LAZY of the activations in all of these runs, at one α."""
    sentence = f"activations that training changed: SGD {_changed(sgd)}, SAM {_changed(sam)}"
    return _verdict(sentence, _is_lazy(sgd).all() and _is_lazy(sam).all(), sgd, sam)


def never_lazy(sam: pandas.DataFrame) -> Finding:
    """Whether no run of SAM at one ρ, whatever α, keeps more than LAZY of the activations. What diverged did not stay
    where it was; but where all at the largest α did, nothing was measured."""
    sentence = f"highest stability at ρ = {sam['rho'].max():g} and any α: {sam['stability'].max():.3f}; "
    sentence += f"{(sam['status'] == 'diverged').sum()} of {len(sam)} runs diverged{_unlearned(sam)}"
    nothing = sam.loc[sam["alpha"] == sam["alpha"].max(), "stability"].isna().all()
    return _verdict(sentence, None if nothing else not _is_lazy(sam).any(), sam, without=UNRECORDED)


def behind(sgd: pandas.DataFrame, sam: pandas.DataFrame) -> Finding:
    """Whether at one α SAM's mean accuracy is more than FAR points below SGD's; who did not learn is named."""
    lost = [name for name, part in (("SGD", sgd), ("SAM", sam)) if not _has_learned(part).all()]
    sentence = f"{_ahead(sgd, sam):.1f} points behind SGD" + f", where {' and '.join(lost)} did not learn" * bool(lost)
    sentence += f": {_losses(sgd, sam)}, the best constant answer's {CONSTANT}"
    return _verdict(sentence, _ahead(sgd, sam) > FAR, sgd, sam, effect=_points(sgd, sam))


def rises(*parts: pandas.DataFrame) -> Finding:
    """Whether the mean stability of activations is higher at each larger α, for every part: the runs of one optimizer
    and ρ at all α."""
    means = {part["label"].iloc[0]: part.groupby("alpha")["stability"].mean() for part in parts}
    each = (f"{label} {', '.join(f'{100 * v:.3g}% at α = {a:g}' for a, v in m.items())}" for label, m in means.items())
    return _verdict("; ".join(each), all(m.is_monotonic_increasing for m in means.values()), *parts)


def learned(sgd: pandas.DataFrame, sam: pandas.DataFrame) -> Finding:
    """Whether all of these runs, at one α, are at least as good as the best constant answer."""
    holds = _has_learned(sgd).all() and _has_learned(sam).all()
    return _verdict(_losses(sgd, sam), holds, sgd, sam, whatever_learned=True)


def near_tangent(runs: pandas.DataFrame, tangent: pandas.DataFrame) -> Finding:
    """Whether all of these runs, at one α, end within NEAR of the tangent model of their seed."""
    gap = distance_to_tangent(runs, tangent)
    sentence = f"relative distance {mean_and_spread(gap)}, kernel changed by {mean_and_spread(runs['kernel_change'])}"
    return _verdict(sentence, _all_near(gap), runs, tangent)


def keeps_sharpness(sgd: pandas.DataFrame) -> Finding:
    """Whether the sharpness after training is the nearer to that before it, up or down, the larger α."""
    if not sgd["start_sharpness"].notna().all():
        return _verdict("the sharpness before training is not recorded", None, sgd)
    change = np.log(sgd["sharpness"] / sgd["start_sharpness"]).abs()  # by run: some end sharper, some flatter
    factors = np.exp(change.groupby(sgd["alpha"]).mean())
    sentence = ", ".join(f"{factor:.3f} at α = {alpha:g}" for alpha, factor in factors.items())
    return _verdict(f"SGD off its start by a factor of {sentence}", factors.is_monotonic_decreasing, sgd)


def distance_scales(sgd: pandas.DataFrame, sam: pandas.DataFrame) -> Finding:
    """Whether over these α the distance travelled falls as 1/α by SGD, and does not depend on α by SAM at one ρ."""
    slopes = [_exponent(part) for part in (sgd, sam)]
    fitted = sorted(set(sgd["alpha"]))
    sentence = f"α to the power {slopes[0]:.2f} for SGD, {slopes[1]:.2f} for SAM at ρ = {sam['rho'].max():g}, by "
    sentence += f"{len(fitted)} values of α from {fitted[0]:g} to {fitted[-1]:g}{_unlearned(sgd, sam)}"
    return _verdict(sentence, abs(slopes[0] + 1) < EXPONENT and abs(slopes[1]) < EXPONENT, sgd, sam)


def fails_on_tangent(sgd: pandas.DataFrame, sam: pandas.DataFrame) -> Finding:
    """Whether on the tangent model too SAM's mean accuracy is more than FAR points below SGD's."""
    sentence = f"at radius {sam['rho'].max():g} SAM is {_ahead(sgd, sam):.1f} points behind SGD on the tangent model, "
    sentence += f"α²·training loss {sam['loss'].mean():.3g} (SGD's {sgd['loss'].mean():.3g}, untrained 1)"
    return _verdict(sentence, _ahead(sgd, sam) > FAR, sgd, sam, effect=_points(sgd, sam))


def equivalent(sam: pandas.DataFrame, tangent: pandas.DataFrame) -> Finding:
    """Whether SAM at (α, ρ) ends within NEAR of the tangent model that SAM trains at (1, αρ)."""
    gap, travelled = distance_to_tangent(sam, tangent), (sam["alpha"] * sam["distance"]).mean()
    sentence = (
        f"relative distance of the outputs {mean_and_spread(gap)}; α‖w − w₀‖ {travelled:.3g}, on the tangent model "
    )
    return _verdict(f"{sentence}{tangent['distance'].mean():.3g}", _all_near(gap), sam, tangent)


def keeps_up(sam: pandas.DataFrame, sgd: pandas.DataFrame) -> Finding:
    """Whether at one α SAM keeps more than LAZY of the activations, and its mean accuracy is less than CLOSE points
    below SGD's."""
    sentence = f"activations changed {_changed(sam)}, {_ahead(sam, sgd):+.1f} points against SGD, α²·training loss "
    holds = _is_lazy(sam).all() and _ahead(sam, sgd) > -CLOSE
    return _verdict(f"{sentence}{sam['loss'].mean():.3g}", holds, sam, sgd)


def no_more_effective(best: pandas.DataFrame, *runs: pandas.DataFrame) -> Finding:
    """Whether linearization does not make SAM more effective: SAM gains BENEFIT over SGD at the smallest α, and nowhere
    more. It does make it so if at a larger α SAM gains over BENEFIT more than there, and than SGD. Else it is open.

    best: rows of `gap.summary` by "alpha", of one protocol and one reference, from all of these runs."""
    gains = best.set_index("alpha")["gap"].sort_index()
    first, most = gains.iloc[0], gains.iloc[1:].max()
    sentence = ", ".join(f"{gain:+.1f} points at α = {alpha:g}" for alpha, gain in gains.items())
    holds = True if first >= BENEFIT and most <= first else None
    return _verdict(f"best gain over SGD {sentence}", False if most > max(first, 0) + BENEFIT else holds, *runs)


def _is_lazy(runs: pandas.DataFrame) -> pandas.Series:
    return runs["stability"] > LAZY


def _has_learned(runs: pandas.DataFrame) -> pandas.Series:
    return runs["loss"] <= CONSTANT


def _unlearned(*parts: pandas.DataFrame) -> str:
    """In words, at which α runs of these parts have not learned; empty for none."""
    lost = {part["label"].iloc[0]: sorted(set(part["alpha"][part["status"] == "not learned"])) for part in parts}
    return "".join(
        f"; {label} has not learned at α = {', '.join(f'{a:g}' for a in at)}" for label, at in lost.items() if at
    )


def _all_near(gap: pandas.Series) -> bool | None:
    return None if gap.isna().any() else bool((gap < NEAR).all())


def _ahead(one: pandas.DataFrame, other: pandas.DataFrame) -> float:
    """By how many points the mean accuracy of one is above the other's."""
    return one["accuracy"].mean() - other["accuracy"].mean()


def _losses(sgd: pandas.DataFrame, sam: pandas.DataFrame) -> str:
    return f"α²·training loss up to {sam['loss'].max():.3g}, SGD's {sgd['loss'].max():.3g}"


def _changed(part: pandas.DataFrame) -> str:
    return mean_and_spread(100 * (1 - part["stability"]), "%", digits=2)


def _points(sgd: pandas.DataFrame, sam: pandas.DataFrame) -> Effect:
    return effects.difference(sgd["accuracy"].dropna(), sam["accuracy"].dropna(), "points")


def _verdict(
    sentence: str,
    holds: bool | None,
    *tables: pandas.DataFrame,
    without: Sequence[str] = (*UNRECORDED, "diverged"),
    effect: Effect | None = None,
    whatever_learned: bool = False,
) -> Finding:
    """A finding on these runs: nothing where one is lacking, and untested where one has not learned, of which nothing
    follows; but not where that is the question (whatever_learned)."""
    if reason := lacking(*tables, without=without):
        return Finding(reason, untested=reason)
    together = pandas.concat(tables)
    one = len(set(together["seed"])) == 1
    dead = "" if whatever_learned else _dead(together)
    open_ = "" if holds is not None else "neither is met; more seeds"
    holds = None if holds is None else bool(holds)
    return Finding(sentence + " (1 seed)" * one, holds, effect, untested=dead, undecided=open_)


def _dead(runs: pandas.DataFrame) -> str:
    """Which of these runs have not learned, in words; empty for none."""
    lost = runs[runs["status"] == "not learned"]
    names = dict.fromkeys(f"{row.label} at α = {row.alpha:g}" for row in lost.itertuples())
    return f"not learned: {', '.join(names)}" if names else ""
