"""What fast precisions lose of SAM's correction: the table can be measured again, and `Run` refuses by it."""

import json
import re

import pytest
import torch

from benchmarks import precision as bench
from lib.core import paths
from lib.runs import Run, precision

ROWS = json.loads(bench.FILE.read_text())


def test_a_row_is_measured_again():
    rows = [row for row in ROWS if row["network"] == "mlp 0.25"]
    for row, again in zip(rows, bench.errors("mlp", 0.25), strict=True):
        assert (again["network"], again["rho"]) == (row["network"], row["rho"])
        for name in bench.PRECISIONS:  # rounding errors, of which processors share the size but not the bits
            assert row[name] / 3 < again[name] < row[name] * 3


def test_tf32_has_ten_bits_and_rounds_to_nearest():
    x = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -1 - 3 * 2**-12, 3e-5, 0.0])
    wanted = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-10, 1.0, -1 - 2**-10, bench.rounded(torch.tensor(3e-5)), 0.0])
    assert torch.equal(bench.rounded(x), wanted)
    assert (bench.rounded(x) / x - 1).nan_to_num().abs().max() <= 2**-11
    with bench.RoundedFactors():
        product = x[2:3, None] @ x[1:2, None]
    assert product.item() == torch.tensor((1 + 2**-10) ** 2).item()


def test_what_is_refused_is_what_was_measured():
    for name, lost in precision.LOST.items():
        assert lost == {rho: max(row[name] for row in ROWS if row["rho"] == rho) for rho in bench.RHOS}
        assert min(lost.values()) > precision.MOST  # a ρ at which it kept the correction would have to be offered
    assert max(row["float32"] for row in ROWS) < precision.MOST


@pytest.mark.parametrize("name", precision.LOST)
@pytest.mark.parametrize("rho", [0.0005, 0.05, 0.2])
def test_a_run_in_it_is_refused_with_what_it_loses_at_its_radius(name, rho):
    wanted = re.escape(f"precision = '{name}': at rho = {rho} it is off by {precision.LOST[name][rho]} of SAM's corr")
    with pytest.raises(ValueError, match=wanted):
        Run(optimizer="sam", rho=rho, precision=name)
    with pytest.raises(ValueError, match=f"precision = '{name}': SGD is compared with SAM"):
        Run(precision=name)


def test_the_page_shows_the_table():
    page = (paths.ROOT / "docs/gpu.md").read_text()
    for row in ROWS:
        cells = (row["network"], row["rho"], *(f"{row[name]:.2g}" for name in bench.PRECISIONS))
        assert f"| {' | '.join(map(str, cells))} |" in page
