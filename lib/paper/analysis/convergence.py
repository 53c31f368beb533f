"""What the training curves of narrow and wide networks say: who is faster, and do the seeds agree (Section 3)."""

import math
from typing import NamedTuple

import numpy as np
import pandas

from lib.paper.analysis import effects
from lib.paper.claims import Effect, Finding

STRAIGHT = 0.95  # R²


def epochs_to(curves: dict, level: float) -> float:
    """The first epoch whose training loss is at most `level`; inf if there is none."""
    reached = (e for e, loss in zip(curves["epoch"], curves["train_loss"], strict=True) if loss <= level)
    return next(reached, math.inf)


class Comparison(NamedTuple):
    """The narrowest against the widest network of those that are done for two seeds or more.

    widths: of the two.
    level: a training loss that all seeds of the narrow one reach at their end.
    narrow, wide: the epochs that each seed needs to get there.
    spread: the standard deviation over seeds of log₁₀ loss, averaged over epochs, the larger of the two networks'.
    gap: how far their mean log₁₀ losses are apart, averaged over epochs; positive where the wide one is lower.
    """

    widths: tuple[float, float]
    level: float
    narrow: list[float]
    wide: list[float]
    spread: float
    gap: float


def straightness(table: pandas.DataFrame) -> Finding:
    """How close to a line log₁₀ of the training loss is over the epochs, in the widest network of rows of `sweep`: R²
    of every seed, and whether the least is above STRAIGHT."""
    done = table[table["status"] == "done"]
    wide = done[done["width"] == table["width"].max()]
    if wide.empty:
        return Finding("the widest network has no run")
    squares = [
        float(np.corrcoef(curves["epoch"], np.log10(curves["train_loss"]))[0, 1] ** 2) for curves in wide["curves"]
    ]
    words = f"R² {min(squares):.3f} to {max(squares):.3f} of {len(squares)} seeds at width {wide['width'].iloc[0]:g}"
    return Finding(words, holds=min(squares) > STRAIGHT)


def sooner(pair: "Comparison") -> Effect:
    """By how many epochs the wide network reaches `level` before the narrow one."""
    return effects.difference(pair.narrow, pair.wide, "epochs")


def compare_widths(table: pandas.DataFrame) -> Comparison | None:
    """Compare the narrowest and the widest network in rows of `sweep`; None if fewer than two widths are done."""
    done = table[table["status"] == "done"]
    seeds = done.groupby("width").size()
    widths = seeds[seeds >= 2].index
    if len(widths) < 2:
        return None
    ends = widths.min(), widths.max()
    parts = [done[done["width"] == width]["curves"].tolist() for width in ends]
    level = max(curves["train_loss"][-1] for curves in parts[0])
    logs = [np.log10([curves["train_loss"] for curves in part]) for part in parts]
    return Comparison(
        widths=ends,
        level=level,
        narrow=[epochs_to(curves, level) for curves in parts[0]],
        wide=[epochs_to(curves, level) for curves in parts[1]],
        spread=max(float(log.std(0, ddof=1).mean()) for log in logs),
        gap=float((logs[0].mean(0) - logs[1].mean(0)).mean()),
    )
