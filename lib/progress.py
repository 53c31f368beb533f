"""One line that says how far a sweep is: runs done, epochs per second, and the time to finish.

The time to finish weighs epochs by their cost, as those of a wide network take longer than those of a narrow one.
On a terminal and in a notebook the line is rewritten in place; in a log file it becomes a line of its own, seldom.
"""

import contextlib
import sys
import time

from tqdm import tqdm

LOG_SECONDS = 30.0


class Progress:
    """A context manager around a sweep; `costs` is the cost of each run, in any unit, keyed by run."""

    def __init__(self, costs: dict, *, show: bool):
        self._costs, self._epochs, self._began = costs, {}, time.monotonic()
        self._trained = 0
        live = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._bar = tqdm(
            total=sum(costs.values()),
            disable=not show,
            file=sys.stderr if live else _Lines(),
            mininterval=0.2 if live else LOG_SECONDS,
            maxinterval=10 if live else 2 * LOG_SECONDS,
            smoothing=0,
            ncols=100 if live else 80,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} elapsed, {remaining} to go" + "{postfix}",
        )
        self._describe()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._describe()
        self._bar.close()

    def advance(self, run, epoch: int) -> None:
        """`run` has trained `epoch` epochs; what it had when first heard of is not counted as speed."""
        if run not in self._costs or self._epochs.get(run) == epoch:
            return
        gained = epoch - self._epochs.get(run, 0)
        share = self._costs[run] * gained / run.epochs
        if run in self._epochs:
            self._trained += gained
        else:
            self._bar.initial += share
        self._epochs[run] = epoch
        self._describe()
        self._bar.update(share)

    def _describe(self):
        done = sum(epoch >= run.epochs for run, epoch in self._epochs.items())
        rate = self._trained / max(time.monotonic() - self._began, 1e-9)
        self._bar.set_description_str(f"{done}/{len(self._costs)} runs", refresh=False)
        self._bar.set_postfix_str(f"{rate:.3g} epochs/s", refresh=False)


class _Lines:
    """A stream for a log file: every refresh of the bar is a line."""

    def write(self, text: str) -> None:
        if text.strip():
            sys.stderr.write(text.strip("\r\n") + "\n")

    def flush(self) -> None:
        with contextlib.suppress(ValueError):
            sys.stderr.flush()
