"""The ledger in real Postgres against a model of it in Python, under whatever Hypothesis thinks of.

Workers claim, renew, finish, fail, release and forget jobs in any order, with claims of any age; time passes by moving
leases and waits back.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from memory_pipeline.model.jobs import JobKey
from memory_pipeline.stores.postgres import job_reports
from memory_pipeline.stores.postgres.jobs import ClaimedJob
from memory_pipeline_tests.stores.postgres.ledger import POLICY, Ledger, break_sql

some = st.lists(st.integers(min_value=0, max_value=30), min_size=1, max_size=4, unique=True)


@dataclass
class ModelJob:
    """What a job should look like, and what has happened to it."""

    state: str = "pending"
    attempts: int = 0
    claim: ClaimedJob | None = None
    lease_ended: bool = False
    due: bool = True
    alone: bool = False
    finishes: int = 0
    given_up: bool = False
    """Failed in a way that no retry helps."""

    @property
    def is_claimable(self) -> bool:
        return self.state in ("pending", "failed") and self.due

    def end(self, state: str, *, due: bool = True) -> None:
        self.state, self.claim, self.lease_ended, self.due = state, None, False, due


class LedgerMachine(RuleBasedStateMachine):
    ledger: Ledger

    def __init__(self) -> None:
        super().__init__()
        self.ledger.clear()
        self.jobs: dict[JobKey, ModelJob] = {}
        self.claims: list[ClaimedJob] = []
        """Every claim ever made: a worker may come back with an old one."""

    def _keys(self, places: list[int]) -> list[JobKey]:
        keys = list(self.jobs)
        return list({keys[place % len(keys)]: None for place in places})

    def _old_claims(self, places: list[int]) -> list[ClaimedJob]:
        # The newest are those that are most likely to hold. One claim of each job: a worker has no two.
        picked = [self.claims[-1 - place % len(self.claims)] for place in places]
        return list({claim.key: claim for claim in picked}.values())

    def _holding(self, claims: list[ClaimedJob]) -> set[JobKey]:
        return {claim.key for claim in claims if self.jobs[claim.key].claim == claim}

    def _claimed(self, claims: list[ClaimedJob]) -> None:
        for claim in claims:
            job = self.jobs[claim.key]
            assert job.is_claimable, "a job was claimed that another has, or that is not due"
            assert claim.claim_token not in {old.claim_token for old in self.claims}
            job.attempts += 1
            assert claim.attempts == job.attempts
            assert claim.claimed_alone == job.alone
            job.state, job.claim, job.lease_ended = "processing", claim, False
        self.claims += claims

    @rule(count=st.integers(min_value=1, max_value=4), delayed=st.booleans())
    def enqueue(self, count: int, delayed: bool) -> None:
        for key in self.ledger.add(count, delay_seconds=3600.0 if delayed else 0.0):
            self.jobs[key] = ModelJob(due=not delayed)

    @rule(worker=st.sampled_from("abc"), limit=st.integers(min_value=1, max_value=5))
    def claim_next(self, worker: str, limit: int) -> None:
        claimable = [job for job in self.jobs.values() if job.is_claimable]
        suspects = sum(job.alone for job in claimable)
        claims = self.ledger.claim(limit, worker)
        self._claimed(claims)
        assert len(claims) >= min(1, len(claimable)), "nothing was claimed although something is due"
        assert len(claims) == 1 or not any(claim.claimed_alone for claim in claims)
        if suspects == 0:
            assert len(claims) == min(limit, len(claimable))

    @precondition(lambda self: self.jobs)
    @rule(worker=st.sampled_from("abc"), places=some)
    def claim_keys(self, worker: str, places: list[int]) -> None:
        keys = self._keys(places)
        expected = {key for key in keys if self.jobs[key].is_claimable and (len(keys) == 1 or not self.jobs[key].alone)}
        claims = self.ledger.claim_keys(keys, worker)
        self._claimed(claims)
        assert {claim.key for claim in claims} == expected

    @precondition(lambda self: self.claims)
    @rule(places=some)
    def heartbeat(self, places: list[int]) -> None:
        claims = self._old_claims(places)
        assert self.ledger.heartbeat(claims) == self._holding(claims)
        for key in self._holding(claims):
            self.jobs[key].lease_ended = False

    @precondition(lambda self: self.claims)
    @rule(places=some)
    def finish(self, places: list[int]) -> None:
        claims = self._old_claims(places)
        finished = self.ledger.finish(claims)
        assert finished == self._holding(claims), "a claim that was lost was finished, or one that held was not"
        for key in finished:
            self.jobs[key].end("completed")
            self.jobs[key].finishes += 1

    @precondition(lambda self: self.claims)
    @rule(places=some, retry=st.booleans())
    def fail(self, places: list[int], retry: bool) -> None:
        claims = self._old_claims(places)
        holding = self._holding(claims)
        states = self.ledger.fail(claims, retry=retry)
        assert states.keys() == holding
        for key in holding:
            job = self.jobs[key]
            dead = not retry or job.attempts == POLICY.max_attempts
            assert states[key] == ("dead" if dead else "failed")
            job.end(states[key], due=False)
            job.alone = False
            job.given_up = not retry

    @precondition(lambda self: self.claims)
    @rule(places=some, later=st.booleans())
    def release(self, places: list[int], later: bool) -> None:
        claims = self._old_claims(places)
        holding = self._holding(claims)
        assert self.ledger.release(claims, 3600.0 if later else 0.0) == holding
        for key in holding:
            self.jobs[key].end("pending", due=not later)
            self.jobs[key].attempts -= 1

    @precondition(lambda self: self.jobs)
    @rule(places=some)
    def leases_end(self, places: list[int]) -> None:
        """The workers crashed, or sleep."""
        self.leases_end_of(self._keys(places))

    def leases_end_of(self, keys: list[JobKey]) -> None:
        self.ledger.end_leases(keys)
        for key in keys:
            self.jobs[key].lease_ended = self.jobs[key].state == "processing"

    @precondition(lambda self: self.jobs)
    @rule(places=some)
    def waits_end(self, places: list[int]) -> None:
        keys = self._keys(places)
        self.ledger.make_due(keys)
        for key in keys:
            self.jobs[key].due = True

    @rule()
    def reclaim(self) -> None:
        expired = {key for key, job in self.jobs.items() if job.lease_ended}
        states = self.ledger.reclaim()
        assert states.keys() == expired
        for key in expired:
            job = self.jobs[key]
            job.end("dead" if job.attempts == POLICY.max_attempts else "failed")
            job.alone = True
            assert states[key] == job.state

    @precondition(lambda self: self.jobs)
    @rule(places=some, times=st.integers(min_value=1, max_value=3))
    def end_their_workers(self, places: list[int], times: int) -> None:
        """Jobs that kill whoever claims them, each alone."""
        for _ in range(times):
            for key in self._keys(places):
                self._claimed(self.ledger.claim_keys([key], "dies"))
                self.leases_end_of([key])
            self.reclaim()

    @rule()
    def retry_the_dead(self) -> None:
        dead = {key for key, job in self.jobs.items() if job.state == "dead"}
        with self.ledger.database.transaction() as connection:
            now = job_reports.database_now(connection)
            assert set(job_reports.retry_dead(connection, died_before=now, limit=1000)) == dead
        for key in dead:
            self.jobs[key].end("pending")
            self.jobs[key].attempts = 0
            self.jobs[key].given_up = False

    @invariant()
    def ledger_is_as_the_model(self) -> None:
        rows = self.ledger.rows()
        assert rows.keys() == self.jobs.keys(), "a job was lost, or came from nowhere"
        for key, row in rows.items():
            job = self.jobs[key]
            assert (row.state, row.attempts, row.claimed_alone) == (job.state, job.attempts, job.alone)
            assert row.attempts <= POLICY.max_attempts
            assert job.finishes <= 1
            assert (job.finishes == 1) == (row.state == "completed")
            if row.state == "dead":
                assert row.attempts == POLICY.max_attempts or job.given_up


def run(ledger: Ledger, examples: int, *, steps: int = 40) -> None:
    machine = type("Machine", (LedgerMachine,), {"ledger": ledger})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_ledger_does_what_its_model_does(ledger: Ledger) -> None:
    run(ledger, 15)


@pytest.mark.nightly
def test_the_ledger_does_what_its_model_does_in_many_more_cases(ledger: Ledger) -> None:
    run(ledger, 100, steps=60)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("statement", "part", "replacement"),
    [
        ("jobs_finish", "AND j.claim_token = c.token", "AND j.state = 'processing'"),
        ("jobs_heartbeat", "AND j.claim_token = c.token", "AND j.state = 'processing'"),
        ("jobs_claim_next", "attempts = j.attempts + 1,", ""),
        ("jobs_claim_next", "gen_random_uuid()", "j.job_id"),
        ("jobs_claim_keys", "AND j.available_at <= clock_timestamp()", ""),
        ("jobs_reclaim", "attempts >= %(max_attempts)s AS is_dead", "false AS is_dead"),
        ("jobs_reclaim", "lease_until < clock_timestamp()", "lease_until < clock_timestamp() + interval '1 minute'"),
        ("jobs_release", "attempts = j.attempts - 1,", ""),
        ("jobs_fail", "NOT c.retry OR ", ""),
    ],
)
def test_a_ledger_without_one_of_its_mechanisms_is_caught(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, statement: str, part: str, replacement: str
) -> None:
    break_sql(monkeypatch, statement, part, replacement)
    with pytest.raises(AssertionError):
        run(ledger, 100)
