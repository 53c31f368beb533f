"""Conditions: what they take, as Python would; everything else is refused, and nothing is run."""

import pytest

from lib.core.conditions import Condition
from lib.runs import Run

ROW = Run(width=0.5, optimizer="sam", rho=0.05, seed=3).as_dict()


@pytest.mark.parametrize(
    "text",
    [
        "width <= 1",
        "width == 0.5 and optimizer == 'sam'",
        "not width > 1",
        "0 < rho <= 0.05",
        "seed in (1, 3)",
        "seed not in [1, 2]",
        "normalized == True",
        "(width == 4 or seed == 3) and rho > -1",
        "'ml' in model",
        " 1 > width ",
    ],
)
def test_it_means_what_python_means(text):
    assert Condition(text)(ROW) is True
    assert Condition(f"not ({text.strip()})")(ROW) is False


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("@os.system('touch owned')", "syntax"),
        ("__import__('os').system('touch owned') == 0", "is no field, number or string"),
        ("[x for x in (1,)] == [1]", "is no field, number or string"),
        ("seed", "seed is no comparison"),
        ("1", "1 is no comparison"),
        ("width + 1 == 2", r"width \+ 1 is no field, number or string"),
        ("width = 1", "syntax"),
        ("", "syntax"),
        ("(" * 10_000, ""),
        ("width is 1", "is no comparison"),
        ("width == -'a'", "is no field, number or string"),
        ("width == -None", "is no field, number or string"),
        ("width < ...", "is no field, number or string"),
    ],
)
def test_what_is_no_condition_is_refused_before_it_is_asked(text, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"(?s)^condition .*{reason}"):
        Condition(text)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_asked_of_a_row_names_it():
    with pytest.raises(ValueError, match="there is no field depth; the fields are dataset, model, width"):
        Condition("depth == 1")(ROW)
    with pytest.raises(ValueError, match="model < 1 cannot be compared"):
        Condition("model < 1")(ROW)
