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
# # Can a network fit flipped labels and still predict well?
#
# A companion to the paper, whose networks all fit their training data. Frei, Chatterji and Bartlett (arXiv:2202.05928,
# 2022) prove that two-layer networks of any width, trained by gradient descent (GD), can fit every label of a noisy
# sample, flipped ones included, and still predict nearly as well as can be: *benign overfitting*. They show no
# experiment. We check the theorem, break its assumptions one by one, and ask what sharpness-aware minimization (SAM)
# does here.
#
# Each *claim* gets a *verdict* from a condition that we state. All *presets* compute the same.

# %% tags=["parameters"]
preset = "smoke"
train = True

# %%
import numpy as np
import pandas
from IPython.display import Markdown

from lib.paper import analysis, experiments, plots
from lib.paper.claims import Book

book = Book("07_benign_overfitting", preset)
verdicts = analysis.benign_verdicts
same = f"preset {preset} (the same at every preset), 10 seeds"


def spread(table, by, x, y, panel, label="{}"):
    """The median over seeds and their range, as lines of a figure."""
    rows = table.groupby([by, x])[y].agg(y="median", low="min", high="max").reset_index().rename(columns={x: "x"})
    columns = ["panel", "label", "x", "y", "low", "high", "look"]
    return rows.assign(label=rows[by].map(label.format), panel=panel, look="-")[columns]


# %% [markdown]
# ## The setting
#
# A sample is $x = \tilde y(\mu + z)$ with a clean label $\tilde y = \pm1$ and Gaussian $z \in \mathbb R^p$. A share η
# of the labels is flipped; 15% here, exactly. The network $f(x; W) = \sum_{j=1}^m a_j\phi(\langle w_j, x\rangle)$ has
# fixed $a_j = \pm1/\sqrt m$ and a smooth leaky activation, $\phi(z) = 0.1z + 0.9\log(1 + e^z)$. GD with step size α
# runs on the logistic loss of all $n$ samples until it is at most $\varepsilon = 1/(4n)$. The theorem assumes
#
# | | assumption | here |
# |---|---|---|
# | A1 | $n \ge C\log(1/\delta)$ samples for a failure probability δ | $n$ = 4 to 40 |
# | A2 | $\lVert\mu\rVert = \Theta(p^{1/3})$ | $p^{1/3}$ |
# | A3 | $p \gtrsim n^3$: samples are nearly orthogonal | $p$ = 50 to 8,000 |
# | A4 | a share of flipped labels $\eta \le 1/C$ | 15% |
# | A5 | $\alpha \ge \omega_{\text{init}}\sqrt{mp}$ for initial weights $N(0, \omega_{\text{init}}^2)$ | equal |
#
# and promises that all labels are fitted with a loss of at most ε, and for the noisy test error
#
# $$\mathbb P[y \ne \mathrm{sgn} f(x; W)] \le \eta + 2\exp(-c\,n\,p^{1/3}).$$
#
# Clean test points tell the same: their error is what exceeds η, up to a factor $1 - 2\eta$. We draw 20,000 for each
# network. The gradient of every weight vector lies in the span of the samples, so all runs of one $n$ and $m$ are
# trained as one stack on their Gram matrices, whatever their $p$.
#
# ### In two dimensions, and in many
#
# Left: in two dimensions, 100 units do not fit the flipped ones of 200 samples. Right: a plane through a network with
# 2,000 dimensions and 20 samples, which contains μ and the noise of one flipped sample. The boundary tilts just enough
# to put that sample on its wrong side, at a distance of about $\sqrt p$. Test points have noise of size 1 along the
# same axis: the tilt does not reach them.

# %%
low = analysis.benign.boundary(dict(n=200, p=2, m=100, mu=1.9, seed=0), steps=1500, reach=(5, 4))
high = analysis.benign.boundary(dict(n=20, p=2000, seed=0), steps=1500, reach=(25, 60))
names = (
    f"p = 2: {100 * low[1]['right'].mean():.0f}% of labels fitted",
    f"p = 2000: {100 * high[1]['right'].mean():.0f}% fitted",
)
panels = {names[0]: (*low, "second coordinate"), names[1]: (*high, "along the noise of a flipped sample")}
title = f"A flipped sample in many dimensions is fitted where no test point goes\npreset {preset}, 1 seed"
samples = pandas.concat([low[1].assign(p=2), high[1].assign(p=2000)])
plots.save(plots.boundaries(panels, title=title), "figO1", samples, preset)

# %% [markdown]
# ## All labels are fitted, and the error falls with the dimension
#
# Three $n$, six $p$, 20 units, 15% of the labels flipped.

