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
# # Which minima does SAM stay at, and how do they differ from SGD's?
#
# Section 4 and Appendix E of the paper. An overparameterized network has many minima with the same training loss. An
# optimizer can only stay at those where small deviations do not grow. For SAM the paper bounds what such a minimum
# may look like: its sharpness, and how unlike each other the samples' Hessians may be. Here the theorem is tried
# where everything is known exactly, and then the quantities it speaks of are measured at minima of a perceptron.

# %% tags=["parameters"]
preset = "smoke"
train = True

# %%
import numpy as np
import pandas
import torch

from lib import experiments, linear_stability, plots, theory
from lib.claims import Book, mean_and_spread
from lib.lanczos import Density
from lib.sweep import measure

experiments.check_preset(preset)
book = Book("02_stability", preset)

# %% [markdown]
# ## Theorem 9 where everything is known
#
# Near a minimum that fits every sample, the loss of sample $i$ is $\tfrac12 x^\top H_i x$ and a step of unnormalized
# SAM on that sample is linear:
#
# $$x_{t+1} = B_i x_t, \qquad B_i = I - \eta H_i - \eta\rho H_i^2 .$$
#
# Whether the second moment $\mathbb E\lVert x_t\rVert^2$ grows is decided exactly by the map
# $\Sigma \mapsto \frac1n\sum_i B_i \Sigma B_i$ that carries $\mathbb E\,x_t x_t^\top$ one step on: it grows where the
# spectral radius of that map is above 1. Theorem 9 promises stability where, with $H = \frac1n\sum_i H_i$ and
# $M_k = \frac1n\sum_i H_i^k$,
#
# $$\lambda_{\max}\Big((I-\eta H-\eta\rho H^2)^2 + \eta(\eta-2\rho)(M_2-H^2) + 2\eta^2\rho(M_3-H^3)
# + \eta^2\rho^2(M_4-H^4)\Big) \le 1 .$$
#
# All powers of $H$ cancel in it: it is $\lambda_{\max}\big(\frac1n\sum_i B_i^2\big) \le 1$ (see the appendix below).
# From it the paper derives one bound for each quantity, its conditions (7), with $a = \lambda_{\max}(H)$ and
# $s_k = \lambda_{\max}(M_k - H^k)^{1/k}$:
#
# $$a(1+\rho a)\le\tfrac2\eta,\qquad s_2^2\le\tfrac1{\eta(\eta-2\rho)},\qquad s_3^3\le\tfrac1{2\eta^2\rho},\qquad
# s_4^4\le\tfrac1{\eta^2\rho^2}.$$
#
# Where $\eta \le 2\rho$ the second says nothing.

# %%
hessians = linear_stability.random_hessians(n=20, d=4, rank=2)
grid = [(eta, rho) for eta in np.geomspace(0.1, 3, 50) for rho in np.geomspace(0.02, 6, 50)]
tidy = pandas.DataFrame(grid, columns=["eta", "rho"]).assign(
    growth=[linear_stability.growth(hessians, *at) for at in grid],
    theorem9=[linear_stability.theorem9(hessians, *at) for at in grid],
    conditions=[max(linear_stability.conditions(hessians, *at).values()) for at in grid],
)
pandas.Series(linear_stability.moments(hessians)).round(3)

# %%
plots.save(
    plots.stability_map(tidy, title="Linearized SAM on 20 random interpolating quadratics"), "figE1", tidy, preset
)

# %% [markdown]
# Blue is stable, red is not. The solid line is the exact edge, the dashed one that of the theorem, and the dotted one
# that of the conditions (7), which is further out, as a necessary condition should be. For small ρ all lines are
# vertical: there SAM is SGD, whose own edge is the one at the lower border. The larger ρ, the smaller the step that
# is stable, from ρ of the order of $1/a$ on.

