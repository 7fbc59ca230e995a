"""`MonitorsConfig`: which monitors watch a run, from which threshold on they speak, and whether that stops the run."""

import re
from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import Field, field_validator

from ase_mlcalc.config import Section

Use = bool | Literal["auto"]
Action = Literal["stop", "note"]


def _use(default: Use, when: str = "") -> Any:
    return Field(default, description=f'"auto": {when}' if when else "true or false")


def _action(default: Action) -> Any:
    return Field(default, description='"stop" the run, or only "note" it and go on')


def _threshold(default: float, description: str, *, above: float | None = 0.0) -> Any:
    return Field(default, gt=above, allow_inf_nan=False, description=description)


class StaleConfig(Section):
    """Forces that stay the same to the last bit while atoms move."""

    use: bool = _use(True)
    action: Action = _action("stop")


class FrozenConfig(Section):
    """Atoms without a constraint that do not move at all."""

    use: bool = _use(True)
    action: Action = _action("stop")
    looks: int = Field(10, ge=2, description="in so many looks in succession an atom has to stand still")


class DistancesConfig(Section):
    """Pairs of atoms that are closer than their elements allow."""

    use: bool = _use(True)
    action: Action = _action("stop")
    fraction: float = _threshold(0.6, "of the sum of covalent radii, below which atoms have fused")
    min_distance_A: float = _threshold(0.5, "least limit of any pair of elements, Å")
    reference_fraction: float = Field(
        0.75,
        ge=0,
        lt=1,
        description="with a reference trajectory: of the smallest distance that the pair of elements has in it; 0: not",
    )
    pairs: dict[str, float] = Field(
        default_factory=dict, description='limits of single pairs of elements in Å, such as { "Se-Se" = 1.9 }'
    )

    @field_validator("pairs")
    @classmethod
    def _are_pairs_of_elements(cls, pairs: dict[str, float]) -> dict[str, float]:
        for name, limit in pairs.items():
            match = re.fullmatch(r"([A-Z][a-z]?)-([A-Z][a-z]?)", name)
            if match is None or any(symbol not in atomic_numbers for symbol in match.groups()):
                raise ValueError(f"{name!r} is no pair of elements; write it as in 'Se-Se'")
            if not 0 <= limit < 10:
                raise ValueError(f"the limit of {name} is a distance in Å between 0 and 10, got {limit}")
        return pairs


class FragmentsConfig(Section):
    """Molecules that lose atoms, fall apart or join, against the bonds of the starting structure."""

    use: Use = _use("auto", "on if the starting structure consists of molecules, not of one network")
    action: Action = _action("stop")
    broken_beyond_A: float = _threshold(0.8, "a bond is broken when longer than the covalent radii by this, Å")
    new_within_A: float = _threshold(
        0.2, "a bond is new when longer than the covalent radii by less than this, Å", above=None
    )
    persist_fs: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="how long it has to last, fs; shorter: an attempt, not a reaction"
    )


class LostConfig(Section):
    """Atoms or groups of atoms that leave the rest."""

    use: Use = _use("auto", "on if the starting structure is one body with empty space around it")
    action: Action = _action("stop")
    gap_A: float = _threshold(6.0, "distance from all other atoms beyond which an atom or a group has left them, Å")


class BondsConfig(Section):
    """Bonds that leave the length that they have in the reference, or else in the starting structure."""

    use: Use = _use("auto", "on if the starting structure consists of molecules, not of one network")
    action: Action = _action("stop")
    max_deviation_A: float = _threshold(0.5, "of a bond from its mean length in the reference, Å")
    wait_fs: float = Field(
        50.0,
        ge=0,
        allow_inf_nan=False,
        description="time before it is reported, so that an atom that leaves can be told from a long bond, fs",
    )


class VolumeConfig(Section):
    """The cell becomes much larger, smaller or flatter than at the start."""

    use: bool = _use(True)
    action: Action = _action("stop")
    min_ratio: float = Field(0.67, gt=0, lt=1, description="smallest volume in units of that at the start")
    max_ratio: float = _threshold(1.5, "largest volume in units of that at the start", above=1.0)
    min_height_ratio: float = Field(
        0.5, gt=0, lt=1, description="smallest distance between opposite faces in units of that at the start"
    )
    min_density_g_per_cm3: float | None = Field(None, gt=0, description="smallest density, g/cm³; default: any")
    max_density_g_per_cm3: float | None = Field(None, gt=0, description="largest density, g/cm³; default: any")


