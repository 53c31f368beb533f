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
# # Which minima are stable for SAM, and how flat are those that it finds?
#
# Section 4 and Appendix E of the paper. An overparameterized network has many minima with the same training loss. An
# optimizer can only stay at those where small deviations do not grow. For SAM the paper bounds what such a minimum
# may look like: its sharpness, and how unlike each other the samples' Hessians may be. Here the theorem is tried
# where everything is known exactly, and then the quantities it speaks of are measured at trained perceptrons.

# %% tags=["parameters"]
preset = "smoke"
train = True

# %%
import json

import numpy as np
import pandas
import torch
from IPython.display import Markdown

from lib import experiments, hessian, hessian_checks, linear_stability, minima, paths, plots
from lib.claims import Book
from lib.samples import samples
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
# Where $\eta \le 2\rho$ the second says nothing. SGD is $\rho = 0$: then Theorem 9 is the condition of Wu et al.
# (2018), and what is left of (7) is $\eta \le \min(2/a, 1/s_2)$.

# %%
hessians = linear_stability.random_hessians(n=20, d=4, rank=2)
ETAS, RHOS = np.geomspace(0.1, 3, 50), np.geomspace(0.02, 6, 50)
exact = linear_stability.scan(hessians, ETAS, RHOS)
simulated = linear_stability.simulated_scan(hessians, np.geomspace(0.1, 3, 12), np.geomspace(0.02, 6, 12))
tidy = pandas.concat({"exact": exact, "simulated": simulated}, names=["source"]).reset_index("source")
m = linear_stability.moments(hessians)
sgd = min(2 / m["a"], 1 / m["s2"])
figure = plots.stability_map(tidy, sgd=sgd, title="Linearized SAM on 20 random interpolating quadratics")
plots.save(figure, "figE1", tidy, preset)

# %% [markdown]
# Blue is stable, red is not; on the right the same from 1,000 simulated paths at each point, which far out miss the
# rare paths that carry the mean and so show too little growth. The largest stable step at some ρ:

# %%
edges = linear_stability.edges(hessians, [0.0, 0.02, 0.25, 1.0, 1 / m["a"]])
edges.round(3)

# %%
single = torch.linalg.eigvalsh(hessians)[:, -1].max().item()
inside = 1 - edges["exact"] / edges["exact"][0.0]
Markdown(
    f"SGD's conditions allow η up to min(2/a, 1/s₂) = **{sgd:.3f}**, and SGD is stable up to "
    f"{edges['exact'][0.0]:.3f}; Theorem 9 at ρ = 0 promises {edges['Theorem 9'][0.0]:.3f}. SAM's edge is lower "
    f"by {inside[0.02]:.0%} at ρ = 0.02 and by {inside[0.25]:.0%} at ρ = 0.25. That ρ is far below "
    f"1/a = {1 / m['a']:.2f}: what counts are the single samples, with sharpnesses of up to {single:.1f}."
)

# %% [markdown]
# At small ρ the edge of (7) leans the other way: while $s_2$ is the strictest of them, its bound loosens as ρ grows,
# $\eta \le \rho + \sqrt{\rho^2 + 1/s_2^2}$, until that on $s_3$ takes over and then that on $s_4$.

# %%
EXACT = 1e-9  # what rounding may add to an eigenvalue of 1
promised, allowed = (exact[name] <= 1 + EXACT for name in ("theorem9", "conditions"))
others = (linear_stability.random_hessians(n=20, d=4, rank=2, seed=seed) for seed in range(1, 8))
scans = [exact, *(linear_stability.scan(h, ETAS[::2], RHOS[::2]) for h in others)]
tight = [(scan["theorem9"] <= 1 + EXACT).sum() / (scan["growth"] <= 1 + EXACT).sum() for scan in scans]
kept = [scan["growth"][scan["theorem9"] <= 1 + EXACT] <= 1 + EXACT for scan in scans]
book.record(
    "thm-9",
    measured=f"stable at {sum(map(sum, kept))} of {sum(map(len, kept))} (η, ρ) where it is promised, of "
    f"{len(scans)} random problems",
    holds=bool(all(map(all, kept))),
)
book.record(
    "thm-9-tight",
    measured=f"it promises {min(tight):.0%} to {max(tight):.0%} of the stable (η, ρ) on the logarithmic grid, over "
    f"{len(scans)} random problems; the share depends on the grid; at ρ = 0 of the first up to η = "
    f"{edges['Theorem 9'][0.0]:.2f} of {edges['exact'][0.0]:.2f}",
    holds=bool(min(tight) > 0.8),
)

