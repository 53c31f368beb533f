"""The claims of notebook 09: "Towards Understanding SAM" (2022), sections 2, 3 and 4.1 and appendix E."""

from lib.paper.claims.claim import Claim

OURS = "beyond the paper"
MARGINAL = 0.2  # points: what the paper calls a marginal improvement (Appendix E.2)
TWICE = {"margin": 2 * MARGINAL}  # where the paper's own number is as large as that
SUBSET = "MLPs on 6,000 images of MNIST at lite"
_ABOVE = dict(kind="direction", margin=MARGINAL, deviation=SUBSET)
_BELOW = dict(kind="direction", sign=-1, deviation=SUBSET)
_NONE = dict(kind="absence", margin=MARGINAL, one_sided=True, deviation=SUBSET)
_ONE = dict(experiments=("perturbations",))
_M = dict(experiments=("m_sam",))
_STEPS = dict(experiments=("ascent_steps",))
_BATCH = dict(experiments=("batch_sizes",))
_MINIMA = dict(experiments=("minima",))
_WIDTHS = dict(experiments=("width_factors",))
_ASK = dict(kind="question", condition="a number, no verdict", deviation=SUBSET)

CLAIMS = {
    "m-random": Claim(
        "Figure 1",
        "SAM gains more than random perturbations of the weights",
        condition="SAM's accuracy minus theirs above 0, each at its own ρ",
        **_ABOVE,
        **_ONE,
    ),
    "m-other": Claim(
        "Figure 1",
        "SAM gains more than n-SAM, which climbs on another batch",
        condition="SAM's accuracy minus that of n-SAM above 0, each at its own ρ",
        **_ABOVE,
        **_ONE,
    ),
    "m-other-none": Claim(
        "Figure 1",
        "n-SAM does not substantially improve on SGD",
        condition="gain of n-SAM below 0.2 points",
        **_NONE,
        **_ONE,
    ),
    "m-width": Claim(OURS, "Does SAM's lead over n-SAM grow with the width?", **_ASK, **_ONE),
    "m-smaller": Claim(
        "Figure 16",
        "The gain of m-SAM grows as m falls",
        condition="slope of the gain over log₁₀ m below 0, right labels",
        **_BELOW,
        **_M,
    ),
    "m-smaller-noise": Claim(
        OURS,
        "With 60% wrong labels the gain of m-SAM grows as m falls",
        condition="slope of the gain over log₁₀ m below 0, wrong labels",
        **_BELOW,
        **_M,
    ),
    "m-smaller-width": Claim(OURS, "Does m matter more in wider networks?", **_ASK, **_M),
    "m-steps": Claim(
        "Figure 4",
        "Several ascent steps do not generalize better than one",
        condition="accuracy with several minus that with one below 0.2 points, both m",
        **_NONE,
        **_STEPS,
    ),
    "m-steps-rho": Claim(
        "Figure 4",
        "With several steps a smaller ρ is best",
        condition="difference of log₁₀ ρ, each seed's own best, below 0",
        paper="0.1 to 0.05",
        value=-0.30,
        **_BELOW,
        **_STEPS,
    ),
    "m-large": Claim(
        "Figure 17",
        "With m equal to a large batch SAM gains only marginally",
        condition="gain at the largest batch below 0.4 points",
        paper="about 0.2 points",
        **(_NONE | TWICE),
        **_BATCH,
    ),
    "m-bridge": Claim(
        "Figure 17",
        "SAM with a large batch is not as good as SGD with a small one",
        condition="SGD's accuracy at the smallest batch minus SAM's at the largest above 0",
        **_ABOVE,
        **_BATCH,
    ),
    "m-small-networks": Claim(
        "Figure 18",
        "Small networks gain little from SAM",
        condition="gain of the narrowest below 0.2 points",
        **_NONE,
        **_WIDTHS,
    ),
    "m-middle": Claim(
        "Figure 18",
        "SAM's gain is largest at a middle width, not at the widest",
        condition="gain at the best middle width, chosen by other seeds, minus those of both end widths above 0",
        **_ABOVE,
        **_WIDTHS,
    ),
    "m-flatter": Claim(
        "Figure 2",
        "SAM ends at a lower m-sharpness than SGD with the same batch size",
        condition="log₁₀ of the ratio, mean over radii, below 0",
        **_BELOW,
        **_MINIMA,
    ),
    "m-ranking": Claim(
        "Figure 2",
        "No radius of m-sharpness ranks SGD and SAM with small and large batches by their test error",
        condition="no radius orders all pairs whose test errors differ (95%) as these do; three such pairs, all fitted",
        deviation=SUBSET,
        **_MINIMA,
    ),
    "m-counterexample": Claim(
        "Figure 2",
        "SAM with a large batch ends at flatter minima than SGD with a small one, and has a larger test error",
        condition="both differences above 0 (95% intervals)",
        paper="6.80% against 6.17%",
        deviation=SUBSET,
        **_MINIMA,
    ),
    "m-shortfall": Claim(
        "Figure 3",
        "One step of ascent falls further short of many the larger m is",
        kind="direction",
        condition="slope of log₁₀(many/one) over log₁₀ m above 0",
        paper="up to 10 times at m = 1024",
        deviation=SUBSET,
        **_MINIMA,
    ),
    "m-shortfall-width": Claim(OURS, "Does the shortfall grow with the width?", **_ASK, **_MINIMA),
    "m-norm": Claim(
        "Figure 19",
        "Batch norm as in training and as in evaluation gives sharpnesses that differ by more than a factor of 2",
        kind="direction",
        condition="mean |log₁₀ ratio| minus log₁₀ 2 above 0, trained with SAM",
        experiments=("lengths",),
        deviation="networks of width 4 at smoke and lite",
    ),
    "m-released": Claim(
        OURS,
        "The released evaluation gives a negative sharpness at the smallest radius, where no sample is misclassified",
        condition="its value there below 0 in every network that fits all its samples",
        deviation=SUBSET,
        **_MINIMA,
    ),
    "m-linear": Claim(
        "Section 3",
        "A linear model with a decreasing margin loss has the 1-sharpness mean of ℓ(yw·x − ρ‖x‖) − ℓ(yw·x)",
        condition="ascent from w agrees to 10⁻⁶ of it on random problems",
    ),
    "m-equal-printed": Claim(
        "Section 3",
        "All global minimizers of such a loss are equally sharp, as printed",
        condition="the 1-sharpness of two minimizers of the hinge loss, which falls or is flat, agrees to 1%",
    ),
    "m-equal": Claim(
        "correction of Section 3",
        "They are for the squared loss, where all have the 1-sharpness mean of ρ²‖x‖²",
        condition="the 1-sharpness of two interpolators agrees with it to 10⁻⁶",
        misprint="a margin loss does not have this property: its sharpness depends on the margins",
    ),
}
