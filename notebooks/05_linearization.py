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
import math

import numpy as np
import pandas
import torch
from IPython.display import Markdown

from lib import experiments, linearize, plots
from lib.claims import Book, mean_and_spread
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
# the learning rate $\eta/(1 + \text{epoch}/3)$ are theirs, and at `paper` batch 128 and 100 epochs too. Near $w_0$ the
# Hessian of $L_\alpha$ does not depend on α, so η does not either: it was chosen for SGD at α = 1.

# %%
grid = experiments.vgg_linearization(preset)
experiments.table(grid)


# %%
def collect(grid):
    """What was measured, with the test accuracy of the run in per cent and a name for the legend."""
    found = measure(grid, train=train)
    found["accuracy"] = 100 * sweep([m.run for m in grid], train=train)["test_accuracy"].to_numpy()
    found["label"] = [f"SAM, ρ = {rho:g}" if rho else "SGD" for rho in found["rho"]]
    found = found.reindex(columns=list(dict.fromkeys([*found, *NUMBERS, "outputs"])))
    return found.astype(dict.fromkeys(NUMBERS, float))


def lacking(*tables):
    """What keeps these runs from telling anything; empty where all are done."""
    lost = pandas.concat(tables).query("status != 'done'")
    return f"{len(lost)} of {sum(map(len, tables))} runs that would tell are missing or diverged" if len(lost) else ""


def judge(name, measured, condition, *tables):
    """File what was measured on these runs and whether it holds, or what is lacking."""
    reason, keys = lacking(*tables), pandas.concat(tables)[["key", "run_key"]].to_numpy().ravel()
    book.record(name, measured=reason or measured, holds=None if reason else bool(condition), keys=keys)


NUMBERS = ["stability", "distance", "kernel_change", "kernel_cosine", "sharpness", "swing", "ascent_stability"]
runs = collect(grid)
largest, rhos = runs["alpha"].max(), sorted(runs["rho"].unique())
sgd, small, large = (runs[runs["rho"] == rho] for rho in (0, rhos[1], rhos[-1]))
end = {name: part[part["alpha"] == largest] for name, part in (("sgd", sgd), ("small", small), ("large", large))}

# %% [markdown]
# ## Figure 17a: test accuracy against α (markers are runs, lines go through the mean of the seeds)

# %%
figure = plots.along_alpha(
    runs,
    title=plots.title("VGG-11, the same network at every α", runs, preset),
    panels={"accuracy": "test accuracy (%)"},
)
shown = ["key", "run_key", "label", "alpha", "rho", "seed", "status"]
plots.footnote(figure, runs, by="alpha")
plots.save(figure, "fig17a", runs[[*shown, "accuracy"]], preset)

# %% [markdown]
# ## Figure 17b: stability of activations against α
#
# How lazy was it? After Chizat et al. the *stability of activations* is the share of pairs of a ReLU unit and a test
# sample that are active both before and after training, or in neither. A lazily trained network keeps nearly all.

# %%
figure = plots.along_alpha(
    runs.assign(stability=100 * runs["stability"]),
    title=plots.title("VGG-11, activations as at initialization", runs, preset),
    panels={"stability": "stability of activations (%)"},
)
plots.footnote(figure, runs, by="alpha")
plots.save(figure, "fig17b", runs[[*shown, "stability"]], preset)

# %%
LAZY = 0.99  # of the activations: what the paper calls close to 100%
both = pandas.concat([end["sgd"], end["small"]])
judge(
    "17b-lazy",
    "stability SGD {}, SAM {}".format(*(mean_and_spread(end[k]["stability"], digits=4) for k in ("sgd", "small"))),
    (both["stability"] > LAZY).all(),
    both,
)
behind = end["sgd"]["accuracy"].mean() - end["small"]["accuracy"].mean()
judge("17a-behind", f"{behind:.1f} points behind SGD at α = {largest:g}", behind > 10, both)
gains = runs.pivot_table("accuracy", "alpha", "rho", dropna=False)
gains = gains.sub(gains[0.0], axis=0).drop(columns=0.0)
most = gains.max(axis=1)
judge(
    "17a-benefit",
    "best gain over SGD " + ", ".join(f"{gain:+.1f} points at α = {alpha:g}" for alpha, gain in most.items()),
    most.iloc[1:].max() <= most.iloc[0],
    runs,
)
judge(
    "17b-radius",
    f"stability at ρ = {rhos[-1]:g} and α = {largest:g}: {mean_and_spread(end['large']['stability'])}",
    (large["stability"] < LAZY).all(),
    large,
)
if preset == "smoke":
    assert (both["stability"] > LAZY).all() and (large["stability"] < LAZY).all() and behind > 10
