"""The worked questions: each answers on the sample's file, and several are counted again from the sample itself."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import psycopg
import pytest

from memory_pipeline.model.errors import NotFoundError
from memory_pipeline.model.records import IncomingMessage, Role
from memory_pipeline.stores.duckdb.marts import marts
from memory_pipeline.stores.duckdb.query import query
from memory_pipeline.stores.duckdb.questions import Question, questions, worked_question
from memory_pipeline.stores.postgres.audits import GAPS
from memory_pipeline.synthetic import sample_messages
from memory_pipeline_tests.stores.duckdb.conftest import SampleExport

SAMPLE = [(one.tenant_slug, one.message) for one in sample_messages()]
BY_NUMBER = pytest.mark.parametrize("question", questions(), ids=lambda one: f"{one.number:02}")


def answer(sample: SampleExport, number: int) -> list[dict[str, Any]]:
    result = query(sample.path, worked_question(number).statement)
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def in_postgres(sample: SampleExport, statement: str) -> list[tuple[Any, ...]]:
    options = "-c search_path=memory,public -c timezone=UTC"
    with psycopg.connect(sample.database.admin_url, options=options) as connection:
        return connection.execute(statement.encode()).fetchall()


def day(message: IncomingMessage) -> date:
    return message.sent_at.astimezone(UTC).date()


def monday(of: date) -> date:
    return of - timedelta(days=of.weekday())


def written() -> Iterator[tuple[str, IncomingMessage]]:
    """Yield what users wrote, each with the e-mail of its user."""
    for _, message in SAMPLE:
        if message.role is Role.USER:
            assert message.user_email is not None
            yield message.user_email, message


def test_at_least_twenty_questions_are_numbered_from_one() -> None:
    assert len(questions()) >= 20
    assert [one.number for one in questions()] == list(range(1, len(questions()) + 1))
    assert all(one.question.endswith("?") and one.context.endswith(".") for one in questions())
    assert len({one.question for one in questions()}) == len(questions())


def test_a_question_that_is_not_there_is_a_sentence() -> None:
    last = len(questions())
    with pytest.raises(NotFoundError, match=f"there is no question {last + 1}: they go from 1 to {last}"):
        worked_question(last + 1)


def test_every_mart_and_the_chief_tables_are_asked() -> None:
    asked = {word for one in questions() for word in re.findall(r"(?:FROM|JOIN) (\w+)", one.statement)}
    assert {mart.name for mart in marts()} - asked == set()
    assert asked >= {"tenants", "conversations", "messages", "facts", "memory_relationships", "summaries"}


@BY_NUMBER
def test_every_question_has_an_answer(sample_export: SampleExport, question: Question) -> None:
    result = query(sample_export.path, question.statement)
    assert result.rows
    assert len(set(result.columns)) == len(result.columns)


@BY_NUMBER
def test_every_question_can_be_asked_of_a_masked_file(sample_export: SampleExport, question: Question) -> None:
    plain, masked = query(sample_export.path, question.statement), query(sample_export.masked, question.statement)
    assert (masked.columns, len(masked.rows)) == (plain.columns, len(plain.rows))


def test_daily_activity_counts_the_last_thirty_days(sample_export: SampleExport) -> None:
    last = max(day(message) for _, message in SAMPLE)
    by_day: dict[date, list[IncomingMessage]] = defaultdict(list)
    for _, message in SAMPLE:
        by_day[day(message)].append(message)
    found = answer(sample_export, 1)
    assert [row["day"] for row in found] == [last - timedelta(days=n) for n in range(30)]
    for row in found:
        said = by_day[row["day"]]
        assert row["messages"] == len(said)
        assert row["users"] == len({message.user_email for message in said})
        assert row["conversations"] == len({message.source_conversation_id for message in said})


def test_tenants_have_the_messages_users_and_facts_of_postgres(sample_export: SampleExport) -> None:
    expected = in_postgres(
        sample_export,
        "SELECT slug, (SELECT count(*) FROM users u WHERE u.tenant_id = t.tenant_id),"
        " (SELECT count(DISTINCT user_id) FROM messages m WHERE m.tenant_id = t.tenant_id),"
        " (SELECT count(*) FROM messages m WHERE m.tenant_id = t.tenant_id),"
        " (SELECT count(*) FROM memories m WHERE m.tenant_id = t.tenant_id AND kind = 'fact') FROM tenants t",
    )
    found = answer(sample_export, 2)
    columns = ("tenant", "users", "active_users", "messages", "facts")
    assert {tuple(row[name] for name in columns) for row in found} == set(expected)
    for row in found:
        assert row["facts_per_100_messages"] == pytest.approx(100 * row["facts"] / row["messages"], abs=0.05)


def test_monthly_users_are_counted_once_a_month(sample_export: SampleExport) -> None:
    months: dict[date, list[str]] = defaultdict(list)
    for email, message in written():
        months[day(message).replace(day=1)].append(email)
    assert [(row["month"], row["active_users"], row["user_messages"]) for row in answer(sample_export, 3)] == [
        (month, len(set(users)), len(users)) for month, users in sorted(months.items())
    ]


def test_users_who_never_wrote_and_months_without_a_word_are_counted() -> None:
    """Nobody of the sample is silent, and no month of it: here is a user without messages, and an empty February."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE tenants AS SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(tenant_id, slug)")
        connection.execute("CREATE TABLE users AS SELECT * FROM (VALUES (1, 10), (1, 11)) v(tenant_id, user_id)")
        connection.execute(
            "CREATE TABLE dim_days AS SELECT day::DATE AS day, date_trunc('month', day)::DATE AS month FROM"
            " (SELECT unnest(generate_series(DATE '2026-01-30', DATE '2026-03-02', INTERVAL 1 DAY)) AS day)"
        )
        connection.execute(
            "CREATE TABLE mart_user_daily AS SELECT * FROM (VALUES (DATE '2026-01-30', 1, 10, 4, 2, 1),"
            " (DATE '2026-03-02', 1, 10, 1, 1, 0)) v(day, tenant_id, user_id, messages, user_messages, facts)"
        )
        assert connection.execute(worked_question(2).statement).fetchall() == [
            ("a", 2, 1, 5, 1, 20.0, date(2026, 3, 2)),
            ("b", 0, 0, 0, 0, None, None),
        ]
        assert connection.execute(worked_question(3).statement).fetchall() == [
            (date(2026, 1, 1), 1, 2, 2.0),
            (date(2026, 2, 1), 0, 0, None),
            (date(2026, 3, 1), 1, 1, 1.0),
        ]