# %% tags=["nbval-check-output"]
bool(all(map(all, kept))), bool(allowed[promised].all())

# %% [markdown]
# Where the theorem promises stability the second moment never grows, and little that is stable is left out. Single
# paths can mislead: just beyond the edge most of them shrink while rare ones grow fast enough to carry the mean.

# %%
RHO, PATHS = 0.5, 2000
tidy = linear_stability.about_edge(hessians, RHO, length=60, paths=PATHS, shown=25)
title = f"Distance from the minimum at ρ = {RHO:g}: 25 of {PATHS} simulated paths"
plots.save(plots.second_moments(tidy, paths=PATHS, title=title), "figE2", tidy, preset)

# %% [markdown]
# ### Are the conditions (7) really necessary?
#
# On the grid above they hold wherever the theorem's condition does. The first one must wherever a minimum is stable,
# theorem or not: the mean of $x_t$ is carried by $\mathbb E B_i = I - \eta H - \eta\rho M_2$ and must not grow either,
# and for the top eigenvector $v$ of $H$, $v^\top M_2v \ge a^2$. The others are derived from Theorem 9's condition,
# which is sufficient, not necessary: a minimum may exceed them and be stable. And the last one need not hold even with
# Theorem 9, since for $\eta < 2\rho$ the term with $s_2$ is negative and makes room. In one dimension let $H_i$ be 1
# for a share $p$ of the samples and 0 for the rest. Then the theorem's condition is $\eta + \eta\rho \le 2$, and that
# on $s_4$ is $\eta^2\rho^2(p - p^4) \le 1$:

# %%
counterexample = torch.zeros(100, 1, 1, dtype=torch.float64)
counterexample[:63] = 1.0
value = linear_stability.theorem9(counterexample, eta=0.01, rho=190.0)
shares = linear_stability.conditions(counterexample, eta=0.01, rho=190.0)
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
# ## Perceptrons
#
# The paper trains a perceptron with hidden layers of 3,000 and 1,000 on MNIST with the squared loss
# $\lVert f(x) - y\rVert^2$, a constant step size of 0.1, batches of 128, neither momentum nor weight decay, to near
# zero loss, and measures the Hessian at 1,000 random samples. Here these are the first 100 of each class in the
# training set (at smoke, the first 20 of each digit).

# %%
grid = experiments.mnist_flatness(preset)
measured = measure(grid, train=train)
flat, surfaces = (measured[measured["kind"] == kind] for kind in ("flatness", "landscape"))
done = minima.found(flat)
experiments.table(grid)

# %% [markdown]
# Theorem 9 and the claims are about minima of zero loss. Which networks have come near it? The paper names no
# number. The cuts are ours: a mean squared residual below 0.01 and one below 0.03, of which always predicting 0 has 1,
# and there is a verdict only where both give the same. The gradient says how far the weights are from any minimum. An
# eigenvalue that had not converged is NaN in tables, enters no verdict, is hollow in Figure 2c and named below each
# figure; older records of landscapes do not say.

# %%
names = [*(f"below {cut:g}" for cut in minima.CUTS), "no"]
near = pandas.cut(done["sample_loss"], [0, *minima.CUTS, np.inf], right=False, labels=names).astype(str)
NUMBERS = ["epochs", "sample_loss", "near zero", "gradient", "batch_gradient", "a", "s2", "s3", "s4"]
numbers = minima.settled(done).assign(**{"near zero": near}).set_index(["rho", "seed"]).sort_index()
numbers[NUMBERS].map(lambda v: v if isinstance(v, str) else f"{v:.3g}")

