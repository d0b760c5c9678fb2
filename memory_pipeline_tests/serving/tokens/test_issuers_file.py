"""The file that names the issuers of tokens."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memory_pipeline.model.errors import SettingsError
from memory_pipeline.serving.issuers import Issuer, load_issuers, read_issuers
from memory_pipeline.serving.signing_keys import SigningKeys
from memory_pipeline.serving.tokens import TokenVerifier
from memory_pipeline.settings import load_settings
from memory_pipeline_tests.serving.identity_provider import AUDIENCE, ISSUER, SigningKey
from memory_pipeline_tests.serving.tokens.support import KEY, Clock, refused_as


def write_issuers(folder: Path, *entries: Any) -> Path:
    path = folder / "issuers.json"
    path.write_text(json.dumps(entries))
    return path


GOOD = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["ES256"], "jwks_uri": "https://login.example.org/jwks"}


def test_an_issuers_file_may_name_keys_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [KEY.entry]}))
    entry = GOOD | {"jwks_file": "keys.json", "trusted_email": True}
    del entry["jwks_uri"]
    issuers = read_issuers(write_issuers(tmp_path, entry))
    verifier = TokenVerifier(issuers)
    assert verifier.verify(KEY.sign()).subject == "subject-1"
    assert verifier.trusts_email(ISSUER)


def test_a_key_taken_out_of_the_file_is_not_trusted_for_long(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [KEY.entry]}))
    keys = SigningKeys(Issuer(issuer=ISSUER, audience="a", algorithms=("ES256",), jwks_file=str(path)), clock=clock)
    assert keys.find("key-1", "ES256") is not None
    path.write_text(json.dumps({"keys": [SigningKey("key-2").entry]}))
    clock.now += 61
    assert keys.find("key-1", "ES256") is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"algorithms": ["HS256"]}, "HS256"),
        ({"algorithms": ["RS256", "none"]}, "none"),
        ({"algorithms": []}, "algorithms"),
        ({"audience": ""}, "audience"),
        ({"audience": None}, "audience"),
        ({"issuer": ""}, "issuer"),
        ({"jwks_uri": None}, "jwks_uri or by jwks_file"),
        ({"jwks_file": "issuers.json"}, "jwks_uri or by jwks_file"),
        ({"jwks_uri": "http://login.example.org/jwks"}, "must be https"),
        ({"jwks_uri": "http://127.0.0.1.evil.example/jwks"}, "must be https"),
        ({"jwks_uri": "http://localhost@evil.example/jwks"}, "must be https"),
        ({"jwks_uri": "file:///etc/passwd"}, "must be https"),
        ({"jwks_uri": None, "jwks_file": "missing.json"}, "is not there"),
        ({"trusted_email": "yes"}, "trusted_email"),
        ({"trusted_emails": True}, "trusted_emails"),
    ],
)
def test_a_bad_entry_is_one_line_that_says_what_is_wrong(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    path = write_issuers(tmp_path, GOOD | {"issuer": "https://first.example"}, GOOD | change)
    with pytest.raises(SettingsError, match="entry 2") as refusal:
        read_issuers(path)
    assert complaint in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


def test_every_bad_entry_has_its_line(tmp_path: Path) -> None:
    path = write_issuers(tmp_path, 7, GOOD, GOOD | {"algorithms": ["HS512"]})
    with pytest.raises(SettingsError) as refusal:
        read_issuers(path)
    lines = str(refusal.value).splitlines()
    assert [line for line in lines if "entry 1" in line]
    assert [line for line in lines if "entry 3" in line and "HS512" in line]
    assert [line for line in lines if "entry 3" in line and "same issuer" in line]


def test_a_named_issuers_file_must_be_there_and_be_json(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="can't be read"):
        load_issuers(load_settings(home=tmp_path, issuers_file=tmp_path / "none.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SettingsError, match="not a JSON array"):
        load_issuers(load_settings(home=tmp_path, issuers_file=tmp_path / "bad.json"))


def test_the_homes_issuers_file_is_taken_where_none_is_named(tmp_path: Path) -> None:
    assert load_issuers(load_settings(home=tmp_path)) == ()
    write_issuers(tmp_path, GOOD)
    assert [issuer.issuer for issuer in load_issuers(load_settings(home=tmp_path))] == [ISSUER]
    assert load_settings().token_leeway_seconds < timedelta(minutes=5).total_seconds()


def test_without_issuers_every_token_is_refused() -> None:
    assert refused_as(TokenVerifier([]), KEY.sign()) == "token_issuer"
