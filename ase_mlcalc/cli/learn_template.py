"""The configuration file of an active learning to start from."""

import re

from ase_mlcalc.active.config import LearnJob
from ase_mlcalc.cli import templates
from ase_mlcalc.config import template
from ase_mlcalc.training.config import FROM_OTHER_WEIGHTS

TITLE = """# Active learning: `ase-mlcalc learn FILE`; the same command goes on after a kill.  Name your structures, and
# what labels them.  Each round labels, trains [model] by [train], and runs the [study] of [[md]] with the committee.
"""
TUNE = """[tune]
# Keys of [train] that are others after the first round, where members go on from what they know, for example
# max_epochs = 20
"""
VALUES = {"start": '["start.extxyz"]', "calculator": '"tblite.ase:TBLite"', "max_minutes": "10.0"}


def learn_template(model_table: str) -> str:
    """The text of a configuration file.

    Parameters
    ----------
    model_table : str
        The table ``[model]``.
    """
    text = template(LearnJob)
    before, rest = text.split("[learn]\n", 1)
    assert "model = " in before, "keys that have tables of their own below"
    learn, rest = rest.split("\n\n[train]\n", 1)
    training, rest = rest.split("\n\n[study]\n", 1)
    training = templates.with_weights(templates.left_open(training, {*FROM_OTHER_WEIGHTS, "workers"}))
    rest = re.sub(r"\n\[md\.monitors\.committee\]\n[^\[]*", "\n", rest)
    study = templates.without_what_is_filled_in(f"[study]\n{rest}").replace("seeds = [0, 1]", "seeds = 2")
    learn = learn.replace("start = []", "# start = ...").replace("labelled = []", "# labelled = ...")
    learn = learn.replace("test = []", "# test = ...")
    return templates.filled(
        f"{TITLE}\n[learn]\n{learn}\n\n{model_table}\n\n[train]\n{training}\n\n{TUNE}\n{study}", VALUES
    )
