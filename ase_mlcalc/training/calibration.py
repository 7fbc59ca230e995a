r"""How well the disagreement of an ensemble tells its error, measured on labelled structures.

An item k is an atom (``forces``, ``stresses``) or a structure (``stress``), with an error of C components
:math:`e_{kc}` = mean of the members - label and a spread :math:`s_k` (`ase_mlcalc.ensemble.spread`).  Each component is
taken as drawn from a normal distribution of standard deviation :math:`\sigma_k = s_k / \sqrt C`.

- Rank correlation: Spearman's, of :math:`s_k` with the length of :math:`e_k`.
- Calibration curve: the fraction of components that lie inside the central interval which should hold a fraction p of
  them, over p (Kuleshov, Fenner and Ermon, Proc. 35th Int. Conf. Mach. Learn., PMLR 80, 2796 (2018)).
- Miscalibration area: between this curve and the diagonal; 0 is perfect, 1/2 the worst (Tran et al., Mach. Learn.:
  Sci. Technol. 1, 025006 (2020)).
- Scale: the factor on all :math:`\sigma_k` under which the errors are most likely, :math:`a^2 = \langle e_{kc}^2 /
  \sigma_k^2 \rangle = \langle |e_k|^2 / s_k^2 \rangle`.  It holds for structures like those it was measured on.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import erf
from scipy.stats import spearmanr

from ase_mlcalc import checkpoint
from ase_mlcalc.data.frames import Frame
from ase_mlcalc.data.read import LabelKeys, read_frames
from ase_mlcalc.ensemble import CALIBRATED, Ensemble, mean_and_std, spread
from ase_mlcalc.errors import CheckpointError, DataError
from ase_mlcalc.files import make_folder, write_text
from ase_mlcalc.properties import SPECS, Properties
from ase_mlcalc.training.calibration_plot import CalibrationPanel, calibration_plot
from ase_mlcalc.training.metrics import Comparison, compare, samples_for
from ase_mlcalc.training.seen import n_seen

Array = NDArray[np.float64]

FEWEST_ITEMS = 10
"""Below, neither a correlation nor a factor means anything."""
CURVE_POINTS = 101


class Calibration(BaseModel):
    """Spread of an ensemble against its error, for one property."""

    model_config = ConfigDict(frozen=True)

    unit: str
    n_items: int
    """Atoms or structures."""
    n_without_spread: int
    """Left out: all members agree there exactly, by symmetry for example."""
    spread_rms: float
    """Root mean square of the spread, in `unit`."""
    error_rms: float
    """Root mean square length of the error, in `unit`."""
    rank_correlation: float | None
    """``None`` where all spreads or all errors are equal."""
    scale: float
    miscalibration_area: float
    miscalibration_area_rescaled: float
    """After multiplying the spread by `scale`."""


class CommitteeComparison(NamedTuple):
    """Predictions of all members of an ensemble beside labels."""

    mean: Comparison
    """The ensemble's own."""
    std: Properties
    """Sample standard deviations between the members."""
    members: tuple[Comparison, ...]


def compare_members(ensemble: Ensemble, frames: Sequence[Frame], batch_size: int = 16) -> CommitteeComparison:
    """Predictions of an ensemble and of each of its members for labelled structures.

    Parameters
    ----------
    ensemble : Ensemble
    frames : sequence of Frame
    batch_size : int
        Structures that are evaluated at once; the result does not depend on it.

    Raises
    ------
    DataError
        No structures.
    SpeciesError
        An element that the ensemble does not know.
    """
    samples, groups = samples_for(ensemble, frames, "the ensemble")
    members = tuple(compare(member, samples, groups, batch_size) for member in ensemble.members)
    mean, std = mean_and_std([member.prediction for member in members])
    return CommitteeComparison(members[0]._replace(prediction=mean), std, members)