# %%
if len(done):
    told, holds = minima.zero_loss(flat)
    book.record("2-zero-loss", measured=told, holds=holds, keys=done["key"])
low, high = done["gradient"].min(), done["gradient"].max()
Markdown(
    f"**All near zero loss?** {told}. The gradients have norms of {low:.2g} to {high:.2g}: no weights here are a "
    "minimum, those near zero loss at best close to one. Where a network of a comparison is not near zero loss, "
    "sharpness is compared at unequal loss: the numbers are given, but no claim about minima is judged by them."
    if len(done)
    else "**No network has a record at this preset.**"
)

# %% [markdown]
# ## Figures 2a and 2b: the landscape along the two dominant eigenvectors
#
# At weights $w$ with the eigenvectors $v_1, v_2$ of the two largest eigenvalues of $H$, the loss at
# $w + u v_1 + v v_2$.

# %%
tidy = minima.landscapes(surfaces)
figure = plots.landscapes(tidy, title=plots.title("Loss around the weights of SGD and SAM", surfaces, preset))
plots.save(plots.lacking(figure, surfaces, minima.unconverged(surfaces)), "fig02ab", tidy, preset)

# %% [markdown]
# Both panels have the same axes and contours of the same losses: contours further apart are a flatter landscape.
#
# ## Figure 2c and beyond: sharpness and non-uniformity against ρ
#
# The theory is about single samples and unnormalized SAM, $\varepsilon = \rho g$. Training uses batches and
# normalized SAM, $\varepsilon = \rho g/\lVert g\rVert$. So each quantity is shown in two readings, each with its own
# bounds (7): for single samples with the ρ of the run, as in the paper; and as training is done, for batches $B$ of
# its size, whose Hessian is a mean of independent draws ($s_2(B) = s_2/\sqrt B$), with the radius $\rho/\lVert
# g_B\rVert$ that normalized SAM amounts to, $\lVert g_B\rVert$ being the mean norm of a batch's gradient at the end.

# %%
tidy = minima.against_rho(done)
figure = plots.against_rho(tidy, title=plots.title("Sharpness and non-uniformity of the Hessian", flat, preset))
plots.save(plots.lacking(figure, flat, minima.unconverged(flat)), "fig02c", tidy, preset)

# %%
drawn = minima.settled(done).eval("batch_s2_drawn / batch_s2")
limited = np.isfinite(minima.bounds(done, batches=False)["s2"])[done["rho"] > 0]
Markdown(
    "Of batches $s_2$ is exact, $s_3$ and $s_4$ are estimates from above: the largest eigenvalue of a mean over a few "
    f"batches takes up their noise. The same estimate of $s_2$ is **{drawn.min():.2f} to {drawn.max():.2f} times** its "
    "exact value. No verdict rests on them. Nor do the conditions (7) explain why $s_2$ is smaller at SAM's weights: "
    f"where η ≤ 2ρ they do not bound it, and {limited.sum()} of SAM's {len(limited)} networks have a bound on it."
    if len(done)
    else ""
)

# %%
for name, told, holds in minima.comparisons(flat):
    book.record(name, measured=told, holds=holds, keys=done["key"])
book.table("2ab-flatter", "2c-uniform", "2c-falls", "2-higher")

# %% [markdown]
# ## Do the weights agree with the conditions (7)?
#
# Each quantity over its bound, in the two readings: 1 is the bound itself, 0 stands where there is none. But for $a$
# the bounds do not follow from stability, only from the theorem's sufficient condition for it: where a share of $s_k$
# is above 1, that contradicts nothing. So the verdict is on $a$ alone, read as training is done. There the radius
# $\rho/\lVert g_B\rVert$ grows as the gradient vanishes, and the bound on $a$ comes down with it; a share near 1 says
# that SAM sits at the edge of where it could stay.

