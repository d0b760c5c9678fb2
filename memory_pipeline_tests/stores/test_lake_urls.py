"""What is said of a MEMORY_LAKE_URL that is none: what is wrong with it, and nothing that may be a secret."""

from __future__ import annotations

import traceback
from pathlib import Path
from urllib.parse import quote

import pytest

from memory_pipeline.model.errors import SettingsError, StoreUnavailableError
from memory_pipeline.settings import load_settings
from memory_pipeline.stores.lake.published import published_generations
from memory_pipeline.stores.lake.target import open_target
from memory_pipeline_tests.stores.s3_server import S3Server

KEY = "AKIAEXAMPLE"
SECRET = "wJalrXUt/K7MDENG/bPxRfiCY"


def everything_told(error: BaseException) -> str:
    """What a log has of an error: of those behind it too."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "url",
    [
        f"s3://{KEY}:{SECRET}@bucket/lake",
        f"s3://{KEY}:{quote(SECRET, safe='')}@bucket/lake",
        f"s3://{KEY}:{SECRET}/lake",
        f"s3://[{KEY}:{SECRET}/lake",
        f"s3://bucket/lake?access_key={KEY}&secret_key={SECRET}",
        f"s3://bucket/lake?{SECRET}",
        f"s3://bucket/lake?endpoint_override=http://{KEY}:{SECRET}@server:9000",
        f"s3://bucket/lake?endpoint_override=server:9000&scheme={SECRET}",
        f"https://{KEY}:{SECRET}@server/bucket",
        f"file://{KEY}:{SECRET}@host/folder",
    ],
)
def test_a_url_with_a_secret_in_it_is_refused_without_repeating_any_of_it(url: str) -> None:
    with pytest.raises(SettingsError, match="MEMORY_LAKE_URL") as refusal:
        open_target(url)
    told = everything_told(refusal.value)
    assert [piece for piece in (KEY, *SECRET.split("/"), quote(SECRET, safe="")) if piece in told] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMORY_LAKE_URL", f"https://{KEY}:{SECRET}@server/bucket"),
        ("MEMORY_EXPORT_MASK_KEY", "wJalrXUt"),
    ],
)
def test_a_setting_that_may_hold_a_secret_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: .* should ") as refusal:
        load_settings()
    assert "wJalrXUt" not in everything_told(refusal.value)


def test_names_of_folders_may_have_any_character(tmp_path: Path) -> None:
    assert open_target(f"file://{tmp_path}/a@b").url == f"file://{tmp_path}/a@b"
    assert open_target("s3://bucket/team%40home").url == "s3://bucket/team@home"


@pytest.mark.parametrize("url", ["s3://my_Bucket-1.x/lake?region=eu-west-1", "s3://abc"])
def test_names_of_buckets_of_any_server_are_taken(s3: S3Server, url: str) -> None:
    assert open_target(url).url == url.partition("?")[0]


def test_a_name_that_the_client_refuses_is_a_sentence(s3: S3Server) -> None:
    with pytest.raises(StoreUnavailableError, match=r"s3://bucket/a//b: .*Check MEMORY_LAKE_URL"):
        published_generations(s3.url().replace("/lake", "/a//b"))