# %%
EXACT = 1e-9  # what rounding may add to an eigenvalue of 1
stable, promised, allowed = (tidy[name] <= 1 + EXACT for name in ("growth", "theorem9", "conditions"))
sgd = tidy["rho"] == tidy["rho"].min()
book.record(
    "thm-9",
    measured=f"stable at {(stable & promised).sum()} of {promised.sum()} (η, ρ) where it is promised",
    holds=bool(stable[promised].all()),
)
book.record(
    "thm-9-tight",
    measured=f"it promises {promised.sum() / stable.sum():.0%} of the stable (η, ρ) on the logarithmic grid; at the "
    f"least ρ it promises up to η = {tidy[promised & sgd]['eta'].max():.2f} of {tidy[stable & sgd]['eta'].max():.2f}",
    holds=bool(promised.sum() / stable.sum() > 0.8),
)
pandas.Series({"stable": stable.mean(), "promised": promised.mean(), "(7) holds": allowed.mean()}).round(3)

# %% tags=["nbval-check-output"]
bool(stable[promised].all()), bool(allowed[promised].all())

# %% [markdown]
# Where the theorem promises stability the second moment never grows, and little that is stable is left out. Single
# paths can mislead: just beyond the edge most of them shrink while rare ones grow fast enough to carry the mean.

# %%
RHO, PATHS, LENGTH = 0.5, 2000, 60
near = tidy["rho"].iloc[(tidy["rho"] - RHO).abs().argmin()]
limit = tidy[stable & (tidy["rho"] == near)]["eta"].max()
parts = []
for factor in (0.7, 1.0, 1.2):
    eta = factor * limit
    paths = linear_stability.simulate(hessians, eta=eta, rho=RHO, length=LENGTH, paths=PATHS).numpy()
    b, sigma = linear_stability.steps(hessians, eta, RHO), torch.eye(4, dtype=torch.float64) / 4
    exact = [1.0] + [(sigma := (b @ sigma @ b).mean(0)).trace().item() for _ in range(LENGTH)]
    panel = f"η = {eta:.2f}, growth {linear_stability.growth(hessians, eta, RHO):.3f}"
    lines = [("path", i, path) for i, path in enumerate(paths[:25])] + [
        ("mean", -1, paths.mean(0)),
        ("exact", -1, exact),
    ]
    parts += [
        pandas.DataFrame({"panel": panel, "kind": kind, "path": i, "step": range(LENGTH + 1), "square": values})
        for kind, i, values in lines
    ]
moments = pandas.concat(parts, ignore_index=True)
plots.save(
    plots.second_moments(moments, title=f"Distance from the minimum at ρ = {RHO:g}: 25 of {PATHS} simulated paths"),
    "figE2",
    moments,
    preset,
)

# %% [markdown]
# ### Are the conditions (7) really necessary?
#
# On the grid above they hold wherever the theorem's condition does. The first one always must: for the top
# eigenvector $v$ of $H$, $1 \ge \mathbb E\lVert B_iv\rVert^2 \ge (\mathbb E\,v^\top B_iv)^2$, and $\mathbb E\,v^\top
# H_i^2 v \ge a^2$. But the last one need not, since for $\eta < 2\rho$ the term with $s_2$ is negative and makes
# room. In one dimension let $H_i$ be $h$ for a share $p$ of the samples and 0 for the rest. Then the theorem's
# condition is $\eta h + \eta\rho h^2 \le 2$, and that on $s_4$ is $\eta^2\rho^2h^4(p - p^4) \le 1$:

# %%
share, h = 63, 1.0  # of 100 samples
counterexample = torch.zeros(100, 1, 1, dtype=torch.float64)
counterexample[:share] = h
eta, rho = 0.01, 190.0
value = linear_stability.theorem9(counterexample, eta, rho)
shares = linear_stability.conditions(counterexample, eta, rho)
book.record(
    "7-necessary",
    measured=f"they hold at {(allowed & promised).sum()} of {promised.sum()} (η, ρ) with Theorem 9's condition, but "
    f"elsewhere s₄ is {shares['s4']:.3f} of its bound while λ_max = {value:.3f} ≤ 1",
    holds=bool(allowed[promised].all() and max(shares.values()) <= 1),
)
pandas.Series({"λ_max of Theorem 9": value, **{f"{name} / bound": share for name, share in shares.items()}}).round(3)

# %% tags=["nbval-check-output"]
value <= 1, shares["a"] <= 1, shares["s4"] <= 1

