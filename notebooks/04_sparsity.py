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
# # Does a wide network that is pruned to few parameters keep SAM's benefit?
#
# Section 6 and Appendix B of the paper. Sharpness-aware minimization (SAM) takes its gradient at a point that lies a
# step of length ρ uphill. The paper prunes a wide network before training to the number of parameters of a narrow dense
# one. It reports that SAM's gain over SGD tends to grow with the *sparsity*, the share of the weights removed: in
# ResNet-18 with random pruning from about 0.4 points (dense) to 0.9 (sparsity 94%), and more clearly with the pruning
# method SNIP. The best radius ρ* depends on which weights remain at 45 thousand parameters, but not at 701 thousand.
#
# This notebook repeats both, shows every seed and tests whether so few seeds can tell. It also removes the selection
# bias: the paper chooses ρ on the accuracies that are reported. Beyond the paper it asks where the remaining weights
# sit, what sparsity saves in computation, and how SAM does with masks that hardware can use.
#
# A *preset* sets the amount of computation. `smoke` trains tiny networks for a few epochs, on scikit-learn's 8×8 digits
# in place of all images. `paper` is Appendix A of the paper. `lite` is the same, but CIFAR-10 for 24 epochs. Runs that
# have no record are trained if `train` is true; if not, they are named as missing.

# %% tags=["parameters"]
preset = "smoke"
train = True

# %%
import pandas
import torch
from IPython.display import Markdown, display

from lib import models
from lib.models import masking, pruning
from lib.paper import analysis, experiments, plots
from lib.paper.claims import CLAIMS, Book, keys
from lib.runs import parameter_count
from lib.sweep import sweep
from lib.sweep.substitutes import recorded

book, verdicts = Book("04_sparsity", preset), {}

# %% [markdown]
# ## Which weights remain
#
# A mask $m \in \{0, 1\}^d$ is chosen at initialization, and the network $f(x;\, m \odot w)$ is trained. Gradients are
# masked too, so removed weights stay 0 and SAM perturbs by $\rho\, m\odot g / \lVert m \odot g\rVert$. Biases and norms
# are never removed. *Random* masks keep the same share of each layer. *SNIP* keeps the weights with the largest score
#
# $$s_j = \Big| w_j\, \frac{\partial L}{\partial w_j} \Big|$$
#
# over all layers, with $L$ the loss on 1,000 class-balanced training samples, or on all samples if there are fewer.
# Beyond the paper, an *N:M pattern* keeps the $N$ largest $|w|$ of every $M$ weights along a layer's inputs. Here each
# method keeps a quarter of the weights of one small network:

# %%
model = models.build("mlp", width=0.2, in_shape=(1, 8, 8), classes=10, seed=0)
samples, labels = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(100) % 10
masks = {
    "random": pruning.random_mask(model, 0.75, seed=0),
    "snip": pruning.snip_mask(model, "cross_entropy", samples, labels, 0.75),
    "1:4": pruning.nm_mask(model, 1, 4),
}
kept = pandas.DataFrame({name: masking.kept(mask) for name, mask in masks.items()})
kept.assign(weights=[weight.numel() for weight in masking.prunable(model).values()])

# %% [markdown]
# All keep 1,310 weights, and the pattern keeps exactly one of every four:

# %% tags=["nbval-check-output"]
groups = [mask.unflatten(1, (-1, 4)).sum(2) for mask in masks["1:4"].values()]
kept.sum().tolist(), all(bool((group == 1).all()) for group in groups)

# %% [markdown]
# ## One count of parameters, several widths
#
# The sparsity of a wide network is computed so that its remaining parameters, biases and norms included, are as many as
# those of the small dense network. Networks are ResNet-18 on CIFAR-10 in two sizes and a perceptron (MLP) on MNIST.

