"""Beyond the paper: a regression whose teacher is known, at full scale on a CPU."""

import itertools

from lib.paper.experiments.grids import SEEDS, check_preset, with_sam
from lib.runs import Run

# 22 parameters a neuron of a two-layer network with 20 inputs: 10, 20, 50 and 100 thousand.
TEACHER_WIDTHS = (455, 909, 2273, 4545)
TEACHER_NOISE = (0.0, 0.2, 0.6)
TEACHER_DECAY = (0.0, 0.01)
TEACHER_RHOS = (0.05, 0.1, 0.2)
TEACHER_SEEDS = range(20)


def student_teacher(preset: str) -> list[Run]:
    """Two-layer students at four widths, with and without label noise and weight decay, by SGD and SAM at three ρ.

    Sharpness grows with the width, so the learning rate is 10/width: at 20/width SGD still trains stably everywhere, at
    45/width it diverges at the largest width. At smoke the two smallest widths, one ρ and three seeds of the same runs.
    """
    base = Run(
        dataset="student-teacher",
        model="two_layer",
        width=TEACHER_WIDTHS[0],
        loss="squared",
        schedule="cosine",
        momentum=0.9,
        epochs=50,
        batch_size=50,
        eval_every=50,
    )
    widths, rhos, noise, seeds = TEACHER_WIDTHS, TEACHER_RHOS, TEACHER_NOISE, TEACHER_SEEDS
    if check_preset(preset) == "smoke":
        widths, rhos, noise, seeds = widths[:2], rhos[1:2], (noise[0], noise[-1]), SEEDS
    settings = itertools.product(noise, TEACHER_DECAY, widths)
    cells = [base.but(label_noise=n, weight_decay=decay, width=width, lr=10 / width) for n, decay, width in settings]
    return [run for cell in cells for run in with_sam(cell, rhos, seeds)]
