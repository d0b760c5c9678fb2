"""ChatGPT data exports: trees of messages in, the current thread out."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_pipeline.importers import open_importer, size_of
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline_tests.importers.support import TRICKY_TEXTS, options, read, write_json, zip_folder

START = 1714548600.0  # 2024-05-01 07:30 UTC


def message(role: str, *parts: Any, **changes: Any) -> dict[str, Any]:
    content = {"content_type": "text", "parts": list(parts)}
    return {"author": {"role": role}, "content": content, "create_time": START, "recipient": "all"} | changes


def conversation(*messages: dict[str, Any] | None, **changes: Any) -> dict[str, Any]:
    """A thread n0, n1 … of `messages` below an empty root, as exported."""
    mapping: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": ["n0"]}}
    parent = "root"
    for number, each in enumerate(messages):
        node = f"n{number}"
        mapping[node] = {"id": node, "message": each and {"id": f"id-{node}"} | each, "parent": parent, "children": []}
        parent = node
    return {
        "title": "Moving", "create_time": START, "conversation_id": "c1", "current_node": parent, "mapping": mapping,
    } | changes  # fmt: skip


def export(folder: Path, *conversations: Any) -> Path:
    return write_json(folder / "conversations.json", list(conversations))


def contents(path: Path, **changes: Any) -> list[str]:
    taken, refused = read("chatgpt", path, **changes)
    assert refused == []
    return [each.content for each in taken]


def test_a_thread_becomes_messages_in_order(tmp_path: Path) -> None:
    path = export(
        tmp_path,
        conversation(
            message("user", "I moved to Lisbon."),
            message("assistant", "How is it?", create_time=START + 2.5, metadata={"model_slug": "gpt-x"}),
        ),
    )
    taken, refused = read("chatgpt", path, user_email="ana@example.com", project="p")
    assert refused == []
    shared: dict[str, Any] = {
        "source": "chatgpt", "source_conversation_id": "c1", "conversation_title": "Moving",
        "user_email": "ana@example.com", "project": "p",
    }  # fmt: skip
    assert taken == [
        IncomingMessage(
            source_message_id="c1:id-n0", role=Role.USER, content="I moved to Lisbon.", position=1,
            sent_at=datetime(2024, 5, 1, 7, 30, tzinfo=UTC), speaker=None, raw_data=None,
            origin="conversations.json, conversation 1, message 'n0'", **shared,
        ),
        IncomingMessage(
            source_message_id="c1:id-n1", role=Role.ASSISTANT, content="How is it?", position=2,
            sent_at=datetime(2024, 5, 1, 7, 30, 2, 500_000, tzinfo=UTC), speaker="ChatGPT",
            raw_data={"model": "gpt-x"}, origin="conversations.json, conversation 1, message 'n1'", **shared,
        ),
    ]  # fmt: skip


def test_abandoned_branches_are_left_out(tmp_path: Path) -> None:
    tree = conversation(message("user", "question"), message("assistant", "kept"))
    tree["mapping"]["other"] = {"message": message("assistant", "abandoned"), "parent": "n0", "children": []}
    assert contents(export(tmp_path, tree)) == ["question", "kept"]


def test_what_is_left_out_is_counted_by_kind(tmp_path: Path) -> None:
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    multimodal = {"content_type": "multimodal_text"}
    path = export(
        tmp_path,
        conversation(
            message("system", "be kind"),
            message("tool", "42"),
            message("\x1b\ud800", "?"),
            message("user", "secret", metadata={"is_visually_hidden_from_conversation": True}),
            message("assistant", "search('x')", recipient="browser"),
            message("assistant", content={"content_type": "code", "text": "print(1)"}, recipient="python"),
            message("assistant", content={"content_type": "thoughts", "thoughts": []}),
            message("assistant", content={"content_type": "reasoning_recap", "content": "Thought for 3s"}),
            message("user", content={"content_type": "user_editable_context", "user_profile": "x"}),
            message("user", content=multimodal | {"parts": [image]}),
            message("assistant", ""),
            message("assistant"),
            message("user", content=multimodal | {"parts": [image, "Look!", {"text": "said aloud"}, 5, None]}),
            message("assistant", content={"content_type": "code", "text": "print(2)"}),
        ),
        conversation(mapping={}, current_node=None),
    )
    skipped: Counter[str] = Counter()
    assert contents(path, on_skip=lambda kind: skipped.update([kind])) == ["[image]\nLook!\nsaid aloud", "print(2)"]
    assert skipped == {
        "system message": 1,
        "tool message": 1,
        "\\x1b\\ud800 message": 1,
        "hidden message": 1,
        "call of a tool": 2,
        "thoughts content": 1,
        "reasoning_recap content": 1,
        "user_editable_context content": 1,
        "image without text": 1,
        "message without text": 2,
        "conversation without messages": 1,
    }


def test_a_missing_time_is_taken_from_the_message_before_or_the_conversation(tmp_path: Path) -> None:
    path = export(
        tmp_path,
        conversation(
            message("user", "a", create_time=None), message("user", "b", create_time=START + 9),
            message("user", "c", create_time=None),
        ),
        conversation(message("user", "d", create_time=None), create_time=None),
    )  # fmt: skip
    taken, refused = read("chatgpt", path)
    assert [(each.sent_at.second, each.raw_data) for each in taken] == [
        (0, {"sent_at_inherited": True}),
        (9, None),
        (9, {"sent_at_inherited": True}),
    ]
    assert [(each.origin, each.reason) for each in refused] == [
        ("conversations.json, conversation 2, message 'n0'", "neither the message nor its conversation has a time")
    ]


def broken(tree: dict[str, Any], **nodes: Any) -> dict[str, Any]:
    """`tree` with nodes changed (or, for None, removed)."""
    for node, changes in nodes.items():
        if changes is None:
            del tree["mapping"][node]
        else:
            tree["mapping"][node] |= changes
    return tree


def three() -> dict[str, Any]:
    return conversation(message("user", "a"), message("user", "b"), message("user", "c"))


BAD: list[tuple[Any, str, str, list[str]]] = [
    (None, "", "can't be read: Expected `object`, got `null`", []),
    ({"title": "x"}, "", "missing required field `mapping`", []),
    (three() | {"title": 5}, "", "at `$.title`", []),
    (three() | {"conversation_id": None}, "", "no id", []),
    (three() | {"conversation_id": "\ud800", "mapping": {"a": {"message": message("user", "x")}}, "current_node": "a"},
     "a", "message id holds half", []),
    (three() | {"current_node": "lost"}, "", "'lost', above the current node, is not in the export", []),
    (broken(three(), n0={"parent": "n2"}), "", "in a circle: above message 'n0' comes 'n2' again", ["a", "b", "c"]),
    (broken(three(), n2={"parent": "n2"}), "", "in a circle: above message 'n2' comes 'n2' again", ["c"]),
    (broken(three(), n1=None), "", "'n1', above message 'n2', is not in the export", ["c"]),
    (broken(three(), n1={"parent": 7}), "", "node 'n1' can't be read", ["c"]),
    (broken(three(), n1={"message": message("user", "x\0")}), "n1", "content holds a NUL", ["a", "c"]),
    (broken(three(), n1={"message": message("user", "\udc00")}), "n1", "content holds half", ["a", "c"]),
    (broken(three(), n1={"message": message("user", "x" * 100_001)}), "n1", "100,001 bytes", ["a", "c"]),
    (broken(three(), n1={"message": {"content": {}}}), "n1", "missing required field", ["a", "c"]),
    (broken(three(), n1={"message": message("user", "x", create_time=1e30)}), "n1", "not a time", ["a", "c"]),
    (broken(three(), n1={"message": message("user", "x", create_time=1e9)}), "n1", "2022-01-01", ["a", "c"]),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "node", "reason", "kept"), BAD, ids=[reason for _, _, reason, _ in BAD])
def test_a_bad_conversation_or_message_is_named_and_costs_no_other(
    tmp_path: Path, bad: Any, node: str, reason: str, kept: list[str]
) -> None:
    first, last = conversation(message("user", "first")), conversation(message("user", "last"))
    taken, refused = read("chatgpt", export(tmp_path, first, bad, last))
    assert [each.content for each in taken] == ["first", *kept, "last"]
    [rejection] = refused
    assert rejection.origin == "conversations.json, conversation 2" + (f", message {node!r}" if node else "")
    assert reason in rejection.reason
    assert rejection.remedy


def test_without_a_current_node_the_only_leaf_is_taken_and_several_are_refused(tmp_path: Path) -> None:
    forked = three() | {"current_node": None}
    forked["mapping"]["fork"] = {"message": message("user", "d"), "parent": "n0"}
    torn = three() | {"current_node": None}
    torn["mapping"]["n1"] = 7
    taken, refused = read("chatgpt", export(tmp_path, three() | {"current_node": None}, forked, torn))
    assert [each.content for each in taken] == ["a", "b", "c"]
    assert [each.origin for each in refused] == [
        "conversations.json, conversation 2",
        "conversations.json, conversation 3",
    ]
    several = "the conversation does not say which branch is current"
    assert refused[0].reason == several
    assert refused[1].reason.startswith(f"{several}, and node 'n1' can't be read (")


def test_a_file_broken_in_the_middle_gives_the_conversations_before_and_one_rejection(tmp_path: Path) -> None:
    path = export(tmp_path, three(), three(), three())
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b'"current_node"')])
    taken, refused = read("chatgpt", path)
    assert len(taken) == 6
    assert [each.origin for each in refused] == ["conversations.json, after conversation 2"]
    assert "in the middle of the array" in refused[0].reason


@pytest.mark.parametrize("ascii_only", [True, False])
def test_content_is_kept_byte_for_byte(tmp_path: Path, ascii_only: bool) -> None:
    tree = conversation(*(message("user", text) for text in TRICKY_TEXTS))
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([tree], ensure_ascii=ascii_only), encoding="utf-8")
    assert contents(path) == TRICKY_TEXTS


@pytest.mark.parametrize("form", ["file", "renamed file", "folder", "zip", "zip with a folder"])
def test_every_form_of_an_export_gives_the_same_and_its_size_is_counted(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "export"
    file = export(folder, three())
    write_json(folder / "user.json", {"email": "ana@example.com"})
    path = {
        "file": lambda: file,
        "renamed file": lambda: file.rename(tmp_path / "mine.json"),
        "folder": lambda: folder,
        "zip": lambda: zip_folder(folder, tmp_path / "export.zip"),
        "zip with a folder": lambda: zip_folder(folder, tmp_path / "export.zip", "chatgpt-2024/"),
    }[form]()
    counted: list[int] = []
    assert contents(path, on_bytes=counted.append) == ["a", "b", "c"]
    assert sum(counted) == size_of("chatgpt", path) == len(json.dumps([three()]))


def test_an_export_in_several_files_is_read_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "conversations-000.json", [conversation(message("user", "one"))])
    write_json(tmp_path / "conversations-001.json", {"no": "list"})
    write_json(tmp_path / "conversations-002.json", [conversation(message("user", "three"))])
    taken, refused = read("chatgpt", tmp_path)
    assert [each.content for each in taken] == ["one", "three"]
    assert [each.origin for each in refused] == ["conversations-001.json, after conversation 0"]


def test_a_zip_whose_data_is_corrupt_gives_what_came_before(tmp_path: Path) -> None:
    export(tmp_path / "export", *(conversation(message("user", f"{n} {n * n * 7919}")) for n in range(5000)))
    path = zip_folder(tmp_path / "export", tmp_path / "export.zip")
    data = bytearray(path.read_bytes())
    for offset in range(len(data) // 2, len(data) // 2 + 50):
        data[offset] ^= 0xFF
    path.write_bytes(data)
    taken, refused = read("chatgpt", path)
    assert taken[0].content.startswith("0 ")
    assert "the rest of the file can't be read" in refused[-1].reason


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("conversations.json", b"", "the file is empty"),
        ("conversations.json", b"hello", "not a JSON array: it begins with b'hello'"),
        ("conversations.json", b'{"a": 1}', "not a JSON array"),
        ("export.zip", b"PK\x03\x04 cut", "not a whole zip archive"),
        ("export.zip", b"PK\x05\x06" + bytes(18), "holds no conversations.json"),
    ],
)
def test_what_is_no_export_at_all_is_an_error(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MemoryPipelineError, match=reason):
        read("chatgpt", path)


def test_memory_stays_flat_on_a_file_far_larger_than_it(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    tree = json.dumps(conversation(*(message("user", f"{n} " + "word " * 200) for n in range(100)))).encode()
    with path.open("wb") as file:
        for number in range(30_000_000 // len(tree) + 1):
            file.write((b"," if number else b"[") + tree)
        file.write(b"]")
    assert path.stat().st_size > 30_000_000
    tracemalloc.start()
    count = sum(
        isinstance(each, IncomingMessage)
        for each in open_importer("chatgpt", path, options(user_email="ana@example.com"))
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100 * (30_000_000 // len(tree) + 1)
    assert peak < 10_000_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.sampled_from(["conversation", "node", "message", "content"]),
    field=st.sampled_from(["title", "mapping", "id", "conversation_id", "current_node", "create_time", "message",
                           "parent", "author", "content", "recipient", "metadata", "content_type", "parts"]),
    value=json_values,
)  # fmt: skip
def test_any_json_in_the_fields_gives_messages_or_rejections(tmp_path: Path, at: str, field: str, value: Any) -> None:
    tree = three()
    node = tree["mapping"]["n1"]
    {"conversation": tree, "node": node, "message": node["message"], "content": node["message"]["content"]}[at][
        field
    ] = value
    last = conversation(message("user", "last"))
    taken, refused = read("chatgpt", export(tmp_path, tree, last))
    assert taken[-1].content == "last"
    assert all(each.origin.startswith("conversations.json, conversation 1") and each.reason for each in refused)


@pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\x80", rb"\ud83d", rb"\udc00 x"])
def test_a_broken_character_condemns_its_message_alone(tmp_path: Path, bad: bytes) -> None:
    path = export(tmp_path, conversation(message("user", "a"), message("user", "cut @@"), message("tool", "@@")))
    path.write_bytes(path.read_bytes().replace(b"@@", bad))
    taken, refused = read("chatgpt", path)
    assert [each.content for each in taken] == ["a"]
    assert [each.origin for each in refused] == ["conversations.json, conversation 1, message 'n1'"]
    assert "half of a surrogate pair, or a byte that is not UTF-8 (position 4)" in refused[0].reason
