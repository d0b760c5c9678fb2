"""The registry makes what the settings name, and costs nothing before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from memory_pipeline.providers.registry import make_embedder, make_summarizer
from memory_pipeline.settings import load_settings


def test_settings_choose_the_embedder(tmp_path: Path) -> None:
    local = make_embedder(load_settings(home=tmp_path, embedder="minilm"))
    assert (local.model, local.dimension) == ("all-minilm-l6-v2", 384)
    remote = make_embedder(load_settings(embedder="openai", embedding_model="m", embedding_dimension=768))
    assert (remote.model, remote.dimension) == ("m", 768)


def test_local_embedder_keeps_its_graph_under_home(tmp_path: Path) -> None:
    make_embedder(load_settings(home=tmp_path, embedder="minilm")).embed(["hello"])
    assert [path.suffix for path in (tmp_path / "models").iterdir()] == [".onnx"]


def test_summarizer_is_the_extractive_one() -> None:
    assert make_summarizer(load_settings()).name == "extractive"


def test_registry_imports_no_heavy_library() -> None:
    program = (
        "import sys, memory_pipeline.providers.registry as registry;"
        "heavy = {'onnx', 'onnxruntime', 'tokenizers', 'httpx', 'safetensors', 'tenacity'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
