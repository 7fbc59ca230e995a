"""Kernel models of one molecule in closed form: descriptor, symmetries, kernel, and solvers of the linear system."""
