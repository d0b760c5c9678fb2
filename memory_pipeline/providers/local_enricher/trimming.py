"""Where the object of a verb ends: before a new clause, and without the adverbs that dangle from it."""

from __future__ import annotations

import re

CUT = re.compile(
    r"\s*(?:[,:()\[\]!\x1e]|\s-+\s)(?!\s?(?:19|20)\d\d\b).*|\s+(?:(?:and|but|so|or|plus)\s+(?:now |then |also |just |"
    r"it |i'|we'|he |she |they |you |that |this |there |i |we |it's|that's|am |had |have |has |hoping |my \w+ (?:is|"
    r"was|has|are|were)|was |were |is )|(?:because|'cause|cause|cuz|coz|although|though|whereas|while|when|whenever|"
    r"where|which|who|whose|so that|so|till|but|even|unless|as if|rather|instead|thanks|just like|like the|(?:since|"
    r"after|before|until|as|that|than|how|what|why)\s+(?:i|we|it|he|she|they|you|my|our|is|was|are|were|has|have|had|"
    r"makes?|made)(?:'\w+)?)\b|\b(?:i|we|you|they|he|she|it)(?:'\w+)?\s+(?:\w+ed|\w+|'\w+)\b).*",
    re.IGNORECASE | re.DOTALL,
)
_TAIL = re.compile(
    r"(?:[\s,]+(?:too|as well|though|now|again|tbh|lol|haha|btw|actually|anyway|so far|already|yet|either|a lot|so "
    r"much|very much|the most|etc|or something|and stuff|and more|for sure|myself included|and all|ever|"
    r"most|and everything|really|and such|for now|as always|of course|with|to|and|or|at|for|in|of|the|a|on|from|just|"
    r"so|but|soon|here|more than anything|right|huh|and so on|all over|by the way|once|lately|first|also|before|than|"
    r"more than|after all|in hopes|these days|first thing|out there|alot|sooo*|and beyond))+[\s.!,]*$",
    re.IGNORECASE,
)


def tidy(phrase: str) -> str:
    """Strip dangling adverbs and function words from the end of an object."""
    return _TAIL.sub("", phrase.strip(" ,.!:'\"")).strip(" ,.!:")
