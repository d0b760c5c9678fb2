"""From a bearer token to the user it stands for: `Sessions.authenticate`, once per request.

The token is verified every time. What it stands for comes from Redis where it is known there, else from Postgres, which
records the session. Redis away: Postgres answers. Postgres away: who is known to Redis goes on, others get 503.

A revocation holds at once in both: Postgres takes it first, then the copy in Redis is dropped, and a request that read
Postgres before can't bring it back (see RedisManager.drop_values). Should Redis have missed it, the session ends when
Postgres is next told of its activity.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from memory_pipeline import metrics
from memory_pipeline.model.errors import BusyError, ForbiddenError, StoreUnavailableError, UnauthenticatedError
from memory_pipeline.model.identity import Claims, Principal
from memory_pipeline.serving.auth_refusals import AuthRefusals
from memory_pipeline.serving.tokens import TokenRefusedError, TokenVerifier
from memory_pipeline.stores.postgres.database import Database
from memory_pipeline.stores.postgres.identities import Profile, authenticate, read_profile
from memory_pipeline.stores.redis import keys
from memory_pipeline.stores.redis.manager import RedisManager, Renewed

_SLOWEST_READ_SECONDS = 5.0
"""What was read from Postgres longer ago is not cached: a revocation since may no longer be guarded by its mark."""
_ACTIVITY_SECONDS = 300.0
"""How often Postgres is told that a session is used, and asked whether it still is one."""
_PAUSE_SECONDS = 30.0
"""After Postgres could not be told: requests that Redis can answer don't wait for it."""
_REMEMBERED_SESSIONS = 20_000


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a token stands for, cached as `session:{hash}`."""

    issuer: str
    subject: str
    tenant_id: UUID
    user_id: UUID


def session_hash(token: str) -> bytes:
    """Return the 32 bytes by which a verified token's session is known: SHA-256 of its signed part.

    The signature is left out because it can be written in several ways (padding, the second solution of ECDSA), and a
    revoked session must not come back under another spelling.
    """
    return hashlib.sha256(token.rpartition(".")[0].encode()).digest()


class Sessions:
    """Answers who is asking. One per process; shared by all threads.

    `database` is of memory_app with a pool of its own. `session_seconds`: how long Redis keeps a session that is not
    used; never longer than its token is valid.
    """

    def __init__(
        self, database: Database, redis: RedisManager, verifier: TokenVerifier, *, session_seconds: int = keys.DAY
    ) -> None:
        self._database = database
        self._redis = redis
        self._verifier = verifier
        self._session_seconds = min(session_seconds, keys.SESSION.seconds or session_seconds)
        self._refusals = AuthRefusals(database)
        self._lock = threading.Lock()
        self._told_at: OrderedDict[bytes, float] = OrderedDict()
        self._users: OrderedDict[bytes, UUID] = OrderedDict()
        """Whose a session was when last seen: which profile to ask for with it. What Redis answers decides."""
        self._not_told_until = float("-inf")

    def authenticate(self, token: str | None, correlation_id: UUID) -> Principal:
        """Return the user a bearer token stands for.

        Raises UnauthenticatedError (`token_…`, `identity_revoked`, `session_revoked`), ForbiddenError
        (`identity_pending`, `user_disabled`, `tenant_suspended`), and StoreUnavailableError where neither store knows.
        Refusals are counted and, up to a limit, recorded in auth_events.
        """
        try:
            claims = self._verifier.verify(token or "")
        except TokenRefusedError as refusal:
            self._refusals.record("token_refused", refusal.code, correlation_id, issuer=refusal.issuer)
            raise
        try:
            return self._principal(claims, session_hash(token or ""), correlation_id)
        except (UnauthenticatedError, ForbiddenError) as refusal:
            if isinstance(refusal, UnauthenticatedError):
                metrics.tokens_refused.labels(refusal.code).inc()
            self._refusals.record(
                "access_refused", refusal.code, correlation_id, issuer=claims.issuer, subject=claims.subject
            )
            raise

    def _principal(self, claims: Claims, hash_: bytes, correlation_id: UUID) -> Principal:
        known, profile = self._known(claims, hash_)
        session = self._confirmed(known, claims, hash_, correlation_id)
        if profile is None or session is not known:  # Postgres was asked, and may have dropped the profile as stale
            profile = self._profile(session)
            self._remember_user(hash_, session.user_id)
        if profile.user_status != "active":
            raise ForbiddenError("this user is disabled: ask an administrator.", code="user_disabled")
        if profile.tenant_status != "active":
            raise ForbiddenError("this tenant is suspended: ask an administrator.", code="tenant_suspended")
        return Principal(
            tenant_id=session.tenant_id,
            user_id=session.user_id,
            display_name=profile.display_name,
            email=profile.email,
            issuer=claims.issuer,
            subject=claims.subject,
            session_hash=hash_,
            permissions=frozenset(profile.permissions),
        )

    # -- sessions --

    def _known(self, claims: Claims, hash_: bytes) -> tuple[Session | None, Profile | None]:
        """Return what Redis has of this token and of its user, their lifetimes renewed; None where it has nothing.

        The profile comes along, in the same round trip, where this process has met the session before.
        """
        reads = [Renewed(keys.session(hash_), Session, "session", self._lifetime(claims))]
        user_id = self._users.get(hash_)
        if user_id is not None:
            reads.append(_profile_read(user_id))
        session, *profiles = self._redis.renew_values(*reads)
        if session is None or (session.issuer, session.subject) != (claims.issuer, claims.subject):
            return None, None
        fits = bool(profiles) and user_id == session.user_id and _is_of(profiles[0], session)
        return session, profiles[0] if fits else None

    def _remember_user(self, hash_: bytes, user_id: UUID) -> None:
        with self._lock:
            self._users[hash_] = user_id
            self._users.move_to_end(hash_)
            if len(self._users) > _REMEMBERED_SESSIONS:
                self._users.popitem(last=False)

    def _confirmed(self, known: Session | None, claims: Claims, hash_: bytes, correlation_id: UUID) -> Session:
        """Return the session Redis knows, now and then after a look at Postgres; else what Postgres says."""
        if known is None:
            return self._ask_or_wait(claims, hash_, correlation_id)
        if not self._must_tell(hash_):
            return known
        key = keys.session(hash_)
        try:
            present = self._ask(claims, hash_, correlation_id)
        except (StoreUnavailableError, BusyError):
            # What Redis knows holds meanwhile, and Postgres is told later: the pause spares it every request of now.
            with self._lock:
                self._not_told_until = time.monotonic() + _PAUSE_SECONDS
            return known
        except (UnauthenticatedError, ForbiddenError):
            self._redis.drop_values(key)
            raise
        if present != known:
            self._redis.drop_values(key)
        return present

    def _ask_or_wait(self, claims: Claims, hash_: bytes, correlation_id: UUID) -> Session:
        """Ask Postgres; where it is away, Redis once more: it may have been slow to answer rather than not know."""
        try:
            return self._ask(claims, hash_, correlation_id)
        except StoreUnavailableError:
            session = self._redis.get_value_patiently(keys.session(hash_), Session)
            if session is None or (session.issuer, session.subject) != (claims.issuer, claims.subject):
                raise
            return session

    def _ask(self, claims: Claims, hash_: bytes, correlation_id: UUID) -> Session:
        """Return what Postgres says the token stands for, and let Redis know it."""
        started = time.monotonic()
        with self._database.transaction() as connection:
            found = authenticate(
                connection,
                claims,
                hash_,
                link_by_email=self._verifier.trusts_email(claims.issuer),
                correlation_id=correlation_id,
            )
        if found.state == "pending":
            raise ForbiddenError(
                "this login is not linked to a user yet: an administrator does that with "
                "`memory-pipeline identity pending` and `memory-pipeline identity link`.",
                code="identity_pending",
            )
        if found.state == "session_revoked":
            raise UnauthenticatedError("this session was ended: get a new token.", code="session_revoked")
        if found.state != "linked" or found.tenant_id is None or found.user_id is None:
            raise UnauthenticatedError("this login was revoked: ask an administrator.", code="identity_revoked")
        session = Session(
            issuer=claims.issuer, subject=claims.subject, tenant_id=found.tenant_id, user_id=found.user_id
        )
        if time.monotonic() - started < _SLOWEST_READ_SECONDS:
            self._redis.warm_value(keys.session(hash_), session, self._lifetime(claims))
        self._check_profile(session)
        with self._lock:
            self._told(hash_, time.monotonic())
        return session

    def _lifetime(self, claims: Claims) -> int:
        """Seconds that Redis may keep a session: never longer than its token will be accepted."""
        rest = int((claims.expires_at - datetime.now(UTC)).total_seconds() + self._verifier.leeway)
        return max(1, min(self._session_seconds, rest))

    def _told(self, hash_: bytes, now: float) -> None:
        """Remember when Postgres was last told of a session. The caller holds the lock."""
        self._told_at[hash_] = now
        self._told_at.move_to_end(hash_)
        if len(self._told_at) > _REMEMBERED_SESSIONS:
            self._told_at.popitem(last=False)

    def _must_tell(self, hash_: bytes) -> bool:
        """Whether Postgres is to be told of a session that Redis knows. One request at a time is chosen for it."""
        now = time.monotonic()
        with self._lock:
            told_at = self._told_at.get(hash_)
            if told_at is not None and now - told_at < _ACTIVITY_SECONDS:
                return False
            if now < self._not_told_until:
                return False
            self._told(hash_, now)
            return True

    # -- users --

    def _profile(self, session: Session) -> Profile:
        (profile,) = self._redis.renew_values(_profile_read(session.user_id))
        if _is_of(profile, session):
            return profile  # type: ignore[no-any-return]
        try:
            return self._read_profile(session)
        except StoreUnavailableError:
            waited_for = self._redis.get_value_patiently(keys.auth(session.user_id), Profile)
            if waited_for is None or not _is_of(waited_for, session):
                raise
            return waited_for

    def _check_profile(self, session: Session) -> None:
        """Have Redis let go of a user's profile that is not what Postgres says, should a change not have reached it.

        Whenever Postgres is asked of a session: who comes with a new token each time is never asked of by the hour.

        One that is as it was stays: in an outage that begins now it is all there is.
        """
        key = keys.auth(session.user_id)
        known = self._redis.get_value(key, Profile, cache="auth")
        # As Redis holds them: a row of Postgres brings its permissions as a list.
        if known is not None and msgspec.json.encode(known) != msgspec.json.encode(self._read_profile(session)):
            self._redis.drop_values(key)

    def _read_profile(self, session: Session) -> Profile:
        key = keys.auth(session.user_id)
        started = time.monotonic()
        with self._database.tenant_transaction(session.tenant_id) as connection:
            profile = read_profile(connection, session.tenant_id, session.user_id)
        if profile is None:
            raise UnauthenticatedError("the user of this login is gone: ask an administrator.", code="identity_revoked")
        if time.monotonic() - started < _SLOWEST_READ_SECONDS:
            self._redis.warm_value(key, profile)
        return profile


def _profile_read(user_id: UUID) -> Renewed:
    # Renewed with each use: while Postgres is away those who are at work go on. It is read anew every few minutes.
    return Renewed(keys.auth(user_id), Profile, "auth", keys.AUTH.seconds or keys.DAY)


def _is_of(profile: Profile | None, session: Session) -> bool:
    return profile is not None and profile.tenant_id == session.tenant_id
