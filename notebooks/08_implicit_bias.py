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
# # Why do fewer samples in the ascent help?
#
# A companion to the paper. Sharpness-aware minimization (SAM) climbs before it takes a gradient. It works best if each
# climb uses few samples. *Towards Understanding SAM* (Andriushchenko and Flammarion, 2022) explains this by an
# *implicit bias*: among the solutions that fit the data, 1-SAM, which climbs for each sample alone, finds sparser ones
# than n-SAM, which climbs for all of them together. They prove it for *diagonal linear networks*, linear models whose
# coefficients β are differences of squares:
#
# $$L(w) = \frac1{4n}\sum_i r_i^2, \qquad r = X\beta - y, \qquad \beta = w_+^2 - w_-^2, \qquad w_+ = w_- = \alpha
# \text{ at the start.}$$
#
# A gradient of this loss is proportional to $w_\pm$. SAM's climb with radius ρ therefore multiplies:
#
# $$\text{n-SAM: } w_\pm \odot \big(1 \pm \tfrac\rho n X^\top r\big), \qquad
# \text{1-SAM, sample } i\text{: } w_\pm \odot (1 \pm c\rho\, r_i x_i).$$
#
# Three values of the *ascent factor* $c$ go by the name of 1-SAM: $c = 1$ in their equation 8, $c = 2$ in their
# released code, $c = 4$ in their proof of Theorem 5. Only the product $c\rho$ matters. So "the same ρ for n-SAM and
# 1-SAM" has three meanings, and a tuned 1-SAM has one.
#
# The problems are theirs: $n = 20$ Gaussian samples in $d = 30$ dimensions, a target with 3 nonzero coefficients, no
# noise. Everything is the same at every *preset*, except that `smoke` trains the networks of the last but one section
# for 10⁵ instead of 10⁶ steps. Each *claim* gets a *verdict* from a condition that we state.

# %% tags=["parameters"]
preset = "smoke"
train = True

# %%
import functools

import pandas
from IPython.display import Markdown
from loky import get_reusable_executor

from lib.paper import plots
from lib.paper.analysis import implicit_bias, implicit_bias_descent, relu_record
from lib.paper.analysis import implicit_bias_verdicts as verdicts
from lib.paper.claims import Book
from lib.paper.experiments import implicit_bias as setting
from lib.theory import diagonal, relu_regression

book = Book("08_implicit_bias", preset)
same = f"preset {preset} (the same at every preset)"
# a process that computes what comes after the theorems meanwhile, in the order of this page
second = get_reusable_executor(max_workers=1)
large, sizes, shares, radii, stochastic, switched, trained, deep, widths = (
    second.submit(call, *arguments)
    for call, *arguments in (
        (implicit_bias.breakdown, setting.FLOW_SEEDS, setting.FLOW_LARGE),
        (implicit_bias.sizes,),
        (implicit_bias.shares,),
        (implicit_bias_descent.radii,),
        (implicit_bias_descent.stochastic,),
        (implicit_bias_descent.switching,),
        (functools.partial(relu_record.networks, preset, train=train),),
        (implicit_bias.depths,),
        (implicit_bias_descent.widths,),
    )
)
names = {"n-sam": "n-SAM", "1-sam": "1-SAM"}

# %% [markdown]
# ## Figure 5: a potential between ℓ₁ and ℓ₂
#
# Gradient flow ends at the interpolator that minimizes the *hyperbolic entropy*
#
# $$\phi_\alpha(\beta) = \sum_i \alpha_i^2\, q(\beta_i/\alpha_i^2), \qquad
# q(z) = 2 - \sqrt{4 + z^2} + z \operatorname{arcsinh}(z/2).$$
#
# The figure shows the curves on which $\phi_\alpha$ is as large as at $\beta = (1, 0)$. A large α gives the circle of
# the ℓ₂ norm. A small α approaches the diamond of the ℓ₁ norm, whose corners favour sparse solutions. It does so
# slowly, like $1/\log(1/\alpha)$: even at $10^{-8}$ the sides are still bent.

# %%
curves = implicit_bias.level_sets((3.0, 0.5, 0.2, 0.05, 1e-3, 1e-8))
title = f"φ_α goes from ℓ₂ to ℓ₁ as α falls\n{same}"
plots.save(plots.level_sets(curves, title=title), "figI_potential", curves, preset)

