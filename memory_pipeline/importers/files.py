"""Opens what people hand in: a file, a gzip file, a folder, or a zip archive whose members are read in place.

Nothing is ever extracted, so a member's name can't lead anywhere. A path that can't be used at all is a
MemoryPipelineError; damage found while reading is a DamagedFileError, which the importers turn into a last Rejection.
"""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

from memory_pipeline.model.errors import MemoryPipelineError

BLOCK_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_DAMAGE = (EOFError, OSError, zlib.error, zipfile.BadZipFile)  # gzip.BadGzipFile is an OSError


class DamagedFileError(Exception):
    """Reading stopped half-way: truncated or corrupt compression, a checksum that fails, a disk that doesn't answer."""


class BlockReader(Protocol):
    """read1 hands over what it has before it meets damage, where read would keep that for itself."""

    def read1(self, size: int, /) -> bytes: ...


class Export(Protocol):
    """A folder or an archive of named files. Names are relative, with forward slashes."""

    @property
    def label(self) -> str:
        """Name of the folder or archive, for people."""
        ...

    def sizes(self) -> dict[str, int]:
        """Uncompressed bytes of each file by name."""
        ...

    def blocks(self, name: str, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
        """Yield the content of one file. Raises DamagedFileError."""
        ...


class Folder:
    """An export as unpacked by its owner, or a single file of it."""

    def __init__(self, path: Path) -> None:
        self._files = [path] if path.is_file() else _json_files(path)
        self._root = path.parent if path.is_file() else path
        self.label = path.name

    def sizes(self) -> dict[str, int]:
        return {each.relative_to(self._root).as_posix(): each.stat().st_size for each in self._files}

    def blocks(self, name: str, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
        with open_readable(self._root / name) as stream:
            yield from read_blocks(stream, on_bytes)


def _json_files(folder: Path) -> list[Path]:
    # Exports are shallow; a search without end in a home folder given by mistake would look like a hang.
    levels = ("*.json", "*/*.json", "*/*/*.json")
    return sorted(each for level in levels for each in folder.glob(level) if each.is_file())


class Archive:
    """A zip archive, still open."""

    def __init__(self, archive: zipfile.ZipFile, label: str) -> None:
        self._archive = archive
        self.label = label

    def sizes(self) -> dict[str, int]:
        return {each.filename: each.file_size for each in self._archive.infolist() if not each.is_dir()}

    def blocks(self, name: str, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
        try:
            stream = cast(zipfile.ZipExtFile, self._archive.open(name))
        except (*_DAMAGE, RuntimeError, NotImplementedError) as error:  # encrypted; unknown compression
            raise DamagedFileError(f"the archive member can't be read ({error})") from error
        with stream:
            yield from read_blocks(stream, on_bytes)


@contextmanager
def open_export(path: Path) -> Iterator[Export]:
    """Open a folder, a zip archive or a single file. Raises MemoryPipelineError where it is none of them."""
    if path.is_dir():
        yield Folder(path)
        return
    with open_readable(path) as stream:
        is_zip = zipfile.is_zipfile(stream) or path.suffix.lower() == ".zip"
    if not is_zip:
        yield Folder(path)
        return
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise MemoryPipelineError(
            f"{path} is not a whole zip archive ({error}); download it again, or unpack it and give the folder"
        ) from error
    with archive:
        yield Archive(archive, path.name)


def open_readable(path: Path) -> io.BufferedReader:
    """Open a file to read. Raises MemoryPipelineError with the reason where that can't be done."""
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise MemoryPipelineError(f"{path} does not exist; check the path of the file to import") from error
    except IsADirectoryError as error:
        raise MemoryPipelineError(f"{path} is a folder; this format is read from a single file") from error
    except OSError as error:
        raise MemoryPipelineError(f"{path} can't be read: {error.strerror}") from error


def read_blocks(stream: BlockReader, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the rest of `stream` block by block, telling `on_bytes` their sizes. Raises DamagedFileError."""
    while True:
        try:
            block = stream.read1(BLOCK_BYTES)
        except _DAMAGE as error:
            raise DamagedFileError(f"it can't be read any further ({error or type(error).__name__})") from error
        if not block:
            return
        on_bytes(len(block))
        yield block


class _Counted(io.RawIOBase):
    """Tells how many bytes of a file have been read beneath a decompressor."""

    def __init__(self, inner: IO[bytes], on_bytes: Callable[[int], None]) -> None:
        self._inner = inner
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the buffer is always writable here
        block = self._inner.read(len(buffer))
        buffer[: len(block)] = block
        self._on_bytes(len(block))
        return len(block)


def read_maybe_gzip(stream: IO[bytes], on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the blocks of a file, decompressed where it is gzip; `on_bytes` counts the bytes of the file itself.

    Raises DamagedFileError.
    """
    buffered = io.BufferedReader(_Counted(stream, on_bytes), BLOCK_BYTES)
    try:
        magic = buffered.peek(2)[:2]
    except OSError as error:
        raise DamagedFileError(f"it can't be read ({error})") from error
    if magic == _GZIP_MAGIC:
        with gzip.GzipFile(fileobj=buffered) as text:
            yield from read_blocks(text, _uncounted)
    else:
        yield from read_blocks(buffered, _uncounted)


def _uncounted(count: int) -> None:
    """The bytes were counted beneath."""