# %%
[grid] = recorded(experiments.cifar_sparse(preset), train=train)
budgets = experiments.budgets(grid)
worst = max(abs(parameter_count.remaining(run) - budget) for budget, runs in budgets.items() for run in runs)
assert worst <= 21  # random masks round in each of the 21 layers
resnets, mlps = sweep(grid, train=train), sweep(experiments.mnist_sparse(preset), train=train)
structured = sweep(experiments.mnist_structured(preset), train=train)
assert not train or "missing" not in {*resnets["status"], *mlps["status"], *structured["status"]}
small, large = (resnets[resnets["key"].isin([run.key for run in runs])] for runs in budgets.values())
counts = [*budgets, parameter_count.remaining(experiments.mnist_sparse(preset)[0])]
small_count, large_count, mlp_count = (f"{count / 1000:.0f} thousand parameters" for count in counts)
scored = [min(pruning.SNIP_SAMPLES, *table["n_train"].replace(0, pruning.SNIP_SAMPLES)) for table in (resnets, mlps)]
Markdown(f"""Sparse ResNets have {counts[0]:,} or {counts[1]:,} parameters to within {worst}, the rounding of masks.
SNIP scores the weights of the ResNets on {scored[0]:,.0f} samples, those of the MLPs on {scored[1]:,.0f}.""")

# %% [markdown]
# ## Figure 7: does the gap grow with the sparsity?
#
# A *cell* is one network: a width, a sparsity and a pruning method. With $\mathrm{SAM}_s(\rho)$ and $\mathrm{SGD}_s$
# the test accuracies of seed $s$, the best radius ρ* and the *gap* in percentage points are
#
# $$\rho^* = \operatorname*{argmax}_\rho \sum_s \mathrm{SAM}_s(\rho), \qquad
# \mathrm{gap}_s = 100\,\big(\mathrm{SAM}_s(\rho^*) - \mathrm{SGD}_s\big).$$
#
# A *protocol* says on which seeds and test samples ρ* is chosen, and on which the gap is reported. The paper's protocol
# (left panel) uses all of them for both, which is biased in favour of SAM. The protocol `both` (right panel) chooses ρ*
# on the other seeds and on the other half of the test samples. This removes the selection bias but makes a noisier
# choice, since it uses less data.
#
# Dots are seeds, squares their means. A hollow dot belongs to a cell without a record at every ρ, and is in no mean. A
# note names runs that are missing, diverged, or have *not learned* (accuracy below three times chance, kept in means).

# %%
PANELS = {"paper": "ρ* chosen on what is reported", "both": "ρ* chosen on other seeds and samples"}
YLABEL = "SAM − SGD, test accuracy (points)"


def gap_points(table):
    gaps = analysis.sparsity.sparse_gaps(table)
    gaps = gaps[gaps["protocol"].isin(PANELS)]
    return gaps.assign(panel=gaps["protocol"].map(PANELS), value=gaps["gap"])


def draw_gap(tidy, what, table):
    axes = dict(x="removed", xlabel="weights removed (%)", ylabel=YLABEL, xlim=(-3, 101), above="width")
    figure = plots.by_pruner(tidy, title=plots.title(what, table, preset), panels=PANELS.values(), **axes)
    return plots.footnote(figure, analysis.gap.mark_failures(table))


def record(claim, finding, *tables):
    verdicts[claim] = book.record(claim, **finding._asdict(), keys=keys(*tables))
    text = CLAIMS["04_sparsity"][claim].text
    small = preset == "smoke" and len(tables)
    shown = "the pipeline runs; networks this small say nothing" if small else f"measured: {finding.measured}"
    display(Markdown(f"**{verdicts[claim].capitalize()}.** {text}; {shown}."))


display(experiments.table(budgets[counts[1]]))
tidy = gap_points(large)
plots.save(draw_gap(tidy, f"ResNet-18 pruned to {large_count}", large), "fig07", tidy, preset)

# %% [markdown]
# A line with slope $b$ is fitted to the mean gaps by `both` against the sparsity. The effect is $b$, with its 95%
# interval from one slope a seed. Kendall's τ is told beside: p is the chance of a τ at least as large
# if the gaps of each seed are shuffled over the sparsities. We call the trend clearer with SNIP if both of these are
# above zero:
#
# $$b^{\mathrm{SNIP}} \quad\text{and}\quad b^{\mathrm{SNIP}} - b^{\mathrm{random}} .$$
#
# A *claim* is one statement of the paper in our words; its *verdict* follows from the effect by a rule that is the same
# for all ([verdicts](../docs/verdicts.md)). A claim is not tested until all its runs have records. Networks sparser
# than the paper's 94% are shown but not judged.

