"""How much memory there is, and numbers of bytes for people."""

import os
from pathlib import Path

GB = 1_000_000_000


def available_bytes() -> int:
    """Memory that can be used now without swapping; where the system does not say, half of what is built in."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
