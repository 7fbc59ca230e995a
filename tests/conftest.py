"""Every test runs on one torch thread: the structures are small, and tests run side by side."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for programs that tests start

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread():
    """Fail a test that changes the number of threads for those after it."""
    yield
    left = torch.get_num_threads()
    torch.set_num_threads(1)
    assert left == 1, f"the test left torch with {left} threads; put back what it changed"
