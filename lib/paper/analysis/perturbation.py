"""Notebook 09: which perturbation, over how many samples. From tables of runs to findings; `variants` says what a gain
is, and `minima` what is measured where training ends."""

import numpy as np
import pandas

from lib.paper.analysis import effects, variants
from lib.paper.claims import Finding

RANDOM, OTHER, SAME = "random", "n-SAM", "SAM"


def kind(row) -> str:
    """Which perturbation of Figure 1 a run of SAM has."""
    return RANDOM if row["perturbation"] == "random" else OTHER if row["ascent_batch"] == "other" else SAME


def group_size(row) -> int:
    """m: of how many samples each climb is."""
    return int(row["batch_size"] // row["parts"])


def steps_of(row) -> str:
    """Steps and m of a run, as a legend has them."""
    return f"{row['ascent_steps']} step{'s' * (row['ascent_steps'] > 1)}, m = {group_size(row)}"


def lead(frame: pandas.DataFrame, over: str) -> Finding:
    """By how much SAM's accuracy exceeds that of another perturbation."""
    return variants.mean(variants.versus(frame, SAME, over))


def lead_growth(frame: pandas.DataFrame, over: str) -> Finding:
    """How that changes with the width."""
    return variants.growth(variants.versus(frame, SAME, over))


def gain_of(frame: pandas.DataFrame, variant) -> Finding:
    """The gain of one variant over SGD."""
    return variants.mean(frame[frame["variant"] == variant].rename(columns={"gain": "value"}))


def over_m(frame: pandas.DataFrame, noise: float) -> Finding:
    """The slope of the gain over log₁₀ m at a share of wrong labels."""
    return variants.mean(variants.slopes(frame[frame["label_noise"] == noise]), "points a decade of m")


def over_m_growth(frame: pandas.DataFrame, noise: float = 0.0) -> Finding:
    """How that slope changes with the width."""
    return variants.growth(variants.slopes(frame[frame["label_noise"] == noise]), "points a decade of m")


def more_steps(frame: pandas.DataFrame, column: str = "sam", unit: str = variants.POINTS) -> Finding:
    """A column of `gains` with ten steps minus that with one, over all m and networks; own_rho in decades."""
    frame = frame.assign(own_rho=np.log10(frame["own_rho"].astype(float)))
    parts = []
    for name in frame["variant"].unique():
        many, size = name.split(", ")
        if many != "1 step":
            parts.append(variants.versus(frame, name, f"1 step, {size}", column))
    parts = [part for part in parts if len(part)]
    if not parts:
        return Finding("no two variants have seeds")
    return variants.mean(pandas.concat(parts, ignore_index=True), unit)


def bridge(frame: pandas.DataFrame) -> Finding:
    """SGD's accuracy at the smallest batch minus SAM's at the largest, seed by seed; batch_size is among the columns of
    the networks."""
    ends = frame["batch_size"].min(), frame["batch_size"].max()
    wide = frame.pivot_table(["sgd", "sam"], ["parameters", "seed"], "batch_size")
    if ends[0] == ends[1] or frame.empty:
        return Finding("fewer than two batch sizes have seeds")
    values = (wide["sgd"][ends[0]] - wide["sam"][ends[1]]).dropna().rename("value").reset_index()
    return variants.mean(values)


def middle(frame: pandas.DataFrame) -> Finding:
    """The gain at the middle width that is best for the other seeds minus that of the widest, or of the narrowest where
    that is decisive, seed by seed."""
    wide = frame.pivot_table("gain", "seed", "parameters").dropna()
    if wide.shape[1] < 3 or len(wide) < 2:
        return Finding("fewer than three widths have two seeds")
    inner, best = wide.iloc[:, 1:-1], []
    for seed in wide.index:
        best.append(wide.loc[seed, inner.drop(index=seed).mean().idxmax()])
    means = ", ".join(f"{gain:+.2f} at {count:,} parameters" for count, gain in wide.mean().items())
    effect = effects.weakest([variants.mean_effect(np.array(best) - wide.iloc[:, end]) for end in (-1, 0)])
    return Finding(f"{effect}; mean gains {means}; {len(wide)} seeds", effect=effect)


def narrowest(frame: pandas.DataFrame) -> Finding:
    """The gain of the smallest network."""
    return variants.mean(frame[frame["parameters"] == frame["parameters"].min()].rename(columns={"gain": "value"}))