def calibrate(spread_k: Array, error_kc: Array, unit: str = "eV/Å") -> Calibration:
    """Compare spreads with errors.

    Parameters
    ----------
    spread_k : (K,)
        Of K items, in the unit of the errors.
    error_kc : (K, C)
        Components of the error of each item.
    unit : str

    Raises
    ------
    DataError
        Fewer than 10 items on which the members disagree; NaN or Inf.
    """
    error_kc = error_kc.reshape(len(spread_k), -1)
    if not (np.isfinite(spread_k).all() and np.isfinite(error_kc).all()):
        raise DataError("spread or error is NaN or Inf in some items; leave out what is not labelled or not predicted")
    varied = spread_k > 0
    without = int((~varied).sum())
    spread_k, error_kc = spread_k[varied], error_kc[varied]
    if len(spread_k) < FEWEST_ITEMS:
        raise DataError(
            f"a calibration takes at least {FEWEST_ITEMS} labelled items on which the members disagree, got "
            f"{len(spread_k)} (and {without} on which they agree exactly): give more structures, and members trained "
            "from different seeds"
        )
    z_kc = standardised(spread_k, error_kc)
    scale = math.sqrt(float(np.mean(z_kc**2)))
    length_k = np.linalg.norm(error_kc, axis=1)
    varies = np.ptp(spread_k) > 0 and np.ptp(length_k) > 0
    return Calibration(
        unit=unit,
        n_items=len(spread_k),
        n_without_spread=without,
        spread_rms=float(np.sqrt(np.mean(spread_k**2))),
        error_rms=float(np.sqrt(np.mean(length_k**2))),
        rank_correlation=float(spearmanr(spread_k, length_k).statistic) if varies else None,
        scale=scale,
        miscalibration_area=miscalibration_area(z_kc),
        miscalibration_area_rescaled=miscalibration_area(z_kc / scale) if scale > 0 else 0.5,
    )


def standardised(spread_k: Array, error_kc: Array) -> Array:
    """(K, C) errors in units of the standard deviation that the spread gives each component."""
    return error_kc * (math.sqrt(error_kc.shape[1]) / spread_k)[:, None]


def miscalibration_area(z: Array) -> float:
    r"""Area between calibration curve and diagonal, integrated exactly.

    Parameters
    ----------
    z : any shape
        Standardised errors.

    Returns
    -------
    float
        :math:`\int_0^1 |F(p) - p| dp`, with F(p) the fraction of :math:`|z|` within the central interval of a standard
        normal distribution that holds p; in [0, 1/2].
    """
    edges = np.concatenate([[0.0], np.sort(_interval(z)), [1.0]])
    observed = np.arange(len(edges) - 1) / (len(edges) - 2)  # constant between two edges

    def integral_to(p: Array) -> Array:
        return 0.5 * (p - observed) * np.abs(p - observed)

    return float(np.sum(integral_to(edges[1:]) - integral_to(edges[:-1])))


def calibration_curve(z: Array) -> tuple[Array, Array]:
    """Expected and observed fractions of components within central intervals, both (101,)."""
    expected = np.linspace(0.0, 1.0, CURVE_POINTS)
    inside = np.sort(_interval(z))
    return expected, np.searchsorted(inside, expected, side="right") / len(inside)


def _interval(z: Array) -> Array:
    """Weight of the central interval of a normal distribution that reaches just to each value, flat."""
    return np.asarray(erf(np.abs(z.ravel()) / math.sqrt(2.0)), dtype=float)


def calibrations(compared: CommitteeComparison) -> dict[str, Calibration]:
    """A calibration for each of forces, per-atom stress and stress that is labelled on enough structures."""
    found = {}
    for name in CALIBRATED:
        items = _items(compared, name)
        if items is not None and (items[0] > 0).sum() >= FEWEST_ITEMS:
            found[name] = calibrate(*items, unit=SPECS[name].unit)
    return found


def _items(compared: CommitteeComparison, name: str) -> tuple[Array, Array] | None:
    """Spread (K,) and error (K, C) of the labelled items; ``None`` if there are none."""
    predicted, label = getattr(compared.mean.prediction, name), getattr(compared.mean.labels, name)
    if predicted is None or label is None:
        return None
    error_kc = (predicted - label).reshape(len(label), -1)
    labelled = ~label.reshape(len(label), -1).isnan().any(dim=1)
    return spread(getattr(compared.std, name))[labelled].numpy(), error_kc[labelled].numpy()


