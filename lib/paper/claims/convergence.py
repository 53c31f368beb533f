"""The claims of Section 3 and Appendix D."""

from lib.paper.claims.claim import Claim

_1A = dict(experiments=("matrix_factorization",), deviation="batch size 10 and ρ = 0.05, which the paper does not give")
_1B = dict(experiments=("mnist_convergence",), deviation="ρ = 0.05 and the widths, which the paper does not give")
_1C = dict(experiments=("cifar_convergence",), deviation="ρ = 0.05 and the widths, which the paper does not give")

CLAIMS = {
    "lemma-5": Claim(
        "Lemma 5",
        "A SAM gradient is aligned with the full gradient up to a term in βρ",
        condition="no margin is below 0 in 1,000 points × 40 samples × 5 ρ",
        paper="holds",
    ),
    "lemma-6": Claim(
        "Lemma 6",
        "A SAM gradient is longer than the plain one by a factor of at most 1 + βρ",
        condition="no ratio is above 1 in 1,000 points × 40 samples × 5 ρ",
        paper="holds",
    ),
    "lemma-tight": Claim(
        "Section 3",
        "Both lemmas become tight as β and ρ fall",
        condition="the mean slack of each falls with βρ, and is below 2% of that at ρ_max at a hundredth of it",
        paper="tight",
    ),
    "thm-12": Claim(
        "Theorems 7, 12",
        "With interpolation, mini-batch SAM at the theorem's step size stays below its bound",
        condition="the lower end of the mean loss's 95% interval is below the bound at every step of every setting",
        paper="below",
    ),
    "thm-12-tight": Claim(
        "Theorems 7, 12", "How tight the bound is: measured over guaranteed decay per step", kind="question"
    ),
    "thm-12-linear": Claim(
        "Theorem 12",
        "With interpolation the decay is linear, whatever the batch size",
        condition="R² of log E f against t above 0.95 in every setting",
        paper="linear",
    ),
    "thm-12-noise": Claim(
        "Section 3",
        "Without interpolation, linear convergence to the minimum is lost",
        condition="the excess loss stalls above a millionth of its start at every ρ",
        paper="lost",
    ),
    "thm-12-sgd": Claim(
        "Section 3",
        "At ρ = 0 the theorem gives the known rate of SGD with interpolation",
        condition="step size and factor equal αB/(λ(α(B−1) + 2β)) and 1 − αη/2 for six B, to rounding",
        paper="equal",
    ),
    "thm-7": Claim(
        "Theorems 7, 12",
        "Theorem 7 is Theorem 12 at batch size 1",
        condition="step sizes and factors as printed agree at four ρ, to rounding",
        paper="equal",
    ),
    "D-constants": Claim(
        "Appendix D",
        "The step size and the factor of Theorem 12 minimize the proof's last bound, (15)",
        condition="both agree with a numerical minimum of (15) at 12 settings of B and ρ, to a millionth",
        paper="equal",
    ),
    "1a-linear": Claim(
        "Figure 1a",
        "With enough rank, unnormalized SAM fits the factorization at a linear rate",
        condition="R² of log loss against the epoch above 0.95 for every seed",
        paper="linear",
        **_1A,
    ),
    "1a-stall": Claim(
        "Figure 1a",
        "With too low a rank, SAM stalls at the best error that the rank allows",
        kind="absence",
        condition="excess over the best possible loss within ±5%",
        paper="stalls",
        margin=5.0,
        **_1A,
    ),
    "1a-lost": Claim(
        "Section 3, Figure 1a",
        "Without enough rank, SAM's linear rate is lost",
        kind="absence",
        condition="decay of the loss over the last 50 epochs within ±0.001 decades an epoch",
        paper="lost",
        margin=0.001,
        **_1A,
    ),
    "1a-faster": Claim(
        "Figure 1a",
        "The overparameterized factorization ends at a far lower loss",
        kind="direction",
        condition="log₁₀ of the final losses of rank 4 over rank 10 above 0",
        paper="lower",
        margin=1.0,
        **_1A,
    ),
    "1a-normalized": Claim(
        "Section 8",
        "Normalization makes no practical difference to SAM's convergence",
        kind="absence",
        condition="log₁₀ of the final losses, normalized over unnormalized, within ±1 decade",
        paper="no difference",
        margin=1.0,
        **_1A,
    ),
    "1b-faster": Claim(
        "Figure 1b",
        "A wide MLP trained by SAM gets to a given training loss sooner",
        kind="direction",
        condition="epochs that the narrow network needs for its own highest final loss, minus the wide one's, above 0",
        paper="sooner",
        margin=5.0,
        **_1B,
    ),
    "1b-linear": Claim(
        "Figure 1b",
        "The training loss of a wide MLP under SAM falls close to linearly on a log axis",
        condition="R² of log loss against the epoch above 0.95 for every seed",
        paper="close to linear",
        **_1B,
    ),
    "1b-seeds": Claim(
        "Figure 1b",
        "The training curves of SAM agree over the seeds",
        condition="log₁₀ losses of seeds differ by less than those of the widths",
        paper="consistent",
        **_1B,
    ),
    "1c-faster": Claim(
        "Figure 1c",
        "A wide ResNet-18 trained by SAM gets to a given training loss sooner",
        kind="direction",
        condition="epochs that the narrow network needs for its own highest final loss, minus the wide one's, above 0",
        paper="sooner",
        margin=1.0,
        **_1C,
    ),
    "1c-linear": Claim(
        "Figure 1c",
        "The training loss of a wide ResNet-18 under SAM falls close to linearly on a log axis",
        condition="R² of log loss against the epoch above 0.95 for every seed",
        paper="close to linear",
        **_1C,
    ),
    "1c-seeds": Claim(
        "Figure 1c",
        "The training curves of SAM agree over the seeds",
        condition="log₁₀ losses of seeds differ by less than those of the widths",
        paper="consistent",
        **_1C,
    ),
}
