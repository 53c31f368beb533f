"""The captions of notebook 03."""

from lib.paper.captions.caption import Caption


def _against_parameters(network: str, *claims: str) -> Caption:
    return Caption(
        f"{network}: SAM's accuracy gap over SGD, the accuracy of both, and their training loss, against the number of "
        "parameters. SAM has its best ρ. Lines are means over seeds, bars standard errors.",
        claims,
    )


def _losses(network: str, *claims: str) -> Caption:
    return Caption(
        f"{network}: training loss and test loss of SGD and of SAM at its best ρ, against the number of parameters.",
        claims,
    )


def _against_rho(network: str, *claims: str) -> Caption:
    return Caption(
        f"{network}: test accuracy of SAM against ρ, one panel for each width, with SGD as a horizontal line. Every "
        "panel has its own scale.",
        claims,
    )


CAPTIONS = {
    "fig03a": _against_parameters("MLP on MNIST", "3a-grows", "3a-size", "3a-zero"),
    "fig03b": _against_parameters("ResNet-18 on CIFAR-10", "3b-grows", "3b-size", "3b-zero"),
    "fig03c": _against_parameters("ResNet-50 on ImageNet", "3c-grows"),
    "fig04a": _against_parameters("Vision transformer on CIFAR-10", "4a-rises", "4a-shrinks", "4a-falls"),
    "fig04b": _against_parameters("ResNet-18 on CIFAR-10 without weight decay", "4b-gap", "4b-falls"),
    "fig09a": _losses("MLP on MNIST", "9a-loss"),
    "fig09b": _losses("ResNet-18 on CIFAR-10", "9b-loss"),
    "fig09c": _losses("ResNet-50 on ImageNet", "9c-loss"),
    "fig10a": _losses("Vision transformer on CIFAR-10", "10a-loss"),
    "fig10b": _losses("ResNet-18 on CIFAR-10 without weight decay", "10b-loss"),
    "fig06": _against_rho("ResNet-18 on CIFAR-10, two or three widths", "6-smooth"),
    "fig11": _against_rho("MLP on MNIST", "11-smooth", "8-normalization"),
    "fig12": _against_rho("ResNet-18 on CIFAR-10", "6-smooth"),
    "fig13": _against_rho("ResNet-50 on ImageNet", "13-smooth"),
    "fig05": Caption(
        "Best ρ against the number of parameters for three workloads: small points by each seed, large ones by the "
        "mean over seeds, hollow where the best ρ is at the edge of what was tried.",
        ("5a-grows", "5b-grows", "5c-grows", "5b-smallest", "5b-largest"),
    ),
    "fig03_selection": Caption(
        "SAM's gap over SGD against the number of parameters by how ρ is chosen: on what is reported, on other test "
        "samples, on other seeds, or on both.",
        ("selection", "3a-unbiased", "3b-unbiased", "3c-unbiased", "twice"),
    ),
    "fig03_fixed": Caption(
        "SAM's accuracy gap over SGD at fixed ρ for MLPs of 61 thousand to 1.4 million parameters on MNIST. Every dot "
        "is a seed, diamonds are means with 95% intervals.",
        ("3a-fixed-trend", "3a-fixed"),
    ),
    "fig03_released": Caption(
        "SAM's gap over SGD at fixed ρ for two MLPs on MNIST, by the settings of Appendix A and by those of the "
        "released code, at the last and at the best epoch.",
        ("3a-released",),
    ),
    "fig03_teacher": Caption(
        "SAM's advantage in loss on a regression with a known teacher against the number of parameters, with right "
        "targets and with wrong ones; means and 95% intervals.",
        ("teacher-clean", "teacher-noise"),
    ),
}
