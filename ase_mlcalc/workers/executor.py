"""Where tasks run other than in processes of this machine: an executor of executorlib, or any other one."""

import copy
import importlib
import warnings
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from ase_mlcalc.config import Section, read_toml, validate
from ase_mlcalc.errors import ConfigError

INSTALL = 'pip install "ase-mlcalc[executors]"'
EXECUTOR_WORDS = (
    'where tasks run, { name = "SlurmClusterExecutor", resources = { partition = "cpu" } }; default: in processes of '
    "this machine"
)


class Executor(Section):
    """An executor in the sense of `concurrent.futures`, by its name."""

    name: str = Field(
        description="SingleNodeExecutor, SlurmJobExecutor, SlurmClusterExecutor, FluxJobExecutor or "
        "FluxClusterExecutor of executorlib; or any other as package.module:Class"
    )
    resources: dict[str, Any] = Field(
        default_factory=dict,
        description="of each task, as its resource_dict: partition, run_time_max in seconds; threads_per_core is the "
        "number of threads if not given",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="further arguments of the executor")

    @model_validator(mode="after")
    def _one_process_a_task(self) -> Self:
        if not self._is_foreign and self.resources.get("cores", 1) != 1:
            raise ValueError(
                f"resources.cores = {self.resources['cores']} would start as many processes with MPI, each of which "
                "does the whole task; give threads_per_core, the cores of the one process"
            )
        if taken := {"resource_dict"} & self.options.keys():
            raise ValueError(f"options.{taken.pop()} has a table of its own, resources")
        return self

    @property
    def _is_foreign(self) -> bool:
        return ":" in self.name

    def make(self, threads: int, folder: Path) -> futures.Executor:
        """Start it.

        Parameters
        ----------
        threads : int
            Of each task.
        folder : path
            For files of the executor.

        Raises
        ------
        ConfigError
            It is not installed, there is none of this name, or it does not take what it is given.
        """
        arguments = copy.deepcopy(self.options)
        if not self._is_foreign:
            arguments = self._usual(folder) | arguments
            arguments["resource_dict"] = {"threads_per_core": threads} | copy.deepcopy(self.resources)
        elif self.resources:
            arguments["resource_dict"] = copy.deepcopy(self.resources)
        with warnings.catch_warnings():
            # deprecations inside, and resources that only the templates of jobs know
            warnings.simplefilter("ignore")
            factory = self._factory()
            try:
                return factory(**arguments)
            except ImportError as error:
                raise ConfigError(f"{self.name} needs a package that is not installed ({error}): {INSTALL}") from error
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{self.name} does not take what it was given: {_reason(error)}") from error

    def _factory(self) -> Callable[..., futures.Executor]:
        module_name, _, name = self.name.rpartition(":") if self._is_foreign else ("executorlib", "", self.name)
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            hint = "" if self._is_foreign else f": {INSTALL}"
            raise ConfigError(f"executor {self.name!r} cannot be imported ({error}){hint}") from error
        factory: Callable[..., futures.Executor] | None = getattr(module, name, None)
        if factory is None or not (self._is_foreign or name in _names(module)):
            known = "" if self._is_foreign else f"; there are {', '.join(_names(module))}, or package.module:Class"
            raise ConfigError(f"{module_name} has no executor {name!r}{known}")
        return factory

    def _usual(self, folder: Path) -> dict[str, Any]:
        """What its tasks need: they wait for no others, and are asked after without haste."""
        found: dict[str, Any] = {"disable_dependencies": True}
        if self.name == "SingleNodeExecutor":
            found["hostname_localhost"] = True
        if self.name.endswith("ClusterExecutor"):
            found |= {"cache_directory": str((folder / "cache").absolute()), "refresh_rate": 1.0}
        return found


class ExecutorFile(Section):
    """A file that says where tasks run, and nothing else."""

    executor: Executor


def read_executor(path: Path) -> Executor:
    """The table ``[executor]`` of a file.

    Raises
    ------
    ConfigError
        No such file, or something else in it.
    """
    return validate(ExecutorFile, read_toml(path), str(path)).executor


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    return " ".join(str(error).split())


def _names(module: Any) -> list[str]:
    return [name for name in module.__all__ if name.endswith("Executor") and name != "BaseExecutor"]
