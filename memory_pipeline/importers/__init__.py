"""Importers: files of chat products in, messages and rejections out, streaming. No stores, no clock, no environment.

    options = ImportOptions(partition_start=..., max_message_bytes=..., now=...)
    for record in open_importer("chatgpt", Path("export.zip"), options):
        ...  # an IncomingMessage, or a Rejection that says what is wrong with which record

What a file is as a whole (missing, not a zip, not JSON at all) is a MemoryPipelineError, raised before any record. What
is wrong with one record is a Rejection, and costs no other record. A file that turns out broken half-way gives every
record before the damage and then one Rejection for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from memory_pipeline.importers.chatgpt import conversation_files, read_chatgpt
from memory_pipeline.importers.files import open_export, open_readable
from memory_pipeline.importers.jsonl import STDIN, read_jsonl
from memory_pipeline.importers.locomo import read_locomo
from memory_pipeline.importers.options import ImportOptions
from memory_pipeline.importers.slack import read_slack, slack_files
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Rejection
from memory_pipeline.model.validation import check_email, check_name

__all__ = ["FORMATS", "ImportOptions", "open_importer", "size_of"]

_READERS: dict[str, Callable[[Path, ImportOptions], Iterator[IncomingMessage | Rejection]]] = {
    "jsonl": read_jsonl,
    "chatgpt": read_chatgpt,
    "slack": read_slack,
    "locomo": read_locomo,
}
FORMATS = tuple(_READERS)


def open_importer(format: str, path: Path, options: ImportOptions) -> Iterator[IncomingMessage | Rejection]:
    """Return the records of `path`, read as `format` (one of FORMATS), lazily and in the order of the file.

    Raises MemoryPipelineError for an unknown format, options that no record could satisfy, or a missing path; the
    iterator's first step raises it where the path turns out not to hold that format.
    """
    reader = _reader(format)
    problem = check_email(options.user_email) or check_name("project", options.project)
    if problem is not None:
        raise MemoryPipelineError(f"the import can't start: {problem.reason}; {problem.remedy}")
    _require(format, path)
    if format == "chatgpt" and options.user_email is None:
        raise MemoryPipelineError("the import can't start: a ChatGPT export names no user; pass --user EMAIL")
    return reader(path, options)


def size_of(format: str, path: Path) -> int | None:
    """Return how many bytes `ImportOptions.on_bytes` will count for the whole of `path`; None for standard input.

    Those are bytes of the file for jsonl (compressed, where it is) and locomo, uncompressed bytes of the files that are
    read for chatgpt and slack. Raises MemoryPipelineError as `open_importer` does.
    """
    _reader(format)
    _require(format, path)
    if format == "chatgpt":
        with open_export(path) as export:
            return sum(conversation_files(export, path).values())
    if format == "slack":
        with open_export(path) as export:
            return sum(slack_files(export, path)[1].values())
    return None if path == STDIN else path.stat().st_size


def _reader(format: str) -> Callable[[Path, ImportOptions], Iterator[IncomingMessage | Rejection]]:
    if format not in _READERS:
        raise MemoryPipelineError(f"there is no importer for {format!r}; use one of {', '.join(FORMATS)}")
    return _READERS[format]


def _require(format: str, path: Path) -> None:
    if path == STDIN and format == "jsonl":
        return
    if not path.is_dir():
        open_readable(path).close()
    elif format in ("jsonl", "locomo"):
        raise MemoryPipelineError(f"{path} is a folder; {format} is read from a single file")
