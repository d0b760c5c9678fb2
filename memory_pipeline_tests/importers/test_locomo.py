"""LoCoMo samples: dated sessions in, timed turns out."""

from __future__ import annotations

import locale
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_pipeline.importers import size_of
from memory_pipeline.importers.locomo import parse_session_time, sample_email
from memory_pipeline.model.errors import MemoryPipelineError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline_tests.importers.support import TRICKY_TEXTS, read, write_json


def turn(dia_id: str, text: str, **changes: Any) -> dict[str, Any]:
    return {"speaker": "Ana", "dia_id": dia_id, "text": text} | changes


def sample(sample_id: str = "s1", **conversation: Any) -> dict[str, Any]:
    sessions = conversation or {
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [turn("D1:1", "Hi Bo!"), turn("D1:2", "Hi Ana!", speaker="Bo")],
    }
    return {"sample_id": sample_id, "qa": [{"question": "?"}], "conversation": {"speaker_a": "Ana"} | sessions}


def test_turns_carry_the_session_time_plus_their_place(tmp_path: Path) -> None:
    path = write_json(tmp_path / "locomo.json", [sample()])
    counted: list[int] = []
    taken, refused = read("locomo", path, user_email="ana@example.com", project="ignored", on_bytes=counted.append)
    assert refused == []
    assert taken[1] == IncomingMessage(
        source="locomo",
        source_message_id="s1:D1:2",
        source_conversation_id="s1",
        role=Role.USER,
        content="Hi Ana!",
        sent_at=datetime(2023, 5, 8, 13, 56, 1, tzinfo=UTC),
        position=1,
        speaker="Bo",
        user_email="ana@example.com",
        project=None,
        raw_data={"dia_id": "D1:2", "session": 1},
        origin="locomo.json, sample 1 's1', session_1, turn 2",
    )
    assert (len(taken), taken[0].sent_at.second) == (2, 0)
    assert sum(counted) == size_of("locomo", path)


def test_without_a_user_every_sample_has_one_of_its_own(tmp_path: Path) -> None:
    path = write_json(tmp_path / "l.json", [sample("conv-A"), sample("conv-b")])
    taken, refused = read("locomo", path)
    assert refused == []
    emails = ["conv-a@locomo.example"] * 2 + ["conv-b@locomo.example"] * 2
    assert [each.user_email for each in taken] == emails
    assert sample_email("conv-A") == emails[0]


def test_sessions_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    days: dict[str, Any] = {f"session_{n}_date_time": f"1:00 am on {n} May, 2023" for n in (1, 2, 10, 11)}
    turns: dict[str, Any] = {
        f"session_{n}": [turn(f"D{n}:1", str(n))] for n in (10, 2, 1)
    }  # 11 has a date alone, as published
    taken, refused = read("locomo", write_json(tmp_path / "l.json", [sample(**turns, **days)]))
    assert refused == []
    assert [(each.content, each.position) for each in taken] == [("1", 0), ("2", 1), ("10", 2)]


def test_a_shared_photo_is_told_by_its_caption(tmp_path: Path) -> None:
    session = [
        turn("D1:1", "Look!", blip_caption="a photo of a dog", img_url=["x"]),
        turn("D1:2", "", blip_caption="a cat"),
    ]
    path = write_json(tmp_path / "l.json", [sample(session_1=session, session_1_date_time="1:56 pm on 8 May, 2023")])
    taken, _ = read("locomo", path)
    assert [each.content for each in taken] == ["Look!\n[shares a photo: a photo of a dog]", "[shares a photo: a cat]"]
    assert taken[0].raw_data == {"dia_id": "D1:1", "session": 1, "blip_caption": "a photo of a dog"}


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1:56 pm on 8 May, 2023", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("12:09 am on 13 September, 2023", datetime(2023, 9, 13, 0, 9, tzinfo=UTC)),
        ("12:30 PM on 29 February, 2024", datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
        ("12:30 pm on 29 February, 2023", None),
        ("13:00 pm on 8 May, 2023", None),
        ("1:75 pm on 8 May, 2023", None),
        ("1:56 pm on 8 Mai, 2023", None),
        ("11:59 pm on 31 December, 9999", None),
        ("", None),
    ],
)
def test_session_times_are_read_in_any_locale(text: str, time: datetime | None) -> None:
    previous = locale.setlocale(locale.LC_TIME)
    try:
        locale.setlocale(locale.LC_TIME, "C")
        assert parse_session_time(text) == time
    finally:
        locale.setlocale(locale.LC_TIME, previous)


