"""Publishes the local lake at a URL: files that are missing there, then a manifest, then what nobody needs is removed.

A publisher that dies anywhere leaves the old manifest served, or the new one, and every file it names; the next one
removes what was left. Publishers of one lake, and of one folder, wait for each other. S3 has no lock: there each looks
after its last removal whether everything that the served manifest names is still there, and begins again if not. As
reads there show every write that has ended, of two publishers the one that looks last sees what the other has done.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, sleep

import msgspec

from memory_pipeline.failpoints import reached
from memory_pipeline.model.errors import ExportError, StoreUnavailableError
from memory_pipeline.model.snapshot import Source
from memory_pipeline.stores.files import locked, sha256_of
from memory_pipeline.stores.lake.manifest import LakeFile, LakeManifest
from memory_pipeline.stores.lake.pins import pinned
from memory_pipeline.stores.lake.published import (
    DATA,
    LOCK,
    MANIFESTS,
    SERVED,
    PublishedManifest,
    data_name,
    described,
    generation_names,
    manifest_at,
    number_of,
    ours,
    served_manifest,
)
from memory_pipeline.stores.lake.target import Target, answering, open_target
from memory_pipeline.stores.permissions import group_id

_COPIERS = 8  # requests to a server elsewhere are waiting, not work
_ATTEMPTS = 8
_WAIT_SECONDS = 0.2


class LakePublication(msgspec.Struct, frozen=True, kw_only=True):
    """What is served at a URL after a publication."""

    url: str
    generation: int
    digest: str
    published: bool
    """False where what is served already was this lake, or a newer one."""
    newer_served: bool
    """Another working copy of the lake has published a later moment of the same Postgres, which was left in place."""
    files: int
    rows: int
    bytes: int
    """Of all files of the generation that is served."""
    files_copied: int
    bytes_copied: int
    files_removed: int
    seconds: float


def publish_lake(lake_root: Path, url: str, generations_kept: int, group: str | None = None) -> LakePublication:
    """Publish the local lake at `url` and keep the newest `generations_kept` generations there.

    `group` may read a folder that is published into; see `Target.prepare`.

    With one generation kept nothing is left there but the files of this lake: that is how erased rows go. Raises
    SettingsError for a URL that is none, StoreUnavailableError where it does not answer, ExportError where there is no
    local lake, one that is damaged, or the lake of another installation at the URL. The local lake is only read, and
    exports go on meanwhile: what is published is the lake as it was when this began.
    """
    if generations_kept < 1:
        raise ExportError("at least one generation must be kept, or nothing could be served.")
    started = perf_counter()
    target = open_target(url)
    target.require_outside(lake_root)
    with (
        answering(target, "the lake can't be published"),
        locked(lake_root / LOCK),
        pinned(lake_root) as (manifest, files),
    ):
        if manifest is None:
            raise ExportError(f"there is no lake in {lake_root} to be published: materialize the lake's tables first.")
        target.prepare(group_id(group))
        with target.exclusive():
            publisher = _Publisher(target, lake_root, files, manifest, generations_kept)
            for attempt in range(_ATTEMPTS):
                served = publisher.publish()
                if served is not None:
                    return publisher.report(served, perf_counter() - started)
                # By chance, or two that began together would go on taking each other's files away.
                sleep(random.uniform(0, _WAIT_SECONDS * 2**attempt))
    raise StoreUnavailableError(
        f"what is published at {target.url} was changed by others {_ATTEMPTS} times while this lake was: let one "
        "publisher at a time work there, then materialize published_lake again."
    )


class _Publisher:
    """One publication, in as many attempts as it takes."""

    def __init__(
        self, target: Target, lake_root: Path, files: Path, manifest: LakeManifest, generations_kept: int
    ) -> None:
        self._target = target
        self._lake_root = lake_root
        self._files = files
        self._manifest = manifest
        self._generations_kept = generations_kept
        self._wanted: dict[str, tuple[Path, LakeFile]] = {
            data_name(table, name, file.sha256): (Path(table) / name, file)
            for table, entry in manifest.tables.items()
            for name, file in entry.files.items()
        }
        self._published = self._newer_served = False
        self._files_copied = self._bytes_copied = self._removed = 0

    def publish(self) -> PublishedManifest | None:
        """Return what is served in the end; None where others came between, and all has to be looked at again."""
        served = served_manifest(self._target)
        _require_same_installation(self._target, served, self._manifest)
        self._newer_served = served is not None and _is_newer(served, self._manifest)
        changed = False
        if not self._newer_served:
            changed = self._copy_missing()
            if (
                served is None
                or served.digest != self._manifest.digest
                or manifest_at(self._target, served.name) != served
            ):
                if changed and not (self._is_whole(self._wanted_sizes()) and served_manifest(self._target) == served):
                    return None
                self._serve(served)
                changed = True
        if not self._remove_unneeded() and not changed:
            return served
        served = served_manifest(self._target)
        return served if served is not None and self._is_whole(served.sizes) else None

    def report(self, served: PublishedManifest, seconds: float) -> LakePublication:
        return LakePublication(
            url=self._target.url,
            generation=served.generation,
            digest=served.digest,
            published=self._published,
            newer_served=self._newer_served,
            files=len(served.sizes),
            rows=sum(table.rows for table in served.tables.values()),
            bytes=sum(served.sizes.values()),
            files_copied=self._files_copied,
            bytes_copied=self._bytes_copied,
            files_removed=self._removed,
            seconds=seconds,
        )

    def _wanted_sizes(self) -> dict[str, int]:
        return {name: file.bytes for name, (_, file) in self._wanted.items()}

    def _is_whole(self, sizes: dict[str, int]) -> bool:
        return sizes.items() <= self._target.sizes(DATA).items()

    def _copy_missing(self) -> bool:
        present = self._target.sizes(DATA)
        missing = [name for name, size in self._wanted_sizes().items() if present.get(name) != size]
        _at_once(self._copy, missing)
        self._files_copied += len(missing)
        self._bytes_copied += sum(self._wanted[name][1].bytes for name in missing)
        reached("after_lake_copies")
        return bool(missing)

    def _copy(self, name: str) -> None:
        path, file = self._wanted[name]
        try:
            intact = sha256_of(self._files / path) == file.sha256
        except FileNotFoundError:
            intact = False
        if not intact:
            raise ExportError(
                f"{self._lake_root / path} is not the file that was exported, so it is not published. Delete it and "
                f"export again; what was published at {self._target.url} before is still served."
            )
        self._target.upload(self._files / path, name)

    def _serve(self, served: PublishedManifest | None) -> None:
        numbers = [number_of(name) for name in generation_names(self._target)]
        generation = 1 + max([*numbers, served.generation if served is not None else 0])
        manifest = described(self._manifest, generation, datetime.now(UTC))
        content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        self._target.put(manifest.name, content, "application/json")
        reached("before_lake_manifest")
        self._target.put(SERVED, content, "application/json")
        reached("after_lake_manifest")
        self._published = True

    def _remove_unneeded(self) -> bool:
        """Remove old generations, then every file that none names any more; return whether there was any."""
        served = served_manifest(self._target)
        if served is None:
            return False
        present = self._target.sizes(DATA)
        kept = {served.name: served}
        for name in generation_names(self._target):
            if len(kept) == self._generations_kept:
                break
            manifest = manifest_at(self._target, name)
            if manifest is not None and manifest.sizes.items() <= present.items():
                kept.setdefault(name, manifest)
        named = {name for manifest in kept.values() for name in manifest.sizes}
        surplus = [name for name in ours(self._target.sizes(MANIFESTS)) if name not in kept]
        unneeded = [name for name in ours(present) if name not in named]
        # In this order: a generation that is still listed has all of its files.
        _at_once(self._target.remove, surplus)
        reached("before_lake_removals")
        _at_once(self._target.remove, unneeded)
        self._removed += len(unneeded)
        return bool(surplus or unneeded)


def _at_once(work: Callable[[str], None], names: Iterable[str]) -> None:
    """Do `work` for every name, several at a time; after a failure nothing more is begun."""
    executor = ThreadPoolExecutor(_COPIERS, thread_name_prefix="lake-publish")
    try:
        for done in [executor.submit(work, name) for name in names]:
            done.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _require_same_installation(target: Target, served: PublishedManifest | None, manifest: LakeManifest) -> None:
    """Raise where what is served was exported from another Postgres than this lake: a mistaken URL, most likely."""
    theirs = {table.source.installation_id for table in served.tables.values()} if served is not None else set()
    others = theirs - {table.source.installation_id for table in manifest.tables.values()}
    if others:
        raise ExportError(
            f"{target.url} has the lake of another installation ({', '.join(sorted(map(str, others)))}), which is "
            "still served. Choose another MEMORY_LAKE_URL, or remove what is there if it is of no more use."
        )


def _is_newer(served: PublishedManifest, manifest: LakeManifest) -> bool:
    """Return whether a later moment of the same Postgres is served than this lake shows: it has another working copy.

    Of two snapshots of one timeline the later is that before which more transactions began, whatever the clocks say.
    """
    sources = [table.source for table in manifest.tables.values()]
    return bool(sources) and any(
        all(theirs.same_history(our) and _transactions(theirs) > _transactions(our) for our in sources)
        for theirs in (table.source for table in served.tables.values())
    )


def _transactions(source: Source) -> int:
    """Return the first transaction id that the snapshot does not know: the second part of `xmin:xmax:in progress`."""
    return int(source.snapshot.split(":")[1])
