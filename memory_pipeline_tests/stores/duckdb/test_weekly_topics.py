"""The mart of weekly topics, and the report that shows of it what several users name: on facts made up here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import duckdb

from memory_pipeline.stores.duckdb.marts import PACKAGE, marts
from memory_pipeline.stores.duckdb.reports import run_report
from memory_pipeline.stores.sqlfiles import sql

TENANT = UUID(int=1)
MONDAY = date(2026, 6, 1)
_FACT = """
INSERT INTO facts
SELECT $1, $2, uuid(), $3, NULL, uuid(), 'active', '', $4, $5, $6, false, NULL, 0.5, $7, NULL, NULL, 'test@1', $7
"""


class Said(NamedTuple):
    user: int
    object: str
    predicate: str = "likes"
    subject: str = "Ana"
    day: date = MONDAY


def topics(path: Path, said: Iterable[Said]) -> None:
    """Make a file with the mart of these facts."""
    mart = next(mart for mart in marts() if mart.name == "mart_weekly_topics")
    with duckdb.connect(str(path)) as connection:
        connection.execute(sql(PACKAGE, "tables"))
        connection.execute("INSERT INTO tenants VALUES ($1, 'acme', 'Acme', now())", [TENANT])
        moment = datetime(2026, 6, 1, tzinfo=UTC)
        connection.executemany(
            _FACT,
            [[one.day, TENANT, UUID(int=one.user), one.subject, one.predicate, one.object, moment] for one in said],
        )
        connection.execute(mart.statement)


def named(path: Path, kind: str) -> list[tuple[str, int, int | None, int, int]]:
    """Return (name, rank, rank_shared, facts, users) of the mart's rows of a kind."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(
            "SELECT name, rank, rank_shared, facts, users FROM mart_weekly_topics WHERE kind = $1 ORDER BY rank", [kind]
        ).fetchall()


def test_what_several_users_name_is_kept_however_much_each_names_things_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "file.duckdb"
    own = [Said(user, f"thing {user} {n % 2}") for user in range(30) for n in range(8)]
    topics(path, [*own, Said(3, "Lisbon"), Said(4, "Lisbon"), Said(5, "Porto"), Said(6, "Porto"), Said(7, "Porto")])
    found = named(path, "entity")
    assert [row[:2] for row in found[20:]] == [("Porto", 61), ("Lisbon", 62)]
    assert found[20:] == [("Porto", 61, 1, 3, 3), ("Lisbon", 62, 2, 2, 2)]
    assert [(rank, shared, facts, users) for _, rank, shared, facts, users in found[:20]] == [
        (rank, None, 4, 1) for rank in range(1, 21)
    ]
    report = run_report(path, "weekly_topics", TENANT, MONDAY, MONDAY, max_rows=100, timeout_seconds=10)
    assert report.columns == ["week", "kind", "rank", "rank_shared", "name", "facts", "users"]
    assert [row[1:] for row in report.rows] == [
        ("entity", 61, 1, "Porto", 3, 3),
        ("entity", 62, 2, "Lisbon", 2, 2),
        ("topic", 1, 1, "likes", 245, 30),
    ]


def test_twenty_of_each_list_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file.duckdb"
    topics(path, [Said(user, f"shared {n:02}") for user in (1, 2) for n in range(25)])
    assert named(path, "entity") == [(f"shared {n:02}", n + 1, n + 1, 2, 2) for n in range(20)]


def test_who_speaks_is_no_entity(tmp_path: Path) -> None:
    path = tmp_path / "file.duckdb"
    topics(path, [Said(user, "Lisbon", "lives_in", subject=f"Speaker {user}") for user in range(30)])
    assert named(path, "entity") == [("Lisbon", 1, 1, 30, 30)]
    assert named(path, "topic") == [("lives_in", 1, 1, 30, 30)]


def test_upper_and_lower_case_are_one_entity_spelled_as_most_users_do(tmp_path: Path) -> None:
    path = tmp_path / "file.duckdb"
    topics(
        path,
        [
            *(Said(1, "lisbon") for _ in range(5)),
            *(Said(user, "Lisbon") for user in (2, 3)),
            *(Said(user, word) for user, word in enumerate(("porto", "Porto"))),
        ],
    )
    assert named(path, "entity") == [("Lisbon", 1, 1, 7, 3), ("Porto", 2, 2, 2, 2)]


def test_weeks_are_counted_apart(tmp_path: Path) -> None:
    path = tmp_path / "file.duckdb"
    topics(path, [Said(1, "Lisbon"), Said(2, "Lisbon", day=date(2026, 6, 8))])
    assert named(path, "entity") == [("Lisbon", 1, None, 1, 1)] * 2
    report = run_report(path, "weekly_topics", TENANT, MONDAY, date(2026, 6, 14), max_rows=9, timeout_seconds=10)
    assert report.rows == []