# %% [markdown]
# ## Theorems 3 to 5: the effective α
#
# Take the climb into the gradient. For all three flows $\frac{d}{dt}\log w_\pm = \mp A - S$, with $A$ in the row space
# of $X$ and
#
# $$S = 0 \text{ (gradient flow)}, \qquad S = \tfrac\rho{n^2}(X^\top r_{sam})\odot(X^\top r) \text{ (n-SAM)}, \qquad
# S = \tfrac{c\rho}n \sum_i x_i^2\, r_{sam,i}\, r_i \text{ (1-SAM)},$$
#
# where $r_{sam}$ is the residual after the climb. Two lines of algebra follow, with $E = \int S\,dt$:
#
# $$w_\pm = \alpha\, e^{-E}\, e^{\pm X^\top\nu/2} \quad\Rightarrow\quad
# \beta = w_+^2 - w_-^2 = 2\,(\alpha e^{-E})^2 \odot \sinh(X^\top\nu),$$
# $$\text{and at the minimum of } \phi_a \text{ subject to } X\beta = y\!: \quad \beta = 2a^2 \odot \sinh(X^\top\nu)
# \quad\Rightarrow\quad a = \alpha e^{-E}.$$
#
# Theorems 4 and 5 print $\alpha e^{-2E}$: the factor $e^{-2E}$ belongs to $\alpha^2$. Theorem 5 also has $c = 4$.
# We integrate the flows and compare. If an effective α is right, $\operatorname{arcsinh}(\beta/2a^2)$ lies in the row
# space of $X$. The *KKT residual* is the part outside, relative to the whole. A residual below 10⁻⁴ counts as zero,
# since the solver's error is about 10⁻⁶. For gradient flow the solver keeps the residual at rounding by itself, because
# its steps in $\log w$ stay in the row space. There, the check is one of our formulas.

# %%
flows = implicit_bias.theorems(setting.FLOW_SEEDS, setting.FLOW_ALPHAS, setting.FLOW_RHOS)
sam = flows[flows["rho"] > 0]
tidy = sam.assign(
    panel=sam["method"].map(names), x="ρ = " + sam["rho"].astype(str), series=sam["reading"], value=sam["kkt"]
)
seeds = f"{len(setting.FLOW_SEEDS)} problems, α = 0.05 and 0.01"
title = f"SAM's flows end at α·exp(−E), not at α·exp(−2E) as printed\n{seeds}, c = 1, {same}"
figure = plots.strips(tidy, title=title, xlabel="", ylabel="relative KKT residual", line=implicit_bias.FITS)
plots.save(figure, "figI_theorems", tidy, preset)

# %%
assert flows["drift"].max() < 1e-3  # of the conserved quantity w₊w₋ exp(2E)/α²
flow = book.judge("bias-thm-3", verdicts.theorem_3(flows))
for theorem, method in (("bias-thm-4", "n-sam"), ("bias-thm-5", "1-sam")):
    book.judge(f"{theorem}-printed", verdicts.effective_alpha(flows, method, implicit_bias.PRINTED))
    corrected = book.judge(theorem, verdicts.effective_alpha(flows, method, implicit_bias.CORRECTED))

# %% [markdown]
# Both theorems are thus corrected: they hold with half the exponent, exactly and not only to first order in ρ. To first
# order, with $r$ in place of $r_{sam}$, a residual remains that grows with ρ. A consequence needs no integral: the
# effective α is $\sqrt{w_+ \odot w_-}$ at any time.
#
# The theorems assume that the flow fits the data. With a larger ρ the 1-SAM flow does not. It first shrinks the
# effective α so much that convergence takes very long. Beyond that, all weights go to zero, where every gradient
# vanishes. We follow 20 problems up to a time of 10⁶:

# %%
large = large.result()  # of implicit_bias.breakdown
book.judge("bias-collapse", verdicts.collapse(large))
pandas.crosstab(large["rho"], large["outcome"])

# %% [markdown]
# ## Theorem 1: how much does α shrink?
#
# To first order $E = \rho\Delta$. Theorem 1 says $\lVert\Delta_1\rVert_1 \approx d\int L$ for 1-SAM and
# $\lVert\Delta_n\rVert_1 \approx \frac dn\int L$ for n-SAM. The derivation takes $\lVert r\rVert^2 = nL$, but $L$ has a
# factor ¼, so that $\lVert r\rVert^2 = 4nL$. We therefore expect a 4:
# $\lVert\Delta_1\rVert_1 = \int \frac1n\sum_i \lVert x_i\rVert^2 r_i^2 \approx d \int 4L$. For n-SAM there is a second
# approximation, $XX^\top \approx d\,I$, which needs $d \gg n$. At $d/n = 1.5$ the residual lies mostly along the large
# eigenvalues of $XX^\top$, which makes the constant larger than 4.

