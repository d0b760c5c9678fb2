"""Builds the ONNX graph of all-MiniLM-L6-v2 from its weights, and keeps it in a cache folder.

The network is BERT (Devlin et al. 2019) with 6 layers, 12 heads and width 384, pooled over the tokens of a text
(Reimers and Gurevych 2019). The graph is written with onnxruntime's fused fp32 operators (attention, residual with
layer norm, bias with the exact erf GELU), so that what runs does not hang on which patterns its optimiser finds.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from memory_pipeline.model.errors import ProviderUnavailableError
from memory_pipeline.providers.minilm.weights import WEIGHTS_SHA256, Weights, load_weights

GRAPH_VERSION = 1
"""Raise it whenever `build_graph` changes, so that no process loads a graph that an older one cached."""

LAYERS = 6
HEADS = 12
WIDTH = 384
_EPSILON = 1e-12
_FUSED = "com.microsoft"
_STANDARD_OPSET = 17
_IR_VERSION = 8


class _Graph:
    """Collects nodes and constants; an operator's method returns the name of its output."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def matrix(self, name: str) -> str:
        """The weights are stored as (out, in), as torch keeps them; MatMul wants (in, out)."""
        return self.constant(name, self.weights[name].T)

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, domain=domain, **attributes))
        return output

    def add_and_norm(self, values: str, residual: str, norm: str, bias: str | None = None) -> str:
        inputs = [values, residual, self.weight(f"{norm}.weight"), self.weight(f"{norm}.bias")]
        if bias is not None:
            inputs.append(self.weight(bias))
        return self.node("SkipLayerNormalization", *inputs, domain=_FUSED, epsilon=_EPSILON)


def build_graph(weights: Weights) -> bytes:
    """Return the serialised graph.

    Inputs, both int32 of shape (texts, tokens): `token_ids`, `attention_mask` (1 for a token, 0 for padding behind).
    Output `pooled`, float32 of shape (texts, 384): the sum of the token vectors, which has the direction of their mean.
    """
    from onnx import TensorProto, helper

    graph = _Graph(weights)
    hidden = _embeddings(graph)
    for layer in range(LAYERS):
        hidden = _layer(graph, hidden, f"encoder.layer.{layer}")
    axis = graph.constant("row_axis", np.array([1], dtype=np.int64))
    mask_row = graph.node("Unsqueeze", graph.node("Cast", "attention_mask", to=TensorProto.FLOAT), axis)
    pooled = graph.node("Squeeze", graph.node("MatMul", mask_row, hidden), axis)
    graph.nodes[-1].output[0] = pooled = "pooled"

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT32, ["texts", "tokens"])
        for name in ("token_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info(pooled, TensorProto.FLOAT, ["texts", WIDTH])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "all-minilm-l6-v2", inputs, [output], graph.constants),
        opset_imports=[helper.make_opsetid("", _STANDARD_OPSET), helper.make_opsetid(_FUSED, 1)],
        ir_version=_IR_VERSION,
    )
    serialised: bytes = model.SerializeToString()
    return serialised


def _embeddings(graph: _Graph) -> str:
    words = graph.node("Gather", graph.weight("embeddings.word_embeddings.weight"), "token_ids")
    # Every token is of type 0, so that row is added to the positions once, here.
    places = (
        graph.weights["embeddings.position_embeddings.weight"]
        + graph.weights["embeddings.token_type_embeddings.weight"][0]
    )
    start = graph.constant("first_position", np.array([0], dtype=np.int64))
    length = graph.node("Shape", "token_ids", start=1, end=2)
    positions = graph.node("Slice", graph.constant("positions", places), start, length)
    return graph.add_and_norm(words, positions, "embeddings.LayerNorm")


def _layer(graph: _Graph, hidden: str, name: str) -> str:
    parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([graph.weights[f"{part}.weight"].T for part in parts], axis=1)
    bias = np.concatenate([graph.weights[f"{part}.bias"] for part in parts])
    attended = graph.node(
        "Attention",
        hidden,
        graph.constant(f"{name}.qkv.weight", weight),
        graph.constant(f"{name}.qkv.bias", bias),
        "attention_mask",
        domain=_FUSED,
        num_heads=HEADS,
    )
    output = f"{name}.attention.output"
    projected = graph.node("MatMul", attended, graph.matrix(f"{output}.dense.weight"))
    hidden = graph.add_and_norm(projected, hidden, f"{output}.LayerNorm", f"{output}.dense.bias")
    inner = f"{name}.intermediate.dense"
    widened = graph.node("MatMul", hidden, graph.matrix(f"{inner}.weight"))
    activated = graph.node("BiasGelu", widened, graph.weight(f"{inner}.bias"), domain=_FUSED)
    narrowed = graph.node("MatMul", activated, graph.matrix(f"{name}.output.dense.weight"))
    return graph.add_and_norm(narrowed, hidden, f"{name}.output.LayerNorm", f"{name}.output.dense.bias")


def cached_graph(weights_path: Path, cache_folder: Path, rebuild: bool = False) -> Path:
    """Return the graph's file in `cache_folder`, built there first if it is missing (0.6 s, 90 MB) or `rebuild` asks.

    Safe for processes that do so at once: each writes a file of its own and renames it over the name they share.
    Raises ProviderUnavailableError where the weights are not the known ones or the folder can't be written.
    """
    path = cache_folder / f"all-minilm-l6-v2-{WEIGHTS_SHA256[:12]}-graph{GRAPH_VERSION}.onnx"
    if path.is_file() and not rebuild:
        return path
    content = build_graph(load_weights(weights_path))
    try:
        _write_whole(path, content)
    except OSError as error:
        raise ProviderUnavailableError(
            f"The embedding model can't be kept in {cache_folder}: {error}. "
            f"It needs {len(content) // 1_000_000 + 1} MB there."
        ) from error
    return path


def _write_whole(path: Path, content: bytes) -> None:
    """Write `content` under a name of its own, then rename it: no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
