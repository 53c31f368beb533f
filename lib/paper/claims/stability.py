"""The claims of Section 4 and Appendix E."""

from lib.paper.claims.claim import Claim

_FLAT = dict(experiments=("mnist_flatness",))
_RATIO = dict(kind="direction", sign=-1, margin=0.05) | _FLAT
_NEAR = "for every ρ at which the residuals are below 0.01"

CLAIMS = {
    "thm-9": Claim(
        "Theorem 9",
        "Where the matrix of Theorem 9 has no eigenvalue above 1, linearized SAM is stable",
        condition="stable wherever promised, on 8 random problems",
        paper="sufficient",
    ),
    "thm-9-tight": Claim(
        "beyond the paper",
        "How much of what is stable does Theorem 9 promise, of the (η, ρ) of a logarithmic grid?",
        kind="question",
    ),
    "E-printed": Claim(
        "Appendix E",
        "The expected squared distance after a step is the quadratic form that the proof ends with",
        condition="the last two lines agree with the mean of B_i² on a random problem, to rounding, once mended",
        paper="equal",
        misprint="the last but one line of the expansion has H² where M₂ = E H_ξ² belongs, in η(η − 2ρ)H²",
    ),
    "7-necessary": Claim(
        "Conditions (7)",
        "The conditions (7) hold wherever the condition of Theorem 9 does",
        condition="no counterexample; one is shown",
        paper="necessary",
    ),
    "2ab-flatter": Claim(
        "Figures 2a, 2b",
        "SAM's minima are less sharp than SGD's",
        condition=f"log₁₀ of a over SGD's below 0 {_NEAR}",
        paper="lower",
        **_RATIO,
    ),
    "2-a-falls": Claim(
        "Section 4",
        "The sharpness a goes on falling as ρ grows",
        condition="slope of log₁₀ a over log₁₀ ρ below 0",
        paper="falls",
        **_RATIO,
    ),
    "2c-uniform": Claim(
        "Figure 2c",
        "The Hessian is more uniform at SAM's minima: s₂ is smaller than at SGD's",
        condition=f"log₁₀ of s₂ over SGD's below 0 {_NEAR}",
        paper="smaller",
        **_RATIO,
    ),
    "2c-falls": Claim(
        "Figure 2c",
        "s₂ goes on falling as ρ grows",
        condition="slope of log₁₀ s₂ over log₁₀ ρ below 0",
        paper="falls",
        **_RATIO,
    ),
    "2-higher": Claim(
        "Section 4",
        "SAM's minima have smaller s₃ and s₄ too",
        condition=f"log₁₀ of s₃ and of s₄ over SGD's below 0 {_NEAR}",
        paper="smaller",
        **_RATIO,
    ),
    "2-s3-falls": Claim(
        "Section 4",
        "s₃ falls as ρ grows",
        condition="slope of log₁₀ s₃ over log₁₀ ρ below 0",
        paper="falls",
        **_RATIO,
    ),
    "2-s4-falls": Claim(
        "Section 4",
        "s₄ falls as ρ grows",
        condition="slope of log₁₀ s₄ over log₁₀ ρ below 0",
        paper="falls",
        **_RATIO,
    ),
    "7-minima": Claim(
        "Section 4",
        "The minima that SAM finds agree with the necessary one of the conditions (7), that on a",
        condition="a below its bound at ρ/‖g_B‖ in every network near zero loss",
        paper="align",
        deviation="the radius of unnormalized SAM that normalized SAM amounts to",
        **_FLAT,
    ),
    "7-align": Claim(
        "Section 4",
        "The minima that SAM finds align with the conditions (7) on s₂, s₃ and s₄, as the paper reads them",
        kind="direction",
        sign=-1,
        condition="log₁₀ of the largest of s₂, s₃ and s₄ over its bound below 0, single samples at ρ",
        paper="align",
        **_FLAT,
    ),
    "2-course": Claim(
        "Section 4",
        "SAM is less sharp than SGD not only where it ends",
        kind="direction",
        sign=-1,
        condition="log₁₀ of a over SGD's, the mean over the second half of the epochs, below 0",
        paper="lower",
        margin=0.05,
        experiments=("mnist_course",),
        deviation="hidden layers 300 and 100 instead of 3,000 and 1,000",
    ),
    "2-edge": Claim(
        "beyond the paper",
        "How near do SGD and SAM come to their edges of stability while they train?",
        kind="question",
        experiments=("mnist_course",),
    ),
    "2-zero-loss": Claim(
        "Section 4",
        "All networks are trained to near zero loss",
        condition="mean squared residual below 0.01 and below 0.03 in all of them (1 for always 0)",
        paper="near zero",
        **_FLAT,
    ),
    "8-flatter": Claim(
        "Section 8",
        "Flatter minima go with better accuracy",
        kind="direction",
        sign=-1,
        condition="slope of the test accuracy over log₁₀ a below 0, over all networks near zero loss",
        paper="positive link",
        margin=0.05,
        **_FLAT,
    ),
}
