"""What company is worth on a CPU: the reasons for `engines.CPU_MEMBERS`, `engines.CPU_GROUPED` and `loop.WIDE`.

SAM steps per second and run on one thread, of so many runs of one seed that train together, as ratios to a run that
trains alone (a convolutional one with channels first); medians over rounds in which the contenders take turns.
`python -m benchmarks.company` prints the tables and writes the JSON.
"""

import json
import statistics
from pathlib import Path

import pandas
import torch

from lib.runs import Run, records
from lib.sweep import planning
from lib.training import engines, loop

BATCH, ROUNDS, NEVER = 128, 3, 10**6
CPU = torch.device("cpu")
MLP = Run(dataset="mnist", model="mlp", optimizer="sam", rho=0.05, momentum=0.9, weight_decay=1e-4, batch_size=BATCH)
RESNET = MLP.but(dataset="cifar10", model="resnet18")
# (members, filters from which on channels come last) of each contender; the first is the one to compare with.
STACKS = {"alone": (1, NEVER)} | {f"{members} stacked": (members, NEVER) for members in (3, 9, 18)}
GROUPS = {"channels first": (1, NEVER), "channels last": (1, 0)}
GROUPS |= {f"{members} grouped": (members, 0) for members in (2, 3, 4)}


def seconds(base: Run, members: int, wide: int) -> float:
    """Seconds a sample and run of `members` runs together; channels last from the width `wide` on."""
    loop.WIDE, kept = wide, loop.WIDE
    try:
        runs = [base.but(rho=round(0.05 * (i + 1), 2)) for i in range(members)]
        return planning.calibrate(runs, CPU).train / members
    finally:
        loop.WIDE = kept


def measure(base: Run, contenders: dict) -> dict:
    """One row of a table."""
    rounds = [{name: seconds(base, *given) for name, given in contenders.items()} for _ in range(ROUNDS)]
    alone, *others = contenders
    return {
        "width": base.width,
        "ms a step alone": round(1000 * BATCH * statistics.median(row[alone] for row in rounds), 2),
        **{name: round(statistics.median(row[alone] / row[name] for row in rounds), 2) for name in others},
    }


def main() -> None:
    """Print the tables and write them beside this file."""
    tables = {
        "mlp": [measure(MLP.but(width=width), STACKS) for width in (0.25, 0.5, 1, 2, 5)],
        "resnet18": [measure(RESNET.but(width=width), GROUPS) for width in (4, 8, 16)],
    }
    for name, rows in tables.items():
        print(f"{name}, batches of {BATCH}, SAM, one thread on {records.hardware(CPU)}; ratios to one run alone:")
        print(pandas.DataFrame(rows).set_index("width").to_string())
    chosen = {
        "stacked (up to so many parameters, members)": engines.CPU_MEMBERS,
        "grouped (up to this width, members)": engines.CPU_GROUPED,
        "channels last from": loop.WIDE,
    }
    report = {"provenance": {**records.provenance(CPU), "rounds": ROUNDS}, "chosen": chosen, **tables}
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
