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
# Section 6 and Appendix B of the paper. A wide network of which most weights are removed before training has as few
# parameters as a narrow dense one. The paper reports that SAM tends to gain more over SGD in the wide sparse one, the
# sparser it is: with random masks from about 0.4 percentage points in the small dense ResNet-18 to 0.9 at a sparsity of
# 94%, and more clearly with masks chosen by SNIP. It also finds that the best radius ρ* depends on which weights
# remain, at 45 thousand parameters though not at 701 thousand.
#
# Here both are tried again with every seed shown, with ρ chosen on other seeds and other test samples than those that
# are reported, and with tests that ask whether so few seeds can tell. Beyond the paper: where the remaining weights
# sit, what sparsity saves in computation, and masks with a pattern that hardware can use.
#
# The cell below chooses how much is computed: `smoke` runs in seconds with handwritten digits in place of the image
# sets, `lite` and `paper` draw from the records of longer runs, and train what is missing only where `train` is true.
# At `smoke` the ResNets hardly learn: their figures then show that everything runs, and nothing else.

# %% tags=["parameters"]
preset = "smoke"
train = True

# %%
import pandas
import torch
from IPython.display import Markdown, display

from lib import benefit, costs, experiments, models, plots, sizes, sparse_benefit, sparse_cells, sparse_radii, sparsity
from lib.claims import Book, keys
from lib.stand_ins import recorded
from lib.sweep import sweep

book = Book("04_sparsity", preset)

# %% [markdown]
# ## Which weights remain
#
# A mask $m \in \{0, 1\}^d$ is chosen at initialization, and the network trained is $f(x;\, m \odot w)$: gradients are
# masked too, so that removed weights stay exactly 0 and SAM's perturbation $\rho\, m\odot g / \lVert m \odot g\rVert$
# lives on what remains. Biases and norms are never removed. *Random* keeps the same share of each layer. *SNIP* keeps
# the weights with the largest
#
# $$s_j = \Big| w_j\, \frac{\partial L}{\partial w_j} \Big|$$
#
# of all layers together, with $L$ the loss on 1,000 training samples balanced over the classes, or on all where there
# are fewer (below it is said on how many). Beyond the paper, a pattern $N{:}M$ keeps the $N$ largest $|w|$ of every $M$
# weights along a layer's inputs. All three on one small network, where each keeps a quarter, 1,310 weights:

# %%
model = models.build("mlp", width=0.2, in_shape=(1, 8, 8), classes=10, seed=0)
samples, labels = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(100) % 10
masks = {
    "random": sparsity.random_mask(model, 0.75, seed=0),
    "snip": sparsity.snip_mask(model, "cross_entropy", samples, labels, 0.75),
    "1:4": sparsity.nm_mask(model, 1, 4),
}
kept = pandas.DataFrame({name: sparsity.kept(mask) for name, mask in masks.items()})
kept.assign(weights=[weight.numel() for weight in sparsity.prunable(model).values()])

# %% [markdown]
# The pattern keeps exactly one weight of every four:

# %% tags=["nbval-check-output"]
groups = [mask.unflatten(1, (-1, 4)).sum(2) for mask in masks["1:4"].values()]
kept.sum().tolist(), all(bool((group == 1).all()) for group in groups)

# %% [markdown]
# ## The grids: one count of parameters, several widths
#
# The sparsity of each parent is computed so that what remains, biases and norms included, is the count of a small
# dense network. A ResNet-18 of twice, four and eight times the width has to lose 75, 94 and over 98% of its weights
# (the smoke preset has smaller ones).

# %%
[grid] = recorded(experiments.cifar_sparse(preset), train=train)
budgets = experiments.budgets(grid)
worst = max(abs(sizes.remaining(run) - budget) for budget, runs in budgets.items() for run in runs)
assert worst <= 21  # random masks round in each of the 21 layers
experiments.table(grid)

