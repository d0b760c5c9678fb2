"""What every embedder checks before and after its model runs: texts that can be encoded, vectors that can be stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from memory_pipeline.model.errors import ProviderError
from memory_pipeline.providers.base import Vectors

_SMALLEST_NORM = 1e-12


def require_encodable(texts: Sequence[str], model: str) -> None:
    """Raise ProviderError for the first text that has no UTF-8 form (a lone surrogate)."""
    for position, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ProviderError(
                f"Text {position} of {len(texts)} can't be embedded by {model}: character {error.start} is half of a "
                "surrogate pair, which no encoding can carry. Replace it before the text is stored."
            ) from None  # the original exception holds the whole text


def unit_vectors(raw: npt.NDArray[np.floating], count: int, dimension: int, model: str) -> Vectors:
    """Return `raw`, shape (count, dimension), with rows scaled to unit length.

    Raises ProviderError where the shape is another, or a row holds NaN or infinity or has no direction.
    """
    if raw.shape != (count, dimension):
        raise ProviderError(
            f"{model} answered with vectors of shape {raw.shape}; ({count}, {dimension}) was expected. "
            "Check that the model's name and dimension in the settings belong together."
        )
    # In double precision the squares of finite float32 values can't overflow.
    wide = raw.astype(np.float64)
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    bad = ~(np.isfinite(norms) & (norms > _SMALLEST_NORM))
    if bad.any():
        raise ProviderError(
            f"{model} answered text {int(np.argmax(bad))} of {count} with a vector that holds NaN or infinity or is "
            "zero. It was not stored; embed the text again or look into the model."
        )
    unit: Vectors = (wide / norms[:, np.newaxis]).astype(np.float32)
    return unit
