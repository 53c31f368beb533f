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
# # Does SAM's benefit grow with the number of parameters?
#
# Section 5 and Appendix B of the paper. Sharpness-aware minimization (SAM) takes its gradient at a perturbed point. The
# perturbation points uphill and has length ρ, the *radius*:
#
# $$w \leftarrow w - \eta\, \nabla L\big(w + \rho\, g / \lVert g \rVert\big), \qquad g = \nabla L(w).$$
#
# The paper trains networks of one family at many widths, with SGD and with SAM at five ρ. It reports that SAM's gain in
# test accuracy over SGD grows with the number of parameters on MNIST, CIFAR-10 and ImageNet. It names two exceptions:
# vision transformers, and a ResNet without weight decay.
#
# This notebook draws the same figures and adds three questions. Is a trend larger than the scatter of the seeds? How
# much of the gain is selection bias, as ρ is chosen on the accuracies that are reported? How much of it remains when
# SGD may compute as many gradients as SAM?
#
# A *preset* sets the amount of computation. `smoke` trains narrow networks for a few epochs, on scikit-learn's 8×8
# digits in place of all images. `paper` is Appendix A of the paper. `lite` is the same, but CIFAR-10 for 24 epochs.
# Runs that have no record are trained if `train` is true; if not, they are named as missing.

# %% tags=["parameters"]
preset = "smoke"
train = True

# %%
import numpy as np
import pandas
from IPython.display import Markdown, display

from lib.paper import analysis, claims, experiments, plots
from lib.paper.claims import Book, mean_and_spread
from lib.sweep import sweep
from lib.sweep.substitutes import recorded

experiments.check_preset(preset)
book, verdicts = Book("03_width", preset), {}

# %% [markdown]
# ## What is compared
#
# A *cell* is one network, here one width of one family. A seed fixes the initial weights and the batches of SGD and of
# SAM. Comparing them in pairs gains nothing if the correlation below is about 0. With $\mathrm{SAM}_s(\rho)$ and
# $\mathrm{SGD}_s$ the test accuracies of seed $s$, the best radius ρ* and the *gap* in percentage points are
#
# $$\rho^* = \operatorname*{argmax}_\rho \sum_s \mathrm{SAM}_s(\rho), \qquad
# \mathrm{gap}_s = 100\,\big(\mathrm{SAM}_s(\rho^*) - \mathrm{SGD}_s\big).$$
#
# A *protocol* says on which seeds and test samples ρ* is chosen, and on which the gap is reported. The paper's protocol
# uses all of them for both. The protocol `both` chooses on other seeds and other samples than it reports on.

# %%
names = {
    "mnist_mlp": "MNIST, MLP",
    "cifar_resnet": "CIFAR-10, ResNet-18",
    "imagenet_resnet50": "ImageNet, ResNet-50",
    "cifar_vit": "CIFAR-10, ViT",
    "cifar_resnet_without_decay": "CIFAR-10, ResNet-18 without weight decay",
}
main = ("mnist_mlp", "cifar_resnet", "imagenet_resnet50")
parts = {name: [part for part in (name, f"{name}_twice") if part in experiments.EXPERIMENTS] for name in names}
grids = {name: [run for part in parts[name] for run in experiments.EXPERIMENTS[part](preset)] for name in names}
grids = {name: recorded(grid, train=train)[0] for name, grid in grids.items()}
tables = {name: sweep(grid, train=train) for name, grid in grids.items()}
gaps = {name: analysis.gap.gaps(table) for name, table in tables.items()}
correlation = analysis.effects.seed_correlation(tables["mnist_mlp"])
complete = {name: part[part["complete"] & (part["reference"] == "SGD")] for name, part in gaps.items()}
paper = {name: part[part["protocol"] == "paper"] for name, part in complete.items()}
both = {name: part[part["protocol"] == "both"] for name, part in complete.items()}
points = {name: analysis.width.points(table) for name, table in tables.items()}
zero = {name: analysis.width.interpolates(part) for name, part in points.items()}
for table, part in zip(tables.values(), gaps.values(), strict=True):  # each mean is over as many gaps as it says
    counted = part.groupby(["width", "reference", "protocol"]).size()
    seeds = analysis.gap.summary(table).set_index(["width", "reference", "protocol"])["seeds"]
    assert (counted == seeds[seeds > 0].reindex(counted.index)).all()
