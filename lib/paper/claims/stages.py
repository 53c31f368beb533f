"""The claims of notebook 10: "Towards Understanding SAM" (2022), sections 4.3 and 5 and appendices C and E."""

from lib.paper.claims.claim import Claim
from lib.paper.claims.perturbation import MARGINAL, OURS, SUBSET, TWICE

_ABOVE = dict(kind="direction", margin=MARGINAL, deviation=SUBSET)
_NONE = dict(kind="absence", margin=MARGINAL, one_sided=True, deviation=SUBSET)
_ASK = dict(kind="question", condition="a number, no verdict", deviation=SUBSET)
_SWITCH = dict(experiments=("switching",))
_FREE = dict(experiments=("unnormalized",))
THEOREM = "no ratio of what is bounded to the bound above 1, on random losses that meet the assumptions"

CLAIMS = {
    "st-early": Claim(
        "Figure 8",
        "SAM in the first half alone gains nothing over SGD",
        condition="gain of SAM→SGD switched at 50% below 0.2 points",
        paper="nothing up to 70% of the epochs, on CIFAR-100",
        **_NONE,
        **_SWITCH,
    ),
    "st-late": Claim(
        "Figure 8",
        "SAM in the last tenth alone improves on SGD",
        condition="gain of SGD→SAM switched at 90% above 0",
        **_ABOVE,
        **_SWITCH,
    ),
    "st-end": Claim(
        "Figure 8",
        "The method at the end of training matters more than that at its beginning",
        condition="accuracy of SGD→SAM minus that of SAM→SGD, both switched at 50%, above 0",
        **_ABOVE,
        **_SWITCH,
    ),
    "st-end-width": Claim(OURS, "Does that difference grow with the width?", **_ASK, **_SWITCH),
    "st-keeps": Claim(
        "Figure 9",
        "SAM's solution does not overfit when SGD goes on from it for the last tenth",
        condition="accuracy before the switch at 90% minus that at the end below 0.2 points",
        **_NONE,
        **_SWITCH,
    ),
    "st-falls": Claim(
        "Figure 9",
        "The test error falls when SAM takes over from SGD for the last tenth",
        condition="accuracy at the end minus that before the switch at 90% above 0",
        **_ABOVE,
        **_SWITCH,
    ),
    "st-basin": Claim(
        "Figure 10",
        "The solutions of SGD and of SGD→SAM lie in one basin",
        condition="no point of the line between them has a training loss above 1.1 times the larger of its ends",
        deviation=SUBSET,
        **_SWITCH,
    ),
    "st-normalization": Claim(
        "Figure 11",
        "SAM need not divide by the norm of the gradient to generalize as well",
        condition="accuracy of normalized SAM minus that of the unnormalized one, as written, below 0.4 points",
        paper="0.21 points on CIFAR-10, 0.08 on CIFAR-100",
        **(_NONE | TWICE),
        **_FREE,
    ),
    "st-clip": Claim(
        OURS,
        "Clipped to ρ, as released, unnormalized SAM generalizes as it does without",
        kind="absence",
        margin=MARGINAL,
        condition="difference of their accuracies within 0.2 points",
        deviation=SUBSET,
        **_FREE,
    ),
    "st-loss": Claim(
        "Figure 11",
        "SAM ends at a larger training loss than SGD",
        kind="direction",
        condition="log₁₀ of the ratio, mean over ρ, above 0, right labels",
        paper="0.0034 against 0.0013",
        deviation=SUBSET,
        **_FREE,
    ),
    "st-last": Claim(
        "Figure 11",
        "With right labels neither overfits late in training: the last epoch is as good as the best",
        kind="absence",
        margin=MARGINAL,
        one_sided=True,
        condition="accuracy at the best epoch, chosen by the other seeds, minus that of the last below 0.2 points",
        paper="0.1 points",
        deviation=SUBSET,
        **_FREE,
    ),
    "st-objective": Claim(
        "Figure 20",
        "The objective with weight decay falls throughout, for SGD and SAM",
        condition="its mean falls from each fifth of training to the next, in every network",
        experiments=("objectives",),
        deviation=SUBSET,
    ),
    "st-noise-rises": Claim(
        "Figure 12",
        "With 60% wrong labels SGD's test error rises once it fits them",
        condition="accuracy at the best epoch, chosen by the other seeds, minus that of the last above 0",
        **_ABOVE,
        **_FREE,
    ),
    "st-noise-sam": Claim(
        "Figure 12",
        "With 60% wrong labels SAM's best test error is below SGD's",
        condition="accuracy at the best epoch, chosen by the other seeds, of SAM minus that of SGD above 0",
        **_ABOVE,
        **_FREE,
    ),
    "st-noise-free": Claim(
        "Figure 22",
        "With wrong labels unnormalized SAM is as good as SAM at its best epoch",
        condition="accuracy at the best epoch of SAM minus that of unnormalized SAM below 0.2 points",
        **_NONE,
        **_FREE,
    ),
    "st-noise-width": Claim(OURS, "Does SAM's gain with wrong labels grow with the width?", **_ASK, **_FREE),
    "st-decreasing": Claim(
        "Figure 21",
        "A ρ that falls with the learning rate is worse than a constant one",
        condition="accuracy with a constant ρ minus that with a falling one above 0, each at its own ρ",
        experiments=("radius_schedules",),
        **_ABOVE,
    ),
    "st-thm-6": Claim("Theorem 6", "Full-batch SAM with γ, ρ < 1/β has small gradients", condition=THEOREM),
    "st-thm-9-printed": Claim(
        "Theorem 9", "Its sum of T + 1 gradients over T has the stated bound, as printed", condition=THEOREM
    ),
    "st-thm-9": Claim(
        "correction of Theorem 9",
        "The mean of T gradients has it",
        condition=THEOREM,
        misprint="the sum goes to T and should end at T − 1",
    ),
    "st-thm-10": Claim("Theorem 10", "Under PL full-batch SAM converges linearly", condition=THEOREM),
    "st-thm-11": Claim(
        "Theorem 11",
        "On convex losses it converges for any ρ if γ is small",
        condition=THEOREM,
    ),
    "st-necessary": Claim(
        "Appendix C.1",
        "ρ < 1/β is needed: beyond, SAM may rest where the gradient does not vanish",
        condition="a point with a step below 10⁻⁹ and a gradient above 0.01, for ρ > 1/β only",
    ),
    "st-thm-2": Claim(
        "Theorem 2",
        "m-SAM has small gradients with its step sizes, T ≥ 256",
        condition=THEOREM,
        deviation="T ≥ 256, for which its proof holds, where the paper says any T",
    ),
    "st-thm-12-printed": Claim(
        "Theorem 12", "Stochastic n-SAM has the bound with 4/(β√T), as printed", condition=THEOREM
    ),
    "st-thm-12": Claim(
        "correction of Theorem 12",
        "It has that with 4β/√T, T ≥ 16",
        condition=THEOREM,
        misprint="the first term has 4/(β√T) for 4β/√T",
    ),
    "st-thm-pl": Claim(
        "Theorems 2 and 12", "Under PL both converge like 1/T with decreasing step sizes", condition=THEOREM
    ),
}
