"""Section: what a run started from and came to, and around a failure the frames before it and the one that failed."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from ase_mlcalc.plots import new_figure
from ase_mlcalc.report.page import Gallery, Picture, Section, Words, picture
from ase_mlcalc.report.stage import Event, Stage
from ase_mlcalc.report.structure import choose_view, draw_scale, draw_structure, name_of
from ase_mlcalc.report.words import counted, listed, number

_WIDTH, _SMALL = 4.0, 2.6
"""Inches."""


def structures_section(stages: Sequence[Stage]) -> Section | None:
    """First and last structure of a run that went well; frames around the failure of one that did not."""
    last = stages[-1]
    if last.failed and last.evidence:
        return _failure(last)
    frames = [frame for stage in stages for frame in ends(stage)]
    if not frames:
        return None
    first, final = frames[0], frames[-1]
    pictures = [draw(first, "start", "Start of the run.", marked=(), view_of=first)]
    if len(frames) > 1 and np.isfinite(final.positions).all():
        end = f"Last frame, {_time(final)} of stage {last.name}; atoms are put back into the cell."
        pictures.append(draw(final, "end", end, marked=(), view_of=first))
    return Section("Structures", [Gallery(pictures, size="third")])


def ends(stage: Stage) -> list[Atoms]:
    """First and last frame of a stage; one or none if it has no more."""
    first: Atoms | None = None
    last: Atoms | None = None
    for frame in stage.frames():
        first, last = first if first is not None else frame, frame
    return [frame for frame in (first, last if last is not first else None) if frame is not None]


def _failure(stage: Stage) -> Section:
    marked = marked_atoms(stage.events)
    frames = list(stage.evidence)
    good, failing = frames[:-1], frames[-1]
    view_of = good[-1] if good else failing
    pictures = []
    if len(good) > 1:
        pictures.append(
            draw(good[0], f"before-{stage.name}", f"{_time(good[0])}, the first frame kept.", marked, view_of)
        )
    if good:
        words = f"{_time(good[-1])}, the last frame before the failure."
        pictures.append(draw(good[-1], f"last-good-{stage.name}", words, marked, view_of))
    words = f"{_time(failing)}, the frame that failed."
    pictures.append(draw(failing, f"failed-{stage.name}", words, marked, view_of))
    about = ""
    if marked:
        names = [name_of(view_of, index) for index in marked[:8]]
        more = f" and {len(marked) - 8} more" if len(marked) > 8 else ""
        about = f"The monitor names {listed(names) if not more else ', '.join(names) + more}; they are ringed. "
    text = (
        f"{about}{counted(len(frames), 'frame')} around the failure {'is' if len(frames) == 1 else 'are'} in "
        f"{stage.name}-failure.extxyz, ready to be labelled by the reference method and to be trained on."
    )
    return Section("Structure at the failure", [Words(text), Gallery(pictures, size="third")])


def marked_atoms(events: Sequence[Event]) -> list[int]:
    """Atoms that the failure is about, as the monitor that stopped the run named them."""
    return next((list(event.atoms) for event in events if event.stops and event.atoms), [])


def draw(
    atoms: Atoms, name: str, caption: str, marked: Sequence[int], view_of: Atoms, *, small: bool = False
) -> Picture:
    """A picture of a frame, seen as another one of the same run is."""
    view = choose_view(view_of, marked)
    width = _SMALL if small else _WIDTH
    figure = new_figure(width, width * float(np.clip(view.half_height / view.half_width, 0.5, 1.0)))
    axes = figure.add_subplot()
    lost = draw_structure(axes, atoms, view, marked)
    draw_scale(axes, view)
    pair_is_there = len(marked) == 2 and max(marked) < len(atoms) and np.isfinite(atoms.positions[marked]).all()
    if pair_is_there and not small:
        distance = atoms.get_distance(marked[0], marked[1], mic=bool(atoms.pbc.any()))
        caption += f" {name_of(atoms, marked[0])}–{name_of(atoms, marked[1])} {distance:.2f} Å."
    if len(view.drawn) < len(atoms) and not small:
        caption += f" The {len(view.drawn)} atoms around are shown of {len(atoms)}; what is in the way is glass."
    if lost:
        caption += f" {counted(lost, 'atom')} {'lies' if lost == 1 else 'lie'} outside the picture."
    return picture(figure, name, alt=f"Atoms of {atoms.get_chemical_formula()}: {caption}", caption=caption)


def _time(frame: Atoms) -> str:
    time = frame.info.get("time_ps")
    if time is None:
        return f"Frame {frame.info['frame']}" if "frame" in frame.info else "Time unknown"
    return f"{number(float(time), 6)} ps"
