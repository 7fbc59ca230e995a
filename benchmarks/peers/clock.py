"""A learning rate that reaches its end when the time is over, however fast the machine is."""

import math
import time

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class CosineByClock(LambdaLR):
    """Half a cosine from the initial learning rate to a hundredth of it, over so many minutes from now."""

    def __init__(self, optimizer: Optimizer, minutes: float) -> None:
        self.minutes = minutes
        self.begin = time.monotonic()
        super().__init__(optimizer, self._factor)

    def _factor(self, _step: int) -> float:
        done = min(1.0, (time.monotonic() - self.begin) / (60 * self.minutes))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))