# %%
runs = analysis.benign.train_all(experiments.benign_dimensions())
shown = [spread(runs, "n", "p", "error", "clean test error", "n = {}")]
share = runs.assign(share=runs["fitted"] / runs["flips"])
shown.append(spread(share, "n", "p", "share", "share of flipped labels fitted", "n = {}"))
shown = pandas.concat(shown, ignore_index=True)
axes = {
    "clean test error": dict(xscale="log", xlabel="dimension p", ylabel="median and range over seeds", ylim=(0, None))
}
axes["share of flipped labels fitted"] = dict(xscale="log", xlabel="dimension p", ylim=(0, 1.05))
title = f"Every flipped label is fitted, and with more dimensions that does no harm\n15% flipped, m = 20, {same}"
plots.save(plots.panels(shown, title=title, axes=axes), "figO2", shown, preset)

# %%
fits_word = book.judge("benign-fits", verdicts.fits(runs))
error_word = book.judge("benign-error", verdicts.error(runs))
form_word = book.judge("benign-form", verdicts.form(runs))
book.judge("benign-dimension", verdicts.harmful(runs.query("n == 40"), "p", 50))
runs.groupby(["n", "p"])[["error", "steps", "margin", "norm"]].median().round(4)

# %%
ten = runs.query("n == 10 and p == 8000")
bad, good = (part["offset"].abs() for part in (ten.query("error > 0.1"), ten.query("error <= 0.1")))
Markdown(
    f"With only 10 samples, {len(bad)} of {len(ten)} seeds fail at p = 8000: they classify nearly all points alike. "
    "These are the networks with the most unbalanced signs $a_j$. Their output before training, about "
    f"$\\phi(0)\\sum_j a_j$, is {bad.min():.2f} or more in size, {good.max():.2f} or less in the others. That "
    "outweighs a signal from so few samples. The theorem leaves such cases to its failure probability δ, hence A1."
)

# %% [markdown]
# ## The normalized margin
#
# The proof bounds $\mathbb E[\tilde yf(x)]/\lVert W\rVert_F$ on clean points from below by a multiple of
# $\sqrt{n\,p^{1/3}}$. We measure the exponent where $p \ge n^3$, with a bootstrap over seeds. *Supported* if it is not
# below ½.

# %%
margins = analysis.benign.train_all(experiments.benign_margins())
margin_word = book.judge("benign-margin", verdicts.margin(margins))
shown = margins.assign(x=margins["n"] * margins["p"] ** (1 / 3), y=margins["margin"], panel="margin", look="o")
shown = shown.assign(label="n = " + shown["n"].astype(str))[["panel", "label", "x", "y", "look"]]
middle = np.exp(np.log(shown["y"]).mean() - np.log(shown["x"]).mean() / 2)
line = pandas.DataFrame(dict(panel="margin", label="slope ½", x=[18, 450], y=middle * np.sqrt([18, 450]), look="--"))
shown = pandas.concat([shown, line], ignore_index=True)
look = dict(
    xscale="log", yscale="log", plain="xy", xlabel="n·p^⅓", ylabel="normalized margin on clean points", title=""
)
title = f"How the normalized margin grows, p ≥ n³\n{same}"
plots.save(plots.panels(shown, title=title, axes={"margin": look}, height=4.2), "figO3", shown, preset)

# %% [markdown]
# ## The width does not matter
#
# From one unit to 1,000, at $n = 20$ and $p = 100$, where there is an error to compare. One unit can take long to reach
# the loss ε, as one side of its activation is nearly flat; it fits all labels much sooner.

# %%
widths = analysis.benign.train_all(experiments.benign_widths(), steps=1000)
width_word = book.judge("benign-width", verdicts.width(widths))
shown = spread(widths.assign(what="clean test error"), "what", "m", "error", "clean test error")
shown = pandas.concat(
    [shown, spread(widths.assign(what="training error"), "what", "m", "train_error", "clean test error")]
)
look = dict(xscale="log", xlabel="units m", ylabel="median and range over seeds", ylim=(-0.005, None), title="")
title = f"The error does not depend on the width\nn = 20, p = 100, {same}"
plots.save(plots.panels(shown, title=title, axes={"clean test error": look}, height=4.2), "figO4", shown, preset)

# %%
widths.groupby("m")[["error", "train_error", "loss", "done", "steps"]].mean().round(4)