# %%
resnets = sweep(grid, train=train)
small, large = (resnets[resnets["key"].isin([run.key for run in runs])] for runs in budgets.values())
small_count, large_count = (f"{count / 1000:.0f} thousand parameters" for count in budgets)
mlps = sweep(experiments.mnist_sparse(preset), train=train)
mlp_count = f"{sizes.remaining(experiments.mnist_sparse(preset)[0]) / 1000:.0f} thousand parameters"
structured = sweep(experiments.mnist_structured(preset), train=train)
scored = {
    name: min(table["n_train"].replace(0, sparsity.SNIP_SAMPLES).min(), sparsity.SNIP_SAMPLES)
    for name, table in {"the ResNets": resnets, "the perceptrons": mlps}.items()
}
Markdown(
    f"Counts agree with those of {' and '.join(f'{count:,}' for count in budgets)} parameters to within {worst}, the "
    "rounding of random masks. SNIP scores the weights on "
    f"{' and '.join(f'{count:,.0f} samples for {name}' for name, count in scored.items())}."
)

# %% [markdown]
# ## Figure 7: does the gap grow with the sparsity?
#
# The gap is SAM's test accuracy minus SGD's in percentage points, both of one seed. (MNIST and CIFAR-10 have 10,000
# test samples, so that a tenth of a point is ten of them; at `smoke` one of 360 is 0.28 points.) On the left ρ* is
# chosen as the paper does, on the numbers that are then reported, which favours SAM on average. On the right it is
# chosen on the other seeds and the other half of the test samples: that leaves no luck, but it also chooses worse, from
# fewer seeds and samples. Dots are seeds, squares their means; a hollow dot is of a network whose search for ρ is not
# complete, and is in no mean. A sparsity is the share of the weights that is removed; biases and norms are not counted.
# A run that ends below three times chance is named under the figure as one that has not learned; it stays in all means,
# and a gap to which it belongs says little of SAM.

# %%
PANELS = {"paper": "ρ* chosen on what is reported", "both": "ρ* chosen on other seeds and samples"}


def gap_points(table):
    found = sparse_benefit.gaps(table)
    shown = found[found["protocol"].isin(PANELS)]
    return shown.assign(panel=shown["protocol"].map(PANELS), value=shown["gap"])


def draw_gap(table, what):
    axes = dict(x="removed", xlabel="weights removed (%)", ylabel="SAM − SGD, test accuracy (points)", xlim=(-3, 101))
    axes |= dict(panels=PANELS.values(), above="width")
    figure = plots.by_pruner(gap_points(table), title=plots.title(what, table, preset), **axes)
    return plots.footnote(figure, benefit.mark_failures(table))


tidy = gap_points(large)
plots.save(draw_gap(large, f"ResNet-18 pruned to {large_count}"), "fig07", tidy, preset)

# %% [markdown]
# A line is fitted to the gap against the sparsity for each seed; its mean slope is reported with the 95% interval over
# seeds. Kendall's τ tests for growth: p is the chance of a τ at least as large if the gaps of each seed were shuffled
# over the sparsities. *Smallest possible* is the p of a perfect trend with so few networks and seeds: where it is above
# 0.05 the claim counts as not tested. It also does until all runs of the networks that it speaks of have records, as
# the last of them could reverse it. The verdict is on the gap without luck; the trend by the paper's protocol is told
# beside it. Networks sparser than the paper's 94% are shown, but not judged.
#
# That the trend is *clearer* with SNIP is read as: the gap grows with SNIP, and the 95% interval, over seeds, of its
# slope minus that of random masks lies above zero. Where it holds zero, three seeds leave it open, and the claim counts
# as not tested.


# %%
def judge(figure, table):
    told = {"grows": sparse_benefit.grows(table), "snip": sparse_benefit.clearer(table)}
    for claim, (text, holds) in told.items():
        book.record(f"{figure}-{claim}", measured=text, holds=holds, keys=keys(table))
    return Markdown(f"- random masks: {told['grows'][0]}\n- {told['snip'][0]}")