def test_hours_are_those_of_utc(sample_export: SampleExport) -> None:
    expected = Counter(message.sent_at.astimezone(UTC).hour for _, message in written())
    assert {row["hour"]: row["messages"] for row in answer(sample_export, 4)} == dict(expected)


def test_most_active_users_come_first(sample_export: SampleExport) -> None:
    expected = Counter(email for email, _ in written())
    found = answer(sample_export, 5)
    assert {row["email"]: row["user_messages"] for row in found} == dict(expected)
    assert [row["user_messages"] for row in found] == sorted(expected.values(), reverse=True)


def test_retention_is_that_of_the_weeks_in_which_users_wrote(sample_export: SampleExport) -> None:
    weeks: dict[str, set[date]] = defaultdict(set)
    for email, message in written():
        weeks[email].add(monday(day(message)))
    last = max(monday(day(message)) for _, message in SAMPLE)
    expected = []
    for later in range((last - min(min(of) for of in weeks.values())).days // 7 + 1):
        shift = timedelta(weeks=later)
        cohort = [of for of in weeks.values() if min(of) + shift <= last]
        expected.append((later, len(cohort), sum(min(of) + shift in of for of in cohort)))
    found = answer(sample_export, 6)
    assert [(row["weeks_later"], row["cohort_users"], row["users"]) for row in found] == expected


def test_retention_counts_cohorts_of_whom_nobody_came_back_and_none_that_are_too_young() -> None:
    """Everybody of the sample writes every week: so here are two cohorts of which few come back."""
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE dim_days AS SELECT DATE '2026-06-01' + 7 * i::INTEGER AS week FROM range(3) t(i)"
        )
        connection.execute(
            "CREATE TABLE mart_retention AS SELECT * FROM (VALUES"
            " ('t', DATE '2026-06-01', 0, 4, 4), ('t', DATE '2026-06-01', 1, 4, 1), ('t', DATE '2026-06-08', 0, 6, 6)"
            ") v(tenant_id, cohort_week, weeks_later, cohort_users, users)"
        )
        assert connection.execute(worked_question(6).statement).fetchall() == [
            (0, 10, 10, 1.0),
            (1, 10, 1, 0.1),
            (2, 4, 0, 0.0),
        ]


