"""The index stage: what becomes of a vector whose memory changed, was withdrawn or is gone."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

import pytest

from memory_pipeline.model.window import DayWindow
from memory_pipeline.stages import vector_writer
from memory_pipeline_tests.stages.index.support import FIRST, SECOND, World, sha256


def test_changed_content_replaces_the_vector(world: World, acme: UUID) -> None:
    changed, same = world.remember(acme, "lives in Oslo", "likes tea")
    world.index()
    world.change(acme, changed, "lives in Rome")
    report = world.index()
    assert (report.added, report.updated) == (0, 1)
    world.assert_agrees(acme)
    hits = world.chroma.query(world.live(acme).collection_uuid, world.vector_of(changed), 2)
    assert [hit.memory_id for hit in hits] == [changed, same]
    assert hits[0].distance == pytest.approx(0, abs=1e-5)


def test_a_vector_of_an_older_content_is_not_written(world: World, acme: UUID) -> None:
    [memory_id] = world.remember(acme, "old")
    world.execute("UPDATE memories SET content = 'new', content_hash = %s, version = 2", sha256("new"))
    assert world.index().added == 0
    world.embed(acme, memory_id, "new")
    assert world.index().added == 1
    assert world.indexed(acme)[memory_id].version == 2


@pytest.mark.parametrize("status", ["deleted", "failed"])
def test_a_withdrawn_memory_leaves_the_index(world: World, acme: UUID, status: str) -> None:
    withdrawn, kept = world.remember(acme, "one", "two", chunks=2)
    world.index()
    if status == "failed":
        world.execute("UPDATE memories SET failure_text = 'why' WHERE memory_id = %s", withdrawn)
    world.set_status(withdrawn, status)
    assert world.index().removed == 2
    assert set(world.indexed(acme)) == {kept}
    world.assert_agrees(acme)


def test_a_memory_that_is_gone_leaves_the_index_whatever_the_window(world: World, acme: UUID) -> None:
    gone, kept = world.remember(acme, "one", "two")
    world.index()
    world.execute("DELETE FROM memories WHERE memory_id = %s", gone)
    assert world.index(DayWindow.of_day(SECOND)).removed == 1
    assert set(world.indexed(acme)) == {kept}


def test_a_superseded_memory_stays(world: World, acme: UUID) -> None:
    [memory_id] = world.remember(acme, "lives in Oslo")
    world.index()
    world.set_status(memory_id, "superseded")
    report = world.index()
    assert (report.updated, report.removed) == (1, 0)
    assert world.indexed(acme)[memory_id].version == 2


def test_a_shorter_content_loses_its_last_chunks(world: World, acme: UUID) -> None:
    [memory_id] = world.remember(acme, "a long story", chunks=4)
    world.index()
    world.change(acme, memory_id, "a short one", chunks=2)
    report = world.index()
    assert (report.updated, report.removed) == (2, 2)
    assert world.chunks(acme, memory_id) == [0, 1]
    world.assert_agrees(acme)


def test_a_window_adds_only_its_days_and_follows_changes_of_what_is_indexed_on_any_day(
    world: World, acme: UUID
) -> None:
    [first] = world.remember(acme, "one", day=FIRST)
    second, third = world.remember(acme, "two", "three", day=SECOND)
    assert world.index(DayWindow.of_day(SECOND)).added == 2
    assert set(world.indexed(acme)) == {second, third}
    world.set_status(second, "deleted")
    world.set_status(third, "superseded")
    report = world.index(DayWindow.of_day(FIRST))
    assert (report.added, report.updated, report.removed) == (1, 1, 1)
    world.assert_agrees(acme)
    assert set(world.indexed(acme)) == {first, third}


def test_one_look_for_what_must_go_serves_all_days(world: World, acme: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [date(2026, 3, day) for day in range(2, 7)]
    longer = [memory_id for day in days for memory_id in world.remember(acme, "long", day=day, chunks=3)]
    withdrawn, gone, kept = world.remember(acme, "withdrawn", "gone", "kept", day=days[0])
    world.index()
    for memory_id in longer:
        world.change(acme, memory_id, "short")
    world.set_status(withdrawn, "deleted")
    world.execute("DELETE FROM memories WHERE memory_id = %s", gone)
    looks: list[str] = []
    for name in ("gone_entries", "surplus_entries"):
        find = getattr(vector_writer, name)

        def look(*arguments: Any, _name: str = name, _find: Any = find, **options: Any) -> Any:
            looks.append(_name)
            return _find(*arguments, **options)

        monkeypatch.setattr(vector_writer, name, look)
    report = world.index(DayWindow.of_day(FIRST))
    assert looks == ["gone_entries", "surplus_entries"]
    assert (report.added, report.updated, report.removed) == (0, 5, 12)
    assert set(world.indexed(acme)) == {*longer, kept}
    world.assert_agrees(acme)
