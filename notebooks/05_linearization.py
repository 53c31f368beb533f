# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Is the benefit due to lazy training?
#
# Appendix C of the paper. Very wide networks behave like linear models of their weights: they hardly move, and stay
# where their first-order expansion holds. Perhaps SAM gains from parameters only because they linearize the network?
# The appendix takes the two apart. It keeps the number of parameters, pushes one network towards its linearization by
# a scale α, and asks whether SAM gains. It finds that SAM loses, and meets something that it leaves open: with a large
# radius ρ, SAM does not linearize at all. Both are measured here, and the second has a short answer.
#
# The cell below chooses how much is computed: `smoke` runs in seconds with handwritten digits in place of the images,
# `lite` and `paper` draw from the records of longer runs, and train what is missing only where `train` is true.

# %% tags=["parameters"]
preset = "smoke"
train = True

# %%
import pandas
from IPython.display import Markdown, display

from lib import alphas, benefit, experiments, plots
from lib.claims import Book, keys
from lib.stand_ins import recorded
from lib.sweep import measure, sweep

experiments.check_preset(preset)
book = Book("05_linearization", preset)

# %% [markdown]
# ## One network, pushed towards its linearization
#
# With $\bar f(x; w) = f(x; w) - f(x; w_0)$, the network minus itself at initialization, the loss of Appendix C is
#
# $$L_\alpha(w) = \frac1n\sum_i \lVert \bar f(x_i; w) - y_i/\alpha \rVert^2
#   = \frac1{\alpha^2}\,\frac1n\sum_i \lVert \alpha\bar f(x_i; w) - y_i \rVert^2 .$$
#
# The right-hand side is the loss that Chizat et al. (2019) train on the scaled network $\alpha\bar f$, so that the two
# papers mean the same training with the same learning rate. For a large α the targets are so small that a tiny step of
# the weights reaches them, and over a tiny step the network is linear: training is *lazy*.
#
# The network is VGG-11 without batch norm, on 32×32 pixels (digits are scaled up). Momentum 0.9, no weight decay and
# the learning rate $\eta/(1 + \text{epoch}/3)$ are theirs, and at `paper` batch 128 and 100 epochs too. But for a term
# in 1/α the Hessian of $L_\alpha$ at $w_0$ does not depend on α, so that one η can serve for all.

# %% [markdown]
# The grid of Figure 17; three smaller ones are for the sections beyond it. Where CIFAR-10 is at hand but only its
# stand-in has records, these are shown.

# %%
names = "vgg_linearization", "vgg_learning_rate", "vgg_tangent", "vgg_scaled_radius"
grids = [experiments.EXPERIMENTS[name](preset) for name in names]
grid, search_grid, tangent_grid, scaled_grid = recorded(*grids, train=train)
experiments.table(grid)

# %%
fixed = grid[0].run.as_dict()
Markdown("Here batch {batch_size}, {epochs} epochs, width {width:g}.".format(**fixed))


# %%
def collect(grid):
    """What was measured on the runs of a grid, beside their accuracies and losses."""
    return alphas.scored(measure(grid, train=train), sweep([m.run for m in grid], train=train))


def judge(name, verdict, *tables):
    """Record the verdict on these runs under the claim of this name; return whether it holds."""
    measured, holds = verdict(*tables)
    book.record(name, measured=measured, holds=holds, keys=keys(*tables))
    return holds


# %% [markdown]
# ## The learning rate
#
# η is chosen once, by SGD at α = 1, and serves every other α, ρ and seed. Below is the search, with one seed. `paper`
# takes what was found at `lite`, for a network of an eighth of the width; its own search is among its runs.
#
# As labels are one-hot and $\bar f = 0$ at $w_0$, the loss is 1 for the untrained network; for the best answer that is
# the same for all samples it is 0.9. What ends above that has *not learned*.

# %%
search = alphas.scored(sweep(search_grid, train=train))
figure = plots.along(
    search,
    title=plots.title("VGG-11 at α = 1, trained by SGD", search, preset),
    panels={"accuracy": "test accuracy (%)", "loss": "training loss"},
    by="lr",
    levels={"loss": ("best constant answer", alphas.CONSTANT)},
)
plots.footnote(figure, search, by="lr")
plots.save(figure, "fig17_rate", search[["key", "lr", "rho", "seed", "status", "accuracy", "loss"]], preset)

# %%
judge("17-rate", lambda runs: alphas.best_learning_rate(runs, fixed["lr"]), search)
display(book.table("17-rate"), Markdown(f"From here on **η = {fixed['lr']:g}**."))

# %%
runs = collect(grid)
largest, rhos = runs["alpha"].max(), sorted(runs["rho"].unique())
sgd, small, large = (runs[runs["rho"] == rho] for rho in (0, rhos[1], rhos[-1]))
ends = [part[part["alpha"] == largest] for part in (sgd, small)]

