"""What the bookkeeping of a sweep of very many runs costs: grouping, submitting, polling, reading records.

`python -m benchmarks.many_runs [RUNS]` sweeps that many runs (10,000) over an executor of one thread, which copies one
record in the place of training. It prints the seconds of CPU time of the sweep and, apart, of writing the records.
"""

import concurrent.futures
import json
import sys
import tempfile
import time
from pathlib import Path

from lib import sweep
from lib.runs import Run, records
from lib.sweep import groups, rounds

WIDTHS, RHOS = [0.03 + 0.01 * i for i in range(10)], (0, 0.01, 0.02, 0.05, 0.1)


def grid(number: int) -> list[Run]:
    """So many runs, which nobody trains."""
    base = Run(dataset="digits", epochs=1, n_train=64, batch_size=32)
    seeds = range(-(-number // (len(WIDTHS) * len(RHOS))))
    runs = [
        base.but(width=width, rho=rho, optimizer="sam" if rho else "sgd", seed=seed)
        for seed in seeds
        for width in WIDTHS
        for rho in RHOS
    ]
    return runs[:number]


def main(number: int = 10_000) -> None:
    """Print what a sweep of so many runs costs."""
    runs, writing = grid(number), 0.0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(1) as executor:
        sweep.sweep(runs[:1], store=folder, device="cpu", progress=False)
        record = json.loads(records.path(Path(folder), runs[0]).read_text())

        def work(group, device, deadline):
            nonlocal writing
            began = time.thread_time()
            for run in group.runs:
                if groups.wanting(group.store, run):
                    records.write(group.store, record | {"run": run.as_dict()})
            group.clear()
            writing += time.thread_time() - began
            return "done"

        rounds.work_elsewhere = work
        began = time.process_time()
        table = sweep.sweep(runs, store=folder, device="cpu", executor=executor, progress=False)
        spent = time.process_time() - began - writing
    assert set(table["status"]) == {"done"}
    print(f"{len(runs)} runs: {spent:.1f} s of CPU time for the sweep, {writing:.1f} s for writing the records")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