# %%
if len(done):
    told, holds = minima.agreement(flat)
    book.record("7-minima", measured=told, holds=holds, keys=done["key"])
shares = {series: minima.shares(done, batches=batches) for batches, series in minima.READINGS.items()}
pandas.concat(shares, axis=1).groupby(done["rho"]).mean().rename_axis("ρ").round(2)

# %% [markdown]
# ## Beyond the paper: the whole spectrum
#
# The density of the eigenvalues of $H$ by stochastic Lanczos quadrature from a few random probes: point masses (dots),
# and each smoothed by a Gaussian whose width σ is 2% of SGD's largest eigenvalue (lines). The places of isolated
# masses are those of eigenvalues. Most of the mass is at 0, as there are far more parameters than samples: its Gaussian
# tail hides a single eigenvalue of $P$ within $\sigma\sqrt{2\ln P}$ of 0, about 5σ, so look at the dots there.

# %%
width = 0.02 * done[done["rho"] == 0]["a"].max() if (done["rho"] == 0).any() else 0.1
one = flat[flat["seed"] == flat["seed"].min()]
tidy = minima.spectra(minima.found(one), width)
figure = plots.spectra(tidy, title=plots.title("Spectral density of the Hessian", one, preset))
plots.save(plots.lacking(figure, one, minima.unconverged(one)), "fig02d", tidy, preset)

# %%
probes = done["density_probes"].max()
Markdown(
    f"By {probes:g} probes, each meeting an eigenvector by chance, an isolated eigenvalue has as many dots, of random "
    f"heights, and the peak of the line there is off by a factor of $\\chi^2_p/p$ with $p = {probes:g}$: "
    f"by about {(2 / probes) ** 0.5:.0%}."
    if len(done)
    else ""
)

# %% [markdown]
# ## Appendix: how M_k − H^k is applied without ever forming an H_i
#
# **Theorem 9's matrix is one mean of squares.** In $(I-\eta H-\eta\rho H^2)^2 = I - 2\eta H + \eta(\eta-2\rho)H^2 +
# 2\eta^2\rho H^3 + \eta^2\rho^2H^4$ the powers $H^2, H^3, H^4$ have just the coefficients with which they are
# subtracted from $M_2, M_3, M_4$. What is left is $I - 2\eta M_1 + \eta(\eta-2\rho)M_2 + 2\eta^2\rho M_3 +
# \eta^2\rho^2 M_4 = \frac1n\sum_i B_i^2$: positive semidefinite, and one pass over the samples.
#
# **A sample's Hessian keeps vectors small.** Write $z_l = W_l a_{l-1} + b_l$, $a_l = \sigma(z_l)$ and $g_l =
# \partial\ell/\partial z_l$ for one sample. Its gradient in layer $l$ is $g_l\bar a_{l-1}^\top$, with a 1 appended to
# $a_{l-1}$ for the bias. Its derivative in a direction $v$ of the weights, which is the layer's block of $H_iv$, is
# by the product rule $\dot g_l\,\bar a_{l-1}^\top + g_l\,\dot a_{l-1}^\top$ (the appended 1 stays: $\dot a$ gets a
# 0). So $H_iv$ has blocks of rank 2 at most and is known by the pair $(p_l, q_{l-1}) = (\dot g_l, \dot a_{l-1})$, a
# few vectors as long as the layers are wide, whatever $v$ was, and so is every $H_i^kv$.
#
# The tangents of a *dense* $v = (V_l, v_l)$ go forward by $\dot z_l = V_la_{l-1} + v_l + W_l\dot a_{l-1}$, $\dot a_l
# = \sigma'(z_l)\dot z_l$, begin their way back with $\dot g_L = Q\dot z_L$, $Q$ being the loss's own Hessian, and go
# on by the derivative of $g_l = \sigma'(z_l)\,W_{l+1}^\top g_{l+1}$, in which $W_{l+1}$ has the derivative $V_{l+1}$:
#
# $$\dot g_l = \sigma'(z_l)\big[W_{l+1}^\top \dot g_{l+1} + V_{l+1}^\top g_{l+1}\big]
# + \sigma''(z_l)\,\dot z_l\,(W_{l+1}^\top g_{l+1}).$$
#
# For a pair, $V_l = p_l a_{l-1}^\top + g_l q_{l-1}^\top$ and $v_l = p_l$: then $V_la_{l-1} + v_l =
# p_l\lVert\bar a_{l-1}\rVert^2 + g_l\,(q_{l-1}\cdot a_{l-1})$ and $V_{l+1}^\top g_{l+1} = a_l(p_{l+1}\cdot g_{l+1}) +
# q_l\lVert g_{l+1}\rVert^2$, inner products in place of matrices:
#
# $$\dot z_l = p_l\lVert\bar a_{l-1}\rVert^2 + g_l\,(q_{l-1}\cdot a_{l-1}) + W_l q'_{l-1},\qquad
# q'_l = \sigma'(z_l)\dot z_l,\qquad p'_L = Q\dot z_L,$$
# $$p'_l = \sigma'(z_l)\big[W_{l+1}^\top p'_{l+1} + a_l(p_{l+1}\cdot g_{l+1}) + q_l\lVert g_{l+1}\rVert^2\big]
# + \sigma''(z_l)\,\dot z_l\,(W_{l+1}^\top g_{l+1}).$$
#
# **The moment about the mean** needs no difference of large terms: as $\frac1n\sum_iH_i = H$, $(M_k - H^k)v =
# \frac1n\sum_i H_i\,(H_i^{k-1}v - H^{k-1}v)$. Against dense Hessians of a small tanh network whose last 8 of 20 inputs
# are never on, in float64: relative errors, and the third singular value of a block of $H_i^kv$ over its first.