# %% [markdown]
# The theorem promises stability here although $s_4$ exceeds its bound by more than a tenth. So the condition on $s_4$
# is necessary for $\eta \ge 2\rho$ in one dimension, but not in general, and least so for the large ρ for which it is
# strictest.
#
# ## Minima of a perceptron
#
# The paper trains a perceptron with hidden layers of 3,000 and 1,000 on MNIST with the squared loss
# $\lVert f(x) - y\rVert^2$, a constant step size of 0.1, batches of 128, neither momentum nor weight decay, and
# measures the Hessian at 1,000 samples.

# %%
grid = experiments.mnist_flatness(preset)
measured = measure(grid, train=train)
flat, surfaces = (measured[measured["kind"] == kind] for kind in ("flatness", "landscape"))
done = flat[flat["status"] == "done"]
experiments.table(grid)

# %% [markdown]
# ## Figures 2a and 2b: the landscape along the two dominant eigenvectors
#
# At a minimum $w$ with the eigenvectors $v_1, v_2$ of the two largest eigenvalues of $H$, the loss at
# $w + u v_1 + v v_2$.


# %%
def surface(row):
    name = plots.optimizer_name(row)
    a = row.eigenvalues[0]
    label = f"{name}{f', ρ = {row.rho:g}' if row.rho else ''}: a = {a:.3g}"
    u, v = np.meshgrid(row.axis, row.axis)
    return pandas.DataFrame(
        {"key": row.key, "panel": label, "u": u.ravel(), "v": v.ravel(), "loss": np.ravel(row.surface)}
    )


shown = [surface(row) for row in surfaces.itertuples() if row.status == "done"]
tidy = pandas.concat(shown) if shown else pandas.DataFrame(columns=["key", "panel", "u", "v", "loss"])
figure = plots.landscapes(tidy, title=plots.title("Loss around the minima of SGD and SAM", surfaces, preset))
plots.save(plots.footnote(figure, surfaces), "fig02ab", tidy, preset)

# %% [markdown]
# Both panels have the same axes and colours: lines that are further apart are a flatter minimum.
#
# ## Figure 2c and beyond: sharpness and non-uniformity against ρ
#
# The theory is about single samples and unnormalized SAM, $\varepsilon = \rho g$. Training uses batches and
# normalized SAM, $\varepsilon = \rho g/\lVert g\rVert$. So each quantity is shown for single samples, as in the
# paper, and for batches $B$ of the training's size, whose Hessian is a mean of independent draws; for these $s_2(B) =
# s_2/\sqrt B$. The dashed lines are the bounds (7) with the ρ of the run.


# %%
def quantity(label, column, series, bound=None):
    part = done[["key", "run_key", "rho", "seed"]].assign(quantity=label, series=series, value=done.get(column, np.nan))
    bounds = [getattr(theory.stability_bounds(r.lr, r.rho), bound) if bound else np.inf for r in done.itertuples()]
    return part.assign(bound=np.where(np.isfinite(bounds), bounds, np.nan))


SERIES = {"": "single samples", "batch_": "batches of the training's size"}
tidy = pandas.concat(
    [quantity("sharpness a", "a", "all samples", "a")]
    + [
        quantity(f"s{chr(8320 + k)}", f"{batch}s{k}", series, f"s{k}")
        for k in (2, 3, 4)
        for batch, series in SERIES.items()
    ]
)
figure = plots.against_rho(tidy, title=plots.title("Sharpness and non-uniformity of the Hessian", flat, preset))
plots.save(plots.footnote(figure, flat), "fig02c", tidy, preset)

# %% [markdown]
# How near to zero loss the networks are, and the numbers behind the figure (means over the seeds):

# %%
NUMBERS = "sample_loss gradient batch_gradient a s2 s3 s4 batch_s2 batch_s3 batch_s4 stability".split()
done.groupby("rho")[[name for name in NUMBERS if name in done]].mean().map("{:.3g}".format)


