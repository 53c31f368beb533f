"""The captions of notebook 07."""

from lib.paper.captions.caption import Caption

CAPTIONS = {
    "figO1": Caption(
        "Samples of two clusters, flipped ones hollow, and what a network that fits them predicts: in two dimensions, "
        "and in the plane of the cluster mean and one flipped sample's noise in many.",
        ("benign-fits",),
    ),
    "figO2": Caption(
        "Clean test error and share of labels fitted against the dimension for three numbers of samples: median and "
        "range over seeds.",
        ("benign-error", "benign-fits", "benign-form", "benign-dimension"),
    ),
    "figO3": Caption(
        "Normalized margin on clean points against n·p^⅓, with a line of slope ½; both axes logarithmic.",
        ("benign-margin",),
    ),
    "figO4": Caption("Clean test error and training error against the number of units.", ("benign-width",)),
    "figO5": Caption(
        "Clean test error where an assumption is broken: against the exponent of the separation, the share of flipped "
        "labels, and the size of the initialization.",
        ("benign-separation", "benign-noise", "benign-lazy"),
    ),
    "figO6": Caption(
        "Norm of the weights and clean test error against the training loss as it falls.", ("benign-norm",)
    ),
    "figO7": Caption(
        "Clean test error and share of labels fitted against ρ, whose leftmost value is gradient descent.",
        ("benign-sam-error", "benign-sam-fits"),
    ),
}
