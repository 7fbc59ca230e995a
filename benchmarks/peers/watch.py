"""How long a model takes of the time of its calculator."""

import time
from collections.abc import Callable
from typing import Any

import torch


class Stopwatch:
    """Seconds between `start` and `stop`, summed; work that a GPU still has to do is waited for."""

    def __init__(self, device: str) -> None:
        self.spent = 0.0
        self._device = torch.device(device)
        self._begin = 0.0

    def start(self, *_: Any) -> None:
        """Arguments are those of hooks and mean nothing here."""
        self._begin = time.perf_counter()

    def stop(self, *_: Any) -> None:
        """Arguments are those of hooks and mean nothing here."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self.spent += time.perf_counter() - self._begin

    def seconds(self) -> float:
        """Until now."""
        return self.spent


def of_module(module: torch.nn.Module, device: str) -> Callable[[], float]:
    """Watch the calls of a module; the result says the seconds until now."""
    watch = Stopwatch(device)
    module.register_forward_pre_hook(watch.start)
    module.register_forward_hook(watch.stop)
    return watch.seconds


def of_function(function: Callable[..., Any], device: str) -> tuple[Callable[..., Any], Callable[[], float]]:
    """A function that is watched, and what says the seconds until now."""
    watch = Stopwatch(device)

    def watched(*arguments: Any) -> Any:
        watch.start()
        out = function(*arguments)
        watch.stop()
        return out

    return watched, watch.seconds
