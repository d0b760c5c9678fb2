"""A conversation deleted while somebody posts to it, reads it, enriches or summarizes it: gone or whole, never half."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import redis

from memory_pipeline.model.records import BufferedWrite, FactDraft, IncomingMessage, Role, Turn
from memory_pipeline.model.window import DayWindow
from memory_pipeline.serving.messages import write_buffered
from memory_pipeline.serving.transcript import API_SOURCE
from memory_pipeline.stages.relate import relate
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.enrichment import Failure, mark_failed
from memory_pipeline.stores.postgres.job_reports import database_now, retry_dead
from memory_pipeline_tests.api.stack import ApiStack, api_stack
from memory_pipeline_tests.api.support import ISSUER, PREFIX, Person, message
from memory_pipeline_tests.local.host import Servers
from memory_pipeline_tests.local.inspect import until
from memory_pipeline_tests.stages.support import ScriptedEnricher, draft, enrich, summarize

MESSAGES = f"{PREFIX}/messages"
CONVERSATIONS = f"{PREFIX}/conversations"
MONDAY = date(2026, 3, 2)
DAY = DayWindow.of_day(MONDAY)
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
ROUNDS = 12


@pytest.fixture(scope="module")
def module_api(servers: Servers, migrated_template: str) -> Iterator[ApiStack]:
    with api_stack(servers, migrated_template) as api:
        yield api


@pytest.fixture
def api(module_api: ApiStack) -> ApiStack:
    module_api.execute(
        "TRUNCATE conversations, messages, events, memories, memory_embeddings, memory_relationships, memory_jobs,"
        " cache_invalidations CASCADE"
    )
    with redis.Redis.from_url(str(module_api.settings.redis_url)) as client:
        for key in client.keys("conversation:*"):
            client.delete(key)
    return module_api


def superuser(api: ApiStack) -> psycopg.Connection[Any]:
    """A transaction that holds locks until its rollback."""
    assert api.settings.postgres_admin_url is not None
    return psycopg.connect(api.settings.postgres_admin_url, options="-c search_path=memory,public")


@pytest.fixture
def pipeline(api: ApiStack) -> Iterator[Database]:
    assert api.settings.postgres_pipeline_url is not None
    with Database(api.settings.postgres_pipeline_url, role="memory_pipeline") as database:
        yield database


@pytest.fixture
def ana(api: ApiStack) -> Person:
    return api.person()


def turns(texts: Sequence[str], conversation: str = "c1", first: int = 0) -> list[dict[str, Any]]:
    return [
        message(
            text,
            id=f"{conversation}-{first + place}",
            conversation_id=conversation,
            sent_at=(START + timedelta(seconds=first + place)).isoformat(),
        )
        for place, text in enumerate(texts)
    ]


def post(api: ApiStack, person: Person, *messages: dict[str, Any]) -> int:
    return api.client.post(MESSAGES, json={"messages": messages}, headers=person.headers).status_code


def posted(api: ApiStack, person: Person, *messages: dict[str, Any]) -> UUID:
    """Post and return the conversation."""
    answer = api.client.post(MESSAGES, json={"messages": messages}, headers=person.headers)
    assert answer.status_code == 200, answer.text
    return UUID(answer.json()["messages"][0]["conversation_id"])


def delete(api: ApiStack, person: Person, conversation_id: UUID) -> int:
    return api.client.delete(f"{CONVERSATIONS}/{conversation_id}", headers=person.headers).status_code


def read(api: ApiStack, person: Person, conversation_id: UUID) -> list[str] | None:
    """What the API says is in the conversation; None where it says there is none."""
    answer = api.client.get(f"{CONVERSATIONS}/{conversation_id}", headers=person.headers)
    if answer.status_code == 404:
        return None
    assert answer.status_code == 200, answer.text
    return [turn["content"] for turn in answer.json()["messages"]]


def halves(api: ApiStack) -> list[tuple[Any, ...]]:
    """What is left of something that is gone: must be nothing."""
    return api.rows(
        "SELECT 'message without conversation', message_id FROM messages m WHERE NOT EXISTS"
        " (SELECT FROM conversations c WHERE c.conversation_id = m.conversation_id)"
        " UNION ALL SELECT 'conversation without messages', conversation_id FROM conversations c WHERE NOT EXISTS"
        " (SELECT FROM messages m WHERE c.conversation_id = m.conversation_id)"
        " UNION ALL SELECT 'memory of no conversation', memory_id FROM memories m WHERE conversation_id IS NOT NULL"
        " AND NOT EXISTS (SELECT FROM conversations c WHERE c.conversation_id = m.conversation_id)"
        " UNION ALL SELECT 'message without episode', message_id FROM messages m WHERE NOT EXISTS"
        " (SELECT FROM memories e WHERE e.kind = 'episode' AND e.source_message_ids = ARRAY[m.message_id])"
        " UNION ALL SELECT 'memory of a message that is gone', memory_id FROM memories m WHERE EXISTS"
        " (SELECT FROM unnest(source_message_ids) AS s (message_id) WHERE s.message_id NOT IN"
        " (SELECT message_id FROM messages))"
    )


def agree(api: ApiStack, person: Person, conversation_id: UUID) -> None:
    """Cache and Postgres must say the same, and nothing be half."""
    assert halves(api) == []
    stored = [row[0] for row in api.rows("SELECT content FROM messages ORDER BY sent_at, position, message_id")]
    for _ in range(2):
        assert (read(api, person, conversation_id) or []) == stored


def together(*works: Callable[[], object]) -> list[Any]:
    """Do these at the same time; raise what any of them raises."""
    barrier = threading.Barrier(len(works))

    def begun(work: Callable[[], object]) -> object:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return [done.result() for done in [threads.submit(begun, work) for work in works]]


def waiting(api: ApiStack) -> bool:
    """Whether a transaction waits for another's lock."""
    return bool(
        api.rows(
            "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND wait_event <> 'advisory'"
        )
    )