Markdown(
    lacking(both, large)
    or f"At α = {largest:g} SGD keeps {100 * end['sgd']['stability'].mean():.2f}% of the activations, SAM with "
    f"ρ = {rhos[1]:g} keeps {100 * end['small']['stability'].mean():.2f}% and ends **{behind:.1f} points** behind. "
    f"SAM with ρ = {rhos[-1]:g} keeps {100 * end['large']['stability'].mean():.1f}%. Below, gains over SGD in points."
)

# %%
gains.round(1).rename(columns="ρ = {:g}".format, index="α = {:g}".format)

# %% tags=["nbval-check-output"]
bool((both["stability"] > LAZY).all()), bool((large["stability"] < LAZY).all()), bool(behind > 10)

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
# and 1 what a network that answers 0 would have), with the change of the tangent kernel $K = JJ^\top$ during training
# and the sharpness $\lambda_{\max}(\nabla^2 L_\alpha)$ after it.

# %%
tangent = collect(experiments.vgg_tangent(preset))
yardstick = {t.seed: torch.tensor(t.outputs) for t in tangent.itertuples() if t.rho == 0 and t.status == "done"}


def gap(run):
    there = run["status"] == "done" and run["seed"] in yardstick
    return linearize.relative_change(yardstick[run["seed"]], torch.tensor(run["outputs"])) if there else math.nan


runs["gap"] = [gap(run) for _, run in runs.iterrows()]
figure = plots.along_alpha(
    runs,
    title=plots.title("VGG-11 against its tangent model trained by SGD", runs, preset),
    panels={
        "gap": "distance from the tangent model",
        "kernel_change": "relative change of the tangent kernel",
        "sharpness": "sharpness after training",
    },
    logs=("gap", "kernel_change", "sharpness"),
)
columns = [*shown, "gap", "kernel_change", "kernel_cosine", "sharpness"]
plots.footnote(figure, runs, by="alpha")
plots.save(figure, "fig17_tangent", runs[columns], preset)

# %%
lazy = runs.loc[end["sgd"].index]
judge(
    "17-tangent",
    f"relative distance {mean_and_spread(lazy['gap'])}, kernel changed by {mean_and_spread(lazy['kernel_change'])}",
    lazy["gap"].max() < 0.1,
    lazy,
    tangent[tangent["rho"] == 0],
)
sharp = sgd.pivot_table("sharpness", "alpha", "seed", dropna=False)
factors = np.exp(np.log(sharp / sharp.loc[largest]).abs().mean(axis=1))  # by seed: some end sharper, some flatter
judge(
    "17-sharpness",
    f"SGD off that at α = {largest:g} by a factor of "
    + ", ".join(f"{factor:.2f} at α = {alpha:g}" for alpha, factor in factors.iloc[:-1].items()),
    factors.is_monotonic_decreasing,
    sgd,
)
if preset == "smoke":
    assert lazy["gap"].max() < 0.1