# %%
def compare(column):
    """Of each seed: SAM's values over SGD's, and whether they fall from ρ to ρ."""
    table = done.pivot_table(index="seed", columns="rho", values=column)
    return (table.drop(columns=0.0).div(table[0.0], axis=0), (table.drop(columns=0.0).diff(axis=1).iloc[:, 1:] < 0))


enough = {0.0} < set(done["rho"])
if enough:
    for name, column in (("2ab-flatter", "a"), ("2c-uniform", "s2")):
        ratios, _ = compare(column)
        text = ", ".join(f"ρ = {rho:g}: {mean_and_spread(ratios[rho].dropna())}" for rho in ratios)
        holds = bool((ratios < 1).all(axis=None))
        book.record(name, measured=f"{column} over that of SGD: {text}", holds=holds, keys=done["key"])
    ratios, falls = compare("s2")
    book.record(
        "2c-falls",
        measured=f"s₂ falls in {falls.to_numpy().sum()} of {falls.size} steps from one ρ to the next",
        holds=bool(falls.to_numpy().all()) if falls.size else None,
        keys=done["key"],
    )
    higher = np.concatenate([compare(column)[0].to_numpy().ravel() for column in ("s3", "s4")])
    book.record(
        "2-higher",
        measured=f"s₃ and s₄ over those of SGD: {higher.min():.2f} to {higher.max():.2f}",
        holds=bool((higher < 1).all()),
        keys=done["key"],
    )

# %% [markdown]
# ## Do the minima agree with the conditions (7)?
#
# Two readings. With single samples and the ρ of the run, as the theory has it; and with what training did: batches,
# and the radius $\rho/\lVert g_B\rVert$ that normalized SAM amounts to, $\lVert g_B\rVert$ being the mean norm of a
# batch's gradient at the end.

# %%
NAMES = ("a", "s2", "s3", "s4")


def shares(row, rho, prefix=""):
    """Each quantity over its bound in (7) at that ρ."""
    bounds = theory.stability_bounds(row.lr, rho)
    return {n: getattr(row, n if n == "a" else prefix + n) / getattr(bounds, n) for n in NAMES}


by_theory = pandas.DataFrame([shares(r, r.rho) for r in done.itertuples()], columns=NAMES)
as_trained = pandas.DataFrame([shares(r, r.rho / r.batch_gradient, "batch_") for r in done.itertuples()], columns=NAMES)
if enough:
    sam = as_trained[(done["rho"] > 0).to_numpy()]["a"]
    book.record(
        "7-minima",
        measured=f"all hold at {(by_theory <= 1).all(axis=1).sum()} of {len(done)} minima for single samples and ρ, "
        f"at {(as_trained <= 1).all(axis=1).sum()} for batches and ρ/‖g_B‖; under SAM a is {sam.min():.2f} to "
        f"{sam.max():.2f} of its bound there",
        holds=bool((by_theory <= 1).all(axis=None)),
        keys=done["key"],
    )
    book.record(
        "2-zero-loss",
        measured=f"mean squared residual {done['sample_loss'].min():.2g} to {done['sample_loss'].max():.2g}; always "
        "predicting 0 has 1",
        holds=bool((done["sample_loss"] < 0.01).all()),
        keys=done["key"],
    )
both = pandas.concat({"single samples, ρ": by_theory, "batches, ρ/‖g_B‖": as_trained}, axis=1)
both.groupby(done["rho"].to_numpy()).mean().rename_axis("ρ").round(2)

# %% [markdown]
# A value of 1 is the bound itself; 0 stands where there is no bound. For single samples the bounds on the moments are
# exceeded by far, for SGD as well as for SAM: training with batches allows what training on single samples would not.
# Read as training is done, the radius $\rho/\lVert g_B\rVert$ grows as the gradient vanishes, and the bound on $a$
# comes down with it; a share of $a$ near 1 says that SAM sits at the edge of what it could stay at.
#
# ## Beyond the paper: the whole spectrum
#
# The density of the eigenvalues of $H$ by stochastic Lanczos quadrature, each eigenvalue smoothed by a Gaussian whose
# width is 2% of the largest one of SGD. Most of the mass is at 0, as there are far more parameters than samples.

