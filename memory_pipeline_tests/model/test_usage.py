"""What a model's calls cost: nothing is lost or made up when it is shared out."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from memory_pipeline.model.usage import LlmUsage, SentTexts, UsageMeter, share_usage, split

ACME, GLOBEX = UUID(int=1), UUID(int=2)
WEIGHTS = st.dictionaries(st.integers(1, 50).map(lambda n: UUID(int=n)), st.integers(0, 10**9), min_size=1, max_size=20)


def metered(*tokens: int | None) -> UsageMeter:
    meter = UsageMeter()
    for one in tokens:
        meter.add(one)
    return meter


@given(st.integers(0, 10**12), WEIGHTS)
def test_shares_add_up_and_are_within_one_of_their_proportion(total: int, weights: dict[UUID, int]) -> None:
    shares = split(total, weights)
    assert shares.keys() == weights.keys()
    assert sum(shares.values()) == total
    whole = sum(weights.values())
    for key, weight in weights.items():
        proportion = total * weight / whole if whole else total / len(weights)
        assert abs(shares[key] - proportion) < 1 + 1e-3
        assert shares[key] >= 0


@given(st.integers(0, 10**6), WEIGHTS)
def test_the_order_of_tenants_changes_no_share(total: int, weights: dict[UUID, int]) -> None:
    assert split(total, dict(reversed(weights.items()))) == split(total, weights)


def test_a_batch_is_shared_by_the_bytes_of_the_texts() -> None:
    sent = {ACME: SentTexts(3, 300), GLOBEX: SentTexts(1, 100)}
    assert share_usage(metered(600, 400), sent, Decimal("0.02")) == [
        LlmUsage(ACME, 2, 3, 750, Decimal("0.000015")),
        LlmUsage(GLOBEX, 0, 1, 250, Decimal("0.000005")),
    ]


def test_without_a_price_or_a_count_the_cost_is_unknown_not_zero() -> None:
    sent = {ACME: SentTexts(1, 10)}
    assert share_usage(metered(7), sent, None) == [LlmUsage(ACME, 1, 1, 7, None)]
    assert share_usage(metered(7, None, 7), sent, Decimal(1)) == [LlmUsage(ACME, 3, 1, None, None)]
    assert share_usage(metered(7), sent, Decimal(0)) == [LlmUsage(ACME, 1, 1, 7, Decimal(0))]


def test_nothing_that_was_answered_is_nothing_to_share() -> None:
    assert share_usage(metered(), {ACME: SentTexts(1, 10)}, Decimal(1)) == []
    assert share_usage(metered(5), {}, Decimal(1)) == []
