"""The claims of notebook 06: Bartlett, Long and Bousquet (2022), Long and Bartlett (2023)."""

from lib.paper.claims.claim import Claim

QUADRATIC, DRIFT = "Bartlett et al., quadratic", "Bartlett et al., drift"
CONDITION = "the statement itself, with the tolerance that the notebook states"
TEXTS = {
    "bounce-ordering": (QUADRATIC, "The thresholds are ordered: β_d ≤ … ≤ β₁ < α_d ≤ … ≤ α₁ = γ₁"),
    "bounce-shrinks": (QUADRATIC, "A component of the gradient shrinks if and only if ‖v‖ > β_i"),
    "bounce-gains": (QUADRATIC, "The first component gains on the i-th if and only if ‖v‖ < α_i"),
    "bounce-kept": (QUADRATIC, "Once ‖v‖ ≤ b, it stays so"),
    "bounce-potential": (QUADRATIC, "SAM with the sign of every second step turned is gradient descent on J"),
    "bounce-descent": (QUADRATIC, "Every step decreases J by at least the stated amount"),
    "bounce-stationary": (
        QUADRATIC,
        "J has the stated stationary points, with as many negative, zero and positive curvatures as stated",
    ),
    "bounce-limit": (
        QUADRATIC,
        "From almost every start SAM ends in jumps between two points across the steepest direction "
        "(λ₁/λ_d ≤ 100, ηλ₁ ≥ 0.1)",
    ),
    "bounce-steps": (QUADRATIC, "The number of steps to get there is polynomial in 1/(ηλ_d) and 1/(λ₁²/λ₂² − 1)"),
    "bounce-visits": (QUADRATIC, "The number of steps with ‖v‖ ≥ (1 + ε)β₁ is at most 3β₁/(ηε²λ₁β_d)"),
    "bounce-minimax": (
        QUADRATIC,
        "SAM does not solve the min-max problem that motivates it: it ends at a loss above 0",
    ),
    "bounce-batches": (
        "beyond the paper",
        "SAM on mini-batches of an interpolating least squares bounces in most steps",
    ),
    "bounce-unnormalized": ("beyond the paper", "Unnormalized SAM does not bounce: it converges to the minimum"),
    "bounce-float32": ("beyond the paper", "float32 can lose the limit that float64 finds"),
    "drift-printed": (DRIFT, "The error of one step is within the printed bound, B the Lipschitz constant of D³ℓ"),
    "drift-corrected": ("correction of the drift", "It is within that bound if B bounds ‖D³ℓ‖ as well"),
    "drift-small": (DRIFT, "For small ηλ₁ one step adds to the bounce the stated move down the gradient of λ_max"),
    "drift-twice": (
        "beyond the paper",
        "For small ηλ₁ two steps move twice as far, whether the other directions are curved or flat",
    ),
    "drift-network": (
        "beyond the paper",
        "From a minimum of a tanh network on digits SAM moves along −∇λ_max of the Hessian",
    ),
    "drift-flatter": ("beyond the paper", "From there λ_max falls under SAM and stays under gradient descent"),
    "edge-gd": ("Long and Bartlett", "Under full-batch gradient descent λ_max settles at 2/η"),
    "edge-sam": ("Long and Bartlett", "Under full-batch SAM λ_max settles at SAM's own edge, which is lower"),
}
MISPRINTS = {
    "drift-corrected": "the bound takes B to be the Lipschitz constant of D³ℓ alone; it must bound ‖D³ℓ‖ too",
}
CLAIMS = {name: Claim(*texts, condition=CONDITION, misprint=MISPRINTS.get(name, "")) for name, texts in TEXTS.items()}
