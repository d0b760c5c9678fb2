"""Keys, tokens, and how one is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from memory_pipeline import metrics
from memory_pipeline.model.errors import UnauthenticatedError
from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline_tests.serving.identity_provider import SigningKey

KEY = SigningKey("key-1")
RSA_KEY = SigningKey("rsa-1", "RS256")
OTHER_KEY = SigningKey("key-1")
"""With the id of the issuer's key, and not it."""


def refused_as(verifier: TokenVerifier, token: str) -> str:
    """Return the code a token is refused with, after seeing that it was counted."""
    with pytest.raises(UnauthenticatedError) as refusal:
        verifier.verify(token)
    code = refusal.value.code
    counted = metrics.REGISTRY.get_sample_value("memory_tokens_refused_total", {"reason": code})
    assert counted is not None
    assert counted >= 1
    return code


def encoded(part: Any) -> str:
    content = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
