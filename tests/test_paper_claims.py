"""Claims: computed verdicts, nothing supported that was not recorded, notebooks side by side in one file."""

import dataclasses
import json
import threading

import pandas
import pytest

from lib.core import paths
from lib.paper import claims, experiments
from lib.runs import Run


@pytest.fixture(autouse=True)
def figures(tmp_path, monkeypatch):
    monkeypatch.setenv("SAM_FIGURES", str(tmp_path))
    monkeypatch.setitem(claims.CLAIMS, "99_other", {"x": claims.Claim("Figure 9", "Something else")})
    return tmp_path


def test_what_was_not_recorded_is_not_tested(figures):
    claims.Book("01_convergence", "smoke")
    rows = json.loads((figures / "smoke" / "claims.json").read_text())["01_convergence"]
    assert {row["verdict"] for row in rows.values()} == {"not tested"}
    assert set(rows) == set(claims.CLAIMS["01_convergence"])


@pytest.mark.parametrize(("holds", "verdict"), [(True, "reproduced"), (False, "contradicted"), (None, "not tested")])
def test_the_verdict_follows_the_condition(figures, holds, verdict):
    book = claims.Book("01_convergence", "smoke")
    book.record("lemma-5", measured="0.1", holds=holds, keys=["b", "a", "b"])
    row = json.loads((figures / "smoke" / "claims.json").read_text())["01_convergence"]["lemma-5"]
    assert (row["verdict"], row["measured"], row["keys"]) == (verdict, "0.1", ["a", "b"])
    written = (figures / "smoke" / "claims.md").read_text()
    assert f"| {verdict} |" in written and "*measured*: 0.1." in written


def test_a_table_shows_whole_texts_as_claims_md_does(figures):
    book, long = claims.Book("01_convergence", "lite"), "a long |measurement|, " * 20
    assert book.record("lemma-5", measured=long, holds=True) == "reproduced"
    written = (figures / "lite" / "claims.md").read_text()
    assert long in written  # as a list, in which a bar ends no cell
    head, _, *rows = book.table("lemma-6", "lemma-5")._repr_markdown_().splitlines()
    assert head == "| id | claim | the paper | measured | seeds | verdict |" and len(rows) == 2
    assert rows[1].endswith(f"| {long.replace('|', chr(92) + '|')} |  | reproduced |")
    assert "24 epochs instead of 200" in written.splitlines()[2]  # what the preset changes


def test_only_runs_with_a_record_have_a_key_to_list():
    runs = pandas.DataFrame({"key": ["a", "b", "c"], "status": ["done", "missing", "diverged"]})
    assert claims.keys(runs, runs[:1]) == ["a", "c", "a"]
    # Of a measurement its run is listed too; on a run that diverged nothing is measured.
    taken = runs.assign(run_key=["A", "B", "C"])
    assert sorted(claims.keys(taken)) == ["A", "C", "a"]


def test_reopening_a_notebook_forgets_its_verdicts_and_keeps_those_of_others(figures):
    claims.Book("99_other", "smoke").record("x", measured="1", holds=True)
    claims.Book("01_convergence", "smoke").record("lemma-5", measured="1", holds=True)
    claims.Book("01_convergence", "smoke")
    book = json.loads((figures / "smoke" / "claims.json").read_text())
    assert book["99_other"]["x"]["verdict"] == "reproduced"
    assert book["01_convergence"]["lemma-5"]["verdict"] == "not tested"


def test_a_finding_is_recorded_with_the_keys_of_its_tables_and_shown(figures, capsys):
    book = claims.Book("01_convergence", "smoke")
    swept = pandas.DataFrame({"key": ["a", "b"], "status": ["done", "missing"]})
    tidy = pandas.DataFrame({"keys": ["a c", "c"]})
    assert book.judge("lemma-5", ("margin 1", True), swept, tidy) == "reproduced"
    row = json.loads((figures / "smoke" / "claims.json").read_text(encoding="utf-8"))["01_convergence"]["lemma-5"]
    assert (row["keys"], row["measured"], row["verdict"]) == (["a", "c"], "margin 1", "reproduced")
    shown = capsys.readouterr().out
    assert "**Reproduced.** " in shown and shown.rstrip().strip("'").endswith(". Measured: margin 1.")
    assert book.judge("lemma-6", claims.Finding("nothing", untested="no runs")) == "not tested"


