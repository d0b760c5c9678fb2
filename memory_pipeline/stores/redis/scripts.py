"""Running the `.lua` files of this package: atomic steps that a pipeline of commands could not make."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

Argument = str | bytes | int


@cache
def script(*names: str) -> tuple[str, str]:
    """Return the text of the named files, one after the other, and the SHA-1 by which Redis knows it."""
    folder = files("memory_pipeline.stores.redis").joinpath("lua")
    text = "\n".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names)
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def run(client: redis.Redis, names: tuple[str, ...], keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
    """Run a script; one that the server does not know (it was restarted or flushed) is sent along."""
    import redis

    text, sha = script(*names)
    try:
        return client.evalsha(sha, len(keys), *keys, *arguments)
    except redis.exceptions.NoScriptError:
        return client.eval(text, len(keys), *keys, *arguments)
