"""Slack workspace exports: channels and days in, messages by name and time out."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_pipeline.importers import size_of
from memory_pipeline.importers.slack_text import plain_text
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline_tests.importers.support import TRICKY_TEXTS, read, write_json, zip_folder

ANA = {"id": "U1", "name": "ana", "profile": {"real_name": "Ana Reis", "email": "Ana@Example.com"}}
BO = {"id": "U2", "name": "bo", "profile": {"display_name": "Bo"}}
HELPER = {"id": "U3", "name": "helper", "is_bot": True, "profile": {"real_name": "Helper"}}
DAY = "general/2024-05-01.json"


def said(ts: str, text: str, **changes: Any) -> dict[str, Any]:
    return {"type": "message", "user": "U1", "ts": ts, "text": text} | changes


def workspace(folder: Path, *messages: Any, users: list[Any] | None = None) -> Path:
    write_json(folder / "users.json", [ANA, BO, HELPER] if users is None else users)
    write_json(folder / "channels.json", [{"id": "C1", "name": "general", "members": ["U1"]}])
    write_json(folder / DAY, list(messages))
    return folder


def test_a_message_carries_its_channel_speaker_and_time(tmp_path: Path) -> None:
    taken, refused = read(
        "slack",
        workspace(tmp_path, said("1714548600.000200", "Hi <@U2> &amp; all", thread_ts="1714548500.000100")),
        project="p",
    )
    assert refused == []
    assert taken == [
        IncomingMessage(
            source="slack",
            source_message_id="C1:1714548600.000200",
            source_conversation_id="C1",
            role=Role.USER,
            content="Hi @Bo & all",
            sent_at=datetime(2024, 5, 1, 7, 30, 0, 200, tzinfo=UTC),
            position=1714548600000200,
            speaker="Ana Reis",
            user_email="ana@example.com",
            conversation_title="#general",
            project="p",
            raw_data={"ts": "1714548600.000200", "channel": "general", "user": "U1", "thread_ts": "1714548500.000100"},
            origin="general/2024-05-01.json, message 1 (ts 1714548600.000200)",
        )
    ]


def test_a_given_user_goes_before_the_addresses_of_the_export(tmp_path: Path) -> None:
    path = workspace(tmp_path, said("1714548600.0", "a"), said("1714548601.0", "b", user="U2"))
    assert [each.user_email for each in read("slack", path)[0]] == ["ana@example.com"]
    taken, _ = read("slack", path, user_email="me@example.com")
    assert [each.user_email for each in taken] == ["me@example.com", "me@example.com"]


def test_messages_that_belong_to_nobody_are_left_out_and_counted(tmp_path: Path) -> None:
    path = workspace(
        tmp_path,
        said("1714548600.1", "kept"),
        said("1714548600.2", "b", user="U2"),
        said("1714548600.3", "c", user="U7"),
        said("1714548600.4", "d", user="U3"),
        said("1714548600.5", "e", user=None, subtype="bot_message", bot_id="B1"),
        said("1714548600.6", "f", bot_id="B1"),  # posted by an application for a member
    )
    skipped: Counter[str] = Counter()
    taken, refused = read("slack", path, on_skip=lambda kind: skipped.update([kind]))
    assert refused == []
    assert [(each.content, each.user_email) for each in taken] == [
        ("kept", "ana@example.com"),
        ("f", "ana@example.com"),
    ]
    assert skipped == {"message of a member without an e-mail": 2, "message of a bot without a user": 2}
    skipped.clear()
    assert len(read("slack", path, user_email="me@example.com", on_skip=lambda kind: skipped.update([kind]))[0]) == 6
    assert not skipped


def test_bots_speak_as_assistants_under_their_names(tmp_path: Path) -> None:
    bot = {"user": None, "subtype": "bot_message", "bot_id": "B1"}
    path = workspace(
        tmp_path,
        said("1714548600.1", "a", **bot, username="deploys"),
        said("1714548600.2", "b", user="U9", bot_id="B2", bot_profile={"name": "CI"}),
        said("1714548600.3", "c", user="U3"),
        said("1714548600.4", "", **bot, attachments=[{"fallback": "Build &lt;ok&gt;"}, {"text": "3 min"}]),
        said("1714548600.5", "e", user="U8", user_profile={"real_name": "Guest"}),
        said("1714548600.6", "f", user="U7"),
    )
    taken, _ = read("slack", path, user_email="me@example.com")
    assert [(each.role, each.speaker, each.content) for each in taken] == [
        (Role.ASSISTANT, "deploys", "a"),
        (Role.ASSISTANT, "CI", "b"),
        (Role.ASSISTANT, "Helper", "c"),
        (Role.ASSISTANT, "B1", "Build <ok>\n3 min"),
        (Role.USER, "Guest", "e"),
        (Role.USER, "U7", "f"),
    ]


def test_a_day_is_sorted_by_time_to_the_microsecond(tmp_path: Path) -> None:
    path = workspace(
        tmp_path, said("1714548600.000002", "b"), said("1714548600.000001", "a"), said("1714548600.1", "c")
    )
    taken, _ = read("slack", path)
    assert [(each.content, each.sent_at.microsecond) for each in taken] == [("a", 1), ("b", 2), ("c", 100_000)]


def test_notices_and_empty_messages_are_left_out_and_counted(tmp_path: Path) -> None:
    path = workspace(
        tmp_path,
        said("1714548600.1", "<@U1> has joined the channel", subtype="channel_join"),
        said("1714548600.2", "<@U2> has joined the channel", subtype="channel_join"),
        said("1714548600.3", "set the topic", subtype="channel_topic"),
        said("1714548600.4", ""),
        said("1714548600.5", "", files=[{"title": "plan.pdf"}, {"name": "b.png"}, {"id": "F3"}]),
        said("1714548600.6", "waves", subtype="me_message"),
        said("1714548600.7", "final wording", edited={"user": "U1", "ts": "1714548700.0"}),
    )
    skipped: Counter[str] = Counter()
    taken, refused = read("slack", path, on_skip=lambda kind: skipped.update([kind]))
    assert refused == []
    assert [each.content for each in taken] == [
        "[shares a file: plan.pdf]\n[shares a file: b.png]",
        "waves",
        "final wording",
    ]
    assert taken[0].raw_data is not None
    assert taken[0].raw_data["files"] == ["plan.pdf", "b.png"]
    assert skipped == {"channel_join notice": 2, "channel_topic notice": 1, "message without text": 1}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<@U1> and <@U9|zoe> and <@U8>", "@Ana and @zoe and @U8"),
        ("<#C1> <#C1|old-name> <#C9|elsewhere>", "#general #general #elsewhere"),
        ("<!here> <!channel|channel> <!subteam^S1|@design>", "@here @channel @design"),
        ("<!date^1714548600^{date}|May 1>", "May 1"),
        ("<https://a.b/c?d&amp;e>", "https://a.b/c?d&e"),
        ("<https://a.b|the page>", "the page (https://a.b)"),
        ("<https://a.b|https://a.b> <mailto:x@y.z|x@y.z>", "https://a.b x@y.z"),
        ("1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"),
        ("&amp;lt;", "&lt;"),
        ("a < b <> c", "a < b <> c"),
    ],
)
def test_markup_reads_as_people_saw_it(text: str, plain: str) -> None:
    assert plain_text(text, {"U1": "Ana"}, {"C1": "general"}) == plain


def test_private_channels_and_direct_messages_have_titles(tmp_path: Path) -> None:
    workspace(tmp_path)
    write_json(tmp_path / "groups.json", [{"id": "G1", "name": "board"}])
    write_json(tmp_path / "mpims.json", [{"id": "G2", "name": "mpdm-ana--bo-1", "members": ["U1", "U2"]}])
    write_json(tmp_path / "dms.json", [{"id": "D1", "members": ["U1", "U2", "U9"]}])
    for folder in ("board", "mpdm-ana--bo-1", "D1", "unlisted"):
        write_json(tmp_path / folder / "2024-05-01.json", [said("1714548600.1", "x")])
    taken, _ = read("slack", tmp_path)
    assert {(each.source_conversation_id, each.conversation_title) for each in taken} == {
        ("G1", "#board"),
        ("G2", "#mpdm-ana--bo-1"),
        ("D1", "Ana Reis, Bo, U9"),
        ("unlisted", "#unlisted"),
    }


BAD: list[tuple[Any, str, str]] = [
    (None, "", "can't be read: Expected `object`, got `null`"),
    ({"user": "U1", "text": "x"}, "", "missing required field `ts`"),
    (said("soon", "x"), "", "'soon' is not a time"),
    (said("1714548600.5", 5), "", "at `$.text`"),  # type: ignore[arg-type]  # that is the point
    (said("1714548600.5", "\ud800"), " (ts 1714548600.5)", "content holds half"),
    (said("1714548600.5", "a\0"), " (ts 1714548600.5)", "content holds a NUL"),
    (said("1714548600.5", "x" * 100_001), " (ts 1714548600.5)", "100,001 bytes"),
    (said("1577836800.5", "x"), " (ts 1577836800.5)", "before the first partition"),
    (said("99999999999.5", "x"), " (ts 99999999999.5)", "in the future"),
    (said("1714548600.5", "x", username="\0", user=None), " (ts 1714548600.5)", "speaker holds a NUL"),
    (said("1714548600.5", "x", thread_ts="\0"), " (ts 1714548600.5)", "raw data holds a NUL"),
]


@pytest.mark.parametrize(("bad", "suffix", "reason"), BAD, ids=[reason for _, _, reason in BAD])
def test_a_bad_message_is_named_and_costs_no_other(tmp_path: Path, bad: Any, suffix: str, reason: str) -> None:
    path = workspace(tmp_path, said("1714548600.1", "first"), bad, said("1714548600.9", "last"))
    taken, refused = read("slack", path, user_email="me@example.com")
    assert [each.content for each in taken] == ["first", "last"]
    [rejection] = refused
    assert rejection.origin == f"{DAY}, message 2{suffix}"
    assert reason in rejection.reason
    assert rejection.remedy


def test_a_bad_listing_entry_is_named_and_messages_go_by_id(tmp_path: Path) -> None:
    path = workspace(tmp_path, said("1714548600.1", "Hi <@U2>"), users=[{"id": 1}, BO])
    taken, refused = read("slack", path, user_email="me@example.com")
    assert [(each.content, each.speaker) for each in taken] == [("Hi @Bo", "U1")]
    assert [(each.origin, "can't be read" in each.reason) for each in refused] == [("users.json, entry 1", True)]


def test_a_file_broken_in_the_middle_gives_what_came_before_and_the_other_files(tmp_path: Path) -> None:
    workspace(tmp_path)
    whole = json.dumps([said("1714548600.2", "b"), said("1714548600.1", "a"), said("1714548600.3", "lost")])
    (tmp_path / DAY).write_text(whole[:-20])
    (tmp_path / "general/2024-05-02.json").write_text("not JSON")
    write_json(tmp_path / "general/2024-05-03.json", [said("1714748600.1", "after")])
    taken, refused = read("slack", tmp_path)
    assert [each.content for each in taken] == ["a", "b", "after"]
    assert [each.origin for each in refused] == [f"{DAY}, after message 2", "general/2024-05-02.json, after message 0"]


@pytest.mark.parametrize("form", ["folder", "zip", "zip with a folder"])
def test_every_form_of_an_export_gives_the_same_and_its_size_is_counted(tmp_path: Path, form: str) -> None:
    folder = workspace(tmp_path / "export", said("1714548600.1", "a"))
    write_json(folder / "integration_logs.json", [{"not": "read"}])
    path = {
        "folder": lambda: folder,
        "zip": lambda: zip_folder(folder, tmp_path / "export.zip"),
        "zip with a folder": lambda: zip_folder(folder, tmp_path / "export.zip", "Acme Slack export/"),
    }[form]()
    counted: list[int] = []
    taken, refused = read("slack", path, on_bytes=counted.append)
    assert refused == []
    assert [(each.content, each.source_conversation_id) for each in taken] == [("a", "C1")]
    files = [folder / name for name in ("users.json", "channels.json", DAY)]
    assert sum(counted) == size_of("slack", path) == sum(file.stat().st_size for file in files)


def test_archive_members_that_point_outside_are_not_followed(tmp_path: Path) -> None:
    path = zip_folder(workspace(tmp_path / "export", said("1714548600.1", "a")), tmp_path / "export.zip")
    before = set(tmp_path.rglob("*"))
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("../evil/2024-05-01.json", "/evil/2024-05-01.json", "general/../../2024-05-01.json"):
            archive.writestr(name, json.dumps([said("1714548600.2", "evil")]))
    taken, _ = read("slack", path)
    assert [each.content for each in taken] == ["a"]
    assert set(tmp_path.rglob("*")) == before


def test_content_is_kept_byte_for_byte(tmp_path: Path) -> None:
    path = workspace(tmp_path, *(said(f"171454860{n}.0", text) for n, text in enumerate(TRICKY_TEXTS)))
    taken, refused = read("slack", path)
    assert refused == []
    assert [each.content for each in taken] == TRICKY_TEXTS


@pytest.mark.parametrize("name", ["export.zip", "channels.json", "folder"])
def test_what_is_no_slack_export_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        write_json(path / "conversations.json", [])
    else:
        path.write_bytes(b"PK\x05\x06" + bytes(18) if name == "export.zip" else b"[]")
    with pytest.raises(MemoryPipelineError, match=r"holds neither users\.json nor channels\.json"):
        read("slack", path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from(["ts", "text", "user", "username", "subtype", "bot_id", "bot_profile", "user_profile", "files",
                         "attachments", "thread_ts"]),
        json_values, min_size=1, max_size=3,
    ),
    user=st.dictionaries(st.sampled_from(["id", "name", "real_name", "is_bot", "profile"]), json_values),
)  # fmt: skip
def test_any_json_in_the_fields_gives_messages_or_rejections(
    tmp_path: Path, changes: dict[str, Any], user: dict[str, Any]
) -> None:
    path = workspace(
        tmp_path,
        said("1714548600.1", "first", user="U2"),
        said("1714548600.5", "x") | changes,
        said("1714548600.9", "last", user="U2"),
        users=[ANA | user, BO],
    )
    taken, refused = read("slack", path, user_email="me@example.com")
    assert {"first", "last"} <= {each.content for each in taken} or user.get("id") == "U2"
    assert all(each.origin and each.reason for each in refused)
