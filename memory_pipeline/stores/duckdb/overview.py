"""What is published, for everyone and for each consumer: listing it, reading it all again, removing old generations."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from memory_pipeline.model.errors import ExportError, NotFoundError
from memory_pipeline.stores.duckdb.build import read_in_fresh_process
from memory_pipeline.stores.duckdb.generations import current_export, generations, manifest_of, prune
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
    messages: int
    bytes: int
    published_at: datetime
    as_of: datetime | None
    """The moment of Postgres it shows."""


def published_files(exports_root: Path) -> list[PublishedFile]:
    """Return every generation of every file, newest first. Raises ExportError for a manifest that can't be read."""
    return [
        _describe(consumer, path)
        for consumer, folder in _folders(exports_root)
        for path in reversed(generations(folder))
    ]


def verify_exports(exports_root: Path) -> list[str]:
    """Read every generation in a fresh process and return what is not as its manifest says, a sentence each."""
    problems = []
    for _, folder in _folders(exports_root):
        try:
            current_export(folder)
        except ExportError as error:
            problems.append(str(error))
        for path in generations(folder):
            try:
                manifest, found = manifest_of(path), read_in_fresh_process(path)
            except ExportError as error:
                problems.append(f"{path}: {error}")
                continue
            wrong = sorted(
                name for name in found.keys() | manifest.tables.keys() if found.get(name) != manifest.tables.get(name)
            )
            if wrong:
                problems.append(f"{path}: {', '.join(wrong)} are not as they were published")
    return problems


def prune_exports(exports_root: Path, generations_kept: int) -> list[Path]:
    """Remove all but the newest generations of every file, never one that is served; return those removed."""
    removed: list[Path] = []
    with locked(exports_root / LOCK):
        for _, folder in _folders(exports_root):
            if generations(folder):
                removed += [folder / name for name in prune(folder, generations_kept)]
    return removed


def tenant_export(exports_root: Path, tenant: str) -> Path:
    """Return the file that has only this tenant's rows: with texts where one has, else masked."""
    found = []
    for consumer, folder in _folders(exports_root):
        if consumer is not None and generations(folder):
            path = current_export(folder)
            manifest = manifest_of(path)
            if manifest.tenant == tenant:
                found.append((manifest.masked, consumer, path))
    if not found:
        raise NotFoundError(
            f"no file is exported for tenant {tenant!r} alone: name a consumer in MEMORY_EXPORT_CONSUMERS, such as "
            f'{{"{tenant}": {{"tenant": "{tenant}"}}}}, and materialize duckdb_analytics.'
        )
    return min(found)[2]


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
        messages=manifest.tables["messages"].rows,
        bytes=manifest.bytes,
        published_at=manifest.published_at,
        as_of=manifest.source.taken_at if manifest.source else None,
    )
