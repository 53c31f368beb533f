"""The claims of notebook 08: "Towards Understanding SAM" (2022), section 4.2 and appendix B."""

from lib.paper.claims.claim import Claim

OURS, THEOREM_1 = "beyond the paper", "Theorem 1"
CONDITION = "the statement itself, with the tolerance that the notebook states"
TEXTS = {
    "bias-thm-3": ("Theorem 3", "Gradient flow ends at the interpolator of least φ_α"),
    "bias-thm-4-printed": ("Theorem 4", "n-SAM ends at the interpolator of least potential at α·exp(−2E), as printed"),
    "bias-thm-4": ("correction of Theorem 4", "It ends at that of α·exp(−E)"),
    "bias-thm-5-printed": ("Theorem 5", "1-SAM ends at the interpolator of least potential at α·exp(−2E), as printed"),
    "bias-thm-5": ("correction of Theorem 5", "It ends at that of α·exp(−E)"),
    "bias-collapse": (OURS, "From some ρ on the 1-SAM flow interpolates in no problem: it collapses to w = 0"),
    "bias-size-1-printed": (THEOREM_1, "‖Δ₁‖₁ is about d∫L, within a factor of 2, for d ≥ 3n"),
    "bias-size-1": ("correction of Theorem 1", "‖Δ₁‖₁ is about 4d∫L, within a factor of 2, for d ≥ 3n"),
    "bias-size-n-printed": (THEOREM_1, "‖Δ_n‖₁ is about (d/n)∫L, within a factor of 2, for d ≥ 3n"),
    "bias-size-n": ("correction of Theorem 1", "‖Δ_n‖₁ is about 4(d/n)∫L, within a factor of 2, for d ≥ 3n"),
    "bias-order-n": ("Appendix B.3", "‖Δ₁‖₁ is n times ‖Δ_n‖₁, within a factor of 2"),
    "bias-support": (
        OURS,
        "n-SAM shrinks α most on the support of the target, which makes it generalize worse than GD; with the same "
        "shrinkage spread evenly it would be better",
    ),
    "bias-same-radius": ("Figure 6", "At one ρ for all methods 1-SAM generalizes better than GD, for every factor c"),
    "bias-1-sam": ("Figure 14", "With ρ tuned on other data and equal step sizes 1-SAM generalizes better than GD"),
    "bias-n-sam": ("Figure 14", "With ρ tuned on other data and equal step sizes n-SAM generalizes better than GD"),
    "bias-stochastic": ("Figure 13", "GD, n-SAM and 1-SAM generalize better with one sample a step than full-batch"),
    "bias-slower": ("Figure 13", "Of GD, n-SAM and 1-SAM, the later to fit the data generalizes better"),
    "bias-integral": ("Section 4.2", "Of GD and 1-SAM, that with the larger integral of the loss generalizes better"),
    "bias-escape": ("Figure 15", "Switched from GD to 1-SAM with ρ = 10, training finds a better solution"),
    "bias-escape-tuned": (OURS, "It does so with a ρ chosen on other data"),
    "bias-back": ("Figure 15", "Switched from 1-SAM back to GD, training stays better than GD alone"),
    "bias-connected": (
        "Figure 15c",
        "Between GD's solution and that after a switch to 1-SAM the training loss has no barrier above 1% of its "
        "initial value",
    ),
    "bias-relu-simpler": ("Figure 7", "SAM's fits have a smaller variation of f′ than GD's, with the same schedule"),
    "bias-relu-kinks": ("Figure 7", "SAM's fits have fewer kinks than GD's, with the same schedule"),
    "bias-relu-stable": (
        "Figure 7",
        "SAM's fits differ less between initializations than GD's, with the same schedule",
    ),
    "bias-depth-one": (OURS, "One effective scale for each coordinate predicts where SAM ends in deeper networks"),
    "bias-depth-two": (OURS, "Two effective scales for each coordinate, one for w₊ and one for w₋, do"),
    "bias-width": (OURS, "1-SAM's gain over GD grows with overparameterization d/n"),
}
MISPRINTS = {
    "bias-thm-4": "the exponent of the effective α is printed as −2E and is −E",
    "bias-thm-5": "the exponent of the effective α is printed as −2E and is −E",
    "bias-size-1": "the size is given as d∫L and is 4d∫L",
    "bias-size-n": "the size is given as (d/n)∫L and is 4(d/n)∫L",
}
CLAIMS = {name: Claim(*texts, condition=CONDITION, misprint=MISPRINTS.get(name, "")) for name, texts in TEXTS.items()}