def test_memory_consists_of_what_postgres_has(sample_export: SampleExport) -> None:
    expected = in_postgres(sample_export, "SELECT kind, status, count(*) FROM memories GROUP BY kind, status")
    found = answer(sample_export, 7)
    assert {(row["kind"], row["status"], row["memories"]) for row in found} == set(expected)
    assert sum(row["share"] for row in found) == pytest.approx(1, abs=0.002)
    newest = {row["kind"]: row["memories_so_far"] for row in answer(sample_export, 8)}
    by_kind: Counter[str] = Counter()
    for kind, _, memories in expected:
        by_kind[kind] += memories
    assert newest == dict(by_kind)


def test_what_changed_names_both_facts(sample_export: SampleExport) -> None:
    expected = in_postgres(
        sample_export,
        "SELECT u.email, old.content, new.content, new.valid_from::date FROM memories old"
        " JOIN memories new ON new.tenant_id = old.tenant_id AND new.memory_id = old.superseded_by"
        " JOIN users u ON u.tenant_id = old.tenant_id AND u.user_id = old.user_id WHERE old.kind = 'fact'",
    )
    found = [(row["email"], row["before"], row["since"], row["changed_on"]) for row in answer(sample_export, 10)]
    assert set(found) == set(expected)
    assert len(found) == len(expected) > 0


def facts(sample: SampleExport) -> list[tuple[str, str, datetime, datetime | None]]:
    """(tenant, user, valid_from, valid_to) of every fact of Postgres."""
    return in_postgres(
        sample,
        "SELECT t.slug, m.user_id::text, m.valid_from, m.valid_to FROM memories m JOIN tenants t USING (tenant_id)"
        " WHERE m.kind = 'fact'",
    )


def test_what_was_true_on_a_day_is_what_held_then(sample_export: SampleExport) -> None:
    moments = [message.sent_at for _, message in SAMPLE]
    middle = min(moments) + (max(moments) - min(moments)) / 2
    then: dict[str, list[tuple[str, datetime | None]]] = defaultdict(list)
    for tenant, user, start, end in facts(sample_export):
        if start <= middle and (end is None or end > middle):
            then[tenant].append((user, end))
    assert [tuple(row.values()) for row in answer(sample_export, 12)] == [
        (tenant, middle.date(), len(held), sum(end is not None for _, end in held), len({user for user, _ in held}))
        for tenant, held in sorted(then.items())
    ]


def test_churn_adds_up_week_by_week(sample_export: SampleExport) -> None:
    began = Counter(monday(start.date()) for _, _, start, _ in facts(sample_export))
    ended = Counter(monday(end.date()) for _, _, _, end in facts(sample_export) if end is not None)
    expected, holding = [], 0
    for week in sorted(began | ended):
        holding += began[week] - ended[week]
        expected.append((week, began[week], ended[week], holding))
    assert [tuple(row.values()) for row in answer(sample_export, 13)] == expected
    assert sum(ended.values()) > 0


