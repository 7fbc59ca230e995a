"""Other programs beside ours: the parts of ``benchmarks/bench.py``.

::

    contenders     who takes part, with which settings
    environments   a virtual environment for each program
    remote         a process in such an environment that answers requests ...
    worker         ... which runs this, with one of with_ours, with_mace, with_nequip, with_schnetpack
    structures     molecules and boxes of water; labelled data as files that all programs read
    speed          calls and steps of molecular dynamics, in turn
    accuracy       training by each program's own tools, errors of forces
    results        bench.json, tables, the picture

``worker`` and ``with_...`` run in environments that lack this package and import none of the other parts.
"""