def test_a_claim_or_notebook_that_is_not_there_is_named(figures):
    with pytest.raises(ValueError, match=r"claim = 'lemma-7': 01_convergence has lemma-5"):
        claims.Book("01_convergence", "smoke").record("lemma-7", measured="", holds=True)
    with pytest.raises(ValueError, match="notebook = '00_nothing': has no claims"):
        claims.Book("00_nothing", "smoke")


def test_measured_numbers_carry_their_spread_and_their_count():
    assert claims.mean_and_spread([1.0, 2.0, 3.0], "epochs") == "2 ± 1 epochs (n = 3)"
    assert claims.mean_and_spread([0.5]) == "0.5 (n = 1)"


def test_what_is_lacking_tells_missing_from_diverged():
    one, other = (pandas.DataFrame({"status": status}) for status in (["done", "diverged"], ["missing", "diverged"]))
    assert claims.lacking(one, other) == "1 missing and 2 diverged of the 4 runs that would tell"
    assert claims.lacking(one) == "1 diverged of the 2 runs that would tell"
    assert claims.lacking(one, without=["missing"]) == claims.lacking(one[:1]) == ""


def test_notebooks_that_record_at_once_lose_nothing(figures):
    def record(notebook, name):
        for i in range(30):
            claims.Book(notebook, "smoke").record(name, measured=str(i), holds=True)

    threads = [
        threading.Thread(target=record, args=given) for given in (("99_other", "x"), ("01_convergence", "lemma-5"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book = json.loads((figures / "smoke" / "claims.json").read_text())
    assert book["99_other"]["x"]["measured"] == book["01_convergence"]["lemma-5"]["measured"] == "29"


def test_a_file_that_cannot_be_read_is_kept_beside_the_new_one(figures):
    claims.Book("99_other", "smoke").record("x", measured="1", holds=True)
    file = figures / "smoke" / "claims.json"
    file.write_text(damaged := file.read_text()[:-20])
    claims.Book("01_convergence", "smoke")
    assert set(json.loads(file.read_text())) == {"01_convergence"}
    assert file.with_suffix(".bad").read_text() == damaged


def test_what_is_measured_is_short_and_the_rest_is_a_note(figures):
    book = claims.Book("01_convergence", "smoke")
    number, limit, remark = "0.05 points (95% 0.01 to 0.09, n = 3)", "at most 4 widths", " ".join(["word"] * 30)
    book.record("lemma-5", measured="; ".join((number, limit, remark, limit)), holds=True)
    row = json.loads((figures / "smoke" / "claims.json").read_text())["01_convergence"]["lemma-5"]
    assert (row["measured"], row["note"]) == (f"{number}; {limit}", f"{remark}; {limit}")
    book.record("lemma-5", measured=remark + " and more", holds=True)  # a single part stays whole
    assert book.table("lemma-5").endswith(f"| {remark} and more |  | reproduced |")


def test_verdicts_of_an_earlier_version_of_the_file_are_kept(figures):
    claims.Book("99_other", "smoke").record("x", measured="1", holds=True)
    file = figures / "smoke" / "claims.json"
    book = json.loads(file.read_text())
    old = {name: book["99_other"]["x"][name] for name in ("source", "claim", "measured", "verdict")}
    file.write_text(json.dumps(book | {"99_other": {"x": old | {"verdict": "supported"}}}))
    claims.Book("01_convergence", "smoke")
    written = (figures / "smoke" / "claims.md").read_text()
    assert "| supported |" in written and "*measured*: 1." in written


def grid(seeds=(0, 1, 2), **fields):
    return [Run(dataset="mnist", epochs=100, seed=seed, **fields) for seed in seeds]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """File records of runs that took 10 seconds each, and return their keys."""
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr("lib.paper.claims.book.changed_keys", lambda keys, preset: [])  # of no preset, and meant so

    def write(runs):
        for run in runs:
            folder = paths.records(run.dataset)
            folder.mkdir(parents=True, exist_ok=True)
            record = {"run": run.as_dict(), "status": "done", "provenance": {"seconds": 10.0}}
            (folder / f"{run.key}.json").write_text(json.dumps(record))
        return [run.key for run in runs]

    return write


GAP = claims.Claim("Figure 3a", "It grows", kind="direction", value=0.5, experiments=("mnist_mlp",))


def recorded(figures, monkeypatch, claim, preset="lite", **given):
    monkeypatch.setitem(claims.CLAIMS, "99_other", {"x": claim})
    claims.Book("99_other", preset).record("x", measured="1", **given)
    return json.loads((figures / preset / "claims.json").read_text())["99_other"]["x"]


def test_seeds_networks_compute_and_the_command_come_from_the_records(figures, store, monkeypatch):
    keys = store(grid(width=1.0) + grid(width=2.0))
    effect = claims.Effect.of_error(1.0, 0.1, 4, unit="points", seeds=3, networks=2)
    row = recorded(figures, monkeypatch, GAP, effect=effect, keys=keys)
    assert (row["seeds"], row["networks"], row["seconds"]) == (3, 2, 60.0)
    assert (row["verdict"], row["effect"], row["unit"], row["deviations"]) == ("reproduced", 1.0, "points", "")
    assert row["paper_value"] == 0.5 and row["detectable"] == pytest.approx(effect.detectable, rel=1e-5)
    assert row["command"].startswith("python -m lib.sweep mnist_mlp --preset lite && python -m lib.paper.notebooks")
    condition = recorded(figures, monkeypatch, claims.Claim("", ""), holds=True, keys=keys)  # two fields are enough
    assert (condition["verdict"], condition["seeds"], condition["networks"]) == ("reproduced", 3, 2)


def test_another_protocol_is_named_and_a_stand_in_tests_nothing(figures, store, monkeypatch):
    effect = claims.Effect.of_error(0.3, 0.01, 4, unit="points", seeds=3)
    shorter = store([run.but(epochs=24) for run in grid()])
    row = recorded(figures, monkeypatch, GAP, effect=effect, keys=shorter)
    assert row["verdict"] == "reproduced"  # not "smaller": the paper's number is of 100 epochs
    assert row["deviations"] == "epochs 24 instead of 100"
    assert recorded(figures, monkeypatch, GAP, effect=effect, keys=store(grid()))["verdict"] == "reproduced, smaller"
    own = dataclasses.replace(GAP, own_length=True)
    row = recorded(figures, monkeypatch, own, effect=effect, keys=shorter)
    assert (row["verdict"], row["reason"]) == ("not tested", "another protocol: epochs 24 instead of 100")
    digits = store([Run(dataset="digits", epochs=100, seed=seed) for seed in range(3)])
    row = recorded(figures, monkeypatch, GAP, "smoke", effect=effect, keys=digits)
    assert (row["verdict"], row["stand_in"]) == ("not tested", "reproduced")
    assert row["reason"] == "another protocol: digits instead of mnist"


def test_one_seed_is_at_most_undecided_and_dead_networks_test_nothing(figures, store, monkeypatch):
    condition = dataclasses.replace(GAP, kind="condition")
    one = store(grid(seeds=(0,)))
    for holds in (True, False):
        row = recorded(figures, monkeypatch, condition, holds=holds, keys=one)
        assert row["verdict"] == "undecided" and row["takes"].startswith("its scatter is unknown: two more seeds")
    row = recorded(figures, monkeypatch, condition, holds=True, keys=one, untested="not learned: SAM at α = 1000")
    assert (row["verdict"], row["reason"]) == ("not tested", "not learned: SAM at α = 1000")
    row = recorded(figures, monkeypatch, condition, keys=store(grid()), undecided="the thresholds disagree")
    assert (row["verdict"], row["takes"]) == ("undecided", "the thresholds disagree")


def test_a_changed_experiment_has_no_verdict_and_leaves_those_of_the_preset(figures):
    own = experiments.mnist_convergence("lite")
    book = claims.Book("01_convergence", "lite")
    assert book.record("lemma-5", measured="1", holds=True, keys=[own[0].key]) == "reproduced"
    before = json.loads((figures / "lite" / "claims.json").read_text())
    again = claims.Book("01_convergence", "lite")
    keys = [own[0].key, own[0].but(batch_size=8).key]
    assert again.record("lemma-5", measured="2", holds=True, keys=keys) == "not tested"
    assert again.record("lemma-6", measured="3", holds=True) == "reproduced"  # of no runs
    assert json.loads((figures / "lite" / "claims.json").read_text()) == before
    changed = json.loads((figures / "lite-changed" / "claims.json").read_text())["01_convergence"]
    assert changed["lemma-5"]["reason"] == "1 of 2 runs are not of the preset lite"
    assert changed["lemma-6"]["measured"] == "3"
