"""Labelled structures: reading them, checking their labels, splitting them, and the reference energies they imply."""
