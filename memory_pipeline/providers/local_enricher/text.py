"""From a raw message to sentences worth reading: no code, quotations, links, commands, questions or hypotheticals.

Every pattern here is linear in its input: bounded repeats, or repeats whose parts cannot match the same text.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 20_000
"""Longer messages are pasted documents; only their beginning is read, which bounds the time of one message."""
MAX_SENTENCE = 400
MAX_WORD = 45

_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]{1,200}`")
_QUOTED_LINE = re.compile(r"^[ \t]{0,8}>.*$", re.MULTILINE)
_LINK = re.compile(r"(?:https?://|www\.)\S+")
_SLACK = re.compile(r"<(?:[@#!][^<>\n]{0,100}|https?:[^<>\n]{0,500})>|:[a-z0-9_+-]{2,30}:")
_QUOTATION = re.compile(r'"[^"\n]{0,600}"')
_FIRST_PERSON = re.compile(r"\b(?:i|i'\w+|me|my|we|our)\b", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\ufeff]")
_PICTURES = re.compile(r"[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff]+|[:;]-?[()DPp](?=\s|$)")
_PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "…": ". ", "—": " - ", "–": " - ", "\t": " ", "*": None, "\u00a0": " "}
)
_SPACES = re.compile(r"[ ]{2,}")

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]?\s+|\n+")
_ABBREVIATION = re.compile(r"\b(?:dr|mr|mrs|ms|st|mt|prof|e\.g|i\.e|vs|etc|approx|no|jr|sr|[a-z])\.$", re.IGNORECASE)
_DASH = re.compile(r"\s+-+\s+|\s*;\s*|\.{2,}\s*|(?<=\w)- ")
_UNREAL = re.compile(
    r"\b(?:if|unless|whether|suppose|supposing|imagine|pretend|wish|hypothetically|in theory|let's say|what if|"
    r"in (?:my|a|the|this) (?:dreams?|story|game|novel|book|movie|film|play|script|scene|scenario|essay|poem)|"
    r"dreamed|dreamt|character|protagonist|lyrics?)\b",
    re.IGNORECASE,
)
_POLITE = (
    r"(?:please |pls |plz |kindly |hey,? |hi,? |can you |could you |would you |i want you to |i need you to |"
    r"i'd like you to |help me )*"
)
_WRITING = re.compile(
    rf"^{_POLITE}(?:(?:re)?write|draft|compose|rephrase|reword|paraphrase|translate|summari[sz]e|proofread|edit|"
    rf"polish|shorten|"
    r"generate|correct|convert|reformat|reply|respond|act as|act like|role-?play|pretend|imagine)\b",
    re.IGNORECASE,
)
_TAKES_REST = re.compile(
    r":|\b(?:following|below|this|act as|act like|role-?play|pretend|imagine|as (?:if|though))\b", re.IGNORECASE
)


def clean(content: str) -> str:
    """Return the start of `content` in plain punctuation, without code, quoted lines, links and quoted speech."""
    text = _CONTROL.sub(" ", content[:MAX_CHARACTERS].translate(_PLAIN))
    if "`" in text or "~~~" in text:
        text = _INLINE_CODE.sub(" ", _CODE.sub("\n", text))
    if ">" in text:
        text = _QUOTED_LINE.sub("", text)
    if "<" in text or ":" in text:
        text = _LINK.sub(" ", _SLACK.sub(" ", text))
    if '"' in text:
        text = _QUOTATION.sub(_drop_speech, text)
    text = _PICTURES.sub(". ", text)
    return _SPACES.sub(" ", text)


def _drop_speech(match: re.Match[str]) -> str:
    """Keep a quoted title ("Moby Dick"); another's words become a mark that no pattern reads across."""
    quoted = match[0]
    return "\x1e" if _FIRST_PERSON.search(quoted) or quoted.count(" ") > 7 else quoted


def statements(text: str) -> list[str]:
    """Return the pieces of cleaned `text` that assert something, in order, split at sentence ends and dashes."""
    pieces: list[str] = []
    for sentence in _sentences(text):
        if _WRITING.match(sentence):
            if _TAKES_REST.search(sentence):
                break
            continue
        if sentence.endswith("?") or len(sentence) > MAX_SENTENCE or _UNREAL.search(sentence):
            continue
        if any(len(word) > MAX_WORD for word in sentence.split()):
            continue
        pieces += [piece.strip(" .!,\"'()[]") for piece in _DASH.split(sentence)]
    return [piece for piece in pieces if " " in piece]


def _sentences(text: str) -> list[str]:
    sentences: list[str] = []
    held = ""
    for part in _SENTENCE_END.split(text):
        part = f"{held} {part}".strip() if held else part.strip()
        held = ""
        if (
            len(part) <= MAX_SENTENCE
            and _ABBREVIATION.search(part[-12:])
            and not re.search(r"\bi\.$", part[-3:], re.IGNORECASE)
        ):
            held = part
            continue
        if part:
            sentences.append(part)
    if held:
        sentences.append(held)
    return sentences