told, holds = sparse_benefit.size(large)
book.record("7-size", measured=told, holds=holds, keys=keys(large))
judge("7", large)

# %% [markdown]
# ## Figure 14: the same with fewer parameters
#
# The paper names 45 thousand parameters for this figure, and none for Figure 7, which is taken to have the 701 thousand
# that it names for Figure 8.

# %%
tidy = gap_points(small)
plots.save(draw_gap(small, f"ResNet-18 pruned to {small_count}"), "fig14", tidy, preset)

# %%
judge("14", small)

# %% [markdown]
# ## Figure 8: does ρ* depend on which weights remain?
#
# Squares are ρ* as in the paper, best on the mean over seeds; dots are what each seed would choose by itself, side by
# side where seeds agree. Where the dots of one network scatter as widely as the squares do between networks, different
# squares are no evidence that the networks differ. The test shuffles networks within each seed; what it finds may be
# due to the width as well as to the mask, as these change together.


# %%
def rho_points(tables):
    parts = [sparse_radii.choices(table).assign(panel=panel) for panel, table in tables.items()]
    return pandas.concat(parts).sort_values("removed", kind="stable")


def draw_rho(tidy, what, table, panels):
    searched = sorted(set(table["rho"]) - {0})
    axes = dict(x="label", xlabel="weights removed", ylabel="ρ*", log="y", joined=False, yticks=searched, panels=panels)
    figure = plots.by_pruner(tidy, title=plots.title(what, table, preset), **axes)
    return plots.footnote(figure, benefit.mark_failures(table))


tidy = rho_points({small_count: small, large_count: large})
plots.save(draw_rho(tidy, "Best radius of ResNet-18", resnets, [small_count, large_count]), "fig08", tidy, preset)


# %%
few, many = sparse_radii.depends(small), sparse_radii.same(large)
for (claim, table), (told, holds) in zip({"8-pattern": small, "8-same": large}.items(), (few, many), strict=True):
    book.record(claim, measured=told, holds=holds, keys=keys(table))
Markdown(f"At {small_count}: {few[0]}. At {large_count}: {many[0]}.")

# %% [markdown]
# ## Figure 15: the perceptron on MNIST
#
# LeNet-300-100 at a quarter of its width, 61 thousand parameters, against parents of 0.5, 1 and 2 times its full width
# (the smoke preset has smaller ones, on digits).

# %%
experiments.table(experiments.mnist_sparse(preset))

# %%
tidy = gap_points(mlps)
plots.save(draw_gap(mlps, f"3-layer MLP pruned to {mlp_count}"), "fig15", tidy, preset)

# %%
judge("15", mlps)

# %% [markdown]
# ## Figure 16: its best radius

# %%
tidy = rho_points({mlp_count: mlps})
plots.save(draw_rho(tidy, "Best radius of the 3-layer MLP", mlps, [mlp_count]), "fig16", tidy, preset)

# %%
told, holds = sparse_radii.depends(mlps)
book.record("16-pattern", measured=told, holds=holds, keys=keys(mlps))
Markdown(told)

# %% [markdown]
# ### Is the large sparse network the better one?
#
# The paper takes from earlier work that it is. Below, the accuracy of SGD in the sparse networks minus that in the
# dense one of as many parameters: at each sparsity, and averaged over sparsities up to 94% for each seed, with the 95%
# interval of that mean. One row that has all its runs and an interval below zero refutes the claim. The interval is
# over seeds and takes the test samples as given; how much these matter shows in the points on either half of them.