# %% [markdown]
# ## Figure 17a: test accuracy against α (markers are runs, lines go through the mean of the seeds)
#
# Beside it, what the paper does not show: the training loss in units that are the same at every α, $\alpha^2 L_\alpha$,
# again 1 for the untrained network. Of what has not learned by it (an open marker) the accuracy says nothing about how
# well lazy training generalizes, and what is measured on it further down is about a network that SAM drove off.

# %%
figure = plots.along(
    runs,
    title=plots.title("VGG-11, the same network at every α", runs, preset),
    panels={"accuracy": "test accuracy (%)", "loss": "α²·training loss"},
    logs=("loss",),
    levels={"loss": ("best constant answer", alphas.CONSTANT)},
)
shown = ["key", "run_key", "label", "alpha", "rho", "seed", "status"]
plots.footnote(figure, runs, by="alpha")
plots.save(figure, "fig17a", runs[[*shown, "accuracy", "loss"]], preset)

# %% [markdown]
# ## Figure 17b: stability of activations against α
#
# How lazy was it? After Chizat et al. the *stability of activations* is the share of pairs of a ReLU unit and a test
# sample that are active both before and after training, or in neither. A lazily trained network keeps nearly all: here
# lazy means more than 99%.

# %%
figure = plots.along(
    runs.assign(stability=100 * runs["stability"]),
    title=plots.title("VGG-11, activations as at initialization", runs, preset),
    panels={"stability": "stability of activations (%)"},
)
plots.footnote(figure, runs, by="alpha")
plots.save(figure, "fig17b", runs[[*shown, "stability"]], preset)

# %%
held = {
    "17a-behind": judge("17a-behind", alphas.behind, *ends),
    "17a-learned": judge("17a-learned", alphas.learned, *ends),
    "17b-lazy": judge("17b-lazy", alphas.lazy, *ends),
    "17b-radius": judge("17b-radius", alphas.never_lazy, large),
}
book.table(*held)

# %% tags=["nbval-check-output"]
if preset == "smoke":
    assert held["17a-behind"] and held["17b-lazy"] and held["17b-radius"]
held

# %% [markdown]
# ## Beyond the paper: the yardstick itself
#
# Stable activations are a sign of linearity, not linearity. The thing itself is the tangent model
#
# $$\bar f_{\mathrm{lin}}(x; w) = J(x)(w - w_0), \qquad J(x) = \partial f(x; w_0)/\partial w,$$
#
# trained on the same batches by the same code. By SGD it needs training once: put $u = \alpha(w - w_0)$, and $L_\alpha$
# is $\alpha^{-2}$ times a function of $u$ alone, so that $\alpha\bar f_{\mathrm{lin}}$ comes out the same at every α.
# Below is how far $\alpha\bar f$ of each network is from it on test samples, relative to its length (0 is agreement,
# and 1 what a network that answers 0 would have; under 0.1 counts as near), with the change of the tangent kernel
# $K = JJ^\top$ during training and the sharpness $\lambda_{\max}(\nabla^2 L_\alpha)$ after it.

# %%
tangent = collect(tangent_grid)
tangent["label"] = "tangent model, " + tangent["label"]
by_sgd, by_sam = tangent[tangent["rho"] == 0], tangent[tangent["rho"] > 0]
runs["gap"] = alphas.apart(runs, by_sgd)
start = runs.loc[runs["alpha"] == largest, "start_sharpness"].mean()
figure = plots.along(
    runs,
    title=plots.title("VGG-11 against its tangent model trained by SGD", runs, preset),
    panels={
        "gap": "distance from the tangent model",
        "kernel_change": "relative change of the tangent kernel",
        "sharpness": "sharpness after training",
    },
    logs=("gap", "kernel_change", "sharpness"),
    levels={"sharpness": ("before training", start)} if start > 0 else {},
)
columns = [*shown, "gap", "kernel_change", "kernel_cosine", "start_sharpness", "sharpness"]
plots.footnote(figure, pandas.concat([runs, by_sgd.assign(model="tangent model")]), by="alpha")
plots.save(figure, "fig17_tangent", runs[columns], preset)

# %%
near = judge("17-tangent", alphas.near_tangent, ends[0], by_sgd)
judge("17-sharpness", alphas.keeps_sharpness, sgd)
if preset == "smoke":
    assert near
book.table("17-tangent", "17-sharpness")

# %% [markdown]
# Gradient descent with momentum β diverges along an eigenvector whose eigenvalue times η stays above 2(1 + β), and
# while training is lazy the sharpness stays what it was before training.

# %%
limit = 2 * (1 + fixed["momentum"])
Markdown(
    f"Before training it is {fixed['lr'] * start:.2g}/η, {'above' if fixed['lr'] * start > limit else 'below'} the "
    f"{limit:.2g}/η at which lazy training would diverge."
    if sgd["start_sharpness"].notna().all()
    else "It has no record for all runs."
)

