"""The claims of notebook 07: Frei, Chatterji and Bartlett (2022), and what we ask beyond it."""

from lib.paper.claims.claim import Claim

THEOREM = "Frei et al., theorem"
CONDITION = "the statement itself, with the tolerance that the notebook states"
TEXTS = {
    "benign-fits": (THEOREM, "Gradient descent fits every label, flipped ones included, to a loss below 1/(2n)"),
    "benign-error": (
        THEOREM,
        "Where p ≥ n³ the test error stays at the noise floor: clean points are classified rightly",
    ),
    "benign-form": (THEOREM, "The error above the floor is at most 2 exp(−c·n·p^⅓), one c for all n and p"),
    "benign-width": (THEOREM, "The test error does not depend on the width, from a single unit on"),
    "benign-margin": (
        "Frei et al., lemma",
        "Where p ≥ n³ the normalized margin on clean points grows at least like (n·p^⅓)^½",
    ),
    "benign-norm": (THEOREM, "As the loss falls, ‖W‖ grows, and the test error does not where p ≥ n³"),
    "benign-separation": ("beyond the paper", "A2 is needed: with clusters at a fixed distance overfitting is harmful"),
    "benign-dimension": ("beyond the paper", "A3 is needed: overfitting is harmful where p is far below n³"),
    "benign-noise": ("beyond the paper", "A4 is needed: with many flipped labels overfitting is harmful"),
    "benign-lazy": (
        "beyond the paper",
        "A5 is needed: a large initialization, the lazy regime, makes overfitting harmful",
    ),
    "benign-sam-fits": ("beyond the paper", "SAM still fits every flipped label"),
    "benign-sam-error": ("beyond the paper", "SAM errs less than gradient descent where overfitting is harmful"),
}
CLAIMS = {name: Claim(*texts, condition=CONDITION) for name, texts in TEXTS.items()}
