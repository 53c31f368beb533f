"""The claims of Section 6."""

from lib.paper.claims.claim import Claim

_CIFAR = dict(experiments=("cifar_sparse",))
_MLP = dict(experiments=("mnist_sparse",))
_GROWS = dict(
    kind="direction",
    margin=0.03,
    condition="slope of the gap, ρ chosen on other seeds and samples, over the share removed above 0",
    paper="grows",
)
_CLEARER = dict(
    kind="direction",
    margin=0.03,
    condition="the gap grows with SNIP, and its slope minus that of random masks is above 0",
    paper="more evident",
)
_PATTERN = dict(
    kind="direction",
    margin=0.1,
    condition="log₁₀ ρ*, each seed's own: root mean square of the networks beyond their seeds above 0",
    paper="differs",
)
_BETTER = dict(
    kind="direction",
    margin=0.02,
    condition="SGD's accuracy minus that of the small dense network above 0, for each pruner",
    paper="better",
)

CLAIMS = {
    "7-grows": Claim(
        "Figure 7",
        "In the larger ResNet-18 (701 thousand parameters in the paper) SAM's benefit grows with the sparsity, "
        "random masks",
        **_GROWS,
        **_CIFAR,
    ),
    "7-size": Claim(
        "Figure 7",
        "SAM's benefit grows from about 0.4 points in the dense ResNet-18 to about 0.9 at a sparsity of 94%",
        kind="direction",
        condition="gap at 94% minus that of the dense network above 0, and reaching 0.5",
        paper="0.4 to 0.9 points",
        value=0.5,
        margin=0.1,
        own_length=True,
        **_CIFAR,
    ),
    "7-snip": Claim("Figure 7", "In the larger ResNet-18 the trend is clearer with SNIP", **_CLEARER, **_CIFAR),
    "14-grows": Claim(
        "Figures 7, 14",
        "In the smaller ResNet-18 (45 thousand parameters in the paper) SAM's benefit grows with the sparsity, "
        "random masks",
        **_GROWS,
        **_CIFAR,
    ),
    "14-snip": Claim("Figures 7, 14", "In the smaller ResNet-18 the trend is clearer with SNIP", **_CLEARER, **_CIFAR),
    "15-grows": Claim(
        "Figures 7, 15", "SAM's benefit grows with the sparsity of an MLP, random masks", **_GROWS, **_MLP
    ),
    "15-snip": Claim("Figures 7, 15", "In the MLP the trend is clearer with SNIP", **_CLEARER, **_MLP),
    "8-pattern": Claim(
        "Figure 8",
        "In the smaller ResNet-18 ρ* differs between networks, by more than between seeds",
        **_PATTERN,
        **_CIFAR,
    ),
    "8-same": Claim(
        "Figure 8",
        "In the larger ResNet-18 all networks have the same ρ*",
        kind="absence",
        margin=0.15,
        condition="log₁₀ ρ*, each seed's own: root mean square of the networks beyond their seeds within 0.15",
        paper="the same",
        **_CIFAR,
    ),
    "16-pattern": Claim(
        "Figure 16", "In the MLP ρ* differs between networks, by more than between seeds", **_PATTERN, **_MLP
    ),
    "6-better": Claim(
        "Section 6",
        "A large sparse ResNet-18 is better than a small dense one of as many parameters",
        **_BETTER,
        **_CIFAR,
    ),
    "6-better-mlp": Claim(
        "Section 6", "A large sparse MLP is better than a small dense one of as many parameters", **_BETTER, **_MLP
    ),
    "6-trainable": Claim(
        "Section 6",
        "SNIP keeps sparse networks more trainable than random masks: the MLP",
        kind="direction",
        condition="log₁₀ of SGD's training loss with random masks over that with SNIP above 0",
        paper="more trainable",
        margin=0.05,
        **_MLP,
    ),
    "6-restores": Claim(
        "Section 6",
        "Pruned to few parameters, a wide network keeps the gap that it has when dense: the MLP",
        kind="absence",
        margin=0.05,
        condition="gap of the sparse networks minus that of their dense parents within ±0.05 points",
        paper="benefit as with overparameterization",
        experiments=("mnist_sparse", "mnist_mlp"),
    ),
    "6-saves": Claim(
        "beyond the paper",
        "At every sparsity a kernel for sparse rows is faster than the parent's dense product",
        condition="the largest ratio of times below 0.8; not if above 1.25",
    ),
    "8-structured": Claim(
        "beyond the paper",
        "In networks with N:M patterns SAM is better than SGD",
        kind="direction",
        margin=0.02,
        condition="mean gap, ρ chosen on other seeds and samples, above 0",
        experiments=("mnist_structured",),
    ),
}