# %% [markdown]
# ## Why a large ρ never becomes lazy
#
# Lazy training travels a distance $\lVert w - w_0\rVert \propto 1/\alpha$. The ascent of normalized SAM has the length
# ρ whatever α is. Two things follow.
#
# 1. On the tangent model, in $u = \alpha(w - w_0)$, an ascent of length ρ is one of length αρ:
#    **SAM at (α, ρ) is SAM at (1, αρ)**. What is called ρ = 0.001 at α = 1000 is a radius of 1.
# 2. The gradient is taken at $w + \varepsilon$, where the outputs are off by $\bar f(w + \varepsilon) - \bar f(w)$
#    while the labels ask for $y/\alpha$. Once their ratio, the *swing*
#    $\alpha\,\mathrm{mean}_i\lVert\bar f(x_i; w_0 + \varepsilon) - \bar f(x_i; w_0)\rVert$, is far above 1, SAM
#    descends on its own perturbation and no longer on the labels. α then drops out, and how far the weights go is
#    set by ρ.

# %%
figure = plots.along(
    runs,
    title=plots.title("VGG-11: how far the weights go, and how far SAM's ascent throws the outputs", runs, preset),
    panels={"distance": "distance travelled ‖w − w₀‖", "swing": "swing of the ascent (lengths of a label)"},
    logs=("distance", "swing"),
    levels={"swing": ("as long as a label", 1.0)},
)
columns = [*shown, "distance", "start_norm", "swing", "ascent_stability"]
plots.footnote(figure, runs, by="alpha")
plots.save(figure, "fig17_distance", runs[columns], preset)

# %% [markdown]
# The exponent of α in the distance travelled, from the second α on, and at the largest α the distance over the radius,
# which need not be the same for all radii, and the swing. The claim allows exponents within 0.1 of −1 and of 0:


# %%
travels = judge("17-distance", alphas.distance_scales, alphas.later(sgd), alphas.later(large))
if preset == "smoke":
    assert travels
display(alphas.distances(runs).round(4), book.table("17-distance"))

# %% [markdown]
# The first consequence can be put to the test on the tangent model alone: SAM on it at the radius αρ that
# belongs to the largest α and the smallest ρ. If it fails there too, what fails is not laziness but the radius. Then
# network and tangent model are compared output for output. That asks for more: training with so large a radius must
# not magnify the little by which the two differ.

# %%
judge("17-radius", alphas.fails_on_tangent, by_sgd, by_sam)
judge("17-equivalent", alphas.equivalent, ends[1], by_sam)
compared = pandas.concat([tangent, *ends])
compared["travelled"] = compared["alpha"] * compared["distance"]
columns = ["linearize", "label", "alpha", "seed", "accuracy", "loss", "travelled", "status"]
compared = compared[columns].rename(columns={"travelled": "α‖w − w₀‖"}).round(4)
display(compared, book.table("17-radius", "17-equivalent"))

# %% [markdown]
# ## What makes SAM lazy: a radius that falls as 1/α
#
# If the radius is the obstacle, it should go with the distance. Below SAM has $\rho = \rho_1/\alpha$, so that on the
# tangent model it would be the same training at every α.

# %%
scaled = collect(scaled_grid)
scaled["label"] = f"SAM, ρ = {experiments.LINEARIZATION_RHO:g}/α"
scaled["gap"] = alphas.apart(scaled, by_sgd)
together = pandas.concat([runs.loc[[*sgd.index, *small.index]], scaled], ignore_index=True)
figure = plots.along(
    together.assign(stability=100 * together["stability"]),
    title=plots.title("VGG-11, SAM with a fixed radius and with one that falls as 1/α", together, preset),
    panels={
        "accuracy": "test accuracy (%)",
        "stability": "stability of activations (%)",
        "distance": "distance travelled ‖w − w₀‖",
    },
    logs=("distance",),
)
columns = [*shown, "accuracy", "stability", "distance", "gap", "swing"]
plots.footnote(figure, together, by="alpha")
plots.save(figure, "fig17_scaled", together[columns], preset)

# %%
scales = judge("17-scaled", alphas.keeps_up, scaled[scaled["alpha"] == largest], ends[0])
book.table("17-scaled")

# %% tags=["nbval-check-output"]
{"17-distance": travels, "17-scaled": scales}

# %% [markdown]
# At a fixed radius the comparison of Figure 17 changes two things with α: how linear the network is, and how large
# SAM's radius is on the scale on which the network learns.
#
# Does linearization make SAM more effective, then? At every α the best of all its radii, fixed and scaled, is chosen on
# half of the test samples and its gain over SGD taken on the other half (`lib.benefit`). We say that it does if at some
# larger α SAM's gain over SGD exceeds both zero and its gain at the smallest α by more than one point; that it does not
# if SAM gains at least one point at the smallest α and no more at any other. Between these the question is open.

# %%
everything = sweep(dict.fromkeys(m.run for m in [*grid, *scaled_grid]), train=train)
best = benefit.summary(everything, by="alpha").query("protocol == 'samples'")
judge("17a-benefit", lambda *tables: alphas.no_more_effective(best, *tables), runs, scaled)
display(best.set_index("alpha")[["rho", "sgd", "sam", "gap", "seeds"]].round(5), book.table("17a-benefit"))

# %% [markdown]
# ## What holds
#
# Each claim of the section in our words, with what was measured at this preset. Verdicts are computed from the numbers.

# %%
book.table()
