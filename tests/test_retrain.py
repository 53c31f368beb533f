"""Records trained again: the same numbers are found to be the same, others by how much they differ."""

import json

from benchmarks import retrain
from lib.runs import Run, records
from lib.sweep import sweep

RUN = Run(dataset="digits", width=0.03, epochs=2, n_train=64, batch_size=32)


def test_a_record_is_compared_with_what_is_trained_today(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SAM_RECORDS", str(tmp_path))
    monkeypatch.setattr(records.paths, "records", lambda dataset: tmp_path / "digits")
    runs = [RUN, RUN.but(seed=1)]
    sweep(runs, store=tmp_path / "digits")
    file = records.path(tmp_path / "digits", RUN)
    for change, message, code in [
        (0.0, "the same numbers", 0),
        (1e-9, "off by 1.0e-09", 0),
        (0.01, "off by 9.9e-03", 1),
    ]:
        record = json.loads(file.read_text())
        record["final"]["test_loss"] *= 1 + change
        record["provenance"].pop("checksum", None)  # as in records from before it
        file.write_text(json.dumps(record))
        given = ["--where", "dataset == 'digits'", "--store", str(tmp_path / "again")]
        assert retrain.main(given) == code
        assert f"{RUN.key} (mlp of width 0.03): {message}" in capsys.readouterr().out
    assert retrain.main(["0123"]) == 1 and "no record of 0123" in capsys.readouterr().err


def test_other_shapes_are_infinitely_different():
    assert retrain.difference({"a": [1.0, None]}, {"a": [1.0, None]}) == 0
    for new in ({"a": [1.0]}, {"b": [1.0, None]}, {"a": [1.0, 2.0]}, None):
        assert retrain.difference({"a": [1.0, None]}, new) == float("inf")


def test_a_run_is_trained_again_in_its_company(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(records.paths, "records", lambda dataset: tmp_path / "digits")
    runs = [RUN.but(seed=seed) for seed in range(4)]
    sweep(runs, store=tmp_path / "digits")
    company = records.read(tmp_path / "digits", RUN)["provenance"]["company"]
    assert sorted(company) == sorted(run.key for run in runs)
    assert retrain.main([RUN.key, "--store", str(tmp_path / "again")]) == 0
    assert "the same numbers" in capsys.readouterr().out
    assert records.read(tmp_path / "again", RUN)["provenance"]["company"] == company
