"""How runs end, in words with advice."""

from enum import StrEnum


class Outcome(StrEnum):
    """How a run ended, or what a monitor found on the way; the values are messages for the user."""

    RUNNING = "still running, or killed before it could finish; the same command goes on if no process is at work on it"
    COMPLETED = "completed"
    NAN = (
        "stopped: NaN or Inf; the structure has probably left what the potential was trained on: "
        "look at the last frames, take a shorter time step or add such structures to the training set"
    )
    EXPLODED = (
        "stopped: the temperature exploded; take a shorter time step, relax the starting structure, "
        "or add structures with short distances to the training set"
    )
    REFUSED = (
        "stopped: the potential refused the structure; look at the last frames for atoms that fell onto each other"
    )
    CALCULATION_FAILED = (
        "stopped: the calculator raised an error; look at the last frames for a structure that it cannot be right for, "
        "or that its method does not converge on"
    )
    FUSED = (
        "atoms came closer than their elements allow; the potential lacks a repulsive wall there: "
        "add structures with short distances to the training set"
    )
    STRETCHED = (
        "a bond left the length that it has in the reference; compare energies along that bond with the reference "
        "method, and add stretched structures to the training set"
    )
    BROKEN = (
        "molecules broke or formed; if no reaction is expected at this temperature, label the frames around it "
        "and train on them"
    )
    EVAPORATED = (
        "atoms left the rest; if the structure should hold together, label the frames around it and train on them"
    )
    RESTRUCTURED = (
        "the structure is no longer that of the reference: its distances are distributed in another way; compare with "
        "a reference trajectory at this temperature"
    )
    CELL_CHANGED = (
        "the volume left its range; check the stress of the potential by `ase-mlcalc check`, the pressure and its unit"
    )
    ENERGY_JUMPED = (
        "the conserved energy jumped; the potential is not smooth there or the time step is too long: "
        "run `ase-mlcalc check` on the frames around it, and try half the time step"
    )
    DRIFTED = (
        "the conserved energy drifts; try half the time step: if the drift stays, the forces are not the derivatives "
        "of the energy or the potential is not smooth (`ase-mlcalc check`)"
    )
    WRONG_TEMPERATURE = (
        "the mean temperature is not that of the thermostat; see which degrees of freedom are counted, and "
        "give the thermostat more time"
    )
    FROZEN = "atoms stand still that should move; look for constraints, zero velocities or forces that are zero"
    STALE = (
        "the calculator returned the same forces for another structure; it does not notice that the atoms moved "
        "(see its caching)"
    )
    STRONG_FORCE = "a force is larger than allowed; look for atoms that are too close at the start of the trajectory"
    UNCERTAIN = (
        "the members of the ensemble disagree; the structure is new to them: label the frames around it and train on "
        "them"
    )
    INTERRUPTED = "interrupted by the user; the same command goes on"
    DISK_FULL = "stopped: the disk is full; free some space, and the same command goes on from the last checkpoint"
