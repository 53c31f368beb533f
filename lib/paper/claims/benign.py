"""The claims of notebook 07 as (source, text): Frei, Chatterji and Bartlett (2022), and what we ask beyond it."""

THEOREM = "Frei et al., theorem"
CLAIMS = {
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
    "benign-separation": ("our question", "A2 is needed: with clusters at a fixed distance overfitting is harmful"),
    "benign-dimension": ("our question", "A3 is needed: overfitting is harmful where p is far below n³"),
    "benign-noise": ("our question", "A4 is needed: with many flipped labels overfitting is harmful"),
    "benign-lazy": ("our question", "A5 is needed: a large initialization, the lazy regime, makes overfitting harmful"),
    "benign-sam-fits": ("our question", "SAM still fits every flipped label"),
    "benign-sam-error": ("our question", "SAM errs less than gradient descent where overfitting is harmful"),
}
