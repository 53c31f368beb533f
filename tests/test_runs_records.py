"""The store of records: what is written is read back, and what is not a record is reported and never used."""

import builtins
import errno
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import warnings

import pytest
import torch

from lib.core import paths
from lib.runs import Run, records, schema
from lib.sweep import sweep
from lib.training import engines, fitting

RUN = Run(dataset="factorization", model="linear2", width=4, loss="squared", epochs=2)
PROVENANCE = records.provenance(torch.device("cpu"))  # taken once: it holds the time


def record(run: Run = RUN) -> dict:
    whole = {
        "run": run.as_dict(),
        "curves": {"epoch": list(range(1, run.epochs + 1)), "train_loss": [0.1 + 0.2, *[1e-17] * (run.epochs - 1)]},
        "final": {"train_loss": 1 / 3, "train_accuracy": None, "test_loss": 1.0},
        "status": "done",
        "provenance": PROVENANCE,
    }
    return whole | {"provenance": PROVENANCE | {"checksum": schema.checksum(whole)}}


def test_a_record_is_read_back_to_the_last_bit(tmp_path):
    store = tmp_path / "new" / "store"
    assert records.read(store, RUN) is None
    file = records.write(store, record())
    assert file == store / f"{RUN.key}.json" == records.path(store, RUN)
    assert records.read(store, RUN) == record()
    assert [f.name for f in store.iterdir()] == [file.name]
    assert len(file.read_text().splitlines()) == 2 + len(Run.PARTS)  # one line a part


def test_a_record_from_before_a_field_was_added_is_found(tmp_path):
    old = record()
    del old["run"]["eval_every"]  # which had its default
    del old["provenance"]["checksum"]  # which is of the whole
    records.write(tmp_path, record()).write_text(json.dumps(old))
    assert records.read(tmp_path, RUN) == old


