"""What calls of a model cost: counting them, sharing them out among tenants, and their price. No I/O in here."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

_MILLION = 1_000_000


class UsageMeter:
    """Counts what an endpoint answered. For one caller at a time; what is counted stays when a call fails later."""

    def __init__(self) -> None:
        self.requests = 0
        self._prompt_tokens: int | None = 0

    @property
    def prompt_tokens(self) -> int | None:
        """Tokens of all requests; None where the endpoint left one of them uncounted."""
        return self._prompt_tokens

    def add(self, prompt_tokens: int | None) -> None:
        """Count one request that was answered, with its tokens, None where the endpoint did not say."""
        self.requests += 1
        if self._prompt_tokens is None or prompt_tokens is None:
            self._prompt_tokens = None
        else:
            self._prompt_tokens += prompt_tokens


class SentTexts(NamedTuple):
    """What one tenant had sent to a model."""

    texts: int
    bytes: int
    """Of these texts, in UTF-8."""


class LlmUsage(NamedTuple):
    """A row of the table `llm_usage`, but for its plugin, model and time."""

    tenant_id: UUID
    requests: int
    texts: int
    prompt_tokens: int | None
    cost_usd: Decimal | None


def share_usage(
    meter: UsageMeter, sent: Mapping[UUID, SentTexts], price_per_million_tokens: Decimal | None
) -> list[LlmUsage]:
    """Share out what was counted among the tenants whose texts went into the same requests; nothing where none did.

    In proportion to the bytes of their texts, because an endpoint counts the tokens of a request, not of its texts.
    Sums over tenants are what was counted. The cost is None where there is no price or no count.
    """
    if not meter.requests or not sent:
        return []
    weights = {tenant_id: one.bytes for tenant_id, one in sent.items()}
    requests = split(meter.requests, weights)
    tokens = None if meter.prompt_tokens is None else split(meter.prompt_tokens, weights)
    shares = []
    for tenant_id, one in sent.items():
        mine = None if tokens is None else tokens[tenant_id]
        cost = None if mine is None or price_per_million_tokens is None else mine * price_per_million_tokens / _MILLION
        shares.append(LlmUsage(tenant_id, requests[tenant_id], one.texts, mine, cost))
    return shares


def split(total: int, weights: Mapping[UUID, int]) -> dict[UUID, int]:
    """Split `total` in proportion to `weights`, in whole numbers whose sum is `total`; what is left goes to the largest
    remainders, equal ones by key. Weights that are all 0 count as equal."""
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    whole = sum(weights.values())
    shares = {key: total * weight // whole for key, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda key: (-(total * weights[key] % whole), key))
    for key in by_remainder[: total - sum(shares.values())]:
        shares[key] += 1
    return shares
