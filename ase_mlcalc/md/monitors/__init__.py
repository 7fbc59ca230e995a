"""Monitors: when a trajectory can no longer be believed, and why; live and on the trajectory of any program."""
