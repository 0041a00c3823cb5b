"""Principal components: an encoder's vectors reduced to the 64 numbers that the models read.

Jolliffe, "Principal Component Analysis", 2nd ed., Springer 2002.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.embeddings.errors import PcaMisfit, PcaUnreadable
from cascade.features.spec import EMBEDDING_DIM
from cascade.files import replacing_folder

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_CHUNK = 65_536
# Directions whose variance is below this share of the largest are rounding noise, not data.
_NOISE = 1e-10
_ARRAYS = ("mean", "components", "explained")


@dataclass(frozen=True)
class Pca:
    """A fitted reduction from D to `dim` numbers.

    mean: float32 [D], the mean of the fitted vectors
    components: float32 [D, dim], orthonormal columns, strongest first; a zero column where the data had no
        further direction (fewer than `dim` dimensions, or not enough different vectors)
    explained: float32 [dim], the share of the variance along each component
    scale: the factor that gives the fitted vectors a mean norm of 1 after the reduction

    The components are not whitened: a tower that reads these numbers should hear the strong directions
    louder than the noise in the weak ones. One common factor makes the mean norm 1, so image and text vectors
    arrive at the models at one magnitude whichever encoder made them.

    A vector of zeros means "not known" (an item without a picture) and stays zero, which is also where the mean
    of all known items lies: the neutral point.
    """

    mean: Floats
    components: Floats
    explained: Floats
    scale: float

    @classmethod
    def fit(cls, x: Floats, dim: int = EMBEDDING_DIM, known: Mask | None = None) -> Pca:
        """Fit on the known rows of x [N, D].

        known: bool [N]; by default every row that is not all zeros

        The directions come from the eigenvectors of the covariance, summed in float64 by chunks: the same as a
        singular value decomposition of the centred data to far below float32's precision, in memory that does
        not grow with N (x may be a memory map).

        Raises PcaMisfit: x is not two-dimensional, holds NaN or infinity, or has no known row.
        """
        _require_matrix(x)
        if dim < 1:
            raise PcaMisfit(f"dim is {dim}; it must be at least 1")
        known = _known(x, known)
        count = int(known.sum())
        if count == 0:
            raise PcaMisfit(f"none of the {len(x)} vectors is known (not all zeros); encode some items first")
        width = x.shape[1]
        total = np.zeros(width)
        for rows in _chunks(x, known):
            total += rows.sum(axis=0, dtype=np.float64)
        mean = total / count
        covariance = np.zeros((width, width))
        for rows in _chunks(x, known):
            centred = rows.astype(np.float64) - mean
            covariance += centred.T @ centred
        if not np.isfinite(covariance).all():
            raise PcaMisfit("the vectors hold NaN or infinity; look at the encoder that made them")
        values, vectors = np.linalg.eigh(covariance / count)
        values, vectors = values[::-1], vectors[:, ::-1]  # strongest first
        kept = min(dim, width, int((values > max(values[0], 0.0) * _NOISE).sum()))
        components = np.zeros((width, dim))
        components[:, :kept] = _with_fixed_signs(vectors[:, :kept])
        explained = np.zeros(dim)
        if kept:
            explained[:kept] = values[:kept] / values.clip(min=0.0).sum()
        unscaled = cls(mean.astype(np.float32), components.astype(np.float32), explained.astype(np.float32), 1.0)
        norms = sum(float(np.linalg.norm(unscaled._project(rows), axis=1).sum()) for rows in _chunks(x, known))
        scale = count / norms if norms > 0.0 else 1.0
        return cls(unscaled.mean, unscaled.components, unscaled.explained, scale)

    @property
    def dim(self) -> int:
        """How many numbers come out."""
        return int(self.components.shape[1])

    @property
    def version(self) -> str:
        """The sha256 of the content, in hex."""
        digest = hashlib.sha256(repr(self.scale).encode())
        for name in _ARRAYS:
            array = np.ascontiguousarray(getattr(self, name))
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def transform(self, x: Floats, known: Mask | None = None) -> Floats:
        """x float32 [N, D] reduced to float32 [N, dim]; unknown rows come out as zeros.

        known: bool [N]; by default every row that is not all zeros

        Raises PcaMisfit: x does not have D columns.
        """
        _require_matrix(x)
        if x.shape[1] != len(self.mean):
            raise PcaMisfit(
                f"the vectors have {x.shape[1]} numbers and the PCA was fitted on {len(self.mean)}; "
                "fit it on vectors of the same encoder"
            )
        known = _known(x, known)
        out = np.zeros((len(x), self.dim), dtype=np.float32)
        for start in range(0, len(x), _CHUNK):
            rows = slice(start, start + _CHUNK)
            out[rows][known[rows]] = self._project(np.asarray(x[rows])[known[rows]])
        return out

    def save(self, folder: Path) -> None:
        """Write arrays and a JSON description into `folder`, replacing it whole."""
        with replacing_folder(folder) as fresh:
            for name in _ARRAYS:
                np.save(fresh / f"{name}.npy", getattr(self, name), allow_pickle=False)
            description = {"version": self.version, "dim": self.dim, "scale": self.scale}
            (fresh / "pca.json").write_text(json.dumps(description, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Pca:
        """What `save` wrote.

        Raises PcaUnreadable: a file is missing or is not what was written.
        """
        try:
            description: dict[str, Any] = json.loads((folder / "pca.json").read_text())
            arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}
            pca = cls(**arrays, scale=float(description["scale"]))
            expected = description["version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PcaUnreadable(folder, f"{type(error).__name__}: {error}") from error
        if pca.version != expected:
            raise PcaUnreadable(folder, f"its content has sha256 {pca.version}, expected {expected}")
        return pca

    def _project(self, rows: Floats) -> Floats:
        projected = (rows.astype(np.float32, copy=False) - self.mean) @ self.components  # [B, dim]
        return (projected * self.scale).astype(np.float32, copy=False)


def _require_matrix(x: Floats) -> None:
    if x.ndim != 2:
        raise PcaMisfit(f"the vectors have shape {x.shape}; expected [N, D]")


def _known(x: Floats, known: Mask | None) -> Mask:
    if known is None:
        return np.concatenate(
            [np.any(x[start : start + _CHUNK] != 0.0, axis=1) for start in range(0, len(x), _CHUNK)]
            or [np.zeros(0, dtype=np.bool_)]
        )
    if known.shape != (len(x),):
        raise PcaMisfit(f"known has shape {known.shape} beside {len(x)} vectors; expected one flag a vector")
    return known


def _chunks(x: Floats, known: Mask) -> Iterator[Floats]:
    for start in range(0, len(x), _CHUNK):
        rows = slice(start, start + _CHUNK)
        yield np.asarray(x[rows])[known[rows]]


def _with_fixed_signs(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column turned so that its largest entry is positive: a direction has no sign of its own."""
    if vectors.shape[1] == 0:
        return vectors
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.where(vectors[largest, np.arange(vectors.shape[1])] < 0.0, -1.0, 1.0)
    return vectors * signs
