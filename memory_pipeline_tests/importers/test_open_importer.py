"""What every format has in common when a path is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from memory_pipeline.importers import FORMATS, open_importer, size_of
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline_tests.importers.support import options


def test_an_unknown_format_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(MemoryPipelineError, match="'csv'; use one of jsonl, chatgpt, slack, locomo"):
        open_importer("csv", tmp_path, options())


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_path_is_an_error_before_any_reading(tmp_path: Path, format: str) -> None:
    path = tmp_path / "missing"
    with pytest.raises(MemoryPipelineError, match="missing does not exist"):
        open_importer(format, path, options())
    with pytest.raises(MemoryPipelineError, match="missing does not exist"):
        size_of(format, path)


@pytest.mark.parametrize("format", ["jsonl", "locomo"])
def test_a_folder_is_refused_where_a_file_is_read(tmp_path: Path, format: str) -> None:
    with pytest.raises(MemoryPipelineError, match="is a folder"):
        open_importer(format, tmp_path, options())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.touch(mode=0o000)
    with pytest.raises(MemoryPipelineError, match="can't be read"):
        open_importer("jsonl", path, options())


def test_a_chatgpt_export_without_a_user_is_an_error_before_any_reading(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    path.write_text("not JSON")
    with pytest.raises(MemoryPipelineError, match="names no user; pass --user EMAIL"):
        open_importer("chatgpt", path, options())


@pytest.mark.parametrize(("change", "reason"), [({"user_email": "nobody"}, "'nobody'"), ({"project": "\0"}, "project")])
def test_options_that_no_record_could_satisfy_are_an_error(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    path = tmp_path / "chat.jsonl"
    path.touch()
    with pytest.raises(MemoryPipelineError, match=reason):
        open_importer("jsonl", path, options(**change))
