"""A process in another environment that is asked and answers; the other end of ``worker.py``."""

import json
import os
import selectors
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

WORKER = Path(__file__).with_name("worker.py")


class WorkerError(Exception):
    """A request that failed, took too long, or ended the process."""


class Worker:
    """One process with one program, which starts with the first request, and again with the next one if it died.

    Parameters
    ----------
    python : Path
        Interpreter of the program's environment.
    program : str
    threads : int
        Of everything that counts threads when it is loaded.
    log : Path
        Where the program's own words go.
    """

    def __init__(self, python: Path, program: str, threads: int, log: Path) -> None:
        self.log = log
        self._words = [str(python), "-P", str(WORKER), program]
        counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self._environment = {**os.environ, **counts}
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            self._rest = b""
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with open(self.log, "a") as written:
                self._process = subprocess.Popen(  # noqa: S603
                    self._words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=written,
                    env=self._environment,
                    start_new_session=True,
                )
        return self._process

    def ask(self, do: str, timeout_s: float = 600.0, **arguments: Any) -> dict[str, Any]:
        """The answer to a request.

        Raises
        ------
        WorkerError
            What the program said, or that it took too long or died; it is gone in the last two cases.
        """
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._line(process, timeout_s))
        except TimeoutError as error:
            self.close()
            raise WorkerError(f"no answer within {timeout_s:g} s") from error
        except (BrokenPipeError, EOFError) as error:
            code = process.wait()
            self.close()
            why = signal.Signals(-code).name if code < 0 else f"status {code}"
            raise WorkerError(f"the process ended with {why}, see {self.log}") from error
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _line(self, process: "subprocess.Popen[bytes]", timeout_s: float) -> bytes:
        assert process.stdout is not None
        handle = process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(timeout_s):
                    raise TimeoutError
                read = os.read(handle, 1 << 16)
                if not read:
                    raise EOFError
                self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def close(self) -> None:
        """End the process with all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
