"""The captions of notebook 06."""

from lib.paper.captions.caption import Caption

CAPTIONS = {
    "figB1": Caption(
        "Paths of SAM in the plane of two weights on quadratics of different curvature. Upper row: from afar. Lower "
        "row: near the minimum, where every path ends in jumps between two points.",
        ("bounce-limit", "bounce-minimax"),
    ),
    "figB2": Caption(
        "Growth of each component of the gradient in a step against the length of the gradient; dashed lines are the "
        "thresholds β and α.",
        ("bounce-shrinks", "bounce-gains", "bounce-ordering", "bounce-kept"),
    ),
    "figB3": Caption(
        "Left: level lines of the potential J with its minima and saddles, and paths of SAM with turned signs. Right: "
        "J along these paths.",
        ("bounce-potential", "bounce-descent", "bounce-stationary"),
    ),
    "figB4": Caption(
        "Steps to the limit against a local prediction, and steps outside a ball against the bound on their number; "
        "the dotted line is equality.",
        ("bounce-steps", "bounce-visits"),
    ),
    "figB5": Caption(
        "The loss where SAM ends against ρ, η and λ, measured and predicted, above the 0 of the min-max problem.",
        ("bounce-minimax",),
    ),
    "figB6": Caption(
        "Mean loss over the steps at four batch sizes. SAM (left) stalls, unnormalized SAM (right) converges.",
        ("bounce-batches", "bounce-unnormalized"),
    ),
    "figB7": Caption("Weights over the steps in float64 and in float32, on a logarithmic axis.", ("bounce-float32",)),
    "figB8": Caption(
        "Left: length of the drift and the errors of one and two steps against ρ. Right: error relative to the drift "
        "against ηλ₁.",
        ("drift-small", "drift-twice", "drift-printed", "drift-corrected"),
    ),
    "figB9": Caption(
        "Left: where gradient descent and SAM go in a valley that opens to one side. Right: the curvature across the "
        "valley over the steps.",
        ("drift-twice",),
    ),
    "figB10": Caption(
        "From a minimum of a tanh network, over the steps of SAM and of gradient descent: the cosine of the move with "
        "−∇λ_max, λ_max, and the training loss.",
        ("drift-network", "drift-flatter"),
    ),
    "figB11": Caption(
        "λ_max over the steps of gradient descent and of SAM at two ρ, beside the edge of stability of each.",
        ("edge-gd", "edge-sam"),
    ),
}
