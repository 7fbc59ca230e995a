"""Pictures of structures: atoms are where the view puts them, pairs meet, and what hides them is seen through."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from matplotlib.patches import Circle

from ase_mlcalc.plots import new_figure
from ase_mlcalc.report.structure import MOST_ATOMS, choose_view, draw_structure, name_of


def drawn(atoms, view, marked=()):
    """Axes with the picture, and how many atoms lie outside it."""
    axes = new_figure(4, 4).add_subplot()
    return axes, draw_structure(axes, atoms, view, marked)


def rings(axes):
    """Middles of the rings around marked atoms, in the order of the marks."""
    return [np.array(patch.center) for patch in axes.patches if isinstance(patch, Circle)]


def spheres(axes):
    """Middles and opacities of what is drawn of atoms, from the farthest to the nearest."""
    (collection,) = [each for each in axes.collections if len(each.get_facecolor())]
    middles = [path.get_extents().get_points().mean(axis=0) for path in collection.get_paths()]
    return np.array(middles), collection.get_facecolor()[:, 3]


@pytest.mark.parametrize("pbc", [True, (True, True, False)])
def test_a_pair_meets_through_the_boundary(pbc):
    rng = np.random.default_rng(1)
    atoms = Atoms("Se40", rng.uniform(0, 12, (40, 3)), cell=[[12, 0, 0], [2, 11, 0], [0, 1, 13]], pbc=pbc)
    atoms.positions[12] = [0.02, 0.40, 0.50] @ atoms.cell
    atoms.positions[33] = [0.95, 0.43, 0.52] @ atoms.cell
    distance = atoms.get_distance(12, 33, mic=True)
    assert distance < 1.5
    assert atoms.get_distance(12, 33) > 10.0
    view = choose_view(atoms, (12, 33))
    axes, _ = drawn(atoms, view, (12, 33))
    one, other = rings(axes)
    assert np.linalg.norm(one - other) == pytest.approx(distance, abs=1e-9)  # they lie side by side in the picture
    assert np.abs(one - other)[1] < 1e-9
    assert np.linalg.norm(one + other) / 2 < 0.5 * view.half_width
    names = {text.get_text() for text in axes.texts}
    assert {name_of(atoms, 12), name_of(atoms, 33)} == {"Se12", "Se33"} <= names


def test_what_is_in_the_way_is_glass():
    atoms = molecule("C6H6")
    view = choose_view(atoms, (0, 3))
    front = atoms.positions[0] + 2.5 * view.axes[2]
    aside = atoms.positions[0] + 2.5 * view.axes[2] + 4.0 * view.axes[1]
    crowded = atoms + Atoms("Ar2", [front, aside])
    seen = view._replace(drawn=np.arange(len(crowded)), half_height=9.0)
    axes, _ = drawn(crowded, seen, (0, 3))
    middles, opacity = spheres(axes)
    assert opacity[-2:].min() < 0.3 < opacity[-2:].max() == 1.0
    hidden = middles[-2:][np.argmin(opacity[-2:])]
    assert np.allclose(hidden, rings(axes)[0], atol=1e-6)


def test_frames_are_seen_alike():
    atoms = bulk("Cu", cubic=True) * 3
    later = atoms.copy()
    later.positions[7] += [0.2, 0.1, -0.3]
    view = choose_view(atoms, (7, 8))
    before, after = (rings(drawn(frame, view, (7, 8))[0]) for frame in (atoms, later))
    assert np.allclose(before[1], after[1])
    assert np.allclose(after[0] - before[0], view.axes[:2] @ [0.2, 0.1, -0.3])


def test_only_the_neighbourhood_of_marked_atoms_is_drawn():
    atoms = bulk("Cu", cubic=True) * 6
    view = choose_view(atoms, (100,))
    assert len(view.drawn) == MOST_ATOMS
    assert 100 in view.drawn
    apart = atoms.get_distances(100, view.drawn, mic=True)
    left_out = np.setdiff1d(np.arange(len(atoms)), view.drawn)
    assert apart.max() <= atoms.get_distances(100, left_out, mic=True).min() + 1e-6
    assert len(choose_view(atoms).drawn) == len(atoms)


def test_atoms_that_flew_away_are_counted():
    atoms = molecule("CH3CH2OH")
    view = choose_view(atoms, (2, 3))
    assert drawn(atoms, view, (2, 3))[1] == 0
    gone = atoms.copy()
    gone.positions[3] += 1e6
    gone.positions[4] = np.nan
    axes, lost = drawn(gone, view, (2, 3))
    assert lost == 2
    assert len(rings(axes)) == 1


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("H"),
        Atoms("H2", np.zeros((2, 3))),
        Atoms("OH", [[0, 0, 0], [0, 0, 1]]),
        bulk("Cu"),
        molecule("C6H6"),
        Atoms("Ar2", [[0, 0, 0], [0, 0, 4]], cell=[0, 0, 8], pbc=(False, False, True)),
    ],
    ids=lambda atoms: atoms.get_chemical_formula(),
)
def test_any_structure_can_be_drawn(atoms):
    for marked in ((), (0,), tuple(range(min(2, len(atoms)))), tuple(range(len(atoms))), (99,)):
        view = choose_view(atoms, marked)
        assert np.allclose(view.axes @ view.axes.T, np.eye(3))
        assert np.linalg.det(view.axes) == pytest.approx(1.0)  # no mirror image
        axes, lost = drawn(atoms, view, marked)
        assert lost == 0
        assert len(axes.collections) >= 1
