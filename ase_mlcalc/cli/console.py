"""Where tables are printed."""

from rich.console import Console


def new_console() -> Console:
    """Standard output, of a fixed width where it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=120)
