"""From an effect and its interval to a verdict: the rule, the same for all claims.

| verdict | the 95% interval |
|---|---|
| reproduced | lies on the claimed side of no effect, and reaches or passes the paper's number where there is one |
| reproduced, smaller | lies on the claimed side, and all of it falls short of the paper's number |
| contradicted | lies on the other side, or inside the stated margin around no effect |
| undecided | anything else, and what rests on one seed |
| corrected | nothing: a misprint that is shown, after whose mending the statement is true |
| not tested | there is none: no runs, runs of another protocol, or networks that have not learned |

A claim of absence is reproduced where the interval lies inside the margin, and contradicted where it lies outside.
"""

import math

from lib.paper.claims.claim import Claim
from lib.paper.claims.effect import Effect

REPRODUCED = "reproduced"
SMALLER = "reproduced, smaller"
CONTRADICTED = "contradicted"
UNDECIDED = "undecided"
CORRECTED = "corrected"
NOT_TESTED = "not tested"
QUESTION = "no verdict"  # of a question, which gets a number
VERDICTS = (REPRODUCED, SMALLER, CONTRADICTED, UNDECIDED, CORRECTED, NOT_TESTED, QUESTION)


def judge(claim: Claim, effect: Effect | None, holds: bool | None = None, *, comparable: bool = True) -> str:
    """The verdict on a claim.

    holds: whether the condition of a claim without an interval is met; None: it was not tested.
    comparable: whether the runs are of the paper's protocol, so that its numbers say what to expect.

    >>> claim = Claim("Figure 3a", "The gap grows", kind="direction", value=0.1, margin=0.02)
    >>> [judge(claim, Effect(d, d - 0.05, d + 0.05, seeds=3)) for d in (0.12, 0.051, -0.1, 0.0)]
    ['reproduced', 'reproduced', 'contradicted', 'undecided']
    """
    if claim.kind == "question":
        return QUESTION
    if claim.kind == "condition":
        if holds is None:
            return NOT_TESTED
        return CONTRADICTED if not holds else CORRECTED if claim.misprint else REPRODUCED
    if effect is None or math.isnan(effect.value):
        return NOT_TESTED
    if not effect.known or effect.seeds == 1:
        return UNDECIDED
    low, high = sorted((claim.sign * effect.low, claim.sign * effect.high))
    if claim.kind == "absence":
        return _absent(claim, low, high)
    if high < 0 or (claim.margin is not None and -claim.margin < low and high < claim.margin):
        return CONTRADICTED
    if low <= 0:
        return UNDECIDED
    number = effect.paper if not math.isnan(effect.paper) else claim.value
    short = comparable and number is not None and high < claim.sign * number
    return SMALLER if short else REPRODUCED


def _absent(claim: Claim, low: float, high: float) -> str:
    inside = high < claim.margin and (claim.one_sided or low > -claim.margin)
    outside = low > claim.margin or (high < -claim.margin and not claim.one_sided)
    return REPRODUCED if inside else CONTRADICTED if outside else UNDECIDED


def target(claim: Claim, effect: Effect) -> float:
    """The effect that more seeds should be able to show: the paper's number, else the effect that was measured, or the
    margin if that is larger; of an absence what is left of the margin."""
    if claim.kind == "absence":
        return claim.margin - (claim.sign * effect.value if claim.one_sided else abs(effect.value))
    if not math.isnan(effect.paper):
        return abs(effect.paper)
    return abs(claim.value) if claim.value else max(claim.margin or 0.0, abs(effect.value))


def takes(claim: Claim, effect: Effect | None, seconds: float) -> str:
    """What it would take to decide an undecided claim: seeds of each network, and core-hours at the cost so far."""
    if effect is None or effect.seeds < 2:
        hours = 2 * seconds / 3600
        return f"its scatter is unknown: two more seeds{f', about {hours:.2g} core-hours' if hours else ''}"
    if (aim := target(claim, effect)) <= 0:
        return "the estimate is beyond the margin: no number of seeds is known to confirm it"
    if (seeds := effect.seeds_needed(aim)) is None:
        return "more seeds than can be planned"
    if seeds == effect.seeds:
        return f"an effect of {aim:.2g} would have been seen with 80% power; more seeds decide on a smaller one"
    hours = seconds * (seeds - effect.seeds) / effect.seeds / 3600
    cost = f", about {hours:.2g} core-hours more" if hours else ""
    return f"{seeds} seeds to see {aim:.2g} {effect.unit} with 80% power{cost}"
