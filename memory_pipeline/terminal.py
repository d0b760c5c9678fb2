"""What others wrote, shown on a terminal: a terminal obeys control characters, so they are shown and not sent."""

from __future__ import annotations

_SHOWN = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """Return the text with every control character (C0, DEL, C1) but line ends and tabs written as `\\x1b`."""
    return text.translate(_SHOWN)
