"""Where the lake is published: a folder (`file:///srv/lake`) or a prefix of a bucket (`s3://bucket/prefix`).

Whatever is put under a name is there whole or not at all: on S3 by itself, in a folder by renaming.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

from memory_pipeline.model.errors import ForbiddenError, SettingsError, StoreUnavailableError
from memory_pipeline.stores.files import flush, locked, make_folders
from memory_pipeline.stores.permissions import allow, allow_below

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

PART = ".part"
"""Ends the name of a file that is still being written."""
_LOCK = ".lock"
# What any server calls a bucket. No colon: what stands before one is an access key.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_OPTION_NAME = re.compile(r"[a-z_]{1,30}")
_OPTIONS = ("endpoint_override", "region", "scheme")
_BLOCK = 1 << 20
_SILENCE_SECONDS = 30


class Target:
    """A folder or a prefix of a bucket. Names are relative to it; methods raise OSError where it does not answer."""

    def __init__(self, url: str, filesystem: Any, root: str, *, folder: bool) -> None:
        self.url = url
        """Without options and without a slash at its end."""
        self._filesystem = filesystem
        self._root = root
        self._folder = Path(root) if folder else None
        self._durable: set[Path] = set()

    @property
    def is_folder(self) -> bool:
        return self._folder is not None

    def prepare(self, group: int | None) -> None:
        """Make the folder, for whoever publishes and this group alone. One that is there is as its owner made it.

        But where a group is named it may read a folder of ours, whoever made it for what. Raises ExportError where the
        folder can't be given to the group.
        """
        if self._folder is None:
            return
        made = make_folders(self._folder.parent, 0o711)
        try:
            self._folder.mkdir(mode=0o700)
            made.append(self._folder)
        except FileExistsError:
            pass  # whose it is, is looked at next
        for folder in made:
            flush(folder.parent)
        if self._folder in made:
            allow(self._folder, 0o700 if group is None else 0o750, group)
        elif group is not None and self._folder.stat().st_uid == os.geteuid():
            allow(self._folder, 0o750, group)
            allow_below(self._folder)

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other publishers out for a while, where that can be done: in a folder."""
        return nullcontext() if self._folder is None else locked(self._folder / _LOCK)

    def require_outside(self, lake_root: Path) -> None:
        """Raise SettingsError where the target lies in the lake itself."""
        if self._folder is not None and self._folder.resolve().is_relative_to(lake_root.resolve()):
            raise SettingsError(
                f"MEMORY_LAKE_URL={self.url} lies in the lake itself, {lake_root}: choose a folder beside."
            )

    def sizes(self, under: str) -> dict[str, int]:
        """Return the size of every file below the folder `under`, by name."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(f"{self._root}/{under}", allow_not_found=True, recursive=True)
        return {
            found.path.removeprefix(f"{self._root}/"): found.size
            for found in self._filesystem.get_file_info(selector)
            if found.type == FileType.File
        }

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file, or None where it is not there."""
        try:
            return self._read(name)
        except FileNotFoundError:
            return None
        except OSError:
            # Reading takes two requests: another publisher may have removed or replaced it between them.
            try:
                return self._read(name)
            except FileNotFoundError:
                return None

    def _read(self, name: str) -> bytes:
        with self._filesystem.open_input_stream(f"{self._root}/{name}") as stream:
            content: bytes = stream.read()
        return content

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the content of a file in pieces."""
        with self._filesystem.open_input_stream(f"{self._root}/{name}") as stream:
            while block := stream.read(_BLOCK):
                yield block

    def put(self, name: str, content: bytes, content_type: str) -> None:
        """Write a small file in one step."""
        self._write(name, iter([content]), content_type)

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file, in pieces."""
        with source.open("rb") as file:
            self._write(name, iter(lambda: file.read(_BLOCK), b""), "application/vnd.apache.parquet")

    def remove(self, name: str) -> None:
        """Remove a file; one that another publisher removed first is gone as well."""
        try:
            self._filesystem.delete_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return

    def _write(self, name: str, blocks: Iterator[bytes], content_type: str) -> None:
        if self._folder is None:
            with self._filesystem.open_output_stream(
                f"{self._root}/{name}", metadata={"Content-Type": content_type}
            ) as stream:
                for block in blocks:
                    stream.write(block)
            return
        path = self._folder / name
        self._make(self._folder, path.parent)
        part = path.with_name(f"{path.name}.{uuid4().hex[:8]}{PART}")
        try:
            with part.open("wb") as file:
                for block in blocks:
                    file.write(block)
            part.chmod(0o644)  # the folder says who may read it, whatever the umask
            flush(part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        flush(path.parent)

    def _make(self, root: Path, folder: Path) -> None:
        """Make a folder below the root, and every name on the way to it durable: a manifest will name files in it.

        Once in each publication, for folders that are there too: who made them may have been killed before.
        """
        if folder == root or folder in self._durable:
            return
        self._make(root, folder.parent)
        make_folders(folder, 0o755)
        flush(folder.parent)
        self._durable.add(folder)


def open_target(url: str) -> Target:
    """Return the target of a MEMORY_LAKE_URL. Nothing is asked of it yet. Raises SettingsError."""
    # A secret may stand anywhere in a URL that is wrong, so none of these errors repeats it, nor has another behind it.
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _no_place() from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - set(_OPTIONS if parts.scheme == "s3" else ()))
    if "@" in (parts.netloc if parts.scheme == "file" else url):
        raise SettingsError(
            "MEMORY_LAKE_URL names credentials: leave them out, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. "
            "(An @ that belongs to the prefix is written %40.)"
        )
    if unknown:
        named = [name if _OPTION_NAME.fullmatch(name) else "…" for name in unknown]
        raise SettingsError(f"MEMORY_LAKE_URL has options that there are not: {', '.join(named)}.")
    path = unquote(parts.path).strip("/")
    if parts.scheme == "file" and not parts.netloc and path:
        from pyarrow.fs import LocalFileSystem

        return Target(f"file:///{path}", LocalFileSystem(), f"/{path}", folder=True)
    if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc):
        root = f"{parts.netloc}/{path}".rstrip("/")
        return Target(f"s3://{root}", _s3(options), root, folder=False)
    raise _no_place()


