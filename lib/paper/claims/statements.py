"""The paper's claims in our words, by notebook, and those that go beyond it."""

from dataclasses import dataclass

from lib.paper.claims import benign, bouncing, implicit_bias


@dataclass(frozen=True)
class Claim:
    """source: where in the paper; text: the claim in our words."""

    source: str
    text: str


CLAIMS = {
    "01_convergence": {
        "lemma-5": Claim("Lemma 5", "A SAM gradient is aligned with the full gradient up to a term in βρ"),
        "lemma-6": Claim("Lemma 6", "A SAM gradient is longer than the plain one by a factor of at most 1 + βρ"),
        "thm-12": Claim(
            "Theorems 7, 12", "With interpolation, mini-batch SAM at the theorem's step size stays below its bound"
        ),
        "thm-12-tight": Claim("Theorems 7, 12", "How tight the bound is: measured over guaranteed decay per step"),
        "thm-12-linear": Claim("Theorem 12", "With interpolation the decay is linear, whatever the batch size"),
        "thm-12-noise": Claim("Section 3", "Without interpolation, linear convergence to the minimum is lost"),
        "1a-linear": Claim("Figure 1a", "With enough rank, unnormalized SAM fits the factorization at a linear rate"),
        "1a-stall": Claim("Figure 1a", "With too low a rank, SAM stalls at the best error that the rank allows"),
        "1a-faster": Claim("Figure 1a", "The overparameterized factorization ends at a far lower loss"),
        "1a-normalized": Claim("Section 8", "Normalization makes no practical difference to SAM's convergence"),
        "1b-faster": Claim("Figure 1b", "A wide MLP trained by SAM gets to a given training loss sooner"),
        "1b-seeds": Claim("Figure 1b", "The training curves of SAM agree over the seeds"),
        "1c-faster": Claim("Figure 1c", "A wide ResNet-18 trained by SAM gets to a given training loss sooner"),
        "1c-seeds": Claim("Figure 1c", "The training curves of SAM agree over the seeds"),
    },
    "02_stability": {
        "thm-9": Claim(
            "Theorem 9", "Where the matrix of Theorem 9 has no eigenvalue above 1, linearized SAM is stable"
        ),
        "thm-9-tight": Claim(
            "beyond the paper", "Theorem 9 promises more than 80% of the stable (η, ρ) of a logarithmic grid"
        ),
        "7-necessary": Claim("Conditions (7)", "The conditions (7) hold wherever the condition of Theorem 9 does"),
        "2ab-flatter": Claim("Figures 2a, 2b", "SAM's minima are less sharp than SGD's"),
        "2c-uniform": Claim("Figure 2c", "The Hessian is more uniform at SAM's minima: s₂ is smaller than at SGD's"),
        "2c-falls": Claim("Figure 2c", "s₂ goes on falling as ρ grows"),
        "2-higher": Claim("Section 4", "SAM's minima have smaller s₃ and s₄ too"),
        "7-minima": Claim(
            "Section 4", "The minima that SAM finds agree with the necessary one of the conditions (7), that on a"
        ),
        "2-zero-loss": Claim("Section 4", "All networks are trained to near zero loss"),
    },
    "03_width": {
        "3a-grows": Claim("Figure 3a", "On MNIST and the MLP, SAM's gap over SGD grows with the number of parameters"),
        "3b-grows": Claim("Figure 3b", "On CIFAR-10 and ResNet-18, SAM's gap over SGD grows with the parameters"),
        "3c-grows": Claim("Figure 3c", "On ImageNet and ResNet-50, SAM's gap over SGD grows with the parameters"),
        "3b-size": Claim(
            "Section 5.2",
            "On CIFAR-10 the gap grows from about 0.3 points at 45 thousand parameters to 1.0 at 11 million",
        ),
        "3b-zero": Claim("Figure 3b", "The gap is larger where the training loss is approximately zero"),
        "9a-loss": Claim("Figure 9a", "On MNIST, how far SAM's test loss is below SGD's grows with the parameters"),
        "9b-loss": Claim("Figure 9b", "On CIFAR-10, how far SAM's test loss is below SGD's grows with the parameters"),
        "9c-loss": Claim("Figure 9c", "On ImageNet, how far SAM's test loss is below SGD's grows with the parameters"),
        "4a-shrinks": Claim("Figure 4a", "For vision transformers the gap shrinks past 209 thousand parameters"),
        "4a-falls": Claim(
            "Figure 4a", "The accuracy of vision transformers falls past 3.2 million parameters, by SGD and by SAM"
        ),
        "4b-gap": Claim(
            "Figure 4b", "Without weight decay no growth of a ResNet-18's gap is found past 11.2 million parameters"
        ),
        "4b-falls": Claim(
            "Figure 4b",
            "Without weight decay a ResNet-18's accuracy falls past 11.2 million parameters, by SGD and by SAM",
        ),
        "5a-grows": Claim("Figure 5", "The best ρ grows with the number of parameters: MNIST and the MLP"),
        "5b-grows": Claim("Figure 5", "The best ρ grows with the number of parameters: CIFAR-10 and ResNet-18"),
        "5c-grows": Claim("Figure 5", "The best ρ grows with the number of parameters: ImageNet and ResNet-50"),
        "6-smooth": Claim("Figures 6, 12", "Accuracy follows ρ in a continuous trend: CIFAR-10 and ResNet-18"),
        "11-smooth": Claim("Figure 11", "Accuracy follows ρ in a continuous trend: MNIST and the MLP"),
        "13-smooth": Claim("Figure 13", "Accuracy follows ρ in a continuous trend: ImageNet and ResNet-50"),
        "selection": Claim(
            "beyond the paper",
            "A gap is left where ρ is chosen on other seeds and other test samples than it is judged on",
        ),
        "3a-fixed": Claim(
            "Figure 3a",
            "With ρ fixed at 0.05 and 0.1 instead of chosen, the MLP's mean gap on MNIST is larger at 267 thousand "
            "parameters than at 61 thousand",
        ),
        "3a-unbiased": Claim(
            "beyond the paper",
            "With ρ chosen on other seeds and samples the gap grows with the parameters: MNIST and the MLP",
        ),
        "3b-unbiased": Claim(
            "beyond the paper",
            "With ρ chosen on other seeds and samples the gap grows with the parameters: CIFAR-10 and ResNet-18",
        ),
        "3c-unbiased": Claim(
            "beyond the paper",
            "With ρ chosen on other seeds and samples the gap grows with the parameters: ImageNet and ResNet-50",
        ),
        "twice": Claim(
            "beyond the paper",
            "Where ρ is chosen on other seeds and test samples, a gap is left over SGD with as many gradients as SAM",
        ),
    },
    "04_sparsity": {
        "7-grows": Claim(
            "Figure 7",
            "In the larger ResNet-18 (701 thousand parameters in the paper) SAM's benefit grows with the sparsity, "
            "random masks",
        ),
        "7-size": Claim(
            "Figure 7",
            "SAM's benefit grows from about 0.4 points in the dense ResNet-18 to about 0.9 at a sparsity of 94%",
        ),
        "7-snip": Claim("Figure 7", "In the larger ResNet-18 the trend is clearer with SNIP"),
        "14-grows": Claim(
            "Figures 7, 14",
            "In the smaller ResNet-18 (45 thousand parameters in the paper) SAM's benefit grows with the sparsity, "
            "random masks",
        ),
        "14-snip": Claim("Figures 7, 14", "In the smaller ResNet-18 the trend is clearer with SNIP"),
        "15-grows": Claim("Figures 7, 15", "SAM's benefit grows with the sparsity of an MLP, random masks"),
        "15-snip": Claim("Figures 7, 15", "In the MLP the trend is clearer with SNIP"),
        "8-pattern": Claim(
            "Figure 8", "In the smaller ResNet-18 ρ* differs between networks, by more than between seeds"
        ),
        "8-same": Claim("Figure 8", "In the larger ResNet-18 all networks have the same ρ*"),
        "16-pattern": Claim("Figure 16", "In the MLP ρ* differs between networks, by more than between seeds"),
        "6-better": Claim(
            "Section 6", "A large sparse ResNet-18 is better than a small dense one of as many parameters"
        ),
        "6-better-mlp": Claim("Section 6", "A large sparse MLP is better than a small dense one of as many parameters"),
        "6-saves": Claim(
            "beyond the paper", "At every sparsity a kernel for sparse rows is faster than the parent's dense product"
        ),
        "8-structured": Claim("beyond the paper", "In networks with N:M patterns SAM is better than SGD"),
    },
    "05_linearization": {
        "17-rate": Claim(
            "beyond Figure 17", "Of the learning rates tried at α = 1 none gives SGD a better test accuracy"
        ),
        "17b-lazy": Claim("Figure 17b", "At α = 1000 both SGD and SAM with ρ = 0.001 train lazily"),
        "17a-behind": Claim("Figure 17a", "At α = 1000 SAM with ρ = 0.001 is more than 10 points behind SGD"),
        "17a-learned": Claim(
            "beyond Figure 17",
            "At α = 1000 SGD and SAM have both learned: their α²·training loss is below 0.9, that of the best "
            "constant answer",
        ),
        "17a-benefit": Claim(
            "Appendix C", "Linearization does not make SAM more effective: it gains no more over SGD at larger α"
        ),
        "17b-radius": Claim("Figure 17b", "SAM with a large ρ does not become lazy, however large α"),
        "17-tangent": Claim(
            "beyond Figure 17", "A network that SGD trains at α = 1000 predicts what its tangent model does"
        ),
        "17-sharpness": Claim(
            "beyond Figure 17", "The larger α, the nearer SGD's sharpness after training is to that before it"
        ),
        "17-distance": Claim(
            "beyond Figure 17",
            "From the second α on the distance travelled falls as 1/α for SGD, and does not depend on α for SAM at the "
            "largest ρ",
        ),
        "17-radius": Claim(
            "beyond Figure 17",
            "On the tangent model itself, which cannot be more linear, SAM with the radius αρ = 1 that belongs to "
            "α = 1000 and ρ = 0.001 is more than 10 points behind SGD",
        ),
        "17-equivalent": Claim(
            "beyond Figure 17",
            "A network that SAM trains at α = 1000 with ρ = 0.001 predicts what that SAM on the tangent model does",
        ),
        "17-scaled": Claim(
            "beyond Figure 17",
            "With a radius that falls as 1/α SAM at α = 1000 is lazy, and at most 5 points behind SGD",
        ),
    },
    "06_bouncing": {name: Claim(*texts) for name, texts in bouncing.CLAIMS.items()},
    "07_benign_overfitting": {name: Claim(*texts) for name, texts in benign.CLAIMS.items()},
    "08_implicit_bias": {name: Claim(*texts) for name, texts in implicit_bias.CLAIMS.items()},
}
