"""Large pages: asked for before torch makes its first tensor, there are few of them."""

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