def _no_place() -> SettingsError:
    return SettingsError(
        "MEMORY_LAKE_URL is no place for a lake: file:///folder, or s3://bucket/prefix?region=eu-west-1 (and "
        "endpoint_override=host:port for a server other than Amazon's)."
    )


@contextmanager
def answering(target: Target, what: str) -> Iterator[None]:
    """Raise StoreUnavailableError, beginning with `what`, where the target does not do what it is asked.

    Raises ForbiddenError where that is a folder that this account may not open.
    """
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, ArrowException) as error:
        if target.is_folder and isinstance(error, PermissionError):
            raise ForbiddenError(
                f"{what} at {target.url}: {error}. Run this as whoever publishes there, or as a member of a group that "
                "may open it (MEMORY_EXPORT_GROUP, for folders that were made by publishing)."
            ) from error
        raise StoreUnavailableError(
            f"{what} at {target.url}: {error}. Whoever reads there still finds what was published last, and the local "
            "lake is as it was. Check MEMORY_LAKE_URL, that the server is up or the disk has room, and (for S3) that "
            "the bucket exists and the AWS_* credentials may list, read, write and delete in it; then materialize "
            "published_lake again."
        ) from error


def _s3(options: dict[str, str]) -> Any:
    from pyarrow.fs import S3FileSystem

    scheme, _, endpoint = options.get("endpoint_override", "").rpartition("://")
    scheme = options.get("scheme") or scheme or "https"
    if scheme not in ("http", "https"):
        raise SettingsError("MEMORY_LAKE_URL has a scheme for the server that is neither http nor https.")
    return S3FileSystem(
        endpoint_override=endpoint or None,
        scheme=scheme,
        region=options.get("region"),
        # The client gives up after 3 seconds of silence; a busy server may need more to join the parts of an upload.
        request_timeout=_SILENCE_SECONDS,
        # A file below 10 MB is then one PUT, of which a publisher that is killed leaves nothing.
        allow_delayed_open=True,
        # As many parts in memory as there are copiers, however slow the server.
        background_writes=False,
    )
