"""Places where a lake is published in tests, looked at and damaged past the code that publishes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from memory_pipeline_tests.stores.s3_server import S3Server, s3_server

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


class Place(Protocol):
    url: str
    root: str
    """As pyarrow's file systems name it."""

    def files(self) -> dict[str, bytes]: ...

    def put(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...

    def filesystem(self) -> Any: ...


class FolderPlace:
    def __init__(self, folder: Path) -> None:
        self.url = f"file://{folder}"
        self.root = str(folder)
        self._folder = folder

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self._folder).as_posix(): path.read_bytes()
            for path in self._folder.rglob("*")
            if path.is_file() and path.name != ".lock"
        }

    def put(self, name: str, content: bytes) -> None:
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self._folder / name).write_bytes(content)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()

    def filesystem(self) -> Any:
        from pyarrow.fs import LocalFileSystem

        return LocalFileSystem()


class S3Place:
    def __init__(self, server: S3Server) -> None:
        self.url = server.url()
        self.root = "bucket/lake"
        self._server = server

    def files(self) -> dict[str, bytes]:
        return {key.removeprefix("lake/"): content for key, content in self._server.objects.items()}

    def put(self, name: str, content: bytes) -> None:
        self._server.buckets["bucket"][f"lake/{name}"] = content

    def remove(self, name: str) -> None:
        del self._server.buckets["bucket"][f"lake/{name}"]

    def filesystem(self) -> Any:
        from pyarrow.fs import S3FileSystem

        address = f"127.0.0.1:{self._server.server_port}"
        return S3FileSystem(endpoint_override=address, scheme="http", region="eu-west-1")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3-compatible server on localhost, with an empty bucket and an environment that may use it."""
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "s3"])
def lake_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place for a lake: a folder, and a prefix of a bucket."""
    if request.param == "folder":
        return FolderPlace(tmp_path / "published")
    return S3Place(request.getfixturevalue("s3"))