class LatticeConfig(Section):
    """A crystal that melts: its Bragg peaks fade."""

    use: Use = _use("auto", "on if the starting structure is periodic and has Bragg peaks")
    action: Action = _action("stop")
    min_order: float = Field(0.25, gt=0, lt=1, description="mean intensity of the peaks in units of that at the start")


class RdfConfig(Section):
    """Radial distribution functions that leave those of the reference trajectory."""

    use: Use = _use(
        "auto", "on if there is a reference trajectory and all is periodic; true without one: against its first window"
    )
    action: Action = _action("stop")
    kinds: Literal["pairs", "all"] = Field(
        "pairs", description='"pairs": one g(r) for each pair of elements, the worst counts; "all": one for all atoms'
    )
    max_difference_A: float = _threshold(3.0, "integral of |g - g_reference| over r, Å; MDsim: 3 for water, 1 for LiPS")
    r_max_A: float = _threshold(6.0, "end of the integral, Å")
    bin_A: float = _threshold(0.05, "width of bins, Å")
    window_ps: float = _threshold(1.0, "length of the sliding window, ps")
    samples: int = Field(10, ge=2, description="number of samples in a window")


class TemperatureConfig(Section):
    """The temperature goes through the roof, or everything stops."""

    use: bool = _use(True)
    action: Action = _action("stop")
    max_ratio: float = _threshold(
        5.0,
        "to the highest target so far, or to the temperature at the start; more is allowed for few atoms, "
        "as much as a canonical kinetic energy fluctuates once in a billion looks",
        above=1.0,
    )
    always_allowed_K: float = Field(
        1000.0, ge=0, allow_inf_nan=False, description="temperatures up to this are never called too high, K"
    )
    min_ratio: float = Field(
        0.05, ge=0, lt=1, description="everything has stopped below this part of the target, if it was warm before"
    )
    cold_ps: float = _threshold(0.5, "how long it has to be that cold, ps")


class EnergyConfig(Section):
    """The conserved energy jumps between two looks; without one, the potential energy."""

    use: bool = _use(True)
    action: Action = _action("stop")
    max_ratio: float = _threshold(5.0, "of a change to the largest of the last 200", above=1.0)
    min_jump_eV: float = _threshold(0.05, "smaller changes of the conserved energy are never called jumps, eV")
    min_potential_jump_eV: float = _threshold(
        1.0, "smaller changes of the potential energy are never called jumps, eV; used where nothing is conserved"
    )


class DriftConfig(Section):
    """The conserved energy drifts."""

    use: bool = _use(True)
    action: Action = _action("stop")
    max_meV_per_atom_per_ps: float = _threshold(0.5, "largest slope, meV/atom/ps; 0.5 heats by about 2 K/ps")
    min_time_ps: float = _threshold(2.0, "time before it is judged, ps")


class ForceConfig(Section):
    """A force that is larger than any that matter should meet."""

    use: bool = _use(True)
    action: Action = _action("stop")
    max_eV_per_A: float = _threshold(100.0, "largest force on an atom, eV/Å")


class CommitteeConfig(Section):
    """The members of an ensemble disagree about a force."""

    use: bool = _use(True)
    action: Action = _action("note")
    max_spread_eV_per_A: float = _threshold(
        0.5, "largest spread of the force on an atom, eV/Å; calibrated if the ensemble is"
    )


class ThermostatConfig(Section):
    """The mean temperature is not that of the thermostat; judged at the end of a run at one temperature."""

    use: bool = _use(True)
    action: Action = _action("note")
    max_deviation: float = _threshold(0.03, "of the mean from the target, relative")
    min_time_ps: float = _threshold(2.0, "time before it is judged, ps; its first third is left out")


class FiniteConfig(Section):
    """NaN or Inf."""

    use: bool = _use(True)
    action: Action = _action("stop")


class MonitorsConfig(Section):
    """What watches a run, in order of precedence: causes before what they lead to."""

    stale: StaleConfig = StaleConfig()
    frozen: FrozenConfig = FrozenConfig()
    distances: DistancesConfig = DistancesConfig()
    fragments: FragmentsConfig = FragmentsConfig()
    lost: LostConfig = LostConfig()
    bonds: BondsConfig = BondsConfig()
    volume: VolumeConfig = VolumeConfig()
    lattice: LatticeConfig = LatticeConfig()
    rdf: RdfConfig = RdfConfig()
    temperature: TemperatureConfig = TemperatureConfig()
    energy: EnergyConfig = EnergyConfig()
    drift: DriftConfig = DriftConfig()
    force: ForceConfig = ForceConfig()
    committee: CommitteeConfig = CommitteeConfig()
    thermostat: ThermostatConfig = ThermostatConfig()
    finite: FiniteConfig = FiniteConfig()
