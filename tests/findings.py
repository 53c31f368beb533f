"""What a finding means for a claim, in one word."""

from lib.paper.claims import CLAIMS, Finding, verdicts

OUTCOMES = {"reproduced": True, "reproduced, smaller": True, "corrected": True, "contradicted": False}


def outcome(name: str, finding: Finding) -> bool | None:
    """True where the claim of this name is reproduced, False where it is contradicted; None: undecided, not tested."""
    claim = next(claims[name] for claims in CLAIMS.values() if name in claims)
    if finding.untested:
        return None
    return OUTCOMES.get(verdicts.judge(claim, finding.effect, finding.holds))