# %%
sizes = sizes.result()  # of implicit_bias.sizes
constants = sizes.melt(["n", "d"], ["ratio_1", "ratio_n"], "series").replace(
    {"ratio_1": "1-SAM: ‖Δ₁‖₁ over d∫L", "ratio_n": "n-SAM: ‖Δ_n‖₁ over (d/n)∫L"}
)
constants["x"] = "n = " + constants["n"].astype(str) + "\nd/n = " + (constants["d"] / constants["n"]).astype(str)
tidy = constants.assign(panel="measured constants of Theorem 1")
title = f"The constants of Theorem 1 are about 4, not 1\n{len(setting.SIZES_SEEDS)} problems each, {same}"
figure = plots.strips(tidy, title=title, xlabel="", ylabel="constant", log=False, line=4)
plots.save(figure, "figI_sizes", tidy, preset)

# %%
wide = sizes[sizes["d"] >= 3 * sizes["n"]]
for name in ("1", "n"):
    book.judge(f"bias-size-{name}-printed", verdicts.within(wide[f"ratio_{name}"], 1))
    book.judge(f"bias-size-{name}", verdicts.within(wide[f"ratio_{name}"], 4))
order = book.judge("bias-order-n", verdicts.within(sizes["between"], sizes["n"]))

# %% [markdown]
# ## Where α shrinks matters as well
#
# A smaller α should help, and n-SAM's is smaller. Yet n-SAM turns out to be worse than gradient flow. The reason is
# *where* α shrinks: n-SAM's rate is $(X^\top r)^2$, which is largest on the support of the target. There, a smaller α
# makes a coefficient more expensive relative to the others. We check this by spreading the same shrinkage evenly, with
# the geometric mean of the effective α in every coordinate, and solving for the interpolator of least potential.

# %%
shares = shares.result()  # of implicit_bias.shares
named = {"ratio": "the method's end", "even": "shrinkage spread evenly"}
tidy = shares.melt(["seed", "method"], list(named), "series").replace(named)
tidy = tidy.assign(panel="population loss over that of gradient flow", x=tidy["method"].map(names))
title = f"n-SAM shrinks α where it should not\n{seeds.split(',')[0]}, α = 0.05, ρ = {setting.SHARES_RHO}, c = 1, {same}"
figure = plots.strips(tidy, title=title, xlabel="", ylabel="loss over gradient flow's", log=False, line=1)
plots.save(figure, "figI_shares", tidy, preset)

# %%
support = book.judge("bias-support", verdicts.support(shares))
shares.groupby("method")[["on_support", "ratio", "even"]].median().round(3)

# %% [markdown]
# ## Figure 6: one ρ for all
#
# From here on we take steps, $w \leftarrow w + \gamma\,\dot w$, $10^4$ of them as in the released code, on 20 data
# seeds. Seed 0 is the one of the paper. The test loss is half the mean squared error on 1,000 samples. Curves are
# medians with the middle half of the seeds. A method is better if its test loss is lower in more seeds than chance
# explains (sign test at 5%, 15 of 20). The paper does not say which ρ it takes.

# %%
curves = implicit_bias_descent.same_radius(alpha=setting.ALPHA, rho=setting.FIXED_RHO)
title = f"At one ρ the factor c decides\n20 data seeds, α = 0.05, γ = 1/d, ρ = {setting.FIXED_RHO}, {same}"
plots.save(plots.loss_curves(curves, title=title), "figI_bias", curves, preset)

# %%
last = curves[curves["step"] == curves["step"].max()]
factors = [implicit_bias_descent.label("1-sam", c) for c in implicit_bias_descent.FACTORS]
over_gd = {name: implicit_bias_descent.against(last, name) for name in factors}
book.judge("bias-same-radius", verdicts.all_better(over_gd))
book.judge("bias-slower", verdicts.slower(curves))
book.judge("bias-integral", verdicts.integral(curves))

# %% [markdown]
# With $c = 4$ training collapses on some seeds, as the flow does. For the other methods, being late to fit is no sign
# of a stronger bias: methods that end better are often sooner at a loss of 10⁻⁵. The integral of the loss does order
# GD and 1-SAM, as the theory says. n-SAM is an exception: its integral is larger than GD's, and it is worse.
#
# ## Figure 14: each method at its own ρ
#
# We tune ρ on ten other data seeds, by the mean test loss, at each of two step sizes. In the paper's Figure 14 n-SAM
# runs with $\gamma = 10/d$ but GD and 1-SAM with $15/d$, which makes n-SAM look slightly better than GD. Here all have
# the same. The curves of 1-SAM are one curve, shifted by $c$.

