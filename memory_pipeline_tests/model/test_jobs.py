"""The arithmetic of attempts, waits and leases."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.jobs import RetryPolicy, backoff_seconds, heartbeat_interval, storable_text

POLICY = RetryPolicy(max_attempts=4, backoff_seconds=1.0)
chances = st.floats(min_value=0, max_value=1)


def test_waits_double_from_the_first_and_stop_growing_at_the_longest() -> None:
    assert [backoff_seconds(POLICY, attempts, 1.0) for attempts in (1, 2, 3, 4, 10, 11, 2000)] == [
        1,
        2,
        4,
        8,
        512,
        900,
        900,
    ]


@given(attempts=st.integers(min_value=1, max_value=10**6), chance=chances)
def test_a_wait_is_between_half_and_all_of_the_doubled_one(attempts: int, chance: float) -> None:
    whole = backoff_seconds(POLICY, attempts, 1.0)
    assert whole / 2 == backoff_seconds(POLICY, attempts, 0.0)
    assert whole / 2 <= backoff_seconds(POLICY, attempts, chance) <= whole <= POLICY.longest_backoff_seconds


@given(lease=st.floats(min_value=1, max_value=600))
def test_a_lease_outlives_three_lost_heartbeats(lease: float) -> None:
    assert 3 * heartbeat_interval(lease) < lease


@given(st.text(alphabet=st.characters(categories=None), max_size=3000))
def test_error_texts_become_storable_and_stay_short(text: str) -> None:
    stored = storable_text(text)
    assert "\0" not in stored
    assert len(stored) == min(len(text), 2000)
    stored.encode()
    assert storable_text(stored) == stored


def test_ordinary_error_texts_stay_as_they_are() -> None:
    assert storable_text("Grüße 👋 failed") == "Grüße 👋 failed"
