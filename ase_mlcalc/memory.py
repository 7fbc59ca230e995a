"""How the system hands out memory for large arrays."""

import os
import sys

SWITCH = "THP_MEM_ALLOC_ENABLE"
"""Of torch; it looks when it makes its first tensor."""


def use_large_pages() -> bool:
    """Let torch ask for memory in pages of 2 MB; on Linux, large structures then take a fraction of the time.

    The C library gives large arrays back to the system as soon as they are freed.  At the next step the system hands
    out and clears every page of 4 kB anew, which for thousands of atoms takes longer than computing with them.  The
    command line does this by itself; a script calls it before it imports anything that imports torch.  A user who has
    set ``THP_MEM_ALLOC_ENABLE`` is left alone.

    Returns
    -------
    bool
        Whether it was in time; otherwise start the script with ``THP_MEM_ALLOC_ENABLE=1``.
    """
    os.environ.setdefault(SWITCH, "1")
    return "torch" not in sys.modules
