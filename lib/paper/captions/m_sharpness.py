"""The captions of notebook 09."""

from lib.paper.captions.caption import Caption

CAPTIONS = {
    "figP1": Caption(
        "Test error against ρ of SAM, of SAM that climbs by another mini-batch, and of random perturbations, at "
        "two widths: mean and range of seeds.",
        ("m-other", "m-random", "m-other-none", "m-width"),
    ),
    "figP16": Caption(
        "Gain of m-SAM over SGD against m, the samples that climb together, with right and with wrong labels.",
        ("m-smaller", "m-smaller-noise", "m-smaller-width"),
    ),
    "figP4": Caption("Test error against ρ for one ascent step and for several.", ("m-steps", "m-steps-rho")),
    "figP17": Caption("Test error of SGD and of SAM against the batch size.", ("m-large", "m-bridge")),
    "figP18": Caption("Gain of SAM over SGD against the number of parameters.", ("m-middle", "m-small-networks")),
    "figP2": Caption(
        "m-sharpness of trained networks against the radius, for SGD and SAM with a small and a large batch.",
        ("m-flatter", "m-ranking", "m-counterexample", "m-released"),
    ),
    "figP3": Caption(
        "The m-sharpness that many steps of ascent find over that of one step, against m.",
        ("m-shortfall", "m-shortfall-width"),
    ),
    "figP_linear": Caption(
        "1-sharpness of linear models by ascent, against its closed form, for three losses and two sets of "
        "weights each.",
        ("m-linear", "m-equal", "m-equal-printed"),
    ),
    "figP19": Caption(
        "m-sharpness at ρ = 0.1 with batch norm's statistics of the batch and of training, against the epochs of "
        "training with SGD and with SAM.",
        ("m-norm",),
    ),
}