# %%
families = {"MLP": mlps, f"ResNet-18, {small_count}": small, f"ResNet-18, {large_count}": large}
better = pandas.concat([sparse_benefit.advantage(table).assign(network=name) for name, table in families.items()])
is_mlp = better["network"] == "MLP"
for claim, rows, table in (("6-better", ~is_mlp, resnets), ("6-better-mlp", is_mlp, mlps)):
    told, holds = sparse_benefit.better(better[rows])
    book.record(claim, measured=told, holds=holds, keys=keys(table))
better[["network", "pruner", "each", "points", "low", "high", "even", "odd", "lacking"]].round(2)

# %% [markdown]
# ## Where the remaining weights sit
#
# Random masks thin all layers alike. SNIP decides over all layers together, so its choice differs by layer. (Of the
# layers of a ResNet-18 8, 13 and 18 are the 1×1 convolutions of shortcuts, and 21 is the linear one.)

# %%
parts = {
    name: costs.sparsest(table).assign(panel=lambda t, name=name: name + ",\n" + t["network"])
    for name, table in families.items()
}
tidy = pandas.concat(parts.values())
tidy["value"] = 100 * tidy["share"]
everything = pandas.concat([mlps, resnets])
sparse = {"MLP": mlps[mlps["sparsity"] > 0], "ResNet-18": resnets[resnets["sparsity"] > 0]}
title = ["What masks leave of each layer", *(plots.title(name, table, preset) for name, table in sparse.items())]
title = "\n".join(line.replace("\n", ", ") for line in title)  # each data set with its epochs and seeds
axes = dict(x="layer", xlabel="layer, from the input", ylabel="weights kept (%)", log="y")
axes |= dict(panels=[next(iter(part["panel"]), name) for name, part in parts.items()])
figure = plots.by_pruner(tidy, title=title, joined=False, **axes)
plots.save(plots.footnote(figure, pandas.concat(sparse.values())), "figS1", tidy, preset)

# %%
kept_of_layers = tidy.groupby(["panel", "pruner", "layer"])["value"].mean().groupby(["panel", "pruner"])
ranges = kept_of_layers.agg(first_layer="first", least="min", most="max", last_layer="last").reset_index()
even = ranges[ranges["pruner"] == "random"]
assert (even["most"] - even["least"] < 5).all()  # but for rounding in small layers
ranges.round(1)  # % of the weights, mean over seeds

# %% [markdown]
# ## What sparsity saves
#
# A forward pass takes a multiplication for each weight and each position of the layer's output. *Counted*, in thousands
# a sample, are only those with weights that remain, as on an ideal machine. *Executed* are those that a GPU with units
# for 2:4 would do: half for either pattern, with inputs filled up to a multiple of four, and all for every other mask,
# which runs through the product of the dense parent. This project has not measured such a GPU.

# %%
parts = {"MLP": pandas.concat([mlps, structured]), "ResNet-18": resnets}
saved = pandas.concat([costs.networks(table).assign(network=name) for name, table in parts.items()])
saved[["dense", "counted", "executed"]] /= 1000
saved[["network", "width", "sparsity", "pruner", "parameters", "dense", "counted", "executed"]].round(3)

# %% [markdown]
# Does a kernel for sparse matrices help on this machine? The first layer of the perceptron for MNIST, a batch of 128,
# in milliseconds of one core: by the *dense* kernel; by the same where the weights are *masked* in every pass; by
# *sparse rows*, a kernel that skips what is removed; and *small dense*, a matrix of as many numbers as remain. The
# times are taken anew wherever this notebook is executed, and differ from machine to machine: they have no record, and
# the claim counts as not tested where the largest ratio of sparse rows to dense is between 0.8 and 1.25.

# %%
left = {run.width: 1 - run.sparsity for run in experiments.mnist_sparse("lite") if run.sparsity}
times = {
    f"width {w:g}, {100 * (1 - share):.0f}% removed": costs.seconds(784, round(300 * w), share)
    for w, share in left.items()
}
times = 1e3 * pandas.DataFrame(times).T
told, holds = costs.relieves(times)
book.record("6-saves", measured=told, holds=holds)
times.round(4)

