"""The paper's claims in our words, by notebook, and those that go beyond it; each section's are in its own file."""

from lib.paper.claims import (
    benign,
    bouncing,
    convergence,
    implicit_bias,
    linearization,
    perturbation,
    sparsity,
    stability,
    stages,
    width,
)
from lib.paper.claims.claim import Claim

CLAIMS: dict[str, dict[str, Claim]] = {
    "01_convergence": convergence.CLAIMS,
    "02_stability": stability.CLAIMS,
    "03_width": width.CLAIMS,
    "04_sparsity": sparsity.CLAIMS,
    "05_linearization": linearization.CLAIMS,
    "06_bouncing": bouncing.CLAIMS,
    "07_benign_overfitting": benign.CLAIMS,
    "08_implicit_bias": implicit_bias.CLAIMS,
    "09_m_sharpness": perturbation.CLAIMS,
    "10_stages": stages.CLAIMS,
}
