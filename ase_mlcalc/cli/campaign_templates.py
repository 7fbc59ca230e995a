"""Configuration files of campaigns to start from: a training, and what is varied."""

from ase_mlcalc.campaigns import config
from ase_mlcalc.config import template
from ase_mlcalc.workers import EXECUTOR_WORDS

CURVE_TITLE = (
    "# A learning curve: `ase-mlcalc learning-curve FILE`; the same command goes on after a kill.  Name your data.\n"
    "# Every training takes as many steps as max_epochs makes at the largest size."
)
SCAN_TITLE = (
    "# A scan of hyper-parameters: `ase-mlcalc scan FILE`; the same command goes on after a kill.  Name your data.\n"
    "# What is varied stands in [scan], at the end."
)
SCANNED = """# Keys of the job with the values that they take; all combinations are trained.
"model.cutoff" = [4.0, 5.0]
"train.learning_rate" = [0.003, 0.01]
# A search takes ranges too: method = "optuna", trials = 30, and
# "train.learning_rate" = { low = 1e-4, high = 1e-2, log = true }"""


def campaign_template(job: str, training: str) -> str:
    """The text of a configuration file.

    Parameters
    ----------
    job : "learning-curve" or "scan"
    training : str
        The template of a training.
    """
    _, rest = training.split("\n", 1)
    rest = rest.replace("\n\n[data]\n", f"\n# {EXECUTOR_WORDS}\n# executor = ...\n\n[data]\n", 1)
    if job == "learning-curve":
        for key in ("n_train", "draw_seed", "bootstrap_seed"):
            rest = _without(rest, key)
        rest = rest.replace("max_minutes = 20.0", "# max_minutes = ...").replace(
            "# max_epochs = ...", "max_epochs = 50"
        )
        table = template(config.LearningCurveTable, "learning_curve")
        table = table.replace("# sizes = ...", "sizes = [100, 200, 400, 800]").replace("seeds = [0, 1, 2]", "seeds = 3")
        return f"{CURVE_TITLE}\n{rest}\n{table}\n"
    rest = _without(rest, "draw_seed")
    table = _without(template(config.ScanTable, "scan"), "values").replace("seeds = [0]", "seeds = 1")
    return f"{SCAN_TITLE}\n{rest}\n{table}\n{SCANNED}\n"


def _without(text: str, key: str) -> str:
    """Leave out a key and the line that says what it means."""
    lines = text.split("\n")
    place = next(k for k, line in enumerate(lines) if line.removeprefix("# ").startswith(f"{key} = "))
    return "\n".join(lines[: place - 1] + lines[place + 1 :])