# %% [markdown]
# ## Breaking the assumptions
#
# At $n = 20$ and $p = 1000$ we vary the separation $\lVert\mu\rVert = p^k$ (A2), the share of flipped labels (A4), and
# the initial weights, which we multiply until training is lazy (A5). We call overfitting *harmful* where all labels are
# fitted and the median clean error exceeds 1%. An assumption counts as needed if breaking it makes overfitting harmful.

# %%
broken = {name: analysis.benign.train_all(grid) for name, grid in experiments.benign_broken().items()}
worst = {"exponent": ("separation", 0.0), "flip": ("noise", 0.45), "lazy": ("lazy", 10000.0)}
for name, (claim, value) in worst.items():
    book.judge(f"benign-{claim}", verdicts.harmful(broken[name], name, value))
names = {"exponent": "separation ‖μ‖ = p^k", "flip": "flipped labels", "lazy": "initial weights"}
shown = pandas.concat(
    spread(t.assign(what="clean error"), "what", name, "error", names[name]) for name, t in broken.items()
)
axes = {names["exponent"]: dict(xlabel="exponent k", ylabel="median and range over seeds")}
axes |= {names["flip"]: dict(xlabel="share of flipped labels")}
axes |= {names["lazy"]: dict(xlabel="ω_init√(mp)/α", xscale="log")}
axes = {name: settings | dict(ylim=(0, 0.55)) for name, settings in axes.items()}
title = f"Overfitting is harmful without separation, with much noise, and in the lazy regime\nn = 20, p = 1000, {same}"
plots.save(plots.panels(shown, title=title, axes=axes), "figO5", shown, preset)

# %%
columns = ["error", "turned", "norm", "steps"]
broken["lazy"].groupby("lazy")[columns].median().rename(columns={"turned": "slopes that moved by 0.1"}).round(4)

# %% [markdown]
# ## The norm diverges and the error does not
#
# The logistic loss has no minimum: the smaller ε, the larger the weights. Bounds by the norm of the weights would then
# say ever less. We train on, far below $1/(2n) = 0.025$, at $p = n^3 = 8000$ and, outside the theorem, at $p = 100$.

# %%
grid, levels = experiments.benign_levels()
along = analysis.benign.along_training(grid, levels, steps=5000)
norm_word = book.judge("benign-norm", verdicts.norm(along))
shown = pandas.concat(spread(along, "p", "level", name, name, "p = {}") for name in ("norm", "error"))
axes = {
    "norm": dict(xscale="log", yscale="log", xlabel="training loss ε", ylabel="‖W‖, median and range", title="norm")
}
axes["error"] = dict(xscale="log", xlabel="training loss ε", ylabel="clean test error", title="error", ylim=(0, None))
title = f"As the loss falls the norm grows and the error stays\nn = 20, {same}"
plots.save(plots.panels(shown, title=title, axes=axes), "figO6", shown, preset)

# %% [markdown]
# ## SAM beside gradient descent
#
# Two questions of ours. Does normalized SAM still fit the flipped labels? And does it err less than GD where GD's
# overfitting is harmful? Both start from the same weights on the same 20 problems for each $p$, with at most 1,000
# steps.

# %%
sam = analysis.benign.train_all(experiments.benign_sam(), steps=1000)
sam_fits_word = book.judge("benign-sam-fits", verdicts.sam_fits(sam))
sam_error_word = book.judge("benign-sam-error", verdicts.sam_error(sam))
share = sam.assign(share=sam["fitted"] / sam["flips"], x=sam["rho"].clip(lower=0.01))
shown = [spread(share, "p", "x", "error", "clean test error", "p = {}")]
shown.append(spread(share, "p", "x", "share", "share of flipped labels fitted", "p = {}"))
shown = pandas.concat(shown, ignore_index=True)
axes = {panel: dict(xscale="log", xlabel="ρ (leftmost: GD)", ylim=(0, None)) for panel in shown["panel"].unique()}
title = (
    f"SAM fits the flipped labels too and does not err less\nn = 20, preset {preset} (the same at every one), 20 seeds"
)
plots.save(plots.panels(shown, title=title, axes=axes), "figO7", shown, preset)

# %%
sam.groupby(["p", "rho"])[["error", "train_error", "loss", "done", "steps", "norm"]].mean().round(4)

# %% [markdown]
# ## Answer, and all claims

# %%
Markdown(
    f"That GD fits every flipped label is **{fits_word}**, and that this does no harm where $p \\ge n^3$ is "
    f"**{error_word}**; that the width does not matter is **{width_word}**. That SAM fits the flipped labels too is "
    f"**{sam_fits_word}**, and that it errs less where overfitting is harmful is **{sam_error_word}**."
    f"\n\n{book.table()}"
)
