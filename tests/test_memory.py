"""Large pages: asked for before torch makes its first tensor, there are few of them."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

PAGE_FAULTS = """
import resource, sys
import ase_mlcalc

if sys.argv[1] == "large":
    assert ase_mlcalc.use_large_pages()
import torch

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(30_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def page_faults(word):
    command = [sys.executable, "-c", PAGE_FAULTS, word]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


@pytest.mark.skipif(
    not SETTING.exists() or "[madvise]" not in SETTING.read_text(), reason="this system decides about large pages alone"
)
def test_few_pages_are_handed_out(monkeypatch):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    assert page_faults("large") < page_faults("default") / 5


def test_a_script_that_comes_too_late_is_told(monkeypatch):
    import torch  # noqa: F401

    from ase_mlcalc import use_large_pages

    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    assert not use_large_pages()


KEPT = """
import resource, sys
import ase_mlcalc

if sys.argv[1] == "kept":
    assert ase_mlcalc.keep_memory()
import torch


def step():
    arrays = [torch.ones(5_000_000) for _ in range(8)]


for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the C library of GNU has the settings")
def test_memory_is_kept_for_the_next_arrays(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    returned, kept = (
        int(subprocess.run([sys.executable, "-c", KEPT, word], check=True, capture_output=True, text=True).stdout)  # noqa: S603
        for word in ("returned", "kept")
    )
    assert kept < returned / 5
