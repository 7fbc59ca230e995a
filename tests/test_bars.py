"""Bars and times of long work."""

import sys
import time

import pytest

from ase_mlcalc.bars import TimeLeft, bar_on_terminal


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when they are added."""
    seconds = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def test_the_rate_is_that_since_work_began(clock):
    left = TimeLeft()
    assert left.say(5, 10) == ""
    left.begin(4)
    clock[0] += 20
    left.begin(6)  # later calls say nothing
    assert left.say(4, 10) == ""
    assert left.say(6, 10) == "0:00:40 left"  # two in 20 s, four to go
    clock[0] += 7200
    assert left.say(6, 10) == "4:00:40 left"


def test_what_was_there_is_no_speed(clock):
    left = TimeLeft()
    left.begin(0)
    clock[0] += 10
    left.was_there(3)
    assert left.say(4, 10) == "0:01:00 left"  # one in 10 s


def test_a_bar_is_for_a_terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert bar_on_terminal() is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert bar_on_terminal(shown=False) is None
    bar = bar_on_terminal()
    assert bar is not None
    assert not bar.live.auto_refresh  # its thread would take time from the work
