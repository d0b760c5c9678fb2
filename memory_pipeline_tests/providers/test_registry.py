"""The registry makes what the settings name, and costs nothing before."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import get_args

import psycopg
import pytest

from memory_pipeline.model.errors import ProviderUnavailableError
from memory_pipeline.providers.registry import make_embedder, make_enricher, make_summarizer, plugin_names
from memory_pipeline.settings import Settings, load_settings
from memory_pipeline_tests.conftest import Database as Urls

EMBEDDERS = get_args(Settings.model_fields["embedder"].annotation)
ENRICHERS = get_args(Settings.model_fields["enricher"].annotation)


def test_settings_choose_the_embedder(tmp_path: Path) -> None:
    local = make_embedder(load_settings(home=tmp_path, embedder="minilm"))
    assert (local.model, local.dimension) == ("all-minilm-l6-v2", 384)
    remote = make_embedder(load_settings(embedder="openai", embedding_model="m", embedding_dimension=768))
    assert (remote.model, remote.dimension) == ("m", 768)


def test_local_embedder_keeps_its_graph_under_home(tmp_path: Path) -> None:
    make_embedder(load_settings(home=tmp_path, embedder="minilm")).embed(["hello"])
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".onnx"]


def test_who_tries_again_anyway_waits_once_and_not_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and answers none
        settings = load_settings(
            embedder="openai",
            embedding_model="m",
            embedding_dimension=3,
            embedding_base_url=f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
        )
        with pytest.raises(ProviderUnavailableError, match=r"in 1 tries: no answer in time"):
            make_embedder(settings, patience_seconds=0.2).embed(["hello"])


def test_summarizer_is_the_extractive_one() -> None:
    assert make_summarizer(load_settings()).name == "extractive"


def test_registry_imports_no_heavy_library() -> None:
    program = (
        "import sys, memory_pipeline.providers.registry as registry;"
        "heavy = {'onnx', 'onnxruntime', 'tokenizers', 'httpx', 'safetensors', 'tenacity'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_every_provider_the_settings_can_name_is_a_registered_plugin(database: Urls) -> None:
    named = {
        plugin
        for embedder in EMBEDDERS
        for enricher in ENRICHERS
        for plugin in plugin_names(load_settings(embedder=embedder, enricher=enricher))
    }
    with psycopg.connect(database.admin_url) as connection:
        registered = {row[0] for row in connection.execute("SELECT plugin FROM memory.plugin_registry")}
    assert named == registered


@pytest.mark.parametrize("enricher", ENRICHERS)
def test_plugins_are_named_as_the_providers_name_themselves(enricher: str) -> None:
    settings = load_settings(enricher=enricher)
    names = plugin_names(settings)
    assert names.enricher == f"enricher:{make_enricher(settings).name}"
    assert names.summarizer == f"summarizer:{make_summarizer(settings).name}"