# -- posts --


def test_posts_and_deletions_at_the_same_time_leave_a_whole_conversation_or_none(api: ApiStack, ana: Person) -> None:
    answers: set[int] = set()
    for number in range(ROUNDS):
        conversation_id = posted(api, ana, *turns(["first", "second"]))

        def several_posts(number: int = number) -> list[int]:
            return [post(api, ana, *turns([f"{number} {place}"], first=10 + place)) for place in range(4)]

        def several_deletions(conversation_id: UUID = conversation_id) -> list[int]:
            return [delete(api, ana, conversation_id) for _ in range(3)]

        def several_reads(conversation_id: UUID = conversation_id) -> None:
            for _ in range(4):
                read(api, ana, conversation_id)

        of_posts, of_deletions, _ = together(several_posts, several_deletions, several_reads)
        answers.update(of_posts)
        assert set(of_posts) <= {200, 503}
        assert set(of_deletions) <= {200, 404}
        assert 200 in of_deletions
        agree(api, ana, conversation_id)
        delete(api, ana, conversation_id)
        agree(api, ana, conversation_id)
    assert 200 in answers


def test_a_post_that_was_under_way_when_the_conversation_was_deleted_makes_it_anew(api: ApiStack, ana: Person) -> None:
    """The deletion is held back before its commit, so that the post has to wait for it."""
    conversation_id = posted(api, ana, *turns(["old"]))
    assert read(api, ana, conversation_id) == ["old"]
    with superuser(api) as holder, ThreadPoolExecutor(2) as threads:
        # A lock that the deletion needs last: its event refers to the tenant.
        holder.execute("LOCK TABLE events IN SHARE MODE")
        deletion = threads.submit(delete, api, ana, conversation_id)
        until(lambda: waiting(api), "the deletion waits")
        new = threads.submit(post, api, ana, *turns(["new"], first=5))
        repeated = turns(["old"])
        assert not deletion.done()
        until(lambda: _waiters(api) == 2, "the post waits too")
        holder.rollback()
        assert (deletion.result(), new.result()) == (200, 200)
    agree(api, ana, conversation_id)
    assert read(api, ana, conversation_id) == ["new"]
    assert post(api, ana, *repeated) == 200
    assert read(api, ana, conversation_id) == ["old", "new"]


def _waiters(api: ApiStack) -> int:
    return len(api.rows("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"))


