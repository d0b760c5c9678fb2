"""Turns Slack's message markup into the text a reader saw: mentions by name, links with their labels, no entities."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Users' own angle brackets arrive as entities, so what is in brackets is always markup.
_MARKUP = re.compile(r"<([^<>\n]+)>")


def plain_text(text: str, user_names: Mapping[str, str], channel_names: Mapping[str, str]) -> str:
    """Return `text` as read by people. Both mappings go from Slack's ids to names.

    `<@U1>` becomes "@Ana", `<#C1|general>` "#general", `<!here>` "@here", `<https://x|label>` "label (https://x)".
    An id that nobody knows stays as it is.
    """
    if "<" in text:
        text = _MARKUP.sub(lambda match: _spell(match[1], user_names, channel_names), text)
    # The ampersand last, or "&amp;lt;" would come out as "<".
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _spell(markup: str, user_names: Mapping[str, str], channel_names: Mapping[str, str]) -> str:
    target, _, label = markup.partition("|")
    if target.startswith("@"):
        return "@" + (user_names.get(target[1:]) or label.removeprefix("@") or target[1:])
    if target.startswith("#"):
        return "#" + (channel_names.get(target[1:]) or label.removeprefix("#") or target[1:])
    if target.startswith("!"):
        command = target[1:].partition("^")[0]
        if command == "date":
            return label or target
        return label if label.startswith("@") else f"@{label or command}"
    if not label or label == target or target == f"mailto:{label}":
        return label or target
    return f"{label} ({target})"
