"""The published lake, as its readers find it: a manifest that names every file, and the generations before it.

    <url>/manifest.json                                      what is served; replaced in one step
    <url>/manifests/000042-<digest>.json                     the same of every generation that is kept
    <url>/data/messages/day=2025-03-01/<SHA-256>.parquet     never written again; shared by generations

Files are named by their content, so what a manifest names never changes under its reader.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from time import sleep

import msgspec

from memory_pipeline.model.snapshot import Source
from memory_pipeline.stores.files import LockNotOursError, locked
from memory_pipeline.stores.lake.manifest import LakeManifest
from memory_pipeline.stores.lake.target import PART, Target, answering, open_target

SERVED = "manifest.json"
MANIFESTS = "manifests"
DATA = "data"
LOCK = ".publishing.lock"
"""In the local lake: one publisher of it at a time."""
_LOOK_AGAIN_SECONDS = 1.0
_MANIFEST_NAME = re.compile(rf"{MANIFESTS}/(\d{{6,}})-[0-9a-f]{{10}}\.json(\.[0-9a-f]{{8}}\.part)?")
_DATA_NAME = re.compile(rf"{DATA}/.*[0-9a-f]{{64}}\.parquet(\.[0-9a-f]{{8}}\.part)?")


class PublishedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file."""

    path: str
    """Below the URL."""
    rows: int
    bytes: int
    sha256: str


class PublishedTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table: a day each, or one file of a dimension."""

    source: Source
    rows: int
    files: list[PublishedFile]


class PublishedManifest(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of the published lake."""

    generation: int
    digest: str
    """Of the lake's manifest: the same rows, the same digest."""
    code_version: str
    published_at: datetime
    tables: dict[str, PublishedTable]

    @property
    def name(self) -> str:
        """Name of the file that keeps it."""
        return f"{MANIFESTS}/{self.generation:06d}-{self.digest[:10]}.json"

    @property
    def sizes(self) -> dict[str, int]:
        """Size of every file, by name."""
        return {file.path: file.bytes for table in self.tables.values() for file in table.files}

    @property
    def as_of(self) -> datetime | None:
        """The moment of Postgres it shows, the oldest where its tables were exported one by one."""
        return min((table.source.taken_at for table in self.tables.values()), default=None)


class PublishedGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """One generation, for a list of them."""

    url: str
    """Of its manifest."""
    served: bool
    generation: int
    rows: int
    """Of all its tables."""
    messages: int
    bytes: int
    digest: str
    published_at: datetime
    as_of: datetime | None


def data_name(table: str, name: str, sha256: str) -> str:
    """Return the name under which a file of the local lake is published."""
    folder, _, _ = name.rpartition("/")
    return "/".join(filter(None, (DATA, table, folder, f"{sha256}.parquet")))


def described(manifest: LakeManifest, generation: int, published_at: datetime) -> PublishedManifest:
    """Return what is published of a local lake."""
    return PublishedManifest(
        generation=generation,
        digest=manifest.digest,
        code_version=manifest.code_version,
        published_at=published_at,
        tables={
            name: PublishedTable(
                source=table.source,
                rows=table.rows,
                files=[
                    PublishedFile(
                        path=data_name(name, local, file.sha256), rows=file.rows, bytes=file.bytes, sha256=file.sha256
                    )
                    for local, file in table.files.items()
                ],
            )
            for name, table in manifest.tables.items()
        },
    )


def served_manifest(target: Target) -> PublishedManifest | None:
    """Return what is served, or None where there is nothing, or nothing that can be read."""
    # Reading takes two requests, and between them the manifest may be replaced by a longer one.
    return manifest_at(target, SERVED) or manifest_at(target, SERVED)


def manifest_at(target: Target, name: str) -> PublishedManifest | None:
    """Return a manifest, or None where it is not there or can't be read."""
    content = target.read(name)
    if content is None:
        return None
    try:
        return msgspec.json.decode(content, type=PublishedManifest)
    except msgspec.DecodeError:
        return None  # damaged: the next publication puts another in its place


