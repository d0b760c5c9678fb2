"""The development issuer: signs tokens for the users of a local stack, so that one can try the API without a provider.

Its key lies below MEMORY_HOME, where only the account that runs the stack can read it. Whoever can read it can be any
user of the stacks whose issuers file names it; so it is for one machine, and real installations name real providers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from memory_pipeline.local.accounts import own_folder
from memory_pipeline.model.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DEVELOPMENT_ISSUER = "urn:memory-pipeline:development"
AUDIENCE = "memory-pipeline"
_ALGORITHM = "ES256"
_FOLDER = "issuer"
_KEY_FILE = "development.pem"
_JWKS_FILE = "jwks.json"
_ISSUERS_FILE = "issuers.json"


def ensure_development_issuer(home: Path) -> None:
    """Make the issuer of this home: private key, JWKS, and an issuers file unless there is one. What is there stays.

    Raises SettingsError where others could read the key.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    folder = home / _FOLDER
    own_folder(folder, mode=0o700)
    key_file = folder / _KEY_FILE
    if not key_file.exists():
        new_key = ec.generate_private_key(ec.SECP256R1())
        _write_once(key_file, new_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    _write_once(folder / _JWKS_FILE, _json({"keys": [_public_jwk(_private_key(home))]}))
    entry = {
        "issuer": DEVELOPMENT_ISSUER,
        "audience": AUDIENCE,
        "algorithms": [_ALGORITHM],
        "jwks_file": f"{_FOLDER}/{_JWKS_FILE}",
    }
    _write_once(home / _ISSUERS_FILE, _json([entry]))


def has_development_issuer(home: Path) -> bool:
    """Whether this home has a key to sign with."""
    return (home / _FOLDER / _KEY_FILE).exists()


def subject_of(user_id: UUID) -> str:
    """What the issuer calls a user: the id, which never goes to another one."""
    return str(user_id)


def sign_token(home: Path, user_id: UUID, *, email: str | None = None, lifetime_seconds: int) -> str:
    """Return a token of the development issuer for this user, valid from now.

    Raises SettingsError where the home has no development issuer, or others could read its key.
    """
    import jwt

    key = _private_key(home)
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": DEVELOPMENT_ISSUER,
        "aud": AUDIENCE,
        "sub": subject_of(user_id),
        "iat": now,
        "exp": now + lifetime_seconds,
        "jti": secrets.token_hex(16),
    }
    if email is not None:
        claims |= {"email": email, "email_verified": True}
    return jwt.encode(claims, key, algorithm=_ALGORITHM, headers={"kid": _public_jwk(key)["kid"]})


def _private_key(home: Path) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = home / _FOLDER / _KEY_FILE
    try:
        # The mode of what was opened, not of what the name may mean a moment later.
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except FileNotFoundError:
        raise SettingsError(
            f"{home} has no development issuer: `memory-pipeline up` on this home makes one. Where a provider of your "
            "own signs the tokens, take one of those."
        ) from None
    except OSError as error:
        raise SettingsError(f"the development issuer's key {path} can't be read: {error.strerror}.") from error
    if mode & 0o077:
        raise SettingsError(
            f"{path} could be read by others (mode {mode:o}), who may have copied it: remove the folder {path.parent}, "
            "and `memory-pipeline up` makes a new key."
        )
    try:
        key = load_pem_private_key(content, password=None)
    except ValueError as error:
        raise SettingsError(f"{path} is not a private key: remove the folder {path.parent}.") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise SettingsError(f"{path} is not a key for {_ALGORITHM}: remove the folder {path.parent}.")
    return key


def _public_jwk(key: EllipticCurvePrivateKey) -> dict[str, str]:
    """Return the public half as a JWK, with its thumbprint (RFC 7638) as key id."""
    from jwt.algorithms import ECAlgorithm

    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    required = {name: public[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(required, sort_keys=True, separators=(",", ":")).encode()).digest()
    thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return required | {"kid": thumbprint, "use": "sig", "alg": _ALGORITHM}


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def _write_once(path: Path, content: bytes) -> None:
    """Write a file for ourselves alone, whole or not at all; the first of several writers wins."""
    if path.exists():
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, path)
    except FileExistsError:
        pass  # another process was first, and its file is as good
    finally:
        unfinished.unlink()
