"""Claims: computed verdicts, nothing supported that was not recorded, notebooks side by side in one file."""

import json
import threading

import pandas
import pytest

from lib.paper import claims, experiments


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


@pytest.mark.parametrize(("holds", "verdict"), [(True, "supported"), (False, "not supported"), (None, "not tested")])
def test_the_verdict_follows_the_condition(figures, holds, verdict):
    book = claims.Book("01_convergence", "smoke")
    book.record("lemma-5", measured="0.1", holds=holds, keys=["b", "a", "b"])
    row = json.loads((figures / "smoke" / "claims.json").read_text())["01_convergence"]["lemma-5"]
    assert (row["verdict"], row["measured"], row["keys"]) == (verdict, "0.1", ["a", "b"])
    assert f"| 0.1 | {verdict} |  |" in (figures / "smoke" / "claims.md").read_text()


def test_a_table_shows_whole_texts_as_claims_md_does(figures):
    book, long = claims.Book("01_convergence", "lite"), "a long |measurement|, " * 20
    assert book.record("lemma-5", measured=long, holds=True) == "supported"
    written = (figures / "lite" / "claims.md").read_text()
    assert book.table()._repr_markdown_() in written
    head, _, *rows = book.table("lemma-6", "lemma-5").splitlines()
    assert head == "| claim | source | measured | verdict | note |" and len(rows) == 2
    assert rows[1].endswith(f"| {long.replace('|', chr(92) + '|')} | supported |  |")
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
    assert book["99_other"]["x"]["verdict"] == "supported"
    assert book["01_convergence"]["lemma-5"]["verdict"] == "not tested"


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
    assert book.table("lemma-5").endswith(f"| {remark} and more | supported |  |")


def test_verdicts_of_an_earlier_version_of_the_file_are_kept(figures):
    claims.Book("99_other", "smoke").record("x", measured="1", holds=True)
    file = figures / "smoke" / "claims.json"
    book = json.loads(file.read_text())
    del book["99_other"]["x"]["note"]
    file.write_text(json.dumps(book))
    claims.Book("01_convergence", "smoke")
    assert "| 1 | supported |" in (figures / "smoke" / "claims.md").read_text()


def test_a_changed_experiment_has_no_verdict_and_leaves_those_of_the_preset(figures):
    own = experiments.mnist_convergence("lite")
    book = claims.Book("01_convergence", "lite")
    assert book.record("lemma-5", measured="1", holds=True, keys=[own[0].key]) == "supported"
    before = json.loads((figures / "lite" / "claims.json").read_text())
    again = claims.Book("01_convergence", "lite")
    keys = [own[0].key, own[0].but(batch_size=8).key]
    assert again.record("lemma-5", measured="2", holds=True, keys=keys) == "not tested"
    assert again.record("lemma-6", measured="3", holds=True) == "supported"  # of no runs
    assert json.loads((figures / "lite" / "claims.json").read_text()) == before
    changed = json.loads((figures / "lite-changed" / "claims.json").read_text())["01_convergence"]
    assert changed["lemma-5"]["note"].startswith("1 of 2 runs are not of the preset lite")
    assert changed["lemma-6"]["measured"] == "3"
