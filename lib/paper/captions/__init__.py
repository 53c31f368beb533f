"""Captions: what each figure shows, the claims that it bears on, and its finding, which is the first claim's verdict.

Nothing here is a result. The number in a finding is read from the claims of a preset when a caption is written.
"""

from collections.abc import Mapping

from lib.paper.captions import (
    benign,
    bouncing,
    convergence,
    implicit_bias,
    linearization,
    m_sharpness,
    sparsity,
    stability,
    stages,
    width,
)
from lib.paper.captions.caption import Caption, number
from lib.paper.claims import pages

__all__ = ["CAPTIONS", "Caption", "finding", "number"]

CAPTIONS: dict[str, dict[str, Caption]] = {
    "01_convergence": convergence.CAPTIONS,
    "02_stability": stability.CAPTIONS,
    "03_width": width.CAPTIONS,
    "04_sparsity": sparsity.CAPTIONS,
    "05_linearization": linearization.CAPTIONS,
    "06_bouncing": bouncing.CAPTIONS,
    "07_benign_overfitting": benign.CAPTIONS,
    "08_implicit_bias": implicit_bias.CAPTIONS,
    "09_m_sharpness": m_sharpness.CAPTIONS,
    "10_stages": stages.CAPTIONS,
}


def finding(caption: Caption, rows: Mapping[str, Mapping]) -> str:
    """One sentence: the figure's first claim, its number and its verdict. Empty where it has none, or no row.

    rows: of claims.json, the claims of one notebook."""
    if not caption.claims or caption.claims[0] not in rows:
        return ""
    return f"{pages.cited(caption.claims[0], rows[caption.claims[0]])}."