# %%
record("7-size", analysis.sparsity.size(large), large)
record("7-grows", analysis.sparsity.grows(large), large)
record("7-snip", analysis.sparsity.clearer(large), large)

# %% [markdown]
# ## Figure 14: the same with fewer parameters
#
# The paper gives 45 thousand parameters for this figure, and none for Figure 7. We take the 701 thousand of Figure 8.

# %%
display(experiments.table(budgets[counts[0]]))
tidy = gap_points(small)
display(plots.save(draw_gap(tidy, f"ResNet-18 pruned to {small_count}", small), "fig14", tidy, preset))
record("14-grows", analysis.sparsity.grows(small), small)
record("14-snip", analysis.sparsity.clearer(small), small)

# %% [markdown]
# ## Figure 15: the same for the perceptron on MNIST
#
# The dense network of the paper is LeNet-300-100 at a quarter of its width, with 61 thousand parameters. The last claim
# compares the gaps of the sparse networks with those of their dense parents, the runs of Figure 3a.

# %%
display(experiments.table(experiments.mnist_sparse(preset)))
dense = sweep(experiments.mnist_mlp(preset), train=train)
tidy = gap_points(mlps)
display(plots.save(draw_gap(tidy, f"3-layer MLP pruned to {mlp_count}", mlps), "fig15", tidy, preset))
record("15-grows", analysis.sparsity.grows(mlps), mlps)
record("15-snip", analysis.sparsity.clearer(mlps), mlps)
record("6-restores", analysis.sparsity.restores(mlps, dense), mlps, dense)

# %% [markdown]
# ## Figures 8 and 16: does ρ* depend on which weights remain?
#
# The runs are those of Figures 7, 14 and 15. Squares are ρ* as in the paper, chosen on the mean over seeds. Dots are
# the choice of each seed alone. If the dots of one network scatter as widely as the squares do between networks, the
# networks need not differ. The effect is the root mean square of $\log_{10}\rho^*$ over networks beyond what seeds
# scatter; a permutation test that shuffles the networks within each seed is told beside it. Width and mask change
# together, so a difference may be due to either.


# %%
def rho_points(tables):
    parts = [analysis.sparsity_rho.choices(table).assign(panel=panel) for panel, table in tables.items()]
    return pandas.concat(parts).sort_values("removed", kind="stable")


def draw_rho(tidy, what, table, panels):
    searched = sorted(set(table["rho"]) - {0})
    axes = dict(x="label", xlabel="weights removed", ylabel="ρ*", log="y", joined=False, yticks=searched, panels=panels)
    figure = plots.by_pruner(tidy, title=plots.title(what, table, preset), **axes)
    return plots.footnote(figure, analysis.gap.mark_failures(table))


tidy = rho_points({small_count: small, large_count: large})
figure = draw_rho(tidy, "Best radius of ResNet-18", resnets, [small_count, large_count])
display(plots.save(figure, "fig08", tidy, preset))
record("8-pattern", analysis.sparsity_rho.varies(small), small)
record("8-same", analysis.sparsity_rho.varies(large), large)
tidy = rho_points({mlp_count: mlps})
assert tidy["value"].between(mlps["rho"][mlps["rho"] > 0].min(), mlps["rho"].max()).all()
display(plots.save(draw_rho(tidy, "Best radius of the 3-layer MLP", mlps, [mlp_count]), "fig16", tidy, preset))
record("16-pattern", analysis.sparsity_rho.varies(mlps), mlps)

# %% [markdown]
# ## Is the large sparse network better than the small dense one?
#
# The paper takes from earlier work that it is. The table has SGD's accuracy in the sparse networks minus that in the
# dense one. *points* is the mean over sparsities up to 94%, with its 95% interval by the variance pooled over networks;
# *even* and *odd* are the points on either half of the test samples. The claim rests on the weakest row. The paper also
# says that SNIP keeps sparse networks trainable: we compare the final training losses of SGD.