# %% [markdown]
# The gap of the perceptron against three costs, each in multiples of the small dense network's. *Measured* is the time
# of all its products on one core of this machine, each by the faster of the dense kernel and that for sparse rows. (For
# the convolutions of a ResNet there is no such kernel.) Unstructured masks look free on the left; in the middle they
# cost as much as their parents.

# %%
perceptrons = pandas.concat([mlps, structured[structured["pruner"].isin(sparsity.PATTERNS)]])
found = sparse_benefit.gaps(perceptrons).query(f"protocol == '{sparse_benefit.UNBIASED}'")
cell = list(sparse_cells.CELL)
costly = found.merge(saved[saved["network"] == "MLP"], on=[*cell, "parameters"])
costly = costly.merge(costs.measured(perceptrons), on=cell)
dense = costly[costly["pruner"] == "dense"]
COSTS = {"counted": "multiplications with weights that remain", "executed": "multiplications done by units for 2:4"}
COSTS |= {"measured": "time measured on one core"}
tidy = pandas.concat(
    costly.assign(panel=panel, value=costly["gap"], cost=costly[column] / dense[column].min())
    for column, panel in COSTS.items()
)
axes = dict(x="cost", xlabel="cost of a pass, small dense network = 1", ylabel="SAM − SGD, test accuracy (points)")
title = plots.title(f"The gap of the MLP against its cost, {PANELS['both']}", perceptrons, preset)
figure = plots.by_pruner(tidy, title=title, log="x", joined=False, panels=COSTS.values(), **axes)
plots.save(plots.footnote(figure, benefit.mark_failures(perceptrons)), "figS2", tidy, preset)

# %% [markdown]
# ## Structured beside unstructured
#
# Section 8 of the paper suggests structured sparsity as a way to make the benefit practical. The same parent is pruned
# to a pattern, and to exactly as many parameters by the two other methods. Not only the pattern differs: it keeps the
# largest $|w|$ of each group, while random masks do not look at the weights, so that what it gains over them may be
# owed to the sizes of the weights. These counts are not quite those of the figures above:

# %%
counts = {run.width: sizes.remaining(run) for run in experiments.mnist_structured(preset)}
told = ", ".join(f"{count:,} parameters at width {width:g}" for width, count in counts.items())
display(Markdown(f"{told}; {sizes.remaining(experiments.mnist_sparse(preset)[0]):,} above."))
experiments.table(experiments.mnist_structured(preset))

# %%
pattern_of = {run.width: run.pruner for run in experiments.mnist_structured(preset) if run.pruner in sparsity.PATTERNS}
tidy = gap_points(structured)
tidy["network"] = [f"{pattern_of[width]}, width {width:g}" for width in tidy["width"]]
tidy = tidy.sort_values("width", kind="stable")
axes = dict(x="network", xlabel="pattern, and masks of its count", ylabel="SAM − SGD, test accuracy (points)")
title = plots.title("MLP with N:M patterns and with unstructured masks", structured, preset)
figure = plots.by_pruner(tidy, title=title, joined=False, panels=PANELS.values(), **axes)
plots.save(plots.footnote(figure, benefit.mark_failures(structured)), "figS3", tidy, preset)

# %%
told, holds = sparse_benefit.structured(structured)
book.record("8-structured", measured=told, holds=holds, keys=keys(structured))
assert not train or (everything["status"].ne("missing").all() and structured["status"].ne("missing").all())
unbiased = tidy[(tidy["protocol"] == sparse_benefit.UNBIASED) & tidy["complete"]]
unbiased.groupby(["network", "pruner"], sort=False)[["sgd", "sam", "gap"]].mean().round(2)

# %% [markdown]
# ## What holds
#
# Each claim of the section in our words, with what was measured at this preset. Verdicts are computed from the numbers.

# %%
book.table()
