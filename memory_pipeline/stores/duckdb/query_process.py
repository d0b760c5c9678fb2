"""Answers a query that anybody wrote in a process of its own, which the system ends when it takes too long or too much.

DuckDB looks at its clock and its memory limit between batches of rows. One function over one huge value gets past both;
the kernel's limits it does not.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from memory_pipeline.model.errors import ExportError, MemoryPipelineError
from memory_pipeline.stores.duckdb.query import FirstRows, answering, query, timed_out, too_much_memory
from memory_pipeline.stores.duckdb.writing import Format, terminal_width, write_batches, write_result

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PROCESS_BYTES = 2 * 1024**3
"""Of data of the process: DuckDB's buffers (see MEMORY_LIMIT), rows in Arrow and in Python, and the libraries."""
MAX_THREADS = 8
"""Of DuckDB in the process: the stack of each is data too, and one for each of 256 cores would be over the limit."""
TABLE_BYTES = 64 * 1024 * 1024
"""Of the rows of a table for people, which is held as a whole."""
_OUTPUT_BYTES = 1024 * 1024
_START = "import sys; sys.path[:] = sys.argv[1:]; from memory_pipeline.stores.duckdb.query_process import main; main()"


class _Request(msgspec.Struct, frozen=True):
    path: str
    statement: str
    format: Format
    max_rows: int | None
    timeout_seconds: float
    width: int
    threads: int


class _Report(msgspec.Struct, frozen=True):
    """What the process says at its end, as JSON on standard error."""

    truncated: bool = False
    error: str | None = None
    gone: bool = False
    """The file was not there any more; nothing was written."""


def write_answer(path: Path, statement: str, format_: Format, *, max_rows: int | None, timeout_seconds: float) -> bool:
    """Write the answer to standard output, from a process of its own; return whether there were more rows.

    Everything but a table is written while it is read, so an error may come after part of the answer. The time in which
    nobody takes what is written does not count. Raises as `answering` does, and MemoryPipelineError where the process
    takes more than PROCESS_BYTES, or a table more than TABLE_BYTES.
    """
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    request = _Request(str(path), statement, format_, max_rows, timeout_seconds, terminal_width(), threads)
    sys.stdout.flush()
    finished = subprocess.run(
        [sys.executable, "-P", "-c", _START, *sys.path],
        input=msgspec.json.encode(request),
        stderr=subprocess.PIPE,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # NumPy comes along, and would start a thread for each core
        check=False,
    )
    if finished.returncode == -signal.SIGALRM:
        raise timed_out(timeout_seconds)
    if finished.returncode == -signal.SIGPIPE:
        raise BrokenPipeError(errno.EPIPE, "nobody reads the answer any more")
    try:
        report = msgspec.json.decode(finished.stderr.rpartition(b"\n")[2], type=_Report)
    except msgspec.DecodeError as error:
        raise _died(finished.returncode, finished.stderr.decode(errors="replace")) from error
    if report.error is not None:
        raise (ExportError if report.gone else MemoryPipelineError)(report.error)
    return report.truncated


def main() -> NoReturn:
    """Answer the request on standard input. The program of the process; `write_answer` starts it."""
    import duckdb  # noqa: F401  # the libraries before the clock starts
    import pyarrow as pa  # noqa: F401

    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    _limit_memory()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.setitimer(signal.ITIMER_REAL, request.timeout_seconds)
    try:
        report = _Report(truncated=_answer(request))
    except ExportError as error:
        report = _Report(error=str(error), gone=True)
    except MemoryPipelineError as error:
        report = _Report(error=str(error))
    except MemoryError:
        report = _Report(error=str(too_much_memory()))
    except OSError as error:
        report = _Report(error=f"the answer can't be written: {error}.")
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stderr.buffer.write(b"\n" + msgspec.json.encode(report))
    sys.stderr.buffer.flush()
    os._exit(0 if report.error is None else 1)  # nothing has to be put away, and nothing may be said after the report


def _answer(request: _Request) -> bool:
    path = Path(request.path)
    with io.BufferedWriter(_Output(), _OUTPUT_BYTES) as stream:
        if request.format == "table":
            result = query(
                path,
                request.statement,
                max_rows=request.max_rows,
                max_bytes=TABLE_BYTES,
                timeout_seconds=None,
                threads=request.threads,
            )
            write_result(result, "table", stream, width=request.width)
            return result.truncated
        with answering(path, request.statement, timeout_seconds=None, threads=request.threads) as answer:
            first = FirstRows(answer.batches, request.max_rows)
            write_batches(answer.schema, first, request.format, stream)
            return first.truncated


class _Output(io.RawIOBase):
    """Standard output. While nobody takes what is written, the clock stands still."""

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        with _clock_stopped():
            return os.write(1, data)


@contextmanager
def _clock_stopped() -> Iterator[None]:
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


def _limit_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it may be ended in the middle of anything
    # Data rather than address space: DuckDB, Arrow and the stacks of threads reserve far more than they use.
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = PROCESS_BYTES if most == resource.RLIM_INFINITY else min(PROCESS_BYTES, most)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, most))


def _died(returncode: int, said: str) -> MemoryPipelineError:
    if returncode == -signal.SIGABRT or "MemoryError" in said or "bad_alloc" in said:
        return too_much_memory()
    if returncode < 0:
        return MemoryPipelineError(
            f"the query was not answered: its process was ended by {signal.Signals(-returncode).name}. If that was not "
            "you, the machine may be short of memory."
        )
    return MemoryPipelineError(f"the query was not answered: its process ended with status {returncode}: {said}")
