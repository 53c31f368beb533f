"""The captions of notebook 05."""

from lib.paper.captions.caption import Caption

CAPTIONS = {
    "fig17_rate": Caption("Test accuracy and training loss of SGD at α = 1 against the learning rate.", ("17-rate",)),
    "fig17a": Caption(
        "Test accuracy and training loss of SGD and of SAM at two ρ against the scale α of the output; hollow points "
        "have not learned.",
        ("17a-behind", "17a-learned", "17a-benefit"),
    ),
    "fig17b": Caption(
        "Share of activations that are as at initialization after training, of SGD and of SAM at two ρ, against α.",
        ("17b-lazy", "17b-rises", "17b-radius"),
    ),
    "fig17_tangent": Caption(
        "How far a trained network is from its tangent model, against α: change of the tangent kernel, difference of "
        "predictions, and sharpness after over before training.",
        ("17-tangent", "17-sharpness", "17-equivalent"),
    ),
    "fig17_distance": Caption(
        "How far the weights travel, and how far SAM's ascent throws the outputs, against α.",
        ("17-distance", "17b-radius"),
    ),
    "fig17_scaled": Caption(
        "Test accuracy, stability of activations and distance from the tangent model against α, of SAM with a fixed "
        "radius and with one that falls as 1/α.",
        ("17-scaled", "17-radius"),
    ),
    "fig17_rates": Caption(
        "Test accuracy, training loss and stability of activations against α, at the best learning rate of each α and "
        "optimizer.",
        ("17a-benefit",),
    ),
}
