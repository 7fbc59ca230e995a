"""Files are complete or absent."""

import os
import signal
import stat
import threading

import pytest

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.files import atomic_path, uninterrupted, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_text_replaces_the_earlier_file(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    write_text(path, "one")
    write_text(path, "Å\n")
    assert path.read_text(encoding="utf-8") == "Å\n"
    assert names(path.parent) == ["a.txt"]


def test_writer_gets_a_path_in_the_same_folder(tmp_path):
    with atomic_path(tmp_path / "a.bin") as part:
        part.write_bytes(b"12")
    assert (tmp_path / "a.bin").read_bytes() == b"12"
    assert part.parent == tmp_path


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_in_between_leaves_the_earlier_file(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "good")
    with pytest.raises(error), atomic_path(path) as part:  # noqa: PT012  (what goes wrong goes wrong half-way)
        part.write_text("ha")
        raise error
    assert path.read_text() == "good"
    assert names(tmp_path) == ["a.txt"]


def test_full_disk_is_told_in_one_line(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "good")
    with pytest.raises(MLCalcError, match=r"cannot write .*a\.txt: No space left.*untouched"), atomic_path(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "good"
    assert names(tmp_path) == ["a.txt"]


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    ordinary, ours = tmp_path / "ordinary", tmp_path / "ours"
    ordinary.write_text("x")
    before = os.umask(0o022)
    os.umask(before)
    write_text(ours, "x")
    assert stat.S_IMODE(ours.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    after = os.umask(before)
    assert after == before


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(MLCalcError, match="cannot write"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_an_interrupt_waits_for_the_end_of_what_must_not_be_cut():
    done = []

    def work():
        with uninterrupted():
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_have_nothing_to_wait_for():
    done = []

    def work():
        with uninterrupted():
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]
