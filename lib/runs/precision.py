"""Which precisions a run may be trained in: those that keep SAM's correction g(w + ε) − g(w) at its ρ.

tf32 and bf16 are fast on a GPU, and lose a small difference of large numbers. LOST says how much, ‖error‖ over
‖correction‖ in the worst of the networks in benchmarks/precision.json; more than MOST is too much. A precision that
kept the correction at some ρ would be a choice like float32, and part of the key; neither of these does at one that was
measured.
"""

PRECISIONS = ("float32", "float64")
MOST = 0.25
LOST = {
    "tf32": {0.0005: 30.0, 0.005: 0.95, 0.05: 0.4, 0.2: 0.33},
    "bf16": {0.0005: 39.0, 0.005: 2.6, 0.05: 0.94, 0.2: 0.62},
}


def check(precision: str, rho: float) -> None:
    """Raise ValueError for a precision that there is not, or that loses the correction of SAM at this ρ.

    >>> check("bf16", 0.06)
    Traceback (most recent call last):
    ValueError: precision = 'bf16': at rho = 0.05 it is off by 0.94 of SAM's correction, more than 0.25 ...
    """
    if precision in PRECISIONS:
        return
    reason = ""
    if measured := LOST.get(precision):
        nearest = min(measured, key=lambda known: abs(known - rho))
        reason = f"at rho = {nearest} it is off by {measured[nearest]} of SAM's correction, more than {MOST}"
        if not rho:
            reason = "SGD is compared with SAM, whose correction it loses"
        reason += " (docs/gpu.md); "
    raise ValueError(f"precision = {precision!r}: {reason}must be one of {', '.join(PRECISIONS)}")