# %%
net, x, y = hessian_checks.small_network()
checks = hessian_checks.against_dense(net, x, y)
checks.map("{:.0e}".format)

# %% [markdown]
# **Cost.** Of products of all samples with a layer's matrix an HVP takes six: $V\!a$ and $W\dot a$ forward, $W^\top
# \dot g$ and $V^\top g$ back, $\dot g\bar a^\top$ and $g\dot a^\top$ to sum up (in the first layer, of which nothing
# enters or leaves, $V\!a$ and $\dot g\bar a^\top$). Another power takes two, $Wq'$ and $W^\top p'$ (none in the first
# layer): a third, and less with a wide input. $M_2 - H^2$ as above is an HVP, then the power with a dense vector taken
# away and summed up, two HVPs in all. The memory is that of a few activations.

# %%
count = hessian_checks.products([784, 3000, 1000, 10])
bench = json.loads((paths.ROOT / "benchmarks" / "hessian.json").read_text(encoding="utf-8"))["ratios"]
Markdown(
    f"With layers of 784, 3,000, 1,000 and 10 another power counts {count['power'] / count['hvp']:.2f} HVPs. Measured, "
    f"M₂ − H² takes {bench['M_2 − H² in HVPs']:.2f} HVPs, at {bench['live parameters']:.0%} of the parameters live."
)

# %% [markdown]
# **Only live parameters.** An input that is never on, or a ReLU unit that is off for every sample, gives its weights
# no gradient and no curvature at any sample: with $E$ the embedding of the others, $H_i = E\tilde H_iE^\top$. Inputs
# that never change act as one (`lib/live.py`). So all $H_i$ share a null space, where Theorem 9's matrix $T$ is $I$:
# $\lambda_{\max}(T) \ge 1$, and at a stable minimum $\lambda_{\max}(T - I)$ is 0. No residual is small relative to
# that, so residuals are relative to $\lVert T - I\rVert$, and stable means $\lambda_{\max}(T - I) \le$ tolerance
# $\cdot\,\lVert T - I\rVert$. Here the targets are what the network says, so that it interpolates:

