"""What is published, for everyone and for each consumer: listing it, reading it all again, removing old generations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from time import sleep

import msgspec

from memory_pipeline.model.errors import ExportError, ForbiddenError, NoExportError, NotFoundError
from memory_pipeline.stores.duckdb.fresh_reader import read_in_fresh_process
from memory_pipeline.stores.duckdb.generations import current_export, generation_number, generations, manifest_of, prune
from memory_pipeline.stores.duckdb.publish import CONSUMERS, LOCK
from memory_pipeline.stores.files import LockNotOursError, locked

_LOOK_AGAIN_SECONDS = 1.0


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


def published_files(exports_root: Path, consumers: Iterable[str] = ()) -> list[PublishedFile]:
    """Return every generation of every file, newest first. Raises ExportError for a manifest that can't be read.

    What this account may not open is left out (`closed_folders` says what that is); raises ForbiddenError where that is
    everything. Whoever may not list the consumers finds those that are named in `consumers`.
    """
    try:
        return _published_files(exports_root, consumers)
    except (ExportError, FileNotFoundError):
        # Perhaps removed by a publisher between two looks; while there is none, it is a damaged folder.
        with _between_publications(exports_root):
            return _published_files(exports_root, consumers)


def closed_folders(exports_root: Path, consumers: Iterable[str] = ()) -> list[Path]:
    """Return the folders that this account may not list, so that what is in them is neither listed nor verified."""
    return _folders(exports_root, consumers)[1]


def verify_exports(exports_root: Path, consumers: Iterable[str] = ()) -> list[str]:
    """Read every generation in a fresh process and return what is not as its manifest says, a sentence each.

    Publishers go on meanwhile: a generation that one of them removed is no problem. What this account may not open is
    left out, and raises ForbiddenError, as in `published_files`.
    """
    problems = []
    for _, folder in _open_folders(exports_root, consumers):
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
    """Remove all but the newest generations of every file, never one that is served; return those removed.

    Folders of which nothing is served (a publisher was killed) are left to the next publication. Raises ForbiddenError
    for accounts that do not publish.
    """
    removed: list[Path] = []
    try:
        if not exports_root.is_dir():
            return removed
        with locked(exports_root / LOCK):
            for _, folder in _open_folders(exports_root):
                with suppress(NoExportError):
                    removed += [folder / name for name in prune(folder, generations_kept)]
    except PermissionError as error:
        raise ForbiddenError(f"only whoever publishes may remove what is in {exports_root} ({error}).") from error
    return removed


def tenant_export(exports_root: Path, tenant: str, consumers: Iterable[str] = ()) -> Path:
    """Return the file that has only this tenant's rows and may be opened: with texts where one has, else masked.

    Whoever may not list the consumers finds those that are named in `consumers`. Raises NotFoundError,
    ForbiddenError where there may be one that this account can't open, ExportError for a damaged folder.
    """
    folders, closed_to_us = _folders(exports_root, consumers)
    closed = any(folder != exports_root for folder in closed_to_us)
    found = []
    for consumer, folder in folders:
        if consumer is None:
            continue
        try:
            path = current_export(folder)
            manifest = manifest_of(path)
        except NoExportError:
            continue  # the publisher of its first file was killed
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


def _published_files(exports_root: Path, consumers: Iterable[str]) -> list[PublishedFile]:
    return [
        _describe(consumer, path)
        for consumer, folder in _open_folders(exports_root, consumers)
        for path in reversed(generations(folder))
    ]


@contextmanager
def _between_publications(exports_root: Path) -> Iterator[None]:
    """Wait for the publisher that is at work, and let none begin; accounts that do not publish can only wait a moment.

    Nothing is half-done for longer than it takes to remove or rename some files.
    """
    with ExitStack() as stack:
        if (exports_root / LOCK).exists():  # else nothing was ever published
            try:
                stack.enter_context(locked(exports_root / LOCK, shared=True))
            except LockNotOursError:
                sleep(_LOOK_AGAIN_SECONDS)
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


def _open_folders(exports_root: Path, consumers: Iterable[str] = ()) -> list[tuple[str | None, Path]]:
    """Return the folders of files that this account may list. Raises ForbiddenError where there is none."""
    found, closed = _folders(exports_root, consumers)
    if closed and not found:
        raise ForbiddenError(
            f"this account may open none of the exports in {exports_root}: run this as a member of the group that "
            "MEMORY_EXPORT_GROUP names for whoever publishes, or of that of a consumer in MEMORY_EXPORT_CONSUMERS "
            "(which has to be set here too)."
        )
    return found


def _folders(exports_root: Path, consumers: Iterable[str]) -> tuple[list[tuple[str | None, Path]], list[Path]]:
    """Return the folders of files by consumer (None: all tenants), and the folders that this account may not list."""
    names, closed, found = set(consumers), [], list[tuple[str | None, Path]]()
    try:
        if (exports_root / CONSUMERS).is_dir():
            names |= {folder.name for folder in (exports_root / CONSUMERS).iterdir()}
    except PermissionError:
        closed.append(exports_root / CONSUMERS)
    named = [(name, exports_root / CONSUMERS / name) for name in sorted(names)]
    for name, folder in ((None, exports_root), *named):
        try:
            if name is None or folder.is_dir():
                generations(folder)
                found.append((name, folder))
        except PermissionError:
            closed.append(folder)
    return found, closed


def _describe(consumer: str | None, path: Path) -> PublishedFile:
    manifest = manifest_of(path)
    try:
        served = current_export(path.parent) == path
    except NoExportError:
        served = False  # the publisher of the folder's first file was killed before it was served
    return PublishedFile(
        consumer=consumer,
        path=path,
        served=served,
        tenant=manifest.tenant,
        masked=manifest.masked,
        generation=generation_number(path),
        rows=sum(table.rows for table in manifest.tables.values()),
        messages=manifest.tables["messages"].rows,
        bytes=manifest.bytes,
        published_at=manifest.published_at,
        as_of=manifest.source.taken_at if manifest.source else None,
    )
