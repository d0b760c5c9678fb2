"""The fixtures that the tests of tokens share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline_tests.serving.identity_provider import JwksServer, issuer_at, jwks_server
from memory_pipeline_tests.serving.tokens.support import KEY, RSA_KEY


@pytest.fixture(scope="package")
def server() -> Iterator[JwksServer]:
    with jwks_server(KEY, RSA_KEY) as running:
        yield running


@pytest.fixture(scope="package")
def verifier(server: JwksServer) -> TokenVerifier:
    return TokenVerifier([issuer_at(server.url, algorithms=("ES256", "RS256"))], leeway=30)