# %%
live = samples(net, "mse", x, y)
calm = hessian.stability(net, "mse", x, net(x).detach(), eta=1e-3, rho=0.1)
outside = hessian_checks.hidden_curvature(net, x, y)
Markdown(
    f"{live.live.size} of {live.size} parameters are live; outside of them the largest entry of an H_i v is {outside}. "
    f"λ_max(T − I) = {calm.eigenvalue:.0e}, ‖T − I‖ = {calm.norm:.1e}, stable: {hessian.is_stable(calm)}."
)

# %% [markdown]
# **Gauss–Newton.** With $Q_i = S_iS_i^\top$ and $R_i = S_i^\top J_i$, $H_i = R_i^\top R_i + \sum_c g_{ic}\nabla^2f_c$:
# where the residuals $g_i$ vanish, $H_i^k = R_i^\top(R_iR_i^\top)^{k-1}R_i$. Stack $R = (R_i)/\sqrt n$, with the Gram
# matrix $K = RR^\top$ (10n × 10n) and $D = \operatorname{diag}(R_iR_i^\top)$: $M_k - H^k = R^\top(D^{k-1} -
# K^{k-1})R$. Its eigenvalues but for zeros are those of $C K$, $C = D^{k-1} - K^{k-1}$, which is self-adjoint in the
# inner product $\langle u, w\rangle_K = u^\top Kw$, as $u^\top K(CKw) = (CKu)^\top Kw$: Lanczos in that product needs
# no network, and $R^\top u$ is a start for the exact one. Away from interpolation it is another matrix, so whatever
# comes from it is named Gauss–Newton. Its error in $s_k$, for 100 digits at one set of weights, as the targets move
# to what the network says:

# %%
print(f"s2 from the Gram matrix of 20 digits at interpolation: off by {abs(hessian_checks.gram_error()):.0e}")
hessian_checks.gauss_newton_errors().rename("{:.2g}".format).map("{:+.1e}".format)

# %% [markdown]
# **Sums of millions.** Relative errors of the norm of 5 million normal float32 numbers, with this version of torch;
# `norm2`, which the library uses, adds up in float64:

# %%
{name: f"{error:.0e}" for name, error in hessian_checks.norm_errors().items()}

# %% [markdown]
# **When to stop.** A residual $r = \lVert Av - \theta v\rVert$ says that an eigenvalue is within $r$ of $\theta$, and
# $r^2/\text{gap}$ that it is within that, if the gap to the rest of the spectrum were known. Lanczos knows only its
# own Ritz values: before it has told two clustered eigenvalues apart it takes them for one far from the others, and a
# small $r^2/\text{gap}$ misfires. The library goes by $r/\lVert A\rVert$ after a minimum of products. That too can be
# fooled, by a start that hardly contains the top vector, but far less easily. Power iteration until its value changes
# by less than 0.1% a step, PyHessian's default, stalls about the second eigenvalue. For eigenvalues of 1 and 0.996
# above a continuum up to 0.91 and 100 random starts, how many are off by more than the 1e-4 allowed:

# %%
off = hessian_checks.stopping_rules(100)
pandas.DataFrame({"largest error": off.max().map("{:.0e}".format), "off by more than 1e-4": (off > 1e-4).sum()})

# %% [markdown]
# **Negative moments.** For odd $k$ and indefinite $H_i$ the largest eigenvalue of $M_k - H^k$ may be negative. It is
# still the largest algebraic one that is meant, and $s_k = \operatorname{sign}(\lambda)\,|\lambda|^{1/k}$, as for this
# network of two weights whose outputs are far from their targets:

# %%
third = hessian_checks.negative_moment()
{"λ": round(third.eigenvalue, 4), "s3": round(third.value, 4), "converged": third.converged}

# %% tags=["nbval-check-output"]
bool((checks < 1e-12).all(axis=None)), hessian.is_stable(calm), third.eigenvalue < 0

# %% [markdown]
# ## The claims of this section

# %%
book.table()
