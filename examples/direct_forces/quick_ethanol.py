"""A few labelled frames of ethanol, for the quick mode."""

from pathlib import Path

import ase.io
from ase.build import molecule

from ase_mlcalc.labelling import label


def files(folder: Path, n_train: int = 16, n_test: int = 4) -> tuple[Path, Path]:
    """Training and test file, made where they are not there."""
    made = []
    for number, (name, count) in enumerate((("train", n_train), ("test", n_test))):
        path = folder / f"{name}.extxyz"
        if not path.exists():
            frames = []
            for k in range(count):
                ethanol = molecule("CH3CH2OH")
                ethanol.rattle(0.03, seed=100 * number + k)
                frames.append(ethanol)
            folder.mkdir(parents=True, exist_ok=True)
            arguments = {"method": "GFN2-xTB", "verbosity": 0}
            done = label(frames, "tblite.ase:TBLite", path, arguments=arguments, workers=1, progress=False)
            assert len(ase.io.read(done.out, ":")) == count
        made.append(path)
    return made[0], made[1]
