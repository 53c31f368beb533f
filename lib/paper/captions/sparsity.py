"""The captions of notebook 04."""

from lib.paper.captions.caption import Caption


def _gap(network: str, *claims: str) -> Caption:
    return Caption(
        f"{network}: SAM's gap over SGD against the share of weights removed, at one number of remaining parameters, "
        "by random masks and by SNIP. Left: ρ chosen on what is reported. Right: on other seeds and samples.",
        claims,
    )


CAPTIONS = {
    "fig07": _gap("Larger ResNet-18 on CIFAR-10", "7-grows", "7-size", "7-snip"),
    "fig14": _gap("Smaller ResNet-18 on CIFAR-10", "14-grows", "14-snip", "6-better"),
    "fig15": _gap("MLP on MNIST", "15-grows", "15-snip", "6-better-mlp", "6-restores"),
    "fig08": Caption(
        "Best ρ of ResNet-18 against the share of weights removed, at two numbers of parameters.",
        ("8-pattern", "8-same"),
    ),
    "fig16": Caption(
        "Best ρ of the MLP against the share of weights removed, at one number of parameters.", ("16-pattern",)
    ),
    "figS1": Caption(
        "Share of weights that random masks and SNIP keep in each layer, from the input to the output.",
        ("6-trainable",),
    ),
    "figS2": Caption(
        "Gap of the MLP against what a forward pass costs: multiplications that remain, those that hardware for N:M "
        "patterns does, and time measured on one core.",
        ("6-saves",),
    ),
    "figS3": Caption(
        "SAM's gap over SGD of MLPs with N:M patterns beside random and SNIP masks that keep as many weights.",
        ("8-structured",),
    ),
}
