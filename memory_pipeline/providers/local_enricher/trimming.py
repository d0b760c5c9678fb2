"""Where the object of a verb ends: before a new clause, and without the adverbs that dangle from it."""

from __future__ import annotations

import re

_STOP = r"\s*(?:[,:()\[\]!\x1e]|\s-+\s)(?!\s?(?:19|20)\d\d\b)"
_JOINED_CLAUSE = (
    r"\s+(?:and|but|so|or|plus)\s+(?:now |then |also |just |it |i'|we'|he |she |they |you |that |this |there |i |we |"
    r"it's|that's|am |had |have |has |hoping |my \w+ (?:is|was|has|are|were)|was |were |is )"
)
_SUBORDINATE_CLAUSE = (
    r"\s+(?:because|'cause|cause|cuz|coz|although|though|whereas|while|when|whenever|where|which|who|whose|so that|so|"
    r"till|but|even|unless|as if|rather|instead|thanks|just like|like the|"
    r"(?:since|after|before|until|as|that|than|how|what|why)\s+(?:i|we|it|he|she|they|you|my|our|is|was|are|were|has|have|"
    r"had|makes?|made)(?:'\w+)?)\b"
)
# "the book I read" ends before "I"; after a preposition "it" is part of the object, which is then refused, not cut.
_BARE_CLAUSE = (
    r"(?<!about )(?<!with )(?<!for )(?<!to )(?<!of )(?<!on )(?<!at )(?<!from )"
    r"\b(?:i|we|you|they|he|she|it)(?:'\w+)?\s+[\w']+\b"
)
CUT = re.compile(
    f"(?:{_STOP}|{_JOINED_CLAUSE}|{_SUBORDINATE_CLAUSE}|{_BARE_CLAUSE}).*",
    re.IGNORECASE | re.DOTALL,
)
"""From the first word after an object to the end."""

_TAIL = re.compile(
    r"(?:[\s,]+(?:too|as well|though|now|again|tbh|lol|haha|btw|by the way|actually|anyway|so far|already|yet|either|"
    r"a lot|a ton|alot|so much|very much|the most|most|more than anything|etc|or something|and stuff|and such|"
    r"and so on|and more|and all|and everything|and beyond|myself included|for sure|for now|originally|ever|really|"
    r"as always|of course|soon|here|right|huh|all over|out there|once|lately|first|first thing|also|before|after all|"
    r"in hopes|these days|sooo*|based|called|located|named|more than|than|with|to|and|or|at|for|in|of|the|a|on|from|"
    r"just|so|but))+[\s.!,]*$",
    re.IGNORECASE,
)


def tidy(phrase: str) -> str:
    """Strip dangling adverbs and function words from the end of an object, and a quotation mark without its fellow."""
    trimmed = _TAIL.sub("", phrase.strip(" ,.!:")).strip(" ,.!:")
    return trimmed.replace('"', "") if trimmed.count('"') % 2 else trimmed