statuses, smoke = pandas.concat(tables.values())["status"].value_counts(), preset == "smoke" and train
assert not smoke or "missing" not in statuses
display(Markdown(f"Correlation of SGD and SAM over seeds, MLP: **{correlation:.2f}**."))
statuses

# %% tags=["nbval-check-output"]
set(statuses.index) <= {"done", "diverged", "missing", "failed"}, len(tables)

# %% [markdown]
# In the figures dots are seeds. Lines are means over seeds, with one standard error. In the grey region SGD's training
# loss is below 0.01 nats: the paper ties SAM's benefit to interpolation. The search of a cell is *complete* if SAM has
# a record at every ρ; other searches have hollow dots. A note under a figure names runs that are missing or diverged,
# and runs that have *not learned* (test accuracy below three times chance). The latter stay in all means.
#
# A *claim* is one statement of the paper in our words. Its *verdict* follows from an effect and its 95% interval, by a
# rule that is the same for all ([verdicts](../docs/verdicts.md)). The interval pools the variance of the cells. Gaps by
# `both` depend on the other seeds, so theirs comes from one number a seed. Only complete cells count.


# %%
def draw(name, quantities=("gap", "test accuracy", "training loss")):
    title = plots.title(f"{names[name]}: SAM at its best ρ and SGD", tables[name], preset)
    figure = plots.against_parameters(points[name], title=title, quantities=quantities, since=zero[name])
    return plots.footnote(figure, analysis.gap.mark_failures(tables[name]))


def record(claim, name, finding):
    measured = f"{plots.images(tables[name])}: {finding.measured}{analysis.width.without_search(tables[name])}"
    keys = claims.keys(analysis.width.same_epochs(tables[name]))
    verdicts[claim] = book.record(claim, **finding._replace(measured=measured)._asdict(), keys=keys)
    text = claims.CLAIMS["03_width"][claim].text
    shown = "the pipeline runs; networks this small say nothing" if preset == "smoke" else f"measured on {measured}"
    display(Markdown(f"**{verdicts[claim].capitalize()}.** {text}: {shown}."))


def judge(claim, name, frame, value, unit, paper=np.nan, pooled=True):
    effect = analysis.effects.slope(frame, value, f"{unit} a decade", paper=paper, pooled=pooled)
    trend = analysis.trends.describe(analysis.trends.trend(frame, value), unit)
    record(claim, name, claims.Finding(trend, effect=effect))


# %% [markdown]
# ## Figure 3: does the gap grow with the number of parameters?
#
# The paper reports growth in all three workloads. The perceptron (MLP) has hidden layers of 300 and 100 neurons times
# the width; the width of a ResNet is the number of filters of its first block. The first table of a workload has the
# settings of each preset, the second the runs of this one. ρ = 0 is SGD; SGD for twice the epochs computes as many
# gradients as SAM. At `smoke` ResNet-50 gets a few dozen steps on 8×8 images, which shows only that the code runs.
#
# For CIFAR-10 the paper gives a gap of about 0.3 points at 45 thousand parameters (width 4) and of 1.0 at 11 million
# (width 64), a difference of 0.7 after 200 epochs. The paper also finds the gap larger where the training loss is about
# 0: that claim compares the mean gap in the grey region with that outside.
#
# A line is fitted to the mean gaps of the cells against $\log_{10} x$, with $x_c$ the number of parameters of cell $c$.
# The effect is its slope. With $n_c$ seeds in cell $c$, its standard error $e$ is, with the variance $s^2$ pooled over
# the cells,
#
# $$e^2 = s^2 \sum_c w_c^2/n_c, \qquad w_c = \frac{\log x_c - \overline{\log x}}
# {\sum_d (\log x_d - \overline{\log x})^2}.$$
#
# On MNIST we compare with the slope and the gaps read off the published figure. Kendall's τ, and the chance p of one as
# large if each seed's gaps are shuffled over the cells, are told beside; Page's test for ordered alternatives is the
# same question asked of ranks.

# %%
for name in main:
    display(Markdown(f"**{names[name]}**"), experiments.presets(*parts[name]), experiments.table(grids[name]))