WHEN = "1:56 pm on 8 May, 2023"
BAD: list[tuple[Any, str, str]] = [
    (5, "", "can't be read: Expected `object`"),
    ({"conversation": {}}, "", "missing required field `sample_id`"),
    (sample("s2", session_1=7, session_1_date_time=WHEN), " 's2', session_1", "Expected `array`"),
    (sample("s2", session_1=[turn("D1:1", "x")]), " 's2', session_1", "'' can't be read, so its 1 turns have none"),
    (sample("s2", session_1=[turn("D1:1", "x")], session_1_date_time="soon"), " 's2', session_1", "'soon' can't be"),
    (sample("s2", session_1=[5], session_1_date_time=WHEN), " 's2', session_1, turn 1", "Expected `object`"),
    (sample("s2", session_1=[turn("", "x")], session_1_date_time=WHEN), " 's2', session_1, turn 1", "no dia_id"),
    (sample("s2", session_1=[turn("D1:1", "")], session_1_date_time=WHEN), " 's2', session_1, turn 1", "is empty"),
    (sample("s2", session_1=[turn("D1:1", "\0")], session_1_date_time=WHEN), " 's2', session_1, turn 1", "NUL"),
    (sample("s2", session_1=[turn("D1:1", "\ud800")], session_1_date_time=WHEN), " 's2', session_1, turn 1", "half of"),
    (sample("s2", session_1=[turn("D1", "x")], session_1_date_time="1:56 pm on 8 May, 2021"),
     " 's2', session_1, turn 1", "before the first partition"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "suffix", "reason"), BAD, ids=[reason for _, _, reason in BAD])
def test_a_bad_part_is_named_and_costs_no_other(tmp_path: Path, bad: Any, suffix: str, reason: str) -> None:
    path = write_json(tmp_path / "l.json", [sample("s1"), bad, sample("s3")])
    taken, refused = read("locomo", path)
    assert [each.source_message_id for each in taken] == ["s1:D1:1", "s1:D1:2", "s3:D1:1", "s3:D1:2"]
    [rejection] = refused
    assert rejection.origin == f"l.json, sample 2{suffix}"
    assert reason in rejection.reason


def test_a_file_broken_in_the_middle_gives_the_samples_before_and_one_rejection(tmp_path: Path) -> None:
    path = write_json(tmp_path / "l.json", [sample("s1"), sample("s2")])
    path.write_bytes(path.read_bytes()[:-30])
    taken, refused = read("locomo", path)
    assert len(taken) == 2
    assert [each.origin for each in refused] == ["l.json, after sample 1"]


def test_what_is_no_array_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MemoryPipelineError, match="not LoCoMo data: the file is not a JSON array"):
        read("locomo", write_json(tmp_path / "l.json", {"a": 1}))


def test_content_is_kept_byte_for_byte(tmp_path: Path) -> None:
    session = [turn(f"D1:{n}", text) for n, text in enumerate(TRICKY_TEXTS)]
    path = write_json(tmp_path / "l.json", [sample(session_1=session, session_1_date_time=WHEN)])
    assert [each.content for each in read("locomo", path)[0]] == TRICKY_TEXTS


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(categories=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["session_1", "session_1_date_time", "speaker", "dia_id", "text", "blip_caption"]),
       value=json_values)  # fmt: skip
def test_any_json_in_the_fields_gives_turns_or_rejections(tmp_path: Path, field: str, value: Any) -> None:
    bad = sample("s1")
    target = bad["conversation"] if field.startswith("session") else bad["conversation"]["session_1"][0]
    target[field] = value
    taken, refused = read("locomo", write_json(tmp_path / "l.json", [bad, sample("s2")]))
    assert [each.source_message_id for each in taken[-2:]] == ["s2:D1:1", "s2:D1:2"]
    assert all(each.origin.startswith("l.json, sample 1") and each.reason for each in refused)
