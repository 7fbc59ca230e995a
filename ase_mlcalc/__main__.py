"""``python -m ase_mlcalc`` is the command ``ase-mlcalc``."""

import sys

from ase_mlcalc.cli import main

if __name__ == "__main__":
    sys.exit(main())
