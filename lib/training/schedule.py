"""Schedules of the learning rate, and of SAM's radius.

To add one of the rate: its name in `lib.runs.run.SCHEDULES`, its formula here, and a test.
"""

import math

from lib.runs import Run, climbing


def learning_rate(run: Run, step: int, steps_per_epoch: int) -> float:
    """The learning rate of the step with number `step`, counted from 0 over the whole run (Appendix A).

    constant; inverse: lr/(1 + epoch/3) (Appendix C, after Chizat et al.); step: ×0.1 after 50% and 75% of the
    epochs; three_steps: after 25%, 50% and 75%, as in the paper's released code; cosine: lr(1 + cos(π step/steps))/2;
    warmup_cosine: linear over `warmup_steps`, then the cosine.
    """
    epoch, steps = step // steps_per_epoch, run.epochs * steps_per_epoch
    if run.schedule == "inverse":
        return run.lr / (1 + epoch / 3)
    if run.schedule == "step":
        return run.lr * 0.1 ** ((2 * epoch >= run.epochs) + (4 * epoch >= 3 * run.epochs))
    if run.schedule == "three_steps":
        return run.lr * 0.1 ** (4 * epoch // run.epochs)
    if run.schedule == "cosine":
        return run.lr * (1 + math.cos(math.pi * step / steps)) / 2
    if run.schedule == "warmup_cosine":
        if step < run.warmup_steps:
            return run.lr * (step + 1) / run.warmup_steps
        return run.lr * (1 + math.cos(math.pi * (step - run.warmup_steps) / (steps - run.warmup_steps))) / 2
    if run.schedule == "constant":
        return run.lr
    raise ValueError(f"schedule = {run.schedule!r}: its formula is missing here")


def climb_scale(run: Run, step: int, steps_per_epoch: int) -> float:
    """By what the radius and the ascent step are multiplied in the step with number `step`: 0 where the run does not
    climb (`climbing.climbs`), else 1, or with rho_schedule "lr" the learning rate over the initial one."""
    if not climbing.climbs(run, step // steps_per_epoch):
        return 0.0
    return learning_rate(run, step, steps_per_epoch) / run.lr if run.rho_schedule == "lr" else 1.0