# %%
width = 0.02 * done[done["rho"] == 0]["a"].max() if enough else 0.1
axis = torch.linspace(-4 * width, 60 * width, 400, dtype=torch.float64)
parts = []
for r in done[done["seed"] == done["seed"].min()].itertuples():
    nodes, weights = (torch.tensor(v, dtype=torch.float64) for v in (r.density_nodes, r.density_weights))
    density = Density(nodes, weights).smooth(axis, width)
    label = f"{plots.optimizer_name(r)}{f', ρ = {r.rho:g}' if r.rho else ''}"
    parts.append(pandas.DataFrame({"key": r.key, "label": label, "eigenvalue": axis, "density": density}))
tidy = pandas.concat(parts) if parts else pandas.DataFrame(columns=["key", "label", "eigenvalue", "density"])
figure = plots.spectra(tidy, title=plots.title("Spectral density of the Hessian, seed 0", flat, preset))
plots.save(plots.footnote(figure, flat), "fig02d", tidy, preset)

# %% [markdown]
# ## Appendix: how M_k − H^k is applied without ever forming an H_i
#
# **Theorem 9's matrix is one mean of squares.** In $(I-\eta H-\eta\rho H^2)^2 = I - 2\eta H + \eta(\eta-2\rho)H^2 +
# 2\eta^2\rho H^3 + \eta^2\rho^2H^4$ the powers $H^2, H^3, H^4$ have just the coefficients with which they are
# subtracted from $M_2, M_3, M_4$. What is left is $I - 2\eta M_1 + \eta(\eta-2\rho)M_2 + 2\eta^2\rho M_3 +
# \eta^2\rho^2 M_4 = \frac1n\sum_i B_i^2$: positive semidefinite, and one pass over the samples. Weights that no
# sample reaches are a null space that all $H_i$ share, where it is the identity; so $\lambda_{\max} \ge 1$, and what
# is asked is whether $\lambda_{\max}(T - I)$ is above 0 by more than the rounding of $\lVert T - I\rVert$.
#
# **A sample's Hessian keeps vectors small.** Write $z_l = W_l a_{l-1} + b_l$, $a_l = \sigma(z_l)$ and $g_l =
# \partial\ell/\partial z_l$ for one sample. Its gradient in layer $l$ is $g_l\bar a_{l-1}^\top$, with a 1 appended to
# $a_{l-1}$ for the bias. Its derivative in a direction $v$ of the weights, which is the layer's block of $H_iv$, is
# by the product rule
#
# $$\dot g_l\,\bar a_{l-1}^\top + g_l\,\dot a_{l-1}^\top .$$
#
# So $H_iv$ is known by the pair $(p_l, q_{l-1}) = (\dot g_l, \dot a_{l-1})$, a few vectors as long as the layers are
# wide, whatever $v$ was. Such a pair is again a direction, $V_l = p_l a_{l-1}^\top + g_l q_{l-1}^\top$ with bias part
# $p_l$; put into the forward tangent $\dot z_l = V_la_{l-1} + v_l + W_l\dot a_{l-1}$, $\dot a_l = \sigma'(z_l)\dot
# z_l$ it costs two inner products in place of a matrix,
#
# $$\dot z_l = p_l\lVert\bar a_{l-1}\rVert^2 + g_l\,(q_{l-1}\cdot a_{l-1}) + W_l q'_{l-1},\qquad
# q'_l = \sigma'(z_l)\dot z_l,$$
#
# and from $p'_L = Q\dot z_L$ at the output, $Q$ being the loss's own Hessian, back through the derivative of
# $g_l = \sigma'(z_l)\,W_{l+1}^\top g_{l+1}$,
#
# $$p'_l = \sigma'(z_l)\big[W_{l+1}^\top p'_{l+1} + a_l(p_{l+1}\cdot g_{l+1}) + q_l\lVert g_{l+1}\rVert^2\big]
# + \sigma''(z_l)\,\dot z_l\,(W_{l+1}^\top g_{l+1}).$$
#
# Each further power of $H_i$ therefore costs products with the weights alone, for all samples at once, and memory for
# a few activations. The sum over samples is formed once, at the end, as two matrix products a layer.
#
# ## The claims of this section

# %%
book.table()
