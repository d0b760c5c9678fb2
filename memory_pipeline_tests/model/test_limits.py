"""How long waits what is over a limit, and which limits hold for whom."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.flags import FIXED_FLAGS, Flag
from memory_pipeline.model.jobs import JOB_TYPES
from memory_pipeline.model.limits import (
    LONGEST_WAIT_SECONDS,
    SHORTEST_WAIT_SECONDS,
    WINDOW_SECONDS,
    DefaultLimits,
    LimitsInForce,
    RateLimit,
    Requester,
    waits,
)
from memory_pipeline.settings import Settings

ACME, GLOBEX, ANA, BOB = (UUID(int=number) for number in range(1, 5))


@given(st.integers(0, 300), st.integers(0, 100_000), st.floats(0, WINDOW_SECONDS))
def test_what_waits_comes_back_in_order_and_no_faster_than_the_limit_lets_it(
    count: int, per_hour: int, room_in: float
) -> None:
    found = waits(count, per_hour, room_in)
    assert len(found) == count
    assert found == sorted(found)
    assert all(SHORTEST_WAIT_SECONDS <= seconds <= LONGEST_WAIT_SECONDS for seconds in found)
    for position, seconds in enumerate(found):
        if SHORTEST_WAIT_SECONDS < seconds < LONGEST_WAIT_SECONDS:
            # By then room for all before it, and for itself, has come.
            assert (seconds - room_in) * per_hour / WINDOW_SECONDS >= position - 1e-6


def test_nothing_waits_longer_than_the_relay_lets_a_job_wait() -> None:
    assert waits(3, 0, WINDOW_SECONDS) == [LONGEST_WAIT_SECONDS] * 3
    assert LONGEST_WAIT_SECONDS < WINDOW_SECONDS


def test_a_stored_limit_takes_the_place_of_the_default_for_that_tenant_or_user_alone() -> None:
    stored = [RateLimit(ACME, None, 7), RateLimit(ACME, ANA, 0)]
    limits = LimitsInForce(stored, DefaultLimits(per_tenant=100, per_user=5))
    assert [limits.of_tenant(tenant) for tenant in (ACME, GLOBEX)] == [7, 100]
    assert [limits.of_user(Requester(ACME, user)) for user in (ANA, BOB, None)] == [0, 5, None]
    assert LimitsInForce([], DefaultLimits(None, None)).of_tenant(ACME) is None


def test_every_flag_has_its_setting_and_names_jobs_that_exist() -> None:
    for flag in Flag:
        assert Settings.model_fields[flag.field].annotation is bool
        assert set(flag.waiting_jobs) <= set(JOB_TYPES)
    for fixed in FIXED_FLAGS.values():
        assert fixed.field in Settings.model_fields
