"""Structures of several levels of theory: refused unless it is said which are meant."""

import pytest
from training_cases import clusters, write

from ase_mlcalc.data.audit import audit
from ase_mlcalc.data.levels import level_of, levels, of_levels
from ase_mlcalc.data.read import read_frames
from ase_mlcalc.errors import DataError


@pytest.fixture
def frames(tmp_path):
    structures = clusters(6)
    for k, level in enumerate(["PBE", "SCAN (1.0)", "SCAN (1.0)", "SCAN (2.0)"]):
        structures[k].info["level_of_theory"] = level
    return read_frames([write(tmp_path / "mixed.extxyz", structures)])


def test_they_are_counted(frames):
    assert levels(frames) == {"SCAN (1.0)": 2, "": 2, "PBE": 1, "SCAN (2.0)": 1}
    assert audit(frames).levels == {"SCAN (1.0)": 2, "not stated": 2, "PBE": 1, "SCAN (2.0)": 1}


def test_a_mixture_is_refused_unless_it_is_named(frames):
    message = r"several levels of theory, SCAN \(1\.0\) \(2\), not stated \(2\), PBE \(1\).*data\.level_of_theory"
    with pytest.raises(DataError, match=message):
        of_levels(frames, None)
    assert len(of_levels(frames[1:3], None)) == 2
    assert len(of_levels(frames[4:], None)) == 2, "none says its level, as in most files"


def test_what_is_named_is_taken_and_nothing_else(frames):
    assert [level_of(frame) for frame in of_levels(frames, ["PBE"])] == ["PBE"]
    assert [level_of(frame) for frame in of_levels(frames, ["SCAN (1.0)", ""])] == ["SCAN (1.0)"] * 2 + [""] * 2
    assert [level_of(frame) for frame in of_levels(frames, ["SCAN*"])] == ["SCAN (1.0)"] * 2 + ["SCAN (2.0)"]


def test_a_name_that_fits_nothing_is_refused(frames):
    with pytest.raises(DataError, match=r"names 'PBE0', which no structure has; there are SCAN"):
        of_levels(frames, ["PBE", "PBE0"])