def test_a_buffered_write_that_is_replayed_during_the_deletion_is_there_whole_or_not_at_all(
    api: ApiStack, ana: Person
) -> None:
    services = api.services
    for number in range(ROUNDS):
        conversation_id = posted(api, ana, *turns(["first"]))
        entry = BufferedWrite(
            tenant_id=ana.tenant_id,
            user_id=ana.user_id,
            issuer=ISSUER,
            subject="ana@example.org",
            correlation_id=uuid4(),
            received_at=START,
            messages=tuple(
                IncomingMessage(
                    source=API_SOURCE,
                    source_message_id=f"{ana.user_id}/buffered-{number}-{place}",
                    source_conversation_id=f"{ana.user_id}/c1",
                    role=Role.USER,
                    content=f"buffered {place}",
                    sent_at=START + timedelta(minutes=1),
                    position=place,
                )
                for place in range(20)
            ),
        )

        def replay(entry: BufferedWrite = entry) -> int:
            return write_buffered(services.database, services.cache, entry, with_jobs=True).inserted

        inserted, deleted = together(replay, lambda c=conversation_id: delete(api, ana, c))  # type: ignore[misc]
        assert (inserted, deleted) == (20, 200)
        agree(api, ana, conversation_id)
        found = read(api, ana, conversation_id)
        assert found is None or [text for text in found if text != "first"] == [f"buffered {n}" for n in range(20)]
        delete(api, ana, conversation_id)


# -- dead jobs --


def die(pipeline: Database, memory_ids: Sequence[UUID], tenant_id: UUID) -> None:
    """Memories fail in a run, which gives what no job speaks for a dead one."""
    quoting = [Failure.of(tenant_id, memory_id, ValueError("not understood: secret")) for memory_id in memory_ids]
    with pipeline.transaction() as connection:
        mark_failed(connection, quoting)


def dead_or_quoting(api: ApiStack) -> list[tuple[Any, ...]]:
    return api.rows("SELECT subject_id FROM memory_jobs WHERE state = 'dead' OR error_text LIKE '%%secret%%'")


def test_dead_jobs_end_with_the_memories_of_a_deleted_conversation_and_quote_nothing_any_more(
    api: ApiStack, ana: Person, pipeline: Database
) -> None:
    doomed = posted(api, ana, *turns(["secret one", "secret two"], "doomed"))
    posted(api, ana, *turns(["secret three"], "kept", first=10))
    enrich_once(pipeline, 1)
    summarize(pipeline, Quoting(), DAY)
    api.execute("DELETE FROM memory_jobs")
    ids: dict[str, list[UUID]] = {}
    for kind, memory_id in api.rows("SELECT kind, memory_id FROM memories ORDER BY day, memory_id"):
        ids.setdefault(kind, []).append(memory_id)
    die(pipeline, [*ids["episode"], *ids["summary"]], ana.tenant_id)
    (kept,) = api.rows("SELECT memory_id FROM memories WHERE kind = 'episode' AND conversation_id <> %s", doomed)
    # One that a worker had tried, and one whose work says nothing of the memory.
    api.execute("UPDATE memory_jobs SET attempts = 5 WHERE subject_id = %s", ids["summary"][0])
    api.execute(
        "INSERT INTO memory_jobs (tenant_id, job_type, state, subject_id, day, correlation_id, finished_at,"
        " error_class, error_text)"
        " SELECT tenant_id, 'detect_relations', 'dead', memory_id, day, uuidv7(), now(), 'E', 'of relations'"
        " FROM memories WHERE kind = 'fact' AND conversation_id = %s LIMIT 1",
        doomed,
    )
    assert len(dead_or_quoting(api)) == 5

    assert delete(api, ana, doomed) == 200
    ended = api.rows(
        "SELECT state, error_class, error_text, claimed_by, finished_at >= created_at, attempts FROM memory_jobs"
        " WHERE error_class = 'ValueError' AND subject_id <> %s ORDER BY attempts",
        kept[0],
    )
    assert ended == [("completed", "ValueError", None, None, True, attempts) for attempts in (0, 0, 5)]
    relations = api.rows("SELECT subject_id FROM memory_jobs WHERE error_text = 'of relations'")
    assert sorted(dead_or_quoting(api)) == sorted([kept, *relations])
    # The index is to let go of them by jobs of their own.
    assert api.rows(
        "SELECT count(DISTINCT subject_id) FROM memory_jobs WHERE job_type = 'index' AND state = 'pending'"
        " AND subject_id = ANY (%s)",
        [*ids["episode"], *ids["summary"]],
    ) == [(3,)]


def test_a_job_that_dies_while_its_conversation_is_deleted_ends_too(
    api: ApiStack, ana: Person, pipeline: Database
) -> None:
    doomed = posted(api, ana, *turns(["secret"], "doomed"))
    api.execute("DELETE FROM memory_jobs")
    ((memory_id,),) = api.rows("SELECT memory_id FROM memories")
    with ThreadPoolExecutor(1) as threads, pipeline.transaction() as connection:
        mark_failed(connection, [Failure.of(ana.tenant_id, memory_id, ValueError("not understood: secret"))])
        deleting = threads.submit(delete, api, ana, doomed)
        until(lambda: waiting(api), "the deletion waits for the memory")
    assert deleting.result() == 200
    assert dead_or_quoting(api) == []


