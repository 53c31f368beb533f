"""The captions of notebook 01."""

from lib.paper.captions.caption import Caption

CAPTIONS = {
    "figD1": Caption(
        "Mean loss of mini-batch SAM over the steps at three batch sizes and several ρ, as solid lines, below the "
        "dashed bounds that Theorem 12 guarantees. The axis of the loss is logarithmic, so a straight line is a "
        "linear rate.",
        (
            "thm-12",
            "thm-12-linear",
            "thm-12-tight",
            "thm-7",
            "thm-12-sgd",
            "D-constants",
            "lemma-5",
            "lemma-6",
            "lemma-tight",
        ),
    ),
    "figD2": Caption(
        "Mean excess loss over the steps outside the theorem. Left: radii beyond its largest one. Right: labels with "
        "noise, which no weights fit.",
        ("thm-12-noise",),
    ),
    "fig01a": Caption(
        "Training loss of a matrix factorization over the epochs, of SGD, SAM and unnormalized SAM. Left: rank 4, too "
        "low to fit. Right: rank 10, enough. Thin lines are single seeds.",
        ("1a-linear", "1a-stall", "1a-lost", "1a-faster", "1a-normalized"),
    ),
    "fig01a_variations": Caption(
        "Training loss of the factorization over the epochs at other ranks, one panel for each batch size.",
        ("1a-linear", "1a-stall"),
    ),
    "fig01b": Caption(
        "Training loss of perceptrons of three widths over the epochs, of SGD and of SAM at one ρ. Thin lines are "
        "single seeds.",
        ("1b-faster", "1b-linear", "1b-seeds"),
    ),
    "fig01c": Caption(
        "Training loss of ResNet-18 at a small and a large width over the epochs, of SGD and of SAM at one ρ.",
        ("1c-faster", "1c-linear", "1c-seeds"),
    ),
}
