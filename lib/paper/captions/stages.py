"""The captions of notebook 10."""

from lib.paper.captions.caption import Caption

CAPTIONS = {
    "figP8": Caption(
        "Test error of training that changes from SGD to SAM, or from SAM to SGD, against when it changes.",
        ("st-end", "st-early", "st-late", "st-end-width"),
    ),
    "figP9": Caption(
        "Test error over the epochs of SGD, SAM, and each of them followed by the other for the last tenth.",
        ("st-keeps", "st-falls"),
    ),
    "figP10": Caption(
        "Training and test loss on the line between the solution of SGD and that of SGD followed by SAM.",
        ("st-basin",),
    ),
    "figP11": Caption(
        "Test error over the epochs of SGD, SAM, SAM without the norm of the gradient, and that clipped to ρ.",
        ("st-normalization", "st-clip", "st-loss", "st-last"),
    ),
    "figP12": Caption(
        "Test error over the epochs with 60% wrong labels, of SGD, SAM, SAM without the norm and that clipped to ρ.",
        ("st-noise-rises", "st-noise-sam", "st-noise-free", "st-noise-width"),
    ),
    "figP20": Caption("The objective with weight decay over the epochs of SGD and SAM.", ("st-objective",)),
    "figP21": Caption(
        "Test error against ρ, for a constant radius and one that falls with the learning rate.", ("st-decreasing",)
    ),
    "figP_bounds": Caption(
        "Largest ratio of what a theorem bounds to its bound, against the number of steps, on random losses that meet "
        "its assumptions; above 1 the bound is broken. Left: full batch. Right: mini-batches.",
        (
            "st-thm-6",
            "st-thm-9",
            "st-thm-9-printed",
            "st-thm-10",
            "st-thm-11",
            "st-thm-2",
            "st-thm-12",
            "st-thm-12-printed",
            "st-thm-pl",
        ),
    ),
    "figP_resting": Caption(
        "Steps of SAM on a function of one variable with ρ below and above 1/β.", ("st-necessary",)
    ),
}
