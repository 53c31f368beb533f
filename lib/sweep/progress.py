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
    """A context manager around a sweep.

    costs: the cost of each run, in any unit, keyed by run.
    begun: the epochs that some of the runs have trained already, which say nothing about the speed.
    """

    def __init__(self, costs: dict, begun: dict, *, show: bool):
        self._costs, self._epochs = costs, {run: begun.get(run, 0) for run in costs}
        self._before, self._began = sum(self._epochs.values()), time.monotonic()
        live = sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel.")
        self._bar = tqdm(
            desc=f"0/{len(costs)} runs",
            total=sum(costs.values()),
            initial=sum(self._share(run, epochs) for run, epochs in self._epochs.items()),
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

    def advance(self, epochs: dict) -> None:
        """The epochs that runs have trained by now. A run that has to repeat some stands still meanwhile."""
        gained = 0.0
        for run in self._costs.keys() & epochs.keys():
            more = max(epochs[run] - self._epochs[run], 0)
            gained += self._share(run, more)
            self._epochs[run] += more
        self._describe()
        self._bar.update(gained)

    def _share(self, run, epochs: int) -> float:
        return self._costs[run] * epochs / run.epochs

    def _describe(self):
        done = sum(epochs >= run.epochs for run, epochs in self._epochs.items())
        rate = (sum(self._epochs.values()) - self._before) / max(time.monotonic() - self._began, 1e-9)
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
