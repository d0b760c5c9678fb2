"""The JSONL files of generated conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.synthetic import GeneratedMessage, GenerateSpec, generate, tenant_file_in, write_jsonl

SPEC = GenerateSpec(messages=3_000, tenants=4, users=12, days=10, seed=5, start=date(2026, 4, 1))


def test_each_tenant_gets_one_file_with_all_its_messages_in_order(tmp_path: Path) -> None:
    expected: dict[str, list[dict[str, object]]] = {}
    for slug, message in generate(SPEC):
        line = {
            "id": message.source_message_id,
            "conversation_id": message.source_conversation_id,
            "content": message.content,
            "sent_at": message.sent_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "role": message.role.value,
            "speaker": message.speaker,
            "user": message.user_email,
            "title": message.conversation_title,
            "project": message.project,
            "position": message.position,
        }
        expected.setdefault(slug, []).append({key: value for key, value in line.items() if value is not None})

    counts = write_jsonl(generate(SPEC), tenant_file_in(tmp_path / "made" / "here"))

    assert counts == {slug: len(lines) for slug, lines in expected.items()}
    assert {path.name for path in (tmp_path / "made" / "here").iterdir()} == {f"{slug}.jsonl" for slug in expected}
    for slug, lines in expected.items():
        text = (tmp_path / "made" / "here" / f"{slug}.jsonl").read_text("utf-8")
        assert [json.loads(line) for line in text.splitlines()] == lines


def test_one_tenant_makes_a_single_file_of_the_name_given(tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    write_jsonl(generate(SPEC._replace(tenants=1)), lambda _: path)
    assert [file.name for file in tmp_path.iterdir()] == ["chat.jsonl"]
    assert len(path.read_bytes().splitlines()) == SPEC.messages


def test_writing_again_replaces_what_was_there(tmp_path: Path) -> None:
    first = write_jsonl(generate(SPEC), tenant_file_in(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert write_jsonl(generate(SPEC), tenant_file_in(tmp_path)) == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_optional_keys_are_left_out_where_nothing_is_known(tmp_path: Path) -> None:
    slug, message = next(generate(SPEC))
    bare = GeneratedMessage(
        slug,
        type(message)(
            source=message.source,
            source_message_id="m",
            source_conversation_id="c",
            role=message.role,
            content="ça va ?",
            sent_at=message.sent_at,
            position=0,
        ),
    )
    write_jsonl([bare], tenant_file_in(tmp_path))
    line = json.loads((tmp_path / f"{slug}.jsonl").read_text("utf-8"))
    assert set(line) == {"id", "conversation_id", "content", "sent_at", "role", "position"}


def test_a_broken_run_leaves_the_earlier_file_as_it_was(tmp_path: Path) -> None:
    def broken() -> Iterator[GeneratedMessage]:
        for number, message in enumerate(generate(SPEC)):
            if number == 2_000:
                raise OSError("power cut")
            yield message

    write_jsonl(generate(SPEC), tenant_file_in(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OSError, match="power cut"):
        write_jsonl(broken(), tenant_file_in(tmp_path))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_two_tenants_never_share_a_file(tmp_path: Path) -> None:
    with pytest.raises(MemoryPipelineError, match="would both be written to"):
        write_jsonl(generate(SPEC), lambda _: tmp_path / "all.jsonl")
