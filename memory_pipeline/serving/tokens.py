"""Verifying bearer tokens: JWTs of the trusted issuers, and of nobody else.

The token itself is believed nothing before its signature holds: its `iss` chooses among the issuers of the settings,
and everything else (algorithms, keys, audience, required claims) comes from that issuer's entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import jwt
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from memory_pipeline import metrics
from memory_pipeline.model.errors import UnauthenticatedError
from memory_pipeline.model.identity import Claims
from memory_pipeline.model.validation import check_email, check_id
from memory_pipeline.serving.issuers import Issuer
from memory_pipeline.serving.signing_keys import SigningKeys

MAX_TOKEN_CHARACTERS = 8192
_ALWAYS_REQUIRED = ("exp", "iss", "aud", "sub")
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)

# The first that matches counts, so the more special ones come first.
_REASONS: tuple[tuple[type[jwt.PyJWTError], str, str], ...] = (
    (jwt.ExpiredSignatureError, "token_expired", "the token has expired: get a new one from its issuer"),
    (jwt.ImmatureSignatureError, "token_not_yet_valid", "the token is not valid yet: compare the clocks"),
    (jwt.InvalidSignatureError, "token_signature", "the token's signature is wrong"),
    (jwt.InvalidAudienceError, "token_audience", "the token is meant for another audience"),
    (jwt.InvalidIssuerError, "token_issuer", "the token's issuer is not trusted here"),
    (jwt.InvalidAlgorithmError, "token_algorithm", "the token's algorithm is not one its issuer may use"),
    (jwt.MissingRequiredClaimError, "token_claims", "the token lacks a claim that is required"),
    (InvalidSubjectError, "token_claims", "the token's subject is not text"),
    (jwt.InvalidIssuedAtError, "token_claims", "the token's time of issue is not a number"),
    (InvalidJTIError, "token_claims", "the token's id is not text"),
    (jwt.PyJWTError, "token_malformed", "this is not a JSON web token that can be verified"),
)


class TokenRefusedError(UnauthenticatedError):
    """A token that can't be trusted; `code` says why (`token_expired`, `token_signature`, …)."""

    def __init__(self, message: str, *, code: str, issuer: str | None = None) -> None:
        super().__init__(message, code=code)
        self.issuer = issuer
        """The issuer it claims to be from; anybody can write that."""


class TokenVerifier:
    """Verifies tokens of these issuers. One per process; shared by all threads."""

    def __init__(self, issuers: Sequence[Issuer], leeway: float = 30) -> None:
        """`leeway`: seconds of clock difference forgiven in a token's times."""
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._keys = {issuer.issuer: SigningKeys(issuer) for issuer in issuers}
        self.leeway = leeway

    def verify(self, token: str) -> Claims:
        """Return what a token says, once its signature, issuer, audience, times and required claims hold.

        Raises TokenRefusedError (401) with a code per reason, counted in `metrics.tokens_refused`;
        StoreUnavailableError (503) where its key is not known and its issuer can't be asked for it.
        """
        try:
            return self._verify(token)
        except TokenRefusedError as refusal:
            metrics.tokens_refused.labels(refusal.code).inc()
            raise

    def trusts_email(self, issuer: str) -> bool:
        """Whether a new subject of this issuer is linked by its verified e-mail."""
        return self._issuers[issuer].trusted_email

    def _verify(self, token: str) -> Claims:
        if not token:
            raise TokenRefusedError("there is no token: send one as `Authorization: Bearer …`.", code="token_missing")
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise TokenRefusedError(
                f"the token has {len(token):,} characters, more than {MAX_TOKEN_CHARACTERS:,}.", code="token_too_long"
            )
        if not token.isascii():
            raise TokenRefusedError("this is not a JSON web token.", code="token_malformed")
        header, claimed = _unverified(token)
        issuer = self._issuers.get(claimed)
        if issuer is None:
            raise TokenRefusedError("the token's issuer is not trusted here.", code="token_issuer", issuer=claimed)
        algorithm = header.get("alg")
        # Before any key is looked for: `none` and the symmetric algorithms are in no issuer's list.
        if algorithm not in issuer.algorithms:
            _refuse(jwt.InvalidAlgorithmError(), claimed)
        key = self._keys[claimed].find(header.get("kid"), algorithm)
        if key is None:
            raise TokenRefusedError("the token's key is not one of its issuer's.", code="token_key", issuer=claimed)
        try:
            payload = jwt.decode(
                token,
                key,
                algorithms=list(issuer.algorithms),
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=self.leeway,
                options={"require": [*_ALWAYS_REQUIRED, *issuer.required_claims], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            _refuse(error, claimed)
        return _claims(issuer, payload)


def _unverified(token: str) -> tuple[dict[str, Any], str]:
    """Return header and claimed issuer of a token that nobody has verified."""
    try:
        parts = jwt.api_jwt.decode_complete(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        _refuse(error, None)
    claimed = parts["payload"].get("iss")
    if not isinstance(claimed, str):
        raise TokenRefusedError("the token names no issuer.", code="token_claims")
    return parts["header"], claimed


def _refuse(error: jwt.PyJWTError, issuer: str | None) -> NoReturn:
    for kind, code, sentence in _REASONS:
        if isinstance(error, kind):
            missing = f" ({error.claim})" if isinstance(error, jwt.MissingRequiredClaimError) else ""
            raise TokenRefusedError(f"{sentence}{missing}.", code=code, issuer=issuer) from error
    raise AssertionError(f"{type(error)} is no error of PyJWT")


def _claims(issuer: Issuer, payload: dict[str, Any]) -> Claims:
    for name, value in issuer.required_claims.items():
        if value is not None and payload[name] != value:
            raise TokenRefusedError(
                f"the token's {name} is not what its issuer's entry requires.",
                code="token_claims",
                issuer=issuer.issuer,
            )
    problem = check_id("subject", payload["sub"])
    if problem is not None:
        raise TokenRefusedError(
            f"the token can't be used: {problem.reason}.", code="token_claims", issuer=issuer.issuer
        )
    return Claims(
        issuer=issuer.issuer,
        subject=payload["sub"],
        expires_at=_expiry(int(payload["exp"])),
        email=_verified_email(payload),
    )


def _expiry(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC) if seconds < _LATEST.timestamp() else _LATEST


def _verified_email(payload: dict[str, Any]) -> str | None:
    """Return the e-mail where the issuer says that it has verified it. It says so with `true`, not with a string."""
    email = payload.get("email")
    if payload.get("email_verified") is not True or not isinstance(email, str) or check_email(email) is not None:
        return None
    return email