def ours(names: dict[str, int]) -> dict[str, int]:
    """Return those names that a publisher gives: nothing else that lies there is ever removed."""
    return {name: size for name, size in names.items() if _MANIFEST_NAME.fullmatch(name) or _DATA_NAME.fullmatch(name)}


def generation_names(target: Target) -> list[str]:
    """Return the names of all manifests that are kept, newest first."""
    names = [name for name in ours(target.sizes(MANIFESTS)) if not name.endswith(PART)]
    return sorted(names, key=lambda name: (number_of(name), name), reverse=True)


def number_of(manifest_name: str) -> int:
    """Return the generation of a manifest by its name."""
    match = _MANIFEST_NAME.fullmatch(manifest_name)
    return int(match[1]) if match else 0


def published_generations(url: str) -> list[PublishedGeneration]:
    """Return the generations at `url`, the one that is served first, then the newest.

    Raises StoreUnavailableError, and ForbiddenError for a folder that this account may not open.
    """
    target = open_target(url)
    with answering(target, "the published lake can't be listed"):
        served = served_manifest(target)
        names = [name for name in generation_names(target) if served is None or name != served.name]
        manifests = [served, *(manifest_at(target, name) for name in names)]
    return [
        PublishedGeneration(
            url=f"{target.url}/{manifest.name}",
            served=manifest == served,
            generation=manifest.generation,
            rows=sum(table.rows for table in manifest.tables.values()),
            messages=manifest.tables["messages"].rows if "messages" in manifest.tables else 0,
            bytes=sum(manifest.sizes.values()),
            digest=manifest.digest,
            published_at=manifest.published_at,
            as_of=manifest.as_of,
        )
        for manifest in manifests
        if manifest is not None
    ]


def verify_published_lake(lake_root: Path, url: str) -> list[str]:
    """Read every file at `url` again and return what is not as its manifest says, a sentence each.

    Publishers of this lake wait meanwhile. Whoever does not publish can't hold them off: then what seems wrong is
    looked at twice, and files of no generation, which may be about to be published, are not told of. Raises
    StoreUnavailableError, SettingsError, ForbiddenError for a folder that this account may not open.
    """
    target = open_target(url)
    with answering(target, "the published lake can't be read"):
        try:
            # Nobody publishes a lake that is not here, and whoever looks makes no folder.
            with locked(lake_root / LOCK, shared=True) if lake_root.is_dir() else nullcontext():
                return _problems(target, strays=True)
        except LockNotOursError:
            problems = _problems(target, strays=False)
            if not problems:
                return []
            sleep(_LOOK_AGAIN_SECONDS)
            again = set(_problems(target, strays=False))
            return [problem for problem in problems if problem in again]


def _problems(target: Target, *, strays: bool) -> list[str]:
    served = served_manifest(target)
    if served is None:
        return [f"{target.url}/{SERVED} is missing or damaged: materialize published_lake"]
    problems = []
    known: dict[str, PublishedFile] = {}
    for name in sorted({*generation_names(target), served.name}):
        manifest = manifest_at(target, name)
        if manifest is None:
            problems.append(f"{target.url}/{name} is missing or damaged: materialize published_lake")
        else:
            known |= {file.path: file for table in manifest.tables.values() for file in table.files}
    known |= {file.path: file for table in served.tables.values() for file in table.files}
    present = target.sizes(DATA)
    for path, file in sorted(known.items()):
        if path not in present:
            problems.append(f"{target.url}/{path} is missing: materialize published_lake")
        elif present[path] != file.bytes:
            problems.append(f"{target.url}/{path} is not whole: materialize published_lake")
        elif _sha256(target, path) != file.sha256:
            problems.append(f"{target.url}/{path} is damaged: delete it, then materialize published_lake")
    if strays:
        problems += [f"{target.url}/{name} belongs to no generation" for name in sorted(present.keys() - known.keys())]
    return problems


def _sha256(target: Target, name: str) -> str | None:
    digest = hashlib.sha256()
    try:
        for block in target.blocks(name):
            digest.update(block)
    except FileNotFoundError:
        return None  # removed by a publisher that can't be held off
    return digest.hexdigest()
