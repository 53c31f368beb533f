"""The captions of notebook 02."""

from lib.paper.captions.caption import Caption

CAPTIONS = {
    "figE1": Caption(
        "Growth of the second moment of linearized SAM for each step size η and radius ρ: blue shrinks, red grows. "
        "Left: exact. Right: simulated. Lines are the exact edge of stability, that of Theorem 9, and that of "
        "conditions (7).",
        ("thm-9", "thm-9-tight", "7-necessary", "E-printed"),
    ),
    "figE2": Caption(
        "Squared distance from the minimum over the steps, below, at and beyond the edge of stability. Grey: single "
        "simulated paths. Orange: their mean. Dashed: the exact mean.",
        ("thm-9",),
    ),
    "fig02ab": Caption(
        "Contours of the training loss around the weights of SGD and of SAM, along the two steepest eigenvectors of "
        "the Hessian. Axes and levels are the same in all panels, so wider contours are a flatter minimum.",
        ("2ab-flatter", "2-zero-loss", "2-a-falls", "8-flatter"),
    ),
    "fig02c": Caption(
        "Sharpness a and non-uniformity s₂, s₃ and s₄ of trained perceptrons against ρ, with the bounds of conditions "
        "(7) for single samples and for batches. Hollow points did not converge.",
        ("2c-uniform", "2-a-falls", "2c-falls", "2-higher", "2-s3-falls", "2-s4-falls", "7-minima", "7-align"),
    ),
    "fig02d": Caption(
        "Spectral density of the Hessian of perceptrons trained by SGD and by SAM at several ρ, on a logarithmic "
        "axis. Points are the nodes of the estimate, lines its smoothing.",
        ("2ab-flatter",),
    ),
    "fig02e": Caption(
        "Sharpness a and non-uniformity s₂ of single samples over the epochs of SGD and SAM: the mean over seeds, "
        "shaded from the smallest to the largest. Dashed: their edges of stability, and the bound of (7) on SGD's s₂.",
        ("2-course", "2-edge"),
    ),
}