display(plots.save(draw("mnist_mlp"), "fig03a", points["mnist_mlp"], preset))
display(plots.save(draw("cifar_resnet"), "fig03b", points["cifar_resnet"], preset))
display(plots.save(draw("imagenet_resnet50"), "fig03c", points["imagenet_resnet50"], preset))
for claim, name in zip(("3a-grows", "3b-grows", "3c-grows"), main, strict=True):
    expected = analysis.width.published_slope(paper[name]["parameters"]) if name == "mnist_mlp" else np.nan
    judge(claim, name, paper[name], "gap", "points", expected)
record("3a-size", "mnist_mlp", analysis.width.against_published(paper["mnist_mlp"]))
sizes = dict(list(paper["cifar_resnet"].groupby("width")["gap"]))
grown = analysis.effects.difference(sizes.get(64, []), sizes.get(4, []), "points")
each = (f"width {w}: {mean_and_spread(sizes[w], 'points') if w in sizes else 'no complete search'}" for w in (4, 64))
record("3b-size", "cifar_resnet", claims.Finding("; ".join(each), effect=grown))
for claim, name in zip(("3a-zero", "3b-zero"), main, strict=False):
    finding = analysis.width.at_zero_loss(paper[name], zero[name])
    words = f"gap where the loss is under {analysis.width.ZERO} minus the gap elsewhere: {finding.measured}"
    record(claim, name, finding._replace(measured=words))

# %% [markdown]
# ## Figure 4: does the gap of two other networks stop growing?
#
# A vision transformer (ViT) has as width the hidden dimension of its six layers. The paper finds that its gap rises up
# to 209 thousand parameters and shrinks past them, and that both accuracies fall past 3.2 million. Without weight decay
# ResNet-18's gap does not grow past 11.2 million, and both accuracies fall. Only runs as long as the paper's test this.


# %%
def judge_falls(claim, name, since):
    select = analysis.width.complete_points
    frames = {method: select(points[name], "test accuracy", method, since) for method in ("SGD", "SAM")}
    slopes = {method: analysis.effects.slope(frame, "value") for method, frame in frames.items()}
    effect = analysis.effects.weakest(list(slopes.values()), sign=-1)
    record(claim, name, claims.Finding(analysis.width.listed(slopes.items()), effect=effect))


vit, plain = "cifar_vit", "cifar_resnet_without_decay"
for name in (vit, plain):
    display(Markdown(f"**{names[name]}**"), experiments.presets(*parts[name]), experiments.table(grids[name]))
display(plots.save(draw(vit), "fig04a", points[vit], preset))
display(plots.save(draw(plain), "fig04b", points[plain], preset))
judge("4a-rises", vit, paper[vit].query("parameters <= 208970"), "gap", "points")
judge("4a-shrinks", vit, paper[vit].query("parameters >= 208970"), "gap", "points")
judge_falls("4a-falls", vit, 3_195_146)
judge("4b-gap", plain, paper[plain].query("parameters >= 11173962"), "gap", "points")
judge_falls("4b-falls", plain, 11_173_962)

# %% [markdown]
# ## Figures 9 and 10: does SAM's test loss fall further below SGD's?
#
# The paper finds that it does as networks grow, and shows it below SGD's in Figure 10 too. The runs are those of
# Figures 3 and 4.

# %%
losses = ("training loss", "test loss")
display(plots.save(draw("mnist_mlp", losses), "fig09a", points["mnist_mlp"], preset))
display(plots.save(draw("cifar_resnet", losses), "fig09b", points["cifar_resnet"], preset))
display(plots.save(draw("imagenet_resnet50", losses), "fig09c", points["imagenet_resnet50"], preset))
display(plots.save(draw(vit, losses), "fig10a", points[vit], preset))
display(plots.save(draw(plain, losses), "fig10b", points[plain], preset))
for claim, name in zip(("9a-loss", "9b-loss", "9c-loss"), main, strict=True):
    judge(claim, name, analysis.width.lowered(points[name]), "value", "nats")
for claim, name in zip(("10a-loss", "10b-loss"), (vit, plain), strict=True):
    lowered = analysis.effects.over_cells(analysis.width.lowered(points[name]), "value", "nats")
    record(claim, name, analysis.width.of_effect(lowered))

