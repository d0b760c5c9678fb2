"""Settings: read from MEMORY_* variables, checked, and told in one line each where they are wrong."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pydantic
import pytest

from memory_pipeline.model.errors import SettingsError
from memory_pipeline.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MEMORY_")]:
        monkeypatch.delenv(name)


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = load_settings()
    assert settings.home == Path(".memory")
    assert settings.data == Path(".memory/data")
    assert settings.partition_start == date(2022, 1, 1)
    assert (settings.postgres_admin_url, settings.postgres_app_url, settings.postgres_pipeline_url) == (None,) * 3


def test_variables_are_read_when_asked_for_not_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_PARTITION_START", "2024-02-29")
    monkeypatch.setenv("MEMORY_POSTGRES_APP_URL", "postgresql://memory_app@db/memory")
    monkeypatch.setenv("MEMORY_RETRY_ATTEMPTS", "7")
    monkeypatch.setenv("MEMORY_CHROMA_DOCUMENTS", "none")
    monkeypatch.setenv("MEMORY_DATA_DIR", "/srv/data")
    settings = load_settings()
    assert settings.partition_start == date(2024, 2, 29)
    assert settings.postgres_app_url == "postgresql://memory_app@db/memory"
    assert (settings.retry_attempts, settings.chroma_documents) == (7, "none")
    assert settings.data == Path("/srv/data")
    monkeypatch.setenv("MEMORY_RETRY_ATTEMPTS", "8")
    assert (settings.retry_attempts, load_settings().retry_attempts) == (7, 8)


def test_every_setting_can_be_set_by_its_name_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        monkeypatch.setenv(f"MEMORY_{name.upper()}", "?")
        if field.annotation in (Path, str, Path | None, str | None):
            assert str(getattr(load_settings(), name)) == "?"
        else:
            with pytest.raises(SettingsError, match=f"^MEMORY_{name.upper()}(='\\?')?: "):
                load_settings()
        monkeypatch.delenv(f"MEMORY_{name.upper()}")


def test_every_setting_says_what_it_is_for() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} has no description"


def test_variables_of_others_and_unknown_ones_of_ours_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETRY_ATTEMPTS", "9")
    monkeypatch.setenv("MEMORY_OF_SOMETHING_ELSE", "x")
    assert load_settings().retry_attempts == 3


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = load_settings()
    for name in Settings.model_fields:
        monkeypatch.setenv(f"MEMORY_{name.upper()}", "")
    assert load_settings() == defaults


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MEMORY_PARTITION_START", "yesterday", "date"),
        ("MEMORY_PARTITION_START", "2023-02-29", "date"),
        ("MEMORY_RETRY_ATTEMPTS", "-1", "greater than or equal to 0"),
        ("MEMORY_RETRY_ATTEMPTS", "many", "integer"),
        ("MEMORY_UI_PORT", "65536", "less than or equal to 65535"),
        ("MEMORY_EMBEDDER", "gpt", "'minilm' or 'openai'"),
        ("MEMORY_ENRICHER", "?", "'local'"),
        ("MEMORY_MAX_MESSAGE_BYTES", "999", "greater than or equal to 1000"),
        ("MEMORY_EXPORT_GENERATIONS", "0", "greater than or equal to 1"),
    ],
)
def test_a_bad_value_is_one_line_that_names_variable_and_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    message = str(refusal.value)
    assert message.startswith(f"{name}={value!r}: ")
    assert says in message
    assert "\n" not in message


def test_all_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_EXPORT_GENERATIONS", "0")
    monkeypatch.setenv("MEMORY_UI_PORT", "http")
    with pytest.raises(SettingsError, match=r"MEMORY_EXPORT_GENERATIONS='0': .*; MEMORY_UI_PORT='http': "):
        load_settings()


def test_settings_given_by_the_program_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_HOME", "/elsewhere")
    assert load_settings(home=Path("/here")).home == Path("/here")
    with pytest.raises(SettingsError, match="MEMORY_UI_PORT=0"):
        load_settings(ui_port=0)


def test_settings_do_not_change_under_way() -> None:
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        setattr(load_settings(), "ui_port", 1)  # noqa: B010  # an assignment would be refused by the type checker already


def test_single_types_of_jobs_may_have_a_time_out_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_WORKER_JOB_TIMEOUT_MS", "2000")
    monkeypatch.setenv("MEMORY_WORKER_JOB_TIMEOUTS_MS", '{"summarize": 60000}')
    settings = load_settings()
    assert (settings.job_timeout_seconds("summarize"), settings.job_timeout_seconds("index")) == (60.0, 2.0)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ('{"sumarize": 1000}', "no jobs of type sumarize; the types are enrich_and_embed, index, "),
        ('{"index": 5}', "greater than or equal to 100"),
        ('{"index": "soon"}', "valid integer"),
        ("[1]", "valid dictionary"),
        ("{", "MEMORY_WORKER_JOB_TIMEOUTS_MS='{'"),
    ],
)
def test_a_bad_time_out_of_a_type_is_one_line(monkeypatch: pytest.MonkeyPatch, value: str, told: str) -> None:
    monkeypatch.setenv("MEMORY_WORKER_JOB_TIMEOUTS_MS", value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    message = str(raised.value)
    assert message.startswith("MEMORY_WORKER_JOB_TIMEOUTS_MS")
    assert told in message
    assert "\n" not in message