def test_retries_of_dead_jobs_and_deletions_never_end_each_other(
    api: ApiStack, ana: Person, pipeline: Database
) -> None:
    """The retry has the jobs and asks for their memories; the deletion is to ask in the same order."""
    doomed = posted(api, ana, *turns([f"secret {number}" for number in range(20)], "doomed"))
    api.execute("DELETE FROM memory_jobs")
    memory_ids = [row[0] for row in api.rows("SELECT memory_id FROM memories")]
    die(pipeline, memory_ids, ana.tenant_id)
    with ThreadPoolExecutor(1) as threads, pipeline.transaction() as connection:
        # As `retry_dead` does, with a pause in the middle.
        connection.execute("SELECT FROM memory_jobs WHERE state = 'dead' FOR NO KEY UPDATE")
        deleting = threads.submit(delete, api, ana, doomed)
        until(lambda: waiting(api), "the deletion waits for the jobs")
        assert len(retry_dead(connection, died_before=database_now(connection), limit=100)) == 20
    assert deleting.result() == 200
    assert api.rows("SELECT count(*) FROM pg_stat_database WHERE datname = current_database() AND deadlocks > 0") == [
        (0,)
    ]
    assert api.rows("SELECT count(*) FROM memory_jobs WHERE state = 'dead'") == [(0,)]


# -- stages --


def lives_in(turn: Turn, version: int) -> list[FactDraft]:
    """Two facts of every message: one that all versions of the enricher find, one in a slot that the next ends."""
    return [
        draft("said", turn.content, statement=f"Ana said {turn.content} ({version}).", valid_from=turn.sent_at),
        draft("lives in", turn.content, slot="home", valid_from=turn.sent_at),
    ]


def test_enrichment_and_deletion_at_the_same_time_never_end_each_other(
    api: ApiStack, ana: Person, pipeline: Database
) -> None:
    """Every version of the enricher reads everything again, and words every fact anew."""
    versions = count(1)
    other = posted(api, ana, *turns([f"kept {number}" for number in range(20)], "other"))
    for _ in range(ROUNDS):
        conversation_id = posted(api, ana, *turns([f"text {number}" for number in range(30)]))
        enrich_once(pipeline, next(versions))
        done = threading.Event()

        def stages(done: threading.Event = done) -> None:
            while not done.is_set():
                enrich_once(pipeline, next(versions))
                relate(pipeline, DAY)

        def deletions(done: threading.Event = done, conversation_id: UUID = conversation_id) -> list[int]:
            try:
                answers = [delete(api, ana, conversation_id)]
                answers += [post(api, ana, *turns([f"again {number}" for number in range(30)], first=100))]
                return [*answers, delete(api, ana, conversation_id)]
            finally:
                done.set()

        answers = together(stages, deletions)[1]
        assert answers == [200, 200, 200]
        assert halves(api) == []
        assert read(api, ana, conversation_id) is None
    enrich_once(pipeline, next(versions))
    relate(pipeline, DAY)
    facts = api.rows("SELECT conversation_id, count(*) FROM memories WHERE kind = 'fact' GROUP BY 1")
    assert facts == [(other, 40)]
    # What the deleted facts had ended is ordered anew.
    assert api.rows(
        "SELECT count(*) FROM memories m WHERE superseded_by IS NOT NULL AND NOT EXISTS"
        " (SELECT FROM memories e WHERE e.memory_id = m.superseded_by)"
    ) == [(0,)]


def enrich_once(pipeline: Database, version: int) -> None:
    enrich(pipeline, ScriptedEnricher(lambda turn: lives_in(turn, version), str(version)), DAY)


class Quoting:
    """Sums up a user's week by quoting the first turns; tells when it is asked."""

    name = "quoting"
    version = "1"

    def __init__(self, asked: Callable[[Sequence[Turn]], object] = len, most: int = 1000) -> None:
        self._asked = asked
        self._most = most

    def summarize(self, turns: Sequence[Turn], facts: Sequence[str]) -> tuple[str, list[int]]:
        self._asked(turns)
        quoted = turns[: self._most]
        return " / ".join([*(turn.content for turn in quoted), *facts]), list(range(len(quoted)))


