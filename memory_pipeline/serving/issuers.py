"""Which identity providers are trusted, and for what: the issuers file, read once when a process starts."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from memory_pipeline.model.errors import SettingsError
from memory_pipeline.settings import Settings

ISSUERS_FILE = "issuers.json"
"""Its name in MEMORY_HOME."""

KEY_OF_ALGORITHM: dict[str, tuple[str, frozenset[str]]] = {
    **{name: ("RSA", frozenset()) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    "ES256": ("EC", frozenset({"P-256"})),
    "ES384": ("EC", frozenset({"P-384"})),
    "ES512": ("EC", frozenset({"P-521"})),
    "EdDSA": ("OKP", frozenset({"Ed25519"})),
}
"""Type and curves of the keys that each algorithm verifies with. All are asymmetric: a public key is no secret."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of the issuers file."""

    issuer: _Name
    """Exactly the `iss` of its tokens."""
    audience: _Name
    """What its tokens must name in `aud`: this API."""
    algorithms: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    jwks_uri: str | None = None
    jwks_file: str | None = None
    """Instead of the address: a file, beside the issuers file unless the path is absolute."""
    trusted_email: bool = False
    """Link a new subject to the one user who has the e-mail that this issuer has verified."""
    required_claims: dict[str, Any] = {}
    """Claims a token must carry, with the value they must have; null takes any value."""


def load_issuers(settings: Settings) -> tuple[Issuer, ...]:
    """Return the trusted issuers of the settings; none where there is no issuers file and none is named.

    Raises SettingsError with a line for each entry that can't be used.
    """
    if settings.issuers_file is not None:
        return read_issuers(settings.issuers_file)
    default = settings.home / ISSUERS_FILE
    return read_issuers(default) if default.exists() else ()


def read_issuers(path: Path) -> tuple[Issuer, ...]:
    """Return the entries of an issuers file, their `jwks_file` made absolute. Raises SettingsError."""
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[msgspec.Raw])
    except OSError as error:
        raise SettingsError(
            f"the issuers file {path} can't be read ({error.strerror}): mend MEMORY_ISSUERS_FILE."
        ) from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"the issuers file {path} is not a JSON array of issuers: {error}.") from error
    issuers: list[Issuer] = []
    problems: list[str] = []
    for number, entry in enumerate(entries, start=1):
        try:
            issuer = msgspec.json.decode(entry, type=Issuer)
        except msgspec.DecodeError as error:
            problems.append(f"{path}, entry {number}: {error}")
            continue
        found = [*_problems(issuer, path.parent)]
        if issuer.issuer in {earlier.issuer for earlier in issuers}:
            found.append("the same issuer stands further up: keep one of them")
        problems += [f"{path}, entry {number} ({issuer.issuer}): {problem}" for problem in found]
        if issuer.jwks_file is not None:
            issuer = msgspec.structs.replace(issuer, jwks_file=str(path.parent.absolute() / issuer.jwks_file))
        issuers.append(issuer)
    if problems:
        raise SettingsError("\n".join(problems))
    return tuple(issuers)


def _problems(issuer: Issuer, folder: Path) -> list[str]:
    problems = []
    refused = [name for name in issuer.algorithms if name not in KEY_OF_ALGORITHM]
    if refused:
        problems.append(
            f"algorithms {', '.join(refused)} are not taken; name asymmetric ones: {', '.join(KEY_OF_ALGORITHM)}"
        )
    if (issuer.jwks_uri is None) == (issuer.jwks_file is None):
        problems.append("give its keys either by jwks_uri or by jwks_file")
    if issuer.jwks_uri is not None and not _is_safe(issuer.jwks_uri):
        problems.append(f"jwks_uri {issuer.jwks_uri!r} must be https (http only on the loopback address)")
    if issuer.jwks_file is not None and not (folder / issuer.jwks_file).is_file():
        problems.append(f"jwks_file {folder / issuer.jwks_file} is not there")
    return problems


def _is_safe(uri: str) -> bool:
    """Whether nobody on the way could put other keys in place of the issuer's."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname
    except ValueError:  # no address at all; the caller says so
        return False
    if not host or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: it may lead anywhere
        return False