def test_the_pipeline_answers_as_its_jobs_ended(sample_export: SampleExport) -> None:
    (row,) = answer(sample_export, 15)
    assert (row["job_type"], row["jobs"], row["open"], row["failure_rate"]) == ("enrich_and_embed", 15, 3, 0.2)
    assert 0 <= row["worst_day_p50_seconds"] <= row["worst_day_p95_seconds"]


def test_findings_of_audits_are_counted_by_tenant(sample_export: SampleExport) -> None:
    expected = in_postgres(
        sample_export,
        "SELECT slug, store, problem, count(*), 0 FROM audit_findings JOIN tenants USING (tenant_id) GROUP BY 1, 2, 3",
    )
    found = answer(sample_export, 16)
    assert {tuple(row.values())[:5] for row in found if row["findings"]} == set(expected)
    # One audit looked for the problems of Postgres, in three tenants.
    assert len(found) == 3 * len(GAPS)
    assert {(row["store"], row["audits"]) for row in found} == {("postgres", 1)}
    for row in found:
        assert row["last_found"] == (row["last_audited"] if row["findings"] else None)


def test_days_without_findings_are_told_from_days_without_an_audit() -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE tenants AS SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c')) v(tenant_id, slug)"
        )
        connection.execute(
            "CREATE TABLE mart_data_quality AS SELECT * FROM (VALUES"
            " (1, DATE '2026-06-01', 'x', 0), (1, DATE '2026-06-01', 'y', 2), (1, DATE '2026-06-03', 'x', 0),"
            " (1, DATE '2026-06-03', 'y', 0), (2, DATE '2026-06-03', 'x', 0)) v(tenant_id, day, problem, findings)"
        )
        assert connection.execute(worked_question(23).statement).fetchall() == [
            ("a", 2, 1, 0.5, date(2026, 6, 3), date(2026, 6, 1)),
            ("b", 1, 1, 1.0, date(2026, 6, 3), None),
            ("c", 0, 0, None, None, None),
        ]


def test_newest_facts_are_shown_with_the_words_they_come_from(sample_export: SampleExport) -> None:
    said = {message.content: message.sent_at for _, message in SAMPLE}
    found = answer(sample_export, 17)
    assert [said[row["said"]] for row in found] == [row["sent_at"] for row in found]
    assert found == sorted(found, key=lambda row: row["sent_at"], reverse=True)


def test_weeks_have_as_many_users_and_summaries_as_postgres(sample_export: SampleExport) -> None:
    weeks: dict[date, set[str]] = defaultdict(set)
    for email, message in written():
        weeks[monday(day(message))].add(email)
    summaries = Counter(
        monday(of) for (of,) in in_postgres(sample_export, "SELECT day FROM memories WHERE kind = 'summary'")
    )
    assert [(row["week"], row["users"], row["with_summary"]) for row in answer(sample_export, 18)] == [
        (week, len(users), summaries[week]) for week, users in sorted(weeks.items(), reverse=True)
    ]


def test_the_longest_conversations_are_the_longest(sample_export: SampleExport) -> None:
    lengths = Counter((tenant, message.source_conversation_id) for tenant, message in SAMPLE)
    assert [row["messages"] for row in answer(sample_export, 19)] == [n for _, n in lengths.most_common(15)]


def test_freshness_tells_the_last_day_and_what_waits(sample_export: SampleExport) -> None:
    last: dict[str, date] = {}
    for tenant, message in SAMPLE:
        last[tenant] = max(day(message), last.get(tenant, day(message)))
    found = answer(sample_export, 20)
    assert {row["tenant"]: row["last_day"] for row in found} == last
    assert {row["tenant"]: row["episodes"] for row in found} == Counter(tenant for tenant, _ in SAMPLE)
    assert [(row["waiting"], row["failed"]) for row in found] == [(0, 0)] * 3
    arrived = in_postgres(
        sample_export,
        "SELECT slug, max(received_at) FROM messages JOIN tenants USING (tenant_id) GROUP BY slug",
    )
    assert {row["tenant"]: row["last_received_at"] for row in found} == dict(arrived)
