"""The facts that every model is held to, a file for each kind; `ase_mlcalc.testing.models` says when each applies."""