# %% [markdown]
# ## Figures 6 and 11 to 13: does accuracy follow ρ in a continuous trend?
#
# Figure 6 has the smallest, a middle and the largest ResNet-18; Figure 12 has all of them. A trend is continuous if the
# mean accuracies $\bar y_\rho$ over $n$ seeds are near a parabola $\hat y_\rho$ in $\log\rho$. The effect is the root
# mean square of $\bar y_\rho - \hat y_\rho$ over the $m$ radii of all networks, without what the scatter of the seeds
# adds. Its interval follows from the noncentral distribution of
#
# $$F = \frac{n\sum_\rho (\bar y_\rho - \hat y_\rho)^2/(m - 3)}{\sum_{\rho s} (y_{\rho s} - \bar y_\rho)^2/(mn - m)}.$$
#
# The claim is one of absence: reproduced if the interval lies below 0.05 points, contradicted if it lies above.


# %%
def draw_rho(name, tidy):
    title = plots.title(f"{names[name]}: accuracy against ρ", tables[name], preset)
    failures = analysis.gap.mark_failures(analysis.width.same_epochs(tables[name]))
    return plots.footnote(plots.accuracy_against_rho(tidy, title=title), failures)


mlp, resnet18, resnet50 = (analysis.width.accuracies(tables[name]) for name in main)
widths = sorted(resnet18["width"].unique())
some = resnet18[resnet18["width"].isin([widths[0], widths[len(widths) // 2], widths[-1]] if widths else [])]
display(plots.save(draw_rho("cifar_resnet", some), "fig06", some, preset))
display(plots.save(draw_rho("mnist_mlp", mlp), "fig11", mlp, preset))
display(plots.save(draw_rho("cifar_resnet", resnet18), "fig12", resnet18, preset))
display(plots.save(draw_rho("imagenet_resnet50", resnet50), "fig13", resnet50, preset))
for claim, name in zip(("11-smooth", "6-smooth", "13-smooth"), main, strict=True):
    record(claim, name, analysis.width.continuous(analysis.width.accuracies(tables[name])))

# %% [markdown]
# ## Figure 5: does the best radius grow with the number of parameters?
#
# Lines are ρ* of all seeds, dots the choice of each seed alone. A diamond is a ρ* at the edge of the grid, which only
# bounds the best radius. The exponent γ is that of a line through the logarithms, over cells with all seeds:
#
# $$\rho^* \propto (\text{parameters})^\gamma.$$
#
# Its range over resamples of the seeds is reported, which is no confidence interval. Of ρ with equal means the
# geometric mean is taken. The effect is the slope of $\log_{10}\rho^*$, each seed's own choice, over $\log_{10}$
# parameters.

# %%
radii = analysis.width.best_rhos({names[name]: tables[name] for name in main})
together = analysis.gap.mark_failures(pandas.concat([analysis.width.same_epochs(tables[name]) for name in main]))
settings = {names[name]: plots.setting(tables[name]) for name in main}
figure = plots.best_rho(radii, title=f"Best perturbation radius\npreset {preset}", settings=settings)
display(plots.save(plots.footnote(figure, together), "fig05", radii, preset))
for claim, name in zip(("5a-grows", "5b-grows", "5c-grows"), main, strict=True):
    own = radii[(radii["workload"] == names[name]) & (radii["seed"] != "all")].dropna(subset="rho")
    own = own.assign(log=np.log10(own["rho"].astype(float)))
    effect = analysis.effects.slope(own, "log", "decades a decade")
    words = analysis.trends.describe_scaling(analysis.trends.rho_scaling(tables[name]))
    record(claim, name, claims.Finding(words, effect=effect))
resnet_widths = sorted(tables["cifar_resnet"]["width"].unique())
record("5b-smallest", "cifar_resnet", analysis.width.own_radii(tables["cifar_resnet"], resnet_widths[:1], 0.01))
record("5b-largest", "cifar_resnet", analysis.width.own_radii(tables["cifar_resnet"], resnet_widths[-3:], 0.2))

# %% [markdown]
# ## Beyond the paper: how much of the gap is selection bias?
#
# Three more protocols choose ρ* on other data than they report on. The halves are the even and the odd test samples.
#
# | protocol | ρ* is chosen on | the gap is reported on | selection bias left |
# |---|---|---|---|
# | `paper` | all seeds, all samples | the same | from training and test samples |
# | `samples` | all seeds, one half | the other half, and vice versa | from training |
# | `seeds` | the other seeds, all samples | the seed left out | from test samples |
# | `both` | the other seeds, one half | the seed left out, other half, and vice versa | none |
#
# `both` makes a noisier choice than `paper`, since it uses less data. Each row of the table is the mean over the cells
# of a workload with its 95% interval, by `both` from one mean a seed, else by the variance pooled over cells; the other
# of these two is *beside*. `partial` lists cells
# that are left out because they have fewer seeds. The claim is that the gap by `both` is above zero in every workload.
#
# How large can the bias be? Suppose that ρ does nothing and that runs scatter by σ. The best of $m$ radii, each a mean
# over $n$ seeds, still shows a gap, with $Z_j$ independent standard normal variables:
#
# $$\mathbb E[\mathrm{gap}] = \frac{\sigma}{\sqrt n}\, \mathbb E \max_{j \le m} Z_j.$$

# %%
m, n = 5, 3
bias = np.random.default_rng(0).standard_normal((100_000, m)).max(axis=1).mean() / n**0.5
assert abs(bias - 0.67) < 0.01
f"{bias:.2f} σ"


# %%
def in_words(row, reference):
    table = tables[row.workload]
    measured = analysis.width.gap_in_words(row) + analysis.width.without_search(table, reference)
    return f"{names[row.workload]} ({plots.images(table)}) over {row.reference}", measured


def judge_mean(claim, means, reference):
    rows = means.query("protocol == 'both'").dropna(subset="low")
    measured = analysis.width.listed(in_words(row, reference) for row in rows.itertuples())
    some = list(rows["effect"][rows["reference"] == reference])
    used = [tables[name] for name in rows["workload"].unique()]
    keys = claims.keys(*(map(analysis.width.same_epochs, used) if reference == "SGD" else used))
    effect = analysis.effects.weakest(some) if some else None
    measured = measured or "no complete search with two seeds"
    verdicts[claim] = book.record(claim, measured=measured, effect=effect, keys=keys)


chosen = analysis.width.selection({names[name]: gaps[name] for name in main})
figure = plots.protocols(chosen, title=f"The gap by how ρ is chosen\npreset {preset}", settings=settings)
display(plots.save(plots.footnote(figure, together), "fig03_selection", chosen.dropna(subset="gap"), preset))
means = pandas.concat([analysis.width.overall(part).assign(workload=name) for name, part in gaps.items()])
shown = means.drop(columns="effect").set_index(["workload", "reference", "protocol"]).rename(index=names)
display(shown.round(3))
judge_mean("selection", means.query("reference == 'SGD'"), "SGD")
display(book.table("selection"))
for claim, name in zip(("3a-unbiased", "3b-unbiased", "3c-unbiased"), main, strict=True):
    judge(claim, name, both[name], "gap", "points", pooled=False)
if preset != "smoke":  # trends of networks that have not learned would say nothing
    rows = {names[name]: analysis.trends.trend(both[name])._asdict() for name in names}
    columns = ["slope", "low", "high", "tau", "p_grows", "least", "cells", "seeds"]
    display(pandas.DataFrame(rows).T[columns].astype(float).round(4))

# %% [markdown]
# Intervals and trend tests assume independent seeds, but seeds share the test samples. [The page on
# statistics](../docs/statistics.md) has the error rates that follow.
#
# ## More seeds at fixed ρ
#
# A ρ that is not chosen adds no selection bias, and more seeds resolve smaller differences. Here ρ is 0.05 and 0.1. The
# gap of width $w$ and seed $s$ is
#
# $$g_{w,s} = \tfrac12\sum_\rho \mathrm{SAM}_{w,s}(\rho) - \mathrm{SGD}_{w,s}.$$
#
# The first effect is the difference of the mean gaps of two networks, with Welch's 95% interval. The published figure
# has 0.107 points, at the best ρ. The second is the slope of the gap over log₁₀ parameters, over all networks.

# %%
fixed = sweep(experiments.mnist_fixed_radius(preset), train=train)
display(experiments.table(experiments.mnist_fixed_radius(preset)))
tidy = analysis.fixed_rho.fixed_gaps(fixed)
title = plots.title("MLP, SAM at two fixed ρ and SGD", fixed, preset)
display(plots.save(plots.fixed_radius(tidy, title=title), "fig03_fixed", tidy, preset))
ends = [tidy["width"].min(), tidy["width"].max()] if preset == "smoke" else [0.25, 1]
finding = analysis.fixed_rho.larger(tidy[tidy["width"].isin(ends)])
verdicts["3a-fixed"] = book.record("3a-fixed", **finding._asdict(), keys=claims.keys(fixed[fixed["width"].isin(ends)]))
book.record("3a-fixed-trend", **analysis.fixed_rho.trend(tidy)._asdict(), keys=claims.keys(fixed))
display(book.table("3a-fixed", "3a-fixed-trend"))

# %% [markdown]
# ## Beyond the paper: the gap over SGD with as many gradients
#
# A SAM step costs two gradients, so SGD for twice the epochs costs as much (the light blue lines; two grids have none).
# The table has the gap by `both` over either SGD, for the same networks, seeds and runs of SAM.

# %%
matched = {name: analysis.width.matched(part) for name, part in gaps.items()}
means = pandas.concat([analysis.width.overall(part).assign(workload=name) for name, part in matched.items()])
judge_mean("twice", means, "SGD, twice the epochs")
display(book.table("twice"))
rows = means.query("protocol == 'both'").drop(columns=["protocol", "effect"])
rows.set_index(["workload", "reference"]).rename(index=names).round(3)

# %% [markdown]
# ## Do the numbers depend on the settings of the released code?
#
# The paper's code departs from its Appendix A ([the list](../docs/differences.md)). Here the MLP is trained as it does.
# It reports the best accuracy of all epochs, which is also read from the runs of Appendix A. Widths, ρ and seeds are
# those of the section on fixed ρ, as far as both have them.

# %%
released = sweep(experiments.mnist_as_released(preset), train=train)
tidy = analysis.reported.readings(fixed, released)
title = plots.title("MLP, SAM at two fixed ρ and SGD, by either setting", released, preset)
display(plots.save(plots.fixed_radius(tidy, title=title), "fig03_released", tidy, preset))
best = tidy[tidy["setting"] == "released code, best epoch"]
book.record("3a-released", **analysis.fixed_rho.larger(best)._asdict(), keys=claims.keys(released))
display(book.table("3a-released"))
tidy.groupby(["setting", "parameters"], sort=False)["gap"].agg(["mean", "sem", "count"]).round(4)

# %% [markdown]
# ## A regression with a known teacher
#
# Networks with one hidden ReLU layer learn a teacher of the same kind, with 10 neurons, from 1,000 samples in 20
# dimensions. Always answering 0 has the test loss 1. A share of the training targets is wrong: samples trade them. A
# later version of the paper reports that SAM's advantage in loss grows from about 0.026 to 0.082 over this range of
# parameters. Its settings are unknown; these are ours. ρ is chosen for each seed by the other seeds:
#
# $$\mathrm{advantage}_s = L_s^{\mathrm{SGD}} - L_s^{\mathrm{SAM}}\big(\operatorname*{argmin}_\rho
# \sum_{t \ne s} L_t^{\mathrm{SAM}}(\rho)\big).$$
#
# `slope` is the growth of the advantage in a tenfold number of parameters, with its 95% interval over seeds.

# %%
students = sweep(experiments.student_teacher(preset), train=train)
tidy = analysis.student_teacher.advantages(students)
title = plots.title("Two-layer networks: SAM's advantage in test loss, mean and 95% interval", students, preset)
figure = plots.footnote(plots.advantages(tidy, title=title), students)
display(experiments.table(experiments.student_teacher(preset)), plots.save(figure, "fig03_teacher", tidy, preset))
for claim, noise in (("teacher-clean", 0.0), ("teacher-noise", 0.6)):
    finding = analysis.student_teacher.advantage_slope(tidy, noise)
    same = students.query(f"label_noise == {noise} and weight_decay == 0")
    book.record(claim, **finding._asdict(), keys=claims.keys(same))
display(book.table("teacher-clean", "teacher-noise"))
analysis.student_teacher.growth(tidy).round(4)

# %% [markdown]
# ## Answer

# %%
by_paper, unbiased = (
    "; ".join(f"*{verdicts[f'3{letter}-{kind}']}* for {names[name]}" for letter, name in zip("abc", main, strict=True))
    for kind in ("grows", "unbiased")
)
answer = f"""Growth of the gap is {by_paper} by the paper's protocol, and {unbiased} without selection bias. That a gap
remains without selection bias is *{verdicts["selection"]}*, over SGD with as many gradients *{verdicts["twice"]}*."""
nothing = "The pipeline runs from training to verdict. Nothing follows about the paper from networks this small."
display(Markdown(nothing if preset == "smoke" else answer))
book.table()