# %%
radii = radii.result()  # of implicit_bias_descent.radii
title = f"1-SAM gains at its best ρ, n-SAM at none\n30 data seeds, α = 0.05, {same}"
plots.save(plots.over_radius(radii, title=title), "figI_radius", radii, preset)

# %%
tuned = implicit_bias_descent.tuned(radii)
ratios = {
    name: {f"γ = {size:g}/d": implicit_bias_descent.against(rows, name) for size, rows in tuned.groupby("step_size")}
    for name in ("1-SAM, c = 1", "n-SAM")
}
one = book.judge("bias-1-sam", verdicts.all_better(ratios["1-SAM, c = 1"]))
many = book.judge("bias-n-sam", verdicts.all_better(ratios["n-SAM"]))
tuned.groupby(["step_size", "label", "rho"])["test_loss"].median().reset_index()

# %% [markdown]
# ## Figure 13: one sample a step
#
# The stochastic variants descend on one random sample a step, the same one for all methods. 1-SAM climbs for this
# sample, n-SAM for all samples. As in the paper α = 0.01 and γ = ρ = 1/d.

# %%
both = stochastic.result()  # of implicit_bias_descent.stochastic
title = f"One sample a step helps a little\n20 data seeds, α = 0.01, γ = ρ = 1/d, {same}"
plots.save(plots.loss_curves(both, title=title), "figI_stochastic", both, preset)

# %%
pairs = {name: implicit_bias_descent.against_full(rows) for name, rows in both.groupby("label", sort=False)}
book.judge("bias-stochastic", verdicts.all_better(pairs))

# %% [markdown]
# ## Figure 15: switching methods
#
# After $10^4$ steps GD is switched to 1-SAM, and 1-SAM to GD. The paper takes ρ = 10 for the first switch, because
# gradients are small by then, and $c = 2$. We add a ρ that is chosen on the tuning seeds.

# %%
curves, line, chosen = switched.result()  # of implicit_bias_descent.switching
title = f"GD switched to 1-SAM with ρ = 10 diverges on most data seeds\n20 data seeds, α = 0.05, γ = 1/d, c = 2, {same}"
plots.save(plots.loss_curves(curves, title=title), "figI_switch", curves, preset)

# %%
last = curves[curves["step"] == curves["step"].max()]
paper, ours = f"GD to 1-SAM, ρ = {setting.SWITCH_RHO:g}", f"GD to 1-SAM, ρ = {chosen:g}"
switch = book.judge("bias-escape", verdicts.better(implicit_bias_descent.against(last, paper)))
book.judge("bias-escape-tuned", verdicts.better(implicit_bias_descent.against(last, ours)))
book.judge("bias-back", verdicts.better(implicit_bias_descent.against(last, "1-SAM to GD")))
last.pivot_table(index="seed", columns="label", values="test_loss").head(3)

# %% [markdown]
# The paper shows seed 0. There ρ = 10 works, because the steps do not settle: they jump between two points. On most
# other seeds they diverge. A ρ that works on all of them changes little. Figure 15c draws the line between both ends,
# for the seeds on which both are finite:

# %%
title = f"The training loss between GD's end and that after the switch\n{same}"
plots.save(plots.line_losses(line, title=title), "figI_line", line, preset)

# %%
book.judge("bias-connected", verdicts.connected(line[line["label"] == paper], curves))

# %% [markdown]
# ## Figure 7: a ReLU network on a line
#
# Beyond diagonal networks: 100 ReLUs fit 12 points. The released code trains GD with a constant step size and SAM
# (n-SAM, normalized, ρ = 0.3) with one that falls linearly to 0. We add GD with the same falling step size. A *kink* is
# a place where the slope changes by at least 0.1; those within 0.05 count as one.

# %%
trained = trained.result()  # of relu_record.networks
functions, table = relu_record.functions(trained), relu_record.complexity(trained)
steps = "10⁵ steps instead of 10⁶" if preset == "smoke" else "10⁶ steps"
title = f"SAM's fits are simpler and agree more between seeds\n5 seeds, {steps}, preset {preset}"
figure = plots.fitted(functions, (relu_regression.X, relu_regression.Y), title=title)
plots.save(figure, "figI_relu", functions, preset)