def scales(found: Mapping[str, Calibration]) -> dict[str, float]:
    """What `Ensemble` takes as its ``uncertainty_scale``."""
    return {name: one.scale for name, one in found.items() if one.scale > 0}


def write_calibration(
    folder: Path, compared: CommitteeComparison, found: Mapping[str, Calibration], **more: object
) -> None:
    """Write ``calibration.png`` and ``calibration.json`` with further entries."""
    panels = []
    for name, one in found.items():
        items = _items(compared, name)
        assert items is not None  # or there were no calibration
        spread_k, error_kc = items[0][items[0] > 0], items[1][items[0] > 0]
        z_kc = standardised(spread_k, error_kc)
        before = calibration_curve(z_kc)
        after = calibration_curve(z_kc / one.scale) if one.scale > 0 else before
        panels.append(
            CalibrationPanel(
                name=name,
                unit=one.unit,
                spread_k=spread_k,
                length_k=np.linalg.norm(error_kc, axis=1),
                scale=one.scale,
                rank_correlation=one.rank_correlation,
                expected=before[0],
                observed=before[1],
                observed_rescaled=after[1],
                areas=(one.miscalibration_area, one.miscalibration_area_rescaled),
            )
        )
    if panels:
        calibration_plot(folder / "calibration.png", panels)
    properties = {name: one.model_dump(mode="json") for name, one in found.items()}
    text = json.dumps({**more, "properties": properties}, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "calibration.json", text + "\n")


def calibrate_files(
    model_path: Path | str,
    paths: Sequence[Path | str],
    out: Path | str,
    *,
    keys: LabelKeys = LabelKeys(),  # noqa: B008  (frozen)
    format: str | None = None,  # noqa: A002  (ASE's word)
    index: str = ":",
    batch_size: int = 16,
) -> dict[str, Calibration]:
    """Calibrate the spread of an ensemble on labelled structures that it was not trained on.

    Writes ``calibration.png``, ``calibration.json`` and ``model.safetensors``, the ensemble with the factors that were
    found; the checkpoint that was read stays as it is.

    Parameters
    ----------
    model_path : path
        A checkpoint of an ensemble.
    paths : sequence of paths
        Files with labelled structures.
    out : path
        Folder for the results.
    keys, format, index
        As in `read_frames`.
    batch_size : int
        Structures that are evaluated at once.

    Returns
    -------
    dict
        Property (``forces``, ``stresses``, ``stress``) to its calibration.

    Raises
    ------
    CheckpointError
        Unreadable, or the checkpoint of a single model.
    DataError, SpeciesError
        Unreadable data, none with such labels, or an element that the ensemble does not know.
    """
    ensemble, header = checkpoint.load(model_path), checkpoint.read_header(model_path)
    if not isinstance(ensemble, Ensemble):
        raise CheckpointError(
            f"{model_path} holds one model, which has no spread to calibrate; train an ensemble with "
            "`ase-mlcalc train --members 4`"
        )
    frames = read_frames(paths, keys=keys, format=format, index=index)
    compared = compare_members(ensemble, frames, batch_size)
    found = calibrations(compared)
    if not found:
        raise DataError(
            f"nothing to calibrate: the ensemble predicts {', '.join(sorted(ensemble.properties))}, and fewer than "
            f"{FEWEST_ITEMS} atoms or structures are labelled with {', '.join(CALIBRATED)} where its members disagree"
        )
    out = Path(out)
    make_folder(out)
    files = [str(path) for path in paths]
    provenance = {**header.provenance, "calibrated_on": files}
    checkpoint.save(Ensemble(ensemble.members, scales(found)), out / "model.safetensors", provenance)
    write_calibration(
        out, compared, found, model=str(model_path), data=files, n_members=len(ensemble.members),
        n_seen_in_training=n_seen(model_path, frames),
    )  # fmt: skip
    return found
