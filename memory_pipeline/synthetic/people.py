"""Who speaks in generated conversations: tenants, and users with names, e-mail addresses and a life of their own.

Everything follows from a running number, so nothing has to be drawn or kept but the list of users.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

from memory_pipeline.synthetic import phrases


class Person(NamedTuple):
    """One user of one tenant."""

    tenant_slug: str
    key: str
    """Short and unique within the tenant; part of the ids of the person's conversations."""
    name: str
    email: str
    assistant: str
    life: tuple[str, ...]
    """What the `{my_…}` of a template stand for, in the order of `phrases.MY`."""


def tenant_slugs(count: int) -> list[str]:
    """Return `count` different slugs."""
    firsts, seconds = phrases.TENANT_FIRST, phrases.TENANT_SECOND
    slugs = []
    for index in range(count):
        # 16 and 14 words: going through both at once repeats after lcm = 112 pairs, so the second is shifted by then.
        lap, within = divmod(index, len(firsts) * len(seconds))
        slug = f"{firsts[within % len(firsts)]}-{seconds[(within + within // 112) % len(seconds)]}"
        slugs.append(f"{slug}-{lap + 1}" if lap else slug)
    return slugs


def users_per_tenant(users: int, tenants: int) -> list[int]:
    """Share `users` out by Zipf's law, at least one to each: the tenant of rank r gets about 1/r of the first one's."""
    cumulative = list(accumulate(1 / rank for rank in range(1, tenants + 1)))
    spare = users - tenants
    edges = [0] + [int(spare * share / cumulative[-1]) for share in cumulative]
    edges[-1] = spare
    return [1 + after - before for before, after in pairwise(edges)]


def people(users: int, tenants: int, seed: int) -> list[Person]:
    """Return all users, tenant by tenant in the order of `tenant_slugs`."""
    everybody = []
    number = 0
    for slug, count in zip(tenant_slugs(tenants), users_per_tenant(users, tenants), strict=True):
        for index in range(count):
            everybody.append(_person(slug, index, number, seed))
            number += 1
    return everybody


def _person(slug: str, index: int, number: int, seed: int) -> Person:
    firsts, lasts = phrases.FIRST_NAMES, phrases.LAST_NAMES
    first = firsts[(number + seed) % len(firsts)]
    last = lasts[(number * 7 + number // len(lasts) + seed) % len(lasts)]
    key = f"u{index + 1}"

    def name(step: int) -> str:
        return firsts[(number * 3 + seed + step) % len(firsts)]

    life = (
        first,
        name(11),
        name(29),
        name(41),
        name(53),
        name(67),
        phrases.PET_NAMES[(number + seed) % len(phrases.PET_NAMES)],
        phrases.ANIMALS[(number * 2 + seed) % len(phrases.ANIMALS)],
        phrases.CITIES[(number * 3 + seed) % len(phrases.CITIES)],
        phrases.STREETS[(number + seed) % len(phrases.STREETS)],
    )
    # The number keeps addresses apart that would otherwise be equal, from some thousand users of one tenant on.
    email = f"{first}.{last}.{index + 1}@{slug}.example".lower()
    return Person(slug, key, f"{first} {last}", email, f"{slug.split('-')[0].title()} Assistant", life)