# %%
families = {"MLP": mlps, f"ResNet-18, {small_count}": small, f"ResNet-18, {large_count}": large}
better = pandas.concat([analysis.sparsity.advantage(table).assign(network=name) for name, table in families.items()])
is_mlp = better["network"] == "MLP"
record("6-better", analysis.sparsity.better(better[~is_mlp]), resnets)
record("6-better-mlp", analysis.sparsity.better(better[is_mlp]), mlps)
record("6-trainable", analysis.sparsity.trainable(mlps), mlps)
better[["network", "pruner", "each", "points", "low", "high", "even", "odd", "lacking"]].round(2)

# %% [markdown]
# ## Beyond the paper: where the remaining weights sit
#
# Random masks thin all layers alike; SNIP compares weights across layers, so its share differs by layer. In a ResNet-18
# layers 8, 13 and 18 are the 1×1 convolutions of shortcuts, and 21 is the linear layer.

# %%
parts = {
    name: analysis.sparsity_cost.sparsest(table).assign(panel=lambda t, name=name: name + ",\n" + t["network"])
    for name, table in families.items()
}
tidy = pandas.concat(parts.values())
tidy["value"] = 100 * tidy["share"]
sparse = {"MLP": mlps[mlps["sparsity"] > 0], "ResNet-18": resnets[resnets["sparsity"] > 0]}
settings = [plots.title(name, table, preset).replace("\n", ", ") for name, table in sparse.items()]
title = "\n".join(["What masks leave of each layer", *settings])
axes = dict(x="layer", xlabel="layer, from the input", ylabel="weights kept (%)", log="y")
axes |= dict(panels=[next(iter(part["panel"]), name) for name, part in parts.items()])
figure = plots.by_pruner(tidy, title=title, joined=False, **axes)
display(plots.save(plots.footnote(figure, pandas.concat(sparse.values())), "figS1", tidy, preset))
shares = tidy.groupby(["panel", "pruner", "layer"])["value"].mean().groupby(["panel", "pruner"])
ranges = shares.agg(first_layer="first", least="min", most="max", last_layer="last").reset_index()
even = ranges[ranges["pruner"] == "random"]
assert (even["most"] - even["least"] < 5).all()  # but for rounding in small layers
ranges.round(1)  # % of the weights, mean over seeds

# %% [markdown]
# ## Beyond the paper: what sparsity saves
#
# With $P_\ell$ positions in the output of layer $\ell$ and $k_\ell$ weights kept, a forward pass on one sample needs
#
# $$\sum_\ell P_\ell\, k_\ell$$
#
# multiplications on an ideal machine: the *counted* ones, in thousands below. *Executed* ones are those of a GPU with
# units for the pattern 2:4: half of the dense parent's for either pattern, with inputs padded to a multiple of four,
# and all of them for every other mask. This project has not measured such a GPU.

# %%
costs = {"MLP": pandas.concat([mlps, structured]), "ResNet-18": resnets}
saved = pandas.concat([analysis.sparsity_cost.networks(table).assign(network=name) for name, table in costs.items()])
saved[["dense", "counted", "executed"]] /= 1000
saved[["network", "width", "sparsity", "pruner", "parameters", "dense", "counted", "executed"]].round(3)

# %% [markdown]
# Is a kernel for sparse matrices faster on this machine? The table has milliseconds of one core for the first layer of
# the MNIST perceptron on a batch of 128. *Dense* is the dense kernel, *masked* the same with the mask applied in every
# pass. *Sparse rows* skips removed weights, and *small dense* is a matrix with as many numbers as remain. Times are
# measured anew at every execution; a largest ratio of sparse rows to dense between 0.8 and 1.25 leaves it undecided.
#
# The figure has the MLP's gap against three costs, in multiples of the small dense network's. The cost *measured* is
# the time of all products on one core, each by the faster of the dense and the sparse kernel.

