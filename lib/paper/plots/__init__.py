"""Every figure of the project, in one style: the only package that draws.

A drawing function takes a tidy table, one row a plotted point, and returns a figure; `save` writes it as PNG and SVG
with that table as CSV beside it, so that what is plotted can be read and tested.
"""

from lib.paper.plots.benign import boundaries
from lib.paper.plots.bouncing import paths, potential, valley
from lib.paper.plots.convergence import curves, loss_bounds, training_loss
from lib.paper.plots.implicit_bias import fitted, level_sets, line_losses, loss_curves, over_radius, strips
from lib.paper.plots.linearization import RADII, along
from lib.paper.plots.lines import panels
from lib.paper.plots.sparsity import PRUNERS, by_pruner
from lib.paper.plots.stability import against_rho, lacking, landscapes, second_moments, spectra, stability_map
from lib.paper.plots.student_teacher import advantages
from lib.paper.plots.style import (
    COLOURS,
    SCALE,
    STAND_INS,
    STYLE,
    footnote,
    images,
    optimizer_name,
    save,
    setting,
    title,
)
from lib.paper.plots.width import UNITS, accuracy_against_rho, against_parameters, best_rho, fixed_radius, protocols

__all__ = [
    "COLOURS",
    "PRUNERS",
    "RADII",
    "SCALE",
    "STAND_INS",
    "STYLE",
    "UNITS",
    "accuracy_against_rho",
    "advantages",
    "against_parameters",
    "against_rho",
    "along",
    "best_rho",
    "boundaries",
    "by_pruner",
    "curves",
    "fitted",
    "fixed_radius",
    "footnote",
    "images",
    "lacking",
    "landscapes",
    "level_sets",
    "line_losses",
    "loss_bounds",
    "loss_curves",
    "optimizer_name",
    "over_radius",
    "panels",
    "paths",
    "potential",
    "protocols",
    "save",
    "second_moments",
    "setting",
    "spectra",
    "stability_map",
    "strips",
    "title",
    "training_loss",
    "valley",
]
