"""The captions of notebook 08."""

from lib.paper.captions.caption import Caption

CAPTIONS = {
    "figI_potential": Caption(
        "Level sets of the potential φ_α for several α: a circle for large α, the diamond of ℓ₁ for small.",
        ("bias-thm-3",),
    ),
    "figI_theorems": Caption(
        "Relative KKT residual of the ends of n-SAM's and 1-SAM's flows for α unchanged, as printed, and corrected; a "
        "low residual is agreement.",
        ("bias-thm-4", "bias-thm-5", "bias-thm-4-printed", "bias-thm-5-printed", "bias-collapse"),
    ),
    "figI_sizes": Caption(
        "Measured constants of Theorem 1 for several numbers of samples and dimensions; the dashed line is 4.",
        ("bias-size-1", "bias-size-n", "bias-size-1-printed", "bias-size-n-printed", "bias-order-n"),
    ),
    "figI_shares": Caption(
        "Population loss of n-SAM and 1-SAM over that of gradient flow, and with the same shrinkage spread evenly.",
        ("bias-support",),
    ),
    "figI_bias": Caption(
        "Training and test loss over the steps of gradient descent, n-SAM and 1-SAM at one ρ and several factors c: "
        "median and quartiles over data seeds.",
        ("bias-same-radius", "bias-slower", "bias-integral"),
    ),
    "figI_radius": Caption(
        "Test loss after training against ρ for gradient descent, n-SAM and 1-SAM, at two step sizes.",
        ("bias-1-sam", "bias-n-sam"),
    ),
    "figI_stochastic": Caption(
        "Training and test loss over the steps with all samples and with one sample a step.", ("bias-stochastic",)
    ),
    "figI_switch": Caption(
        "Training and test loss over the steps where the method changes half-way between gradient descent and 1-SAM.",
        ("bias-escape", "bias-escape-tuned", "bias-back"),
    ),
    "figI_line": Caption(
        "Training and test loss on the line from gradient descent's solution to that after a switch to 1-SAM.",
        ("bias-connected",),
    ),
    "figI_relu": Caption(
        "Functions that a ReLU network fits to points on a line from several initializations, by gradient descent and "
        "by SAM.",
        ("bias-relu-simpler", "bias-relu-kinks", "bias-relu-stable"),
    ),
    "figI_depth": Caption(
        "Relative KKT residual in deeper diagonal networks with no, one and two effective scales for each coordinate.",
        ("bias-depth-one", "bias-depth-two"),
    ),
    "figI_width": Caption(
        "Test loss of n-SAM and 1-SAM relative to gradient descent's at three ratios of dimension to samples.",
        ("bias-width",),
    ),
}
