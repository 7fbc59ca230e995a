"""Compiling C++ of this package for the processor at hand, once, into the user's cache.

A kernel is made by the compiler that is there, so that wheels stay plain Python and every processor gets its own
instructions.  Where there is none, callers do the same in numpy or torch.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from ase_mlcalc.errors import MLCalcError
from ase_mlcalc.files import atomic_path

CACHE_VARIABLE = "ASE_MLCALC_CACHE"
SWITCH = "ASE_MLCALC_NATIVE"
"""Set to 0, nothing is compiled."""
SOURCES = Path(__file__).parent
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared")
ARCHITECTURE_FLAGS = ("-march=native", "-mcpu=native")
THREADS_FLAG = "-fopenmp"
COMPILERS = ("g++", "c++", "clang++")
MINUTES_AT_MOST = 10
COMPILING_AFTER_S = 2.0
"""Kernels that are in the cache are there long before."""
DIGEST_BYTES = hashlib.sha256().digest_size


class NoCompilerError(MLCalcError):
    """C++ cannot be compiled here."""


def cache_folder() -> Path:
    """Where compiled code is kept: ``$ASE_MLCALC_CACHE``, or ``ase_mlcalc`` in the user's folder for caches."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ase_mlcalc"
    except RuntimeError:  # no home, as in some containers
        return Path(os.devnull) / "ase_mlcalc"  # where nothing can be written


def library(source: str, macros: Mapping[str, object], headers: Mapping[str, str] | None = None) -> ctypes.CDLL:
    """A C++ file of this folder as a loaded library; compiled unless the cache has it.

    Where the cache cannot be written, what is compiled serves this process only.

    Parameters
    ----------
    source : str
        Name of the file.
    macros : mapping
        What is defined for the compiler.
    headers : mapping of name to text, optional
        Generated files that it includes.

    Raises
    ------
    NoCompilerError
        There is no compiler, it fails, or nothing may be compiled (``ASE_MLCALC_NATIVE=0``).
    """
    return _loaded(source, tuple(macros.items()), tuple((headers or {}).items()))


@cache
def _loaded(source: str, macros: tuple[tuple[str, object], ...], headers: tuple[tuple[str, str], ...]) -> ctypes.CDLL:
    if os.environ.get(SWITCH, "1") == "0":
        raise NoCompilerError(f"{SWITCH} is 0: kernels are not compiled")
    compiler = find_compiler()
    files = [SOURCES / source, *sorted(SOURCES.glob("*.h"))]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    key = hashlib.sha256(repr((text, macros, headers, FLAGS, identity(compiler), processor())).encode()).hexdigest()[
        :20
    ]
    path = cache_folder() / "native" / f"{Path(source).stem}-{key}.so"
    try:
        if _is_whole(path):
            return ctypes.CDLL(str(path))
        with tempfile.TemporaryDirectory(prefix="ase_mlcalc-") as folder:
            for name, content in headers:
                (Path(folder) / name).write_text(content, encoding="utf-8")
            made = Path(folder) / "kernel.so"
            defined = [f"-D{name}={value}" for name, value in macros]
            _compile(compiler, [*defined, f"-I{folder}", str(SOURCES / source), "-o", str(made)])
            with suppress(MLCalcError), atomic_path(path) as part:  # a home that is read-only, a full disk
                code = made.read_bytes()
                part.write_bytes(code + _digest(code))
            return ctypes.CDLL(str(made))  # stays loaded when the folder goes
    except OSError as error:
        raise NoCompilerError(f"a kernel of this package cannot be made or loaded: {error}") from error


@contextmanager
def told_while_compiling(say: Callable[[str], None] | None) -> Iterator[None]:
    """Compiling takes up to a minute, in which a user would see nothing."""
    if say is None:
        yield
        return
    timer = threading.Timer(COMPILING_AFTER_S, say, ["compiling kernels, once for this machine ..."])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_whole(path: Path) -> bool:
    """Whether a library is there and ends with its digest: a loaded one that was cut would end the process."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return content[-DIGEST_BYTES:] == _digest(content[:-DIGEST_BYTES])


def _digest(code: bytes) -> bytes:
    return hashlib.sha256(code).digest()


def _compile(compiler: str, arguments: list[str]) -> None:
    """With all that this compiler knows of the processor and of threads; less where it refuses."""
    complaint = ""
    for threads in ([THREADS_FLAG], []):
        for architecture in ([ARCHITECTURE_FLAGS[0]], [ARCHITECTURE_FLAGS[1]], []):
            command = [compiler, *FLAGS, *architecture, *threads, *arguments]
            try:
                done = subprocess.run(  # noqa: S603
                    command, capture_output=True, text=True, check=False, timeout=60 * MINUTES_AT_MOST
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise NoCompilerError(f"{compiler} did not run: {error}") from error
            if done.returncode == 0:
                return
            complaint = complaint or next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
    raise NoCompilerError(f"{compiler} cannot compile a kernel of this package: {complaint.strip()[:300]}")


@cache
def find_compiler() -> str:
    """Path of a C++ compiler: ``$CXX``, or the first that is found."""
    for name in (os.environ.get("CXX"), *COMPILERS):
        path = shutil.which(name) if name else None
        if path:
            return path
    raise NoCompilerError(
        f"no C++ compiler ({', '.join(COMPILERS)} or $CXX) is on the PATH; install one (Debian: apt install g++)"
    )


@cache
def identity(compiler: str) -> str:
    """What a compiler says of itself."""
    try:
        done = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoCompilerError(f"{compiler} did not run: {error}") from error
    return done.stdout


@cache
def processor() -> str:
    """What tells processors apart whose code must not be mixed up."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.system()} {platform.machine()} {flags}"
