"""What ``ase-mlcalc stress`` is told about local stress."""

from ase_mlcalc.errors import ConfigError
from ase_mlcalc.stress.fields import Localisation
from ase_mlcalc.stress.folder import localisation_named


def localisation_of(
    field: str | None, *, bins: str | None, axis: str | None, radius_A: float | None, memory_GB: float | None
) -> Localisation | None:
    """The field that options ask for, if they do; those not given have defaults.

    Raises
    ------
    ConfigError
        Options of a field without the field; words that are not understood.
    """
    if field not in (None, "hardy") and radius_A is not None:
        raise ConfigError(f"--radius is that of hardy's bond functions; --field {field} has none")
    if field is not None:
        return localisation_named(
            field,
            "100" if bins is None else bins,
            "z" if axis is None else axis,
            4.0 if radius_A is None else radius_A,
        )
    options = {"--bins": bins, "--axis": axis, "--radius": radius_A, "--memory-GB": memory_GB}
    given = [name for name, value in options.items() if value is not None]
    if given:
        verb = "belongs" if len(given) == 1 else "belong"
        raise ConfigError(f"{', '.join(given)} {verb} to local stress; add --field planes, ik, hardy or bins")
    return None
