"""What a claim is: a statement in our words, where the paper makes it, and by which rule its verdict is reached."""

from dataclasses import dataclass

KINDS = ("condition", "direction", "absence", "question")


@dataclass(frozen=True)
class Claim:
    """A claim needs no more than its source and its text; the rest says how it is judged.

    source: where in the paper; text: the claim in our words.
    kind: "condition" (met or not, without an interval), "direction" (an effect of the stated sign), "absence" (no
        effect beyond the margin), or "question" (a number, no verdict).
    condition: of the verdict, in words. paper: the paper's number, or the direction it claims, in words.
    sign: of the claimed effect. value: the paper's number, in the unit of the effect. margin: around no effect, inside
        which an effect counts as none. one_sided: of an absence, where an effect of the other sign is no objection.
    experiments: the grids that it rests on, whose `paper` preset is the paper's protocol.
    own_length: it speaks of runs of the paper's length and sizes, and no others test it.
    misprint: what is misprinted and what it should be; then a condition that holds is "corrected".
    deviation: what else than the grid differs from the paper and bears on the claim.
    """

    source: str
    text: str
    kind: str = "condition"
    condition: str = ""
    paper: str = ""
    sign: int = 1
    value: float | None = None
    margin: float | None = None
    one_sided: bool = False
    experiments: tuple[str, ...] = ()
    own_length: bool = False
    misprint: str = ""
    deviation: str = ""

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind = {self.kind!r}: must be one of {', '.join(KINDS)}")
        if self.kind == "absence" and not (self.margin and self.margin > 0):
            raise ValueError(f"margin = {self.margin!r}: a claim of absence needs one above 0")
        if self.sign not in (-1, 1):
            raise ValueError(f"sign = {self.sign!r}: must be 1 or -1")