Markdown(
    lacking(lazy, sgd, tangent)
    or f"SGD at α = {largest:g} is within **{lazy['gap'].max():.2g}** of its tangent model, and its kernel changed by "
    f"{lazy['kernel_change'].max():.2g}. At α = {factors.index[0]:g} the sharpness ends "
    f"a factor of {factors.iloc[0]:.2f} from there, up or down."
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
figure = plots.along_alpha(
    runs,
    title=plots.title("VGG-11: how far the weights go, and how far SAM's ascent throws the outputs", runs, preset),
    panels={"distance": "distance travelled ‖w − w₀‖", "swing": "swing of the ascent (lengths of a label)"},
    logs=("distance", "swing"),
    levels={"swing": ("as long as a label", 1.0)},
)
columns = [*shown, "distance", "start_norm", "swing", "ascent_stability"]
plots.footnote(figure, runs, by="alpha")
plots.save(figure, "fig17_distance", runs.reindex(columns=columns), preset)

# %% [markdown]
# The exponent of α in the distance travelled, from the second α on, and the distance over the radius at the largest:


# %%
def exponent(part):
    varied = len(set(part["alpha"])) > 1
    return np.polyfit(*np.log(part[["alpha", "distance"]].T.to_numpy()), 1)[0] if varied else math.nan


rows = []
for label, part in runs[runs["alpha"] > runs["alpha"].min()].groupby("label", sort=False):
    done = part.dropna(subset="distance")
    slope = exponent(done)
    last = done[done["alpha"] == largest]
    ratio = (last["distance"] / last["rho"]).mean() if (last["rho"] > 0).all() else math.nan
    rows.append({"": label, "exponent of α": slope, "‖w − w₀‖": last["distance"].mean(), "‖w − w₀‖/ρ": ratio})
distances = pandas.DataFrame(rows, columns=["", "exponent of α", "‖w − w₀‖", "‖w − w₀‖/ρ"]).set_index("")
slopes = distances["exponent of α"].reindex([sgd["label"].iloc[0], large["label"].iloc[0]]).tolist()
judge(
    "17-distance",
    f"α to the power {slopes[0]:.2f} for SGD, {slopes[1]:.2f} for SAM at ρ = {rhos[-1]:g}",
    abs(slopes[0] + 1) < 0.1 and abs(slopes[1]) < 0.1,
    sgd,
    large,
)
if preset == "smoke":
    assert abs(slopes[0] + 1) < 0.1 and abs(slopes[1]) < 0.1
distances.round(4)

# %% [markdown]
# The first consequence can be put to the test without any network: SAM on the tangent model at the radius αρ that
# belongs to the largest α and the smallest ρ. If it fails there too, what fails is not laziness but the radius.

# %%
plain, wide = tangent[tangent["rho"] == 0], tangent[tangent["rho"] > 0]
behind_tangent = plain["accuracy"].mean() - wide["accuracy"].mean()
judge(
    "17-equivalent",
    f"at radius {wide['rho'].max():g} SAM is {behind_tangent:.1f} points behind SGD on the tangent model",
    behind_tangent > 10,
    tangent,
)
pandas.concat([tangent, both])[["linearize", "label", "alpha", "seed", "accuracy", "distance", "status"]].round(4)

# %% [markdown]
# ## What makes SAM lazy: a radius that falls as 1/α
#
# If the radius is the obstacle, it should go with the distance. Below SAM has $\rho = \rho_1/\alpha$, so that on the
# tangent model it would be the same training at every α.

# %%
scaled = collect(experiments.vgg_scaled_radius(preset))
scaled["label"] = f"SAM, ρ = {experiments.LINEARIZATION_RHO:g}/α"
scaled["gap"] = [gap(run) for _, run in scaled.iterrows()]
together = pandas.concat([sgd.assign(gap=runs["gap"]), small.assign(gap=runs["gap"]), scaled], ignore_index=True)
figure = plots.along_alpha(
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
last = scaled[scaled["alpha"] == largest]
ahead = last["accuracy"].mean() - end["sgd"]["accuracy"].mean()
judge(
    "17-scaled",
    f"stability {mean_and_spread(last['stability'], digits=4)}, {ahead:+.1f} points against SGD",
    (last["stability"] > LAZY).all() and ahead > -5,
    last,
    end["sgd"],
)
Markdown(
    lacking(last, end["sgd"])
    or f"With the radius scaled, SAM at α = {largest:g} keeps {100 * last['stability'].mean():.2f}% of the activations "
    f"and is {ahead:+.1f} points from SGD. At a fixed radius the comparison of Figure 17 changes two things with α: "
    "how linear the network is, and how large SAM's radius is on the scale on which the network learns."
)

# %% tags=["nbval-check-output"]
bool((last["stability"] > LAZY).all()), bool(abs(slopes[0] + 1) < 0.1), bool(abs(slopes[1]) < 0.1)

# %% [markdown]
# ## What holds
#
# Each claim of the section in our words, with what was measured at this preset. Verdicts are computed from the numbers.

# %%
book.table()