def summaries(api: ApiStack) -> dict[str, str]:
    """The active summaries by the user's e-mail."""
    return dict(
        api.rows(
            "SELECT email, content FROM memories JOIN users USING (tenant_id, user_id)"
            " WHERE kind = 'summary' AND memories.status = 'active'"
        )
    )


def test_a_summary_of_what_was_deleted_while_it_was_made_is_not_stored(
    api: ApiStack, ana: Person, pipeline: Database
) -> None:
    doomed = posted(api, ana, *turns(["secret"], "doomed"))
    posted(api, ana, *turns(["harmless"], "kept", first=10))
    summarize(pipeline, Quoting(lambda _turns: delete(api, ana, doomed)), DAY)
    assert halves(api) == []
    assert summaries(api) == {}
    summarize(pipeline, Quoting(), DAY)
    assert summaries(api) == {"ana@example.org": "harmless"}


def test_a_summary_that_is_stored_but_not_committed_goes_with_the_conversation_it_rests_on(
    api: ApiStack, ana: Person, pipeline: Database
) -> None:
    doomed = posted(api, ana, *turns(["secret"], "doomed"))
    with superuser(api) as holder, ThreadPoolExecutor(2) as threads:
        # The stage can't come to its end: it withdraws the summaries of others last, and this one is held.
        summarize(pipeline, Quoting(), DAY)
        holder.execute("SELECT FROM memories WHERE kind = 'summary' FOR UPDATE")
        posted(api, ana, *turns(["more"], "kept", first=10))
        summarized = threads.submit(summarize, pipeline, Quoting(), DAY)
        until(lambda: waiting(api), "the summary waits")
        deleted = threads.submit(delete, api, ana, doomed)
        until(lambda: _waiters(api) == 2, "the deletion waits")
        holder.rollback()
        assert deleted.result() == 200
        summarized.result()
    assert halves(api) == []
    assert "secret" not in " ".join(summaries(api).values())


def test_a_deletion_does_not_wait_for_a_summarizer_that_thinks(api: ApiStack, ana: Person, pipeline: Database) -> None:
    """Users come in order; while one's week is summed up, conversations of the one before can be deleted."""
    people = sorted([ana, api.person(email="zoe@example.org")], key=lambda person: person.user_id)
    conversations = [posted(api, person, *turns(["secret"], "doomed")) for person in people]
    summarize(pipeline, Quoting(), DAY)
    asked: list[int] = []

    def delete_that_of_the_first(turns: Sequence[Turn]) -> None:
        asked.append(len(turns))
        if len(asked) == 2:
            assert delete(api, people[0], conversations[0]) == 200

    with ThreadPoolExecutor(1) as threads:
        threads.submit(summarize, pipeline, Quoting(delete_that_of_the_first), DAY).result(timeout=20)
    assert len(asked) == 2
    assert halves(api) == []
    assert len(summaries(api)) == 1


def test_summaries_of_one_conversation_of_several_users_and_its_deletion_never_end_each_other(
    api: ApiStack, ana: Person, pipeline: Database
) -> None:
    """Their stored summaries rest on it, those made now may or may not: no order of locks may be the wrong one."""
    people = [ana, *(api.person(email=f"user{number}@example.org") for number in range(4))]
    for number in range(ROUNDS):
        doomed = posted(api, ana, *turns(["shared"], "doomed"))
        for place, person in enumerate(people):
            posted(api, person, *turns(["own"], "own", first=place))
            # As an import of a channel would have it.
            api.execute("UPDATE messages SET conversation_id = %s WHERE content = 'own'", doomed)
            api.execute("UPDATE memories SET conversation_id = %s WHERE content LIKE '%%: own'", doomed)
            posted(api, person, *turns(["kept"], "kept", first=20 + number))
        api.execute("DELETE FROM conversations WHERE source_conversation_id LIKE '%%/own'")
        summarize(pipeline, Quoting(), DAY)
        futures: list[Future[Any]] = []
        with ThreadPoolExecutor(3) as threads:
            futures += [threads.submit(summarize, pipeline, Quoting(most=most), DAY) for most in (1, 1000)]
            futures.append(threads.submit(delete, api, ana, doomed))
        for future in futures:
            future.result()
        assert futures[-1].result() == 200
        assert "shared" not in " ".join(summaries(api).values())
        assert halves(api) == []
