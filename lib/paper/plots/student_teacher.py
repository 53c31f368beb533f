"""The student-teacher regression: SAM's advantage in test loss against the number of parameters."""

import matplotlib.pyplot as plt
import pandas
from matplotlib.figure import Figure

from lib.paper.analysis.gap import interval
from lib.paper.plots.style import SCALE, STYLE, blank
from lib.paper.plots.width import parameter_axis


def advantages(tidy: pandas.DataFrame, *, title: str) -> Figure:
    """A panel for each share of label noise, a line for each weight decay: every seed a dot, the mean with its 95%
    interval a line with bars. `tidy`: as from `analysis.student_teacher.advantages`."""
    shares = sorted(tidy["label_noise"].unique())
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, max(len(shares), 1), figsize=(3.6 * max(len(shares), 2), 3.7), squeeze=False)
        for axis, share in zip(axes[0], shares, strict=False):
            shown = tidy[tidy["label_noise"] == share]
            axis.axhline(0, color="black", lw=0.8)
            for k, (decay, line) in enumerate(shown.groupby("weight_decay")):
                groups = line.assign(x=line["parameters"] * 1.07**k).groupby("x")["advantage"]
                mean, bounds = groups.mean(), groups.apply(lambda values: interval(values))
                error = [[m - low for m, (low, _) in zip(mean, bounds, strict=True)]] * 2
                look = {"color": SCALE[3 * k], "lw": 1.6, "capsize": 3, "marker": "o", "ms": 4}
                axis.plot(line["parameters"] * 1.07**k, line["advantage"], ".", ms=3, alpha=0.35, color=SCALE[3 * k])
                axis.errorbar(mean.index, mean, error, label=f"weight decay {decay:g}", **look)
            parameter_axis(axis, shown)
            axis.set_title(f"{share:.0%} of the targets are wrong" if share else "clean targets")
        if shares:
            axes[0][0].set_ylabel("test loss: SGD − SAM")
            axes[0][0].legend(fontsize=8)
        else:
            blank(axes[0][0], "no two seeds have SGD and SAM at every ρ")
        figure.suptitle(title)
    return figure
