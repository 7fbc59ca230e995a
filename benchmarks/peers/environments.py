"""A virtual environment for each program, made once."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ase_mlcalc.files import write_text
from peers.contenders import REQUIREMENTS

STAMP = "installed.json"


class InstallError(Exception):
    """A program that cannot be had here; the message is the last line of pip."""


def python_of(program: str, envs: Path, torch: Sequence[str]) -> Path:
    """The interpreter of a program's environment, which is made if it is not there or was made for something else.

    Parameters
    ----------
    program : str
        ``ours`` is the environment that this runs in.
    envs : Path
        Folder of the environments.
    torch : sequence of str
        What pip is told to install first, so that all have the same torch.

    Raises
    ------
    InstallError
        The environment cannot be made.
    """
    if program == "ours":
        return Path(sys.executable)
    folder = envs / program
    python = folder.absolute() / "bin" / "python"
    packages, alone = REQUIREMENTS[program]
    asked = {"torch": [*torch], "packages": [*packages, *alone], "python": sys.version.split()[0]}
    stamp = folder / STAMP
    if stamp.exists() and json.loads(stamp.read_text()) == asked:
        return python
    print(f"installing {program} in {folder}", flush=True)
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    _run([str(python), "-m", "pip", "install", "--quiet", *torch])
    pinned = folder / "torch.txt"
    frozen = _run([str(python), "-m", "pip", "freeze"]).splitlines()
    write_text(pinned, "\n".join(line for line in frozen if line.startswith("torch==")) + "\n")
    _run([str(python), "-m", "pip", "install", "--quiet", "--constraint", str(pinned), *packages])
    if alone:
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", *alone])
    write_text(stamp, json.dumps(asked, indent=1))
    return python


def _run(words: list[str]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-1:]
        raise InstallError(f"{' '.join(words[1:5])} failed: {' '.join(last)}")
    return done.stdout
