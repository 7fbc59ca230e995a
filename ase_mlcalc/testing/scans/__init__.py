"""Cheap predictors of trouble in molecular dynamics: bonds and dimers, deformed one at a time."""

from ase_mlcalc.testing.scans.bonds import BondScan, scan_bonds
from ase_mlcalc.testing.scans.dimers import DimerScan, scan_dimers

__all__ = ["BondScan", "DimerScan", "scan_bonds", "scan_dimers"]
