"""What company and memory format are worth to narrow ResNets on a CPU: why `ensemble.CPU_GROUPED`, `train.WIDE`.

SAM steps per second and run on one thread, as ratios to a run that trains alone with channels first; medians over
rounds in which the contenders take turns. `python -m benchmarks.convolutions` prints the table and writes the JSON.
"""

import json
import statistics
from pathlib import Path

import pandas
import torch

from lib import ensemble, planning, records, train
from lib.runs import Run

WIDTHS, GROUPS, ROUNDS = (4, 8, 16), (2, 3, 4), 3
CPU = torch.device("cpu")


def seconds(width: int, members: int, wide: int) -> float:
    """Seconds a sample and run of `members` runs together; channels last from the width `wide` on."""
    base = Run(dataset="cifar10", model="resnet18", width=width, optimizer="sam", rho=0.05, momentum=0.9)
    train.WIDE, kept = wide, train.WIDE
    try:
        return planning.calibrate([base.but(seed=seed) for seed in range(members)], CPU).train / members
    finally:
        train.WIDE = kept


def measure(width: int) -> dict:
    """One row of the table."""
    contenders = {"channels first": (1, 10**6), "channels last": (1, 0)}
    contenders |= {f"{members} grouped": (members, 0) for members in GROUPS}
    rounds = [{name: seconds(width, *given) for name, given in contenders.items()} for _ in range(ROUNDS)]
    alone = statistics.median(row["channels first"] for row in rounds)
    ratios = {name: statistics.median(r["channels first"] / r[name] for r in rounds) for name in contenders}
    return {
        "width": width,
        "ms a step alone": round(1000 * alone * 128, 1),
        **{name: round(ratio, 2) for name, ratio in ratios.items() if name != "channels first"},
    }


def main() -> None:
    """Print the table and write it beside this file."""
    rows = [measure(width) for width in WIDTHS]
    print(
        f"ResNet-18 on 32×32 images, batches of 128, SAM, one thread on {records.hardware(CPU)}; ratios to one alone:"
    )
    print(pandas.DataFrame(rows).set_index("width").to_string())
    chosen = {"grouped": ensemble.CPU_GROUPED["resnet18"], "channels last from": train.WIDE}
    report = {"provenance": {**records.provenance(CPU), "rounds": ROUNDS}, "chosen": chosen, "rows": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
