"""The progress line: what it says, where it goes, and that it can be read in a log."""

import re
import sys

import pytest

from lib.runs import Run
from lib.sweep import progress
from lib.sweep.progress import Progress

RUNS = [Run(seed=seed, epochs=10) for seed in range(3)]
COSTS = {RUNS[0]: 1.0, RUNS[1]: 1.0, RUNS[2]: 8.0}


@pytest.fixture
def log(monkeypatch):
    """A log file in which no refresh is left out."""
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_log_file_gets_whole_lines(log, capsys):
    with Progress(COSTS, {}, show=True) as bar:
        for epoch in range(1, 11):
            bar.advance(dict.fromkeys(RUNS, epoch))
    text = capsys.readouterr().err
    assert "\r" not in text and "\x1b" not in text and text.endswith("\n")
    form = r"\d/3 runs +\d+%\|[ #0-9]+\| \d\d:\d\d elapsed, (\d\d:\d\d|\?) to go, \S+ epochs/s"
    result = text.splitlines()
    assert len(result) >= 5 and all(re.fullmatch(form, line) for line in result[1:])
    assert result[0].startswith("0/3 runs   0%") and result[-1].startswith("3/3 runs 100%")


def test_a_terminal_has_one_line_that_is_rewritten(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress(COSTS, {}, show=True) as bar:
        bar.advance(dict.fromkeys(RUNS, 10))
    text = capsys.readouterr().err
    assert text.startswith("\r0/3 runs") and text.count("\n") == 1 and "3/3 runs 100%" in text


def test_epochs_count_by_what_they_cost(log, capsys):
    with Progress(COSTS, {}, show=True) as bar:
        bar.advance({RUNS[0]: 10, RUNS[1]: 5})
    assert lines(capsys)[-1].startswith("1/3 runs  15%")


def test_what_was_trained_before_says_nothing_about_the_speed(log, capsys, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress(COSTS, {RUNS[2]: 9, RUNS[0]: 10}, show=True) as bar:
        bar.advance({RUNS[2]: 10, RUNS[0]: 10})
    last = lines(capsys)[-1]
    assert last.startswith("2/3 runs  90%")
    assert float(last.split(", ")[-1].split()[0]) <= 1 and "0 epochs/s" not in last  # one epoch, not 29


def test_the_time_to_finish_is_that_of_the_work_left_at_the_speed_so_far(log, capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress(COSTS, {RUNS[0]: 5}, show=True) as bar:  # 9.5 of 10 are left
        for seconds, epochs, message in [
            (10, {RUNS[0]: 10}, "1/3 runs  10%|#         | 00:10 elapsed, 03:00 to go, 0.5 epochs/s"),  # 9 at 0.05/s
            (10, {RUNS[2]: 5}, "1/3 runs  50%|#####     | 00:20 elapsed, 00:22 to go, 0.5 epochs/s"),  # 5 at 4.5/20
            (25, {RUNS[2]: 10}, "2/3 runs  90%|######### | 00:45 elapsed, 00:05 to go, 0.333 epochs/s"),  # 1 at 8.5/45
        ]:
            now[0] += seconds
            bar.advance(epochs)
            assert re.sub(r"\|.*\|", "", lines(capsys)[-1]) == re.sub(r"\|.*\|", "", message)


def test_a_run_that_repeats_epochs_stands_still(log, capsys):
    with Progress(COSTS, {}, show=True) as bar:
        bar.advance({RUNS[2]: 5})
        bar.advance({RUNS[2]: 2})
        bar.advance({RUNS[2]: 6})
    assert [line.split("|")[0].split()[-1] for line in lines(capsys)] == ["0%", "40%", "48%"]


def test_it_is_silent_when_told_and_deaf_to_other_runs(log, capsys):
    for show in (False, True):
        with Progress(COSTS, {RUNS[0]: 3}, show=show) as bar:
            bar.advance({Run(seed=77): 5})
            bar.advance({RUNS[1]: 10})
        assert bool(lines(capsys)) == show
