"""Errors of what was trained on its test structures, which have chosen neither weights nor epoch."""

from ase_mlcalc import accelerate, checkpoint
from ase_mlcalc.training.config import TrainJob
from ase_mlcalc.training.dataset import load
from ase_mlcalc.training.delta import measured
from ase_mlcalc.training.metrics import Metrics, evaluate
from ase_mlcalc.training.state import CHECKPOINT_FILE

TEST_FILE = "test.json"


def measure_test(job: TrainJob) -> Metrics | None:
    """Errors of the potential of a finished job on its test structures, written to ``test.json``.

    Returns
    -------
    Metrics or None
        ``None`` where the job holds no test structures back.

    Raises
    ------
    DataError, SpeciesError, NumericalError
        See `load` and `evaluate`.
    """
    if not job.data.is_tested:
        return None
    potential = accelerate.with_kernels(checkpoint.load(job.output / CHECKPOINT_FILE))
    metrics = evaluate(potential, measured(load(job.data).test, job.data), job.train.evaluation_batch_size)
    metrics.write(job.output / TEST_FILE)
    return metrics
