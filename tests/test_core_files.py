"""Files are whole: whoever looks finds the old content or the new."""

import threading

import pytest

from lib.core import files
from lib.runs import records


def test_what_fails_half_way_leaves_the_old_content_and_no_rubbish(tmp_path):
    file = tmp_path / "a.txt"
    files.replace(file, "old")
    with pytest.raises(ZeroDivisionError), files.replacing(file) as out:
        out.write(b"new")
        1 / 0  # noqa: B018
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_threads_that_write_one_file_do_not_meet(tmp_path):
    file, texts = tmp_path / "a.txt", [letter * 10_000 for letter in "abcd"]

    def write(text):
        for _ in range(50):
            files.replace(file, text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() in texts and list(tmp_path.iterdir()) == [file]


def test_a_file_of_the_user_named_probe_stays(tmp_path):
    (tmp_path / "probe").write_text("mine")
    records.check_writable(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["probe"] and (tmp_path / "probe").read_text() == "mine"