DAMAGED = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "not text": lambda text: "\udcff\udcfe",
    "a list": lambda text: "[1, 2]",
    "a number": lambda text: "7",
    "null": lambda text: "null",
    "too deep": lambda text: "[" * 100_000,
    "another run": lambda text: json.dumps(record(RUN.but(seed=1))),
    "an unknown field": lambda text: text.replace('"seed"', '"sede"'),
    "an impossible value": lambda text: text.replace('"width": 4.0', '"width": -4.0'),
    "an unknown status": lambda text: text.replace('"done"', '"fine"'),
    "no curves": lambda text: text.replace('"curves"', '"curve"'),
    "curves that are none": lambda text: json.dumps(record() | {"curves": [1]}),
    "a final that is none": lambda text: json.dumps(record() | {"final": None}),
    "a run that is none": lambda text: json.dumps(record() | {"run": "abc"}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_is_not_the_record_is_reported_missing_and_kept_aside(tmp_path, damage):
    file = records.write(tmp_path, record())
    other = records.write(tmp_path, record(RUN.but(seed=5)))
    odd = DAMAGED[damage](file.read_text()).encode(errors="surrogateescape")
    file.write_bytes(odd)
    with pytest.warns(records.RecordWarning, match=f"{file.name}: not a record of this run .*; treated as missing"):
        assert records.read(tmp_path, RUN) is None
    with warnings.catch_warnings(action="error"):
        assert records.read(tmp_path, RUN, warn=False) is None
    records.write(tmp_path, record())
    assert records.read(tmp_path, RUN) == record()
    assert file.with_suffix(".bad").read_bytes() == odd
    assert records.read(tmp_path, RUN.but(seed=5)) == record(RUN.but(seed=5)) and other.exists()


def test_a_file_where_the_store_should_be_holds_no_records(tmp_path):
    (tmp_path / "file").write_text("")
    assert records.read(tmp_path / "file", RUN) is None
    for call in (lambda s: records.write(s, record()), records.check_writable):
        with pytest.raises(records.StoreError, match=r"the store .*/file/store cannot be written to: Not a directory"):
            call(tmp_path / "file" / "store")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_store_that_fails_loses_no_record_and_leaves_no_rubbish(tmp_path, monkeypatch, code):
    records.write(tmp_path, record())

    def fail(*_):
        raise OSError(code, os.strerror(code))

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, fail)
            with pytest.raises(records.StoreError, match=f"{os.strerror(code)}. Finished runs are safe; free some"):
                records.write(tmp_path, record(RUN.but(seed=5)))
            with pytest.raises(records.StoreError):
                records.check_writable(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [f"{RUN.key}.json"]
    assert records.read(tmp_path, RUN) == record()


@pytest.mark.parametrize("checkpoint_seconds", [-1.0, 15.0], ids=["before a checkpoint", "before the record"])
def test_a_store_that_becomes_read_only_in_training_loses_nothing(tmp_path, monkeypatch, checkpoint_seconds):
    sweep([RUN], store=tmp_path)
    before = records.path(tmp_path, RUN).read_bytes()
    longer, epoch = RUN.but(epochs=5), engines.Stack.epoch
    monkeypatch.setattr(fitting, "CHECKPOINT_SECONDS", checkpoint_seconds)

    def fail(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def only_reading(file, mode="r", *rest, open=open, **more):
        return open(file, mode, *rest, **more) if set(mode) <= {*"rbt"} else fail()

    with monkeypatch.context() as patch:

        def flipping(engine, number):
            if number == 3:
                for module, name, value in (
                    (builtins, "open", only_reading),
                    (io, "open", only_reading),
                    (os, "replace", fail),
                    (os, "unlink", fail),
                ):
                    patch.setattr(module, name, value)
            return epoch(engine, number)

        patch.setattr(engines.Stack, "epoch", flipping)
        with pytest.raises(records.StoreError, match=r"Read-only file system\. Finished runs are safe"):
            sweep([RUN, longer], store=tmp_path)
    assert records.path(tmp_path, RUN).read_bytes() == before
    assert set(sweep([RUN, longer], store=tmp_path)["status"]) == {"done"}


def test_a_file_too_large_for_the_kernel_is_a_store_error(tmp_path):
    records.write(tmp_path, record())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # Python ignores the signal, so that writing fails
    try:
        with pytest.raises(records.StoreError, match="File too large"):
            records.write(tmp_path, record(RUN.but(seed=5)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [f.name for f in tmp_path.iterdir()] == [f"{RUN.key}.json"]
    assert records.read(tmp_path, RUN) == record()


def test_numbers_that_are_none_are_refused(tmp_path):
    with pytest.raises(ValueError):
        records.write(tmp_path, record() | {"final": {"train_loss": float("nan")}})
    assert not list(tmp_path.iterdir())


def test_a_writer_killed_in_the_middle_leaves_the_old_file(tmp_path):
    file = records.write(tmp_path, record())
    before = file.read_bytes()
    script = (
        "import os, sys; from pathlib import Path; from lib.core import files;"
        "os.fsync = lambda _: os.kill(os.getpid(), 9); files.replace(Path(sys.argv[1]), 'new')"
    )
    assert subprocess.run([sys.executable, "-c", script, str(file)]).returncode == -9
    assert file.read_bytes() == before


def test_provenance_says_which_code_and_machine():
    result = records.provenance(torch.device("cpu"))
    assert set(result) == {"commit", "date", "python", "torch", "device", "instructions", "threads"}
    assert result["torch"] == torch.__version__ and result["device"]


def test_a_copy_inside_another_checkout_names_no_commit(tmp_path):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "another project"]):
        subprocess.run([*git, *command], check=True)
    shutil.copytree(paths.ROOT / "lib", tmp_path / "copy" / "lib")
    script = "from lib.runs import records; print(records.paths.ROOT, records.commit())"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path / "copy")
    assert process.stdout.split() == [str(tmp_path / "copy"), "None"], process.stderr
