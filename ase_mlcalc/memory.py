"""How the system hands out memory for large arrays, and how much there is."""

import ctypes
import os
import sys
from pathlib import Path

GB = 1_000_000_000
SWITCH = "THP_MEM_ALLOC_ENABLE"
"""Of torch; it looks when it makes its first tensor."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Settings of the C library of GNU (malloc.h): how much may lie free, and from which size arrays are on their own."""
_NEVER = -1
_LARGEST = 32 * 1024**2
"""It takes no more.  Without the limit (``M_MMAP_MAX`` of 0) large arrays are kept too, but they no longer fit into
what others left, and the memory of a process grows to several times of what it uses."""


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


def keep_memory() -> bool:
    """Keep what is freed for the next arrays of this process, up to 32 MB each: steps of all sizes take less time.

    Each step needs the arrays that the last one freed.  If the C library returns them to the system in between, up to
    a third of the time of a step goes into pages that are handed out and cleared anew.  Afterwards the process holds
    what it needed at most until it ends.  The command line does this by itself; a script calls it at any time.

    Returns
    -------
    bool
        Whether the C library has the settings (that of GNU, on Linux).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    return mallopt is not None and bool(mallopt(_TRIM_THRESHOLD, _NEVER) and mallopt(_MMAP_THRESHOLD, _LARGEST))


def available_bytes() -> int:
    """Memory that can be used now without swapping; where the system does not say, half of what is built in."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
