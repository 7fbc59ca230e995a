"""Machine-learned potentials for ASE: energy, forces, stress and per-atom stress from one gradient."""