# %%
simpler = book.judge("bias-relu-simpler", verdicts.relu(table, "variation"))
book.judge("bias-relu-kinks", verdicts.relu(table, "kinks"))
book.judge("bias-relu-stable", verdicts.relu_spread(functions))
table.groupby("label", sort=False)[["loss", "kinks", "variation"]].mean()

# %% [markdown]
# The schedule makes no difference to GD. SAM's functions do not pass through the points exactly: its climb has a fixed
# length, so that it hovers around a solution until the step size is small.
#
# ## Beyond the paper: deeper networks
#
# For $\beta = w_+^D - w_-^D$ with $D > 2$ the same calculation, now for $s_\pm = w_\pm^{2-D}/(D-2)$, gives
# $\dot s_\pm = \pm A + S_\pm$. But SAM's climb is proportional to $w_\pm^{D-2}$, so that $S_+$ and $S_-$ differ. The
# prediction: no single effective α describes the end, two of them do, one for $w_+$ and one for $w_-$.

# %%
deep = deep.result()  # of implicit_bias.depths
tidy = deep.assign(
    panel=deep["method"].map(names), x="D = " + deep["depth"].astype(str), series=deep["reading"], value=deep["kkt"]
)
count = f"{len(setting.DEEP_SEEDS)} problems, ρ = {setting.DEEP_RHO}, c = 1"
title = f"Deeper networks need two effective scales\n{count}, {same}"
figure = plots.strips(tidy, title=title, xlabel="", ylabel="relative KKT residual", line=implicit_bias.FITS)
plots.save(figure, "figI_depth", tidy, preset)

# %%
book.judge("bias-depth-one", verdicts.depth(deep, implicit_bias.ONE))
two = book.judge("bias-depth-two", verdicts.depth(deep, implicit_bias.TWO))

# %% [markdown]
# ## Beyond the paper: overparameterization
#
# The main paper asks whether SAM gains more with more parameters. Here we can ask it of 1-SAM: with $n = 20$ samples
# we raise $d$, at step size $5/d$, and tune ρ for each $d$ as above. For comparison we show the interpolator of least
# potential at α = 10⁻⁶, the best that a smaller α could do.

# %%
widths = implicit_bias_descent.tuned(widths.result(), by="d")  # of implicit_bias_descent.widths
medians = [
    {"x": f"d/n = {d / setting.N:g}", "series": name, "value": 10**value, "seed": seed}
    for d, rows in widths.groupby("d")
    for name in ("n-SAM", "1-SAM, c = 1", implicit_bias_descent.SPARSEST)
    for seed, value in implicit_bias_descent.against(rows, name).items()
]
tidy = pandas.DataFrame(medians).assign(panel="test loss over that of GD")
title = f"1-SAM gains less with more parameters\n20 data seeds, n = 20, α = 0.05, {same}"
figure = plots.strips(tidy, title=title, xlabel="", ylabel="test loss over GD's", line=1)
plots.save(figure, "figI_width", tidy, preset)

# %%
growth = book.judge("bias-width", verdicts.width(widths))

# %% [markdown]
# ## Appendix: the library
#
# `lib.theory.diagonal` has the potential, the interpolator of least potential by Newton's method on the dual, and the
# flows. We check the end of a flow against that interpolator, and the interpolator against its optimality conditions.

# %% tags=["nbval-check-output"]
problem = implicit_bias_descent.problems([0])
end = diagonal.flow(problem.X[0], problem.y[0], 0.05, method="1-sam", rho=0.1)
beta = diagonal.least_potential(problem.X[0], problem.y[0], end.effective_alpha)
certificate = diagonal.certificate(problem.X[0], problem.y[0], beta, end.effective_alpha)
bool(abs(end.beta - beta).max() < 1e-6), certificate.kkt < 1e-12, certificate.infeasibility < 1e-11

# %% [markdown]
# ## Answer, and all claims at this preset

# %%
Markdown(
    f"Why fewer samples help: 1-SAM shrinks the effective α by about n times as much as n-SAM (**{order}**), and more "
    f"evenly (**{support}**). With ρ tuned, 1-SAM generalizes better than GD (**{one}**) and n-SAM does not (that it "
    f"does is **{many}**). The theorems are right with half the printed exponent (**{corrected}**). That 1-SAM gains "
    f"more with more parameters is **{growth}**.\n\n{book.table()}"
)