# %%
left = {run.width: 1 - run.sparsity for run in experiments.mnist_sparse("lite") if run.sparsity}
times = {
    f"width {w:g}, {100 * (1 - share):.0f}% removed": analysis.sparsity_cost.product_seconds(784, round(300 * w), share)
    for w, share in left.items()
}
times = 1e3 * pandas.DataFrame(times).T
record("6-saves", analysis.sparsity_cost.relieves(times))
display(times.round(4))
perceptrons = pandas.concat([mlps, structured[structured["pruner"].isin(masking.PATTERNS)]])
gaps = analysis.sparsity.sparse_gaps(perceptrons).query(f"protocol == '{analysis.sparsity.UNBIASED}'")
cell = list(analysis.sparsity_networks.CELL)
costly = gaps.merge(saved[saved["network"] == "MLP"], on=[*cell, "parameters"])
costly = costly.merge(analysis.sparsity_cost.measured(perceptrons), on=cell)
base = costly[costly["pruner"] == "dense"]
COSTS = {"counted": "multiplications with weights that remain", "executed": "multiplications done by units for 2:4"}
COSTS |= {"measured": "time measured on one core"}
tidy = pandas.concat(costly.assign(panel=COSTS[c], cost=costly[c] / base[c].min()) for c in COSTS)
tidy["value"] = tidy["gap"]
axes = dict(x="cost", xlabel="cost of a pass, small dense network = 1", ylabel=YLABEL, log="x", joined=False)
title = plots.title(f"The gap of the MLP against its cost, {PANELS['both']}", perceptrons, preset)
figure = plots.by_pruner(tidy, title=title, panels=COSTS.values(), **axes)
plots.save(plots.footnote(figure, analysis.gap.mark_failures(perceptrons)), "figS2", tidy, preset)

# %% [markdown]
# ## Beyond the paper: N:M patterns beside unstructured masks
#
# Section 8 of the paper suggests structured sparsity as a way to make the benefit practical. Here one parent is pruned
# to a pattern, and to exactly as many parameters by random masks and SNIP. A pattern keeps the largest $|w|$ of each
# group, while random masks ignore $|w|$, so a difference may be due to that. The counts differ from those above.

# %%
remaining = {run.width: parameter_count.remaining(run) for run in experiments.mnist_structured(preset)}
listed = ", ".join(f"{count:,} parameters at width {width:g}" for width, count in remaining.items())
display(Markdown(f"{listed}; {counts[2]:,} above."), experiments.table(experiments.mnist_structured(preset)))
pattern_of = {run.width: run.pruner for run in experiments.mnist_structured(preset) if run.pruner in masking.PATTERNS}
tidy = gap_points(structured)
tidy["network"] = [f"{pattern_of[width]}, width {width:g}" for width in tidy["width"]]
tidy = tidy.sort_values("width", kind="stable")
axes = dict(x="network", xlabel="pattern, and masks of its count", ylabel=YLABEL, joined=False, panels=PANELS.values())
title = plots.title("MLP with N:M patterns and with unstructured masks", structured, preset)
figure = plots.by_pruner(tidy, title=title, **axes)
display(plots.save(plots.footnote(figure, analysis.gap.mark_failures(structured)), "figS3", tidy, preset))
record("8-structured", analysis.sparsity.structured(structured), structured)
unbiased = tidy[(tidy["protocol"] == analysis.sparsity.UNBIASED) & tidy["complete"]]
unbiased.groupby(["network", "pruner"], sort=False)[["sgd", "sam", "gap"]].mean().round(2)

# %% [markdown]
# ## Answer

# %%
networks = {"7": f"a ResNet-18 with {large_count}", "14": f"one with {small_count}", "15": f"an MLP with {mlp_count}"}
grows = "; ".join(f"*{verdicts[f'{figure}-grows']}* for {name}" for figure, name in networks.items())
answer = f"""Growth of the gap with the sparsity, without selection bias and with random masks, is {grows}. That ρ*
depends on which weights remain is *{verdicts["8-pattern"]}* in the smaller ResNet-18 and *{verdicts["16-pattern"]}* in
the MLP."""
nothing = "The pipeline runs from training to verdict. Nothing follows about the paper from networks this small."
display(Markdown(nothing if preset == "smoke" else answer))
book.table()
