"""What is published, for everyone and for each consumer: listing it, reading it all again, removing old generations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from memory_pipeline.model.errors import ExportError, ForbiddenError, NotFoundError
from memory_pipeline.stores.duckdb.fresh_reader import read_in_fresh_process
from memory_pipeline.stores.duckdb.generations import current_export, generation_number, generations, manifest_of, prune
from memory_pipeline.stores.duckdb.publish import CONSUMERS, LOCK
from memory_pipeline.stores.files import locked


class PublishedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of one file."""

    consumer: str | None
    """None: the file of all tenants."""
    path: Path
    served: bool
    tenant: str | None
    masked: bool
    generation: int
    rows: int
    """Of all its tables."""
    messages: int
    bytes: int
    published_at: datetime
    as_of: datetime | None
    """The moment of Postgres it shows."""


def published_files(exports_root: Path) -> list[PublishedFile]:
    """Return every generation of every file, newest first. Raises ExportError for a manifest that can't be read."""
    try:
        return _published_files(exports_root)
    except (ExportError, FileNotFoundError):
        # Perhaps removed by a publisher between two looks; while there is none, it is a damaged folder.
        with _between_publications(exports_root):
            return _published_files(exports_root)


def verify_exports(exports_root: Path) -> list[str]:
    """Read every generation in a fresh process and return what is not as its manifest says, a sentence each.

    Publishers go on meanwhile: a generation that one of them removed is no problem.
    """
    problems = []
    for _, folder in _folders(exports_root):
        try:
            current_export(folder)
        except ExportError:
            with _between_publications(exports_root):
                if folder == exports_root or folder.exists():
                    try:
                        current_export(folder)
                    except ExportError as error:
                        problems.append(str(error))
        for path in _generations(folder):
            problem = _problem_of(path)
            if problem is not None and path.exists():
                problems.append(problem)
    return problems


def prune_exports(exports_root: Path, generations_kept: int) -> list[Path]:
    """Remove all but the newest generations of every file, never one that is served; return those removed."""
    removed: list[Path] = []
    with locked(exports_root / LOCK):
        for _, folder in _folders(exports_root):
            if generations(folder):
                removed += [folder / name for name in prune(folder, generations_kept)]
    return removed


def tenant_export(exports_root: Path, tenant: str, consumers: Iterable[str] = ()) -> Path:
    """Return the file that has only this tenant's rows and may be opened: with texts where one has, else masked.

    Whoever may not list the consumers finds those that are named in `consumers`. Raises NotFoundError,
    ForbiddenError where there may be one that this account can't open, ExportError for a damaged folder.
    """
    names, closed = set(consumers), False
    try:
        names |= {consumer for consumer, _ in _folders(exports_root) if consumer is not None}
    except PermissionError:
        closed = True
    found = []
    for consumer in names:
        folder = exports_root / CONSUMERS / consumer
        try:
            if not generations(folder):
                continue
            path = current_export(folder)
            manifest = manifest_of(path)
        except PermissionError:
            closed = True
            continue
        if manifest.tenant == tenant:
            found.append((manifest.masked, consumer, path))
    if not found and closed:
        raise ForbiddenError(
            f"no file for tenant {tenant!r} alone that this account may open was found in {exports_root / CONSUMERS}, "
            "where each folder is for one consumer: set MEMORY_EXPORT_CONSUMERS as it is for whoever publishes, and "
            'run this as a member of the "group" that it names for the consumer.'
        )
    if not found:
        raise NotFoundError(
            f"no file is exported for tenant {tenant!r} alone: name a consumer in MEMORY_EXPORT_CONSUMERS, such as "
            f'{{"{tenant}": {{"tenant": "{tenant}"}}}}, and materialize duckdb_analytics.'
        )
    return min(found)[2]


def _published_files(exports_root: Path) -> list[PublishedFile]:
    return [
        _describe(consumer, path)
        for consumer, folder in _folders(exports_root)
        for path in reversed(generations(folder))
    ]


@contextmanager
def _between_publications(exports_root: Path) -> Iterator[None]:
    """Wait for the publisher that is at work, and let none begin."""
    if not (exports_root / LOCK).exists():
        yield  # nothing was ever published
        return
    with locked(exports_root / LOCK, shared=True):
        yield


def _generations(folder: Path) -> list[Path]:
    try:
        return generations(folder)
    except FileNotFoundError:
        return []  # the folder of a consumer that a publisher is removing


def _problem_of(path: Path) -> str | None:
    try:
        manifest, found = manifest_of(path), read_in_fresh_process(path)
    except ExportError as error:
        return f"{path}: {error}"
    wrong = sorted(
        name for name in found.keys() | manifest.tables.keys() if found.get(name) != manifest.tables.get(name)
    )
    return f"{path}: {', '.join(wrong)} are not as they were published" if wrong else None


def _folders(exports_root: Path) -> Iterator[tuple[str | None, Path]]:
    yield None, exports_root
    if (exports_root / CONSUMERS).is_dir():
        for folder in sorted((exports_root / CONSUMERS).iterdir()):
            yield folder.name, folder


def _describe(consumer: str | None, path: Path) -> PublishedFile:
    manifest = manifest_of(path)
    return PublishedFile(
        consumer=consumer,
        path=path,
        served=current_export(path.parent) == path,
        tenant=manifest.tenant,
        masked=manifest.masked,
        generation=generation_number(path),
        rows=sum(table.rows for table in manifest.tables.values()),
        messages=manifest.tables["messages"].rows,
        bytes=manifest.bytes,
        published_at=manifest.published_at,
        as_of=manifest.source.taken_at if manifest.source else None,
    )
