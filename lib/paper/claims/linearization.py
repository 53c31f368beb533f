"""The claims of Appendix C."""

from lib.paper.claims.claim import Claim

_FIG = dict(experiments=("vgg_linearization",))
_TANGENT = dict(experiments=("vgg_linearization", "vgg_tangent"))
_LEARNED = "where all runs have learned: "

CLAIMS = {
    "17-rate": Claim(
        "beyond Figure 17",
        "Of the learning rates tried at α = 1 none gives SGD a better test accuracy",
        condition="no other rate of the search ends higher",
        experiments=("vgg_learning_rate",),
    ),
    "17b-lazy": Claim(
        "Figure 17b",
        "At α = 1000 both SGD and SAM with ρ = 0.001 train lazily",
        condition=f"{_LEARNED}above 99% of the activations stay",
        paper="close to 100%",
        **_FIG,
    ),
    "17b-rises": Claim(
        "Figure 17b",
        "The stability of activations rises with α, for SGD and for SAM with ρ = 0.001",
        condition=f"{_LEARNED}the mean stability is higher at each larger α",
        paper="rises",
        **_FIG,
    ),
    "17a-behind": Claim(
        "Figure 17a",
        "At α = 1000 SAM with ρ = 0.001 is more than 10 points behind SGD",
        kind="direction",
        condition=f"{_LEARNED}SGD's minus SAM's accuracy above 0",
        paper="more than 10 points",
        value=10.0,
        margin=1.0,
        **_FIG,
    ),
    "17a-learned": Claim(
        "beyond Figure 17",
        "At α = 1000 SGD and SAM have both learned",
        condition="α²·training loss of every run below 0.9, that of the best constant answer",
        **_FIG,
    ),
    "17a-benefit": Claim(
        "Appendix C",
        "Linearization does not make SAM more effective: it gains no more over SGD at larger α",
        condition=f"{_LEARNED}at least 1 point gained at α = 1, and at no other α more",
        paper="not more",
        experiments=("vgg_linearization", "vgg_scaled_radius"),
    ),
    "17b-radius": Claim(
        "Figure 17b",
        "SAM with a large ρ does not become lazy, however large α",
        condition=f"{_LEARNED}at no α above 99% of the activations stay",
        paper="never",
        **_FIG,
    ),
    "17-tangent": Claim(
        "beyond Figure 17",
        "A network that SGD trains at α = 1000 predicts what its tangent model does",
        condition=f"{_LEARNED}relative distance of the outputs below 0.1 for every seed",
        **_TANGENT,
    ),
    "17-sharpness": Claim(
        "beyond Figure 17",
        "The larger α, the nearer SGD's sharpness after training is to that before it",
        condition=f"{_LEARNED}the mean factor between the two falls with α",
        **_FIG,
    ),
    "17-distance": Claim(
        "beyond Figure 17",
        "From the second α on the distance travelled falls as 1/α for SGD, and does not depend on α for SAM at the "
        "largest ρ",
        condition=f"{_LEARNED}exponents of α within 0.1 of −1 and of 0",
        **_FIG,
    ),
    "17-radius": Claim(
        "beyond Figure 17",
        "On the tangent model itself, which cannot be more linear, SAM with the radius αρ = 1 that belongs to "
        "α = 1000 and ρ = 0.001 is more than 10 points behind SGD",
        kind="direction",
        condition=f"{_LEARNED}SGD's minus SAM's accuracy above 0",
        value=10.0,
        margin=1.0,
        **_TANGENT,
    ),
    "17-equivalent": Claim(
        "beyond Figure 17",
        "A network that SAM trains at α = 1000 with ρ = 0.001 predicts what that SAM on the tangent model does",
        condition=f"{_LEARNED}relative distance of the outputs below 0.1 for every seed",
        **_TANGENT,
    ),
    "17-scaled": Claim(
        "beyond Figure 17",
        "With a radius that falls as 1/α SAM at α = 1000 is lazy, and at most 5 points behind SGD",
        condition=f"{_LEARNED}above 99% of the activations stay, and less than 5 points behind",
        experiments=("vgg_linearization", "vgg_scaled_radius"),
    ),
}
