"""The two-tower retrieval model.

A query tower maps a user to a vector, a candidate tower maps an item to one; their dot product scores the
pair. So the catalog's vectors are computed once and searched by an index, and serving holds the query tower
alone. What the query tower reads is its mode: `static` the user's features, `context` also device and moment,
`session` also the user's latest interactions (history.py).
Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations".

Shapes: B rows, C categorical features, F continuous features, D the dimension of both towers' vectors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cascade.models import files
from cascade.models.arrays import Floats, Rows, require_rows, same_length, to_tensor
from cascade.models.errors import ModelConfigError, ModelFileError, ModelInputError
from cascade.models.history import HistoryArrays, HistoryEncoder, HistorySum, HistoryTensors
from cascade.models.layers import ContentScale, Tables, embedding_dim, mlp

Mode = Literal["static", "context", "session"]


@dataclass(frozen=True)
class TwoTowerConfig:
    """Everything needed to build either tower; stored beside its weights."""

    user_cardinalities: tuple[int, ...]
    """rows of each of the query tower's tables, the out-of-vocabulary row included"""
    user_continuous: int
    """the query tower's continuous features"""
    item_cardinalities: tuple[int, ...]
    item_continuous: int
    image_dim: int = 64
    text_dim: int = 64
    embedding_cap: int = 64
    """the widest an embedding table gets; narrower ones follow their number of rows"""
    hidden: tuple[int, ...] = (128,)
    dim: int = 64
    """of both towers' vectors"""
    normalise: bool = True
    """vectors of unit length: scores are cosines, and the loss divides them by a temperature"""
    item_bias: bool = False
    """the last dimension of an item's vector is how much it is met by anyone, that of a query's is 1"""
    own_vectors: bool = False
    """an item's id adds a vector of its own past the candidate tower's network: where ids are all there is, the network
    would have to pass them through"""
    context_cardinalities: tuple[int, ...] = ()
    """rows of each of the moment's tables; their columns follow the user's. None in mode `static`"""
    context_continuous: int = 0
    """the moment's continuous features, behind the user's"""
    history_length: int = 0
    """the most interactions of a user that are read; 0: none"""
    history_event_types: int = 0
    """rows of the event types' table, the unknown one included"""
    history_sum: bool = False
    """whether the items met add to the query, as their sum, beside what attention says of them"""
    history_dim: int = 64
    history_heads: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(not isinstance(number, int) or number < 0 for number in numbers):
                raise ModelConfigError(f"{field.name} is {value!r}; give whole numbers of at least 0")
        if self.dim < 1 + self.item_bias:
            raise ModelConfigError(
                f"dim is {self.dim}; both towers need at least one dimension, and the items' bias takes one more"
            )

    @property
    def mode(self) -> Mode:
        """What the query tower reads."""
        if self.history_length:
            return "session"
        return "context" if self.context_cardinalities or self.context_continuous else "static"

    @property
    def item_dims(self) -> int:
        """Dimensions of an item's vector that say what it is like: all but its bias."""
        return self.dim - self.item_bias

    @property
    def query_cardinalities(self) -> tuple[int, ...]:
        """Of all categorical columns that the query tower takes: the user's, then the moment's."""
        return self.user_cardinalities + self.context_cardinalities

    @property
    def query_continuous(self) -> int:
        """Continuous columns that the query tower takes, likewise."""
        return self.user_continuous + self.context_continuous

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From JSON, where tuples have become lists. Raises ModelConfigError on names it does not know."""
        try:
            return cls(**files.tuples(values))
        except TypeError as error:
            raise ModelConfigError(f"not a two-tower configuration: {error}") from error


class QueryTower(nn.Module):
    """A user, a moment and a history, as far as the mode reads them → a vector [D] in the candidates' space."""

    KIND = "two_tower.query"

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.candidate_fingerprint: str | None = None
        """of the candidate tower this one was trained against; an index of another one is foreign to it"""
        dims = [embedding_dim(rows, config.embedding_cap) for rows in config.query_cardinalities]
        self.embed = Tables(config.query_cardinalities, dims)
        known = sum(dims) + config.query_continuous
        self.history: HistoryEncoder | None = None
        if config.mode == "session":
            self.history = HistoryEncoder(
                known,
                config.item_dims,
                config.history_dim,
                config.history_heads,
                config.history_length,
                config.history_event_types,
            )
        inputs = known + (self.history.width if self.history else 0)
        self.mlp = mlp((inputs, *config.hidden, config.dim), activate_last=False)
        self.shortcut = nn.Linear(self.history.width, config.dim, bias=False) if self.history else None
        self.sum: HistorySum | None = None
        if config.history_sum and self.history is not None:
            self.sum = HistorySum(config.item_dims, config.dim, config.history_event_types)
        """what the history says, as it is: items like those that were met"""

    def forward(self, categorical: Tensor, continuous: Tensor, history: HistoryTensors | None = None) -> Tensor:
        """int [B, C], float [B, F], in mode `session` the histories of B rows → float [B, D]."""
        features = torch.cat([*self.embed(categorical), continuous], dim=1)
        if self.history is None or self.shortcut is None:
            return self._finish(self.mlp(features))
        if history is None:
            raise ModelInputError("this query tower reads histories and was given none; empty ones have no events")
        history = replace(history, vectors=history.vectors[:, : self.config.item_dims])
        said = self.history(features, history)
        vectors = self.mlp(torch.cat([features, said], dim=1)) + self.shortcut(said)
        if self.sum is not None:
            vectors = vectors + self.sum(history)
        return self._finish(vectors)

    def _finish(self, vectors: Tensor) -> Tensor:
        if not self.config.item_bias:
            return _scaled(vectors, self.config)
        return torch.cat([_scaled(vectors[:, :-1], self.config), torch.ones_like(vectors[:, -1:])], dim=1)

    def predict(self, categorical: Rows, continuous: Floats, history: HistoryArrays | None = None) -> Floats:
        """int32 [B, C], float32 [B, F], histories of B rows → float32 [B, D].

        Columns are the user's, then the moment's where the mode reads it; the histories are for mode `session` alone.
        Raises ModelInputError on arrays that do not fit.
        """
        config, device = self.config, _device(self)
        require_query(config, categorical, continuous, history)
        if device.type == "cuda":
            require_rows(categorical, config.query_cardinalities)  # a GPU does not survive a row outside its table
        with torch.inference_mode():
            try:
                vectors = self(
                    to_tensor(categorical, len(config.query_cardinalities), "categorical", device),
                    to_tensor(continuous, config.query_continuous, "continuous", device),
                    None if history is None else history.tensors(config.dim, device),
                )
            except IndexError as error:
                require_rows(categorical, config.query_cardinalities)
                raise ModelInputError(f"the query tower cannot read its input: {error}") from error
            return _numpy(vectors)

    def save(self, folder: Path) -> None:
        """Write configuration and weights into `folder`."""
        config = {"network": self.config.to_dict(), "candidate_fingerprint": self.candidate_fingerprint}
        files.save(folder, self, self.KIND, config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tower saved in `folder`, ready to predict. Raises ModelFileError."""
        stored = files.read_config(folder, cls.KIND)
        tower = cls(_network(stored, folder))
        fingerprint = stored.get("candidate_fingerprint")
        tower.candidate_fingerprint = None if fingerprint is None else str(fingerprint)
        files.load_weights(folder, tower)
        return tower.eval()


class CandidateTower(nn.Module):
    """Item features, picture and text → a vector [D] in the queries' space."""

    KIND = "two_tower.candidate"

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.config = config
        dims = [embedding_dim(rows, config.embedding_cap) for rows in config.item_cardinalities]
        self.embed = Tables(config.item_cardinalities, dims)
        self.image_scale = ContentScale()
        self.text_scale = ContentScale()
        inputs = sum(dims) + config.item_continuous + config.image_dim + config.text_dim
        self.mlp = mlp((inputs, *config.hidden, config.dim), activate_last=False)
        self.own: nn.Embedding | None = None
        if config.own_vectors:
            self.own = nn.Embedding(config.item_cardinalities[0], config.dim)
            nn.init.normal_(self.own.weight, std=0.05)

    def start(self, log_popularity: Tensor) -> None:
        """Let the biases begin where popularity is, float [rows of the first table]: steps of a small training are too
        few to get there, as each moves a weight by the learning rate at most."""
        if self.own is not None and self.config.item_bias:
            with torch.no_grad():
                self.own.weight[:, -1] = log_popularity

    def forward(self, categorical: Tensor, continuous: Tensor, image: Tensor, text: Tensor) -> Tensor:
        """int [B, C], float [B, F], float [B, image_dim], float [B, text_dim] → float [B, D]."""
        features = torch.cat(
            [*self.embed(categorical), continuous, self.image_scale(image), self.text_scale(text)], dim=1
        )
        vectors: Tensor = self.mlp(features)
        if self.own is not None:
            vectors = vectors + self.own(categorical[:, 0])
        if not self.config.item_bias:
            return _scaled(vectors, self.config)
        return torch.cat([_scaled(vectors[:, :-1], self.config), vectors[:, -1:]], dim=1)

    def predict(self, categorical: Rows, continuous: Floats, image: Floats, text: Floats, batch: int = 8192) -> Floats:
        """int32 [B, C], float32 [B, F], [B, image_dim], [B, text_dim] → float32 [B, D].

        Computed `batch` rows at a time. Raises ModelInputError on arrays that do not fit.
        """
        same_length(categorical=categorical, continuous=continuous, image=image, text=text)
        config, device = self.config, _device(self)
        if device.type == "cuda" and categorical.shape[1:] == (len(config.item_cardinalities),):
            require_rows(categorical, config.item_cardinalities)  # a GPU does not survive a row outside its table
        vectors = np.empty((len(categorical), config.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(categorical), batch):
                rows = slice(start, start + batch)
                try:
                    part = self(
                        to_tensor(categorical[rows], len(config.item_cardinalities), "categorical", device),
                        to_tensor(continuous[rows], config.item_continuous, "continuous", device),
                        to_tensor(image[rows], config.image_dim, "image", device),
                        to_tensor(text[rows], config.text_dim, "text", device),
                    )
                except IndexError as error:
                    require_rows(categorical[rows], config.item_cardinalities)
                    raise ModelInputError(f"the candidate tower cannot read its input: {error}") from error
                vectors[rows] = _numpy(part)
        return vectors

    def fingerprint(self) -> str:
        """The sha256 of the weights: an index and a query tower belong together when theirs agree."""
        return files.fingerprint(self.state_dict())

    def save(self, folder: Path) -> None:
        """Write configuration and weights into `folder`."""
        files.save(folder, self, self.KIND, {"network": self.config.to_dict()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tower saved in `folder`, ready to predict. Raises ModelFileError."""
        tower = cls(_network(files.read_config(folder, cls.KIND), folder))
        files.load_weights(folder, tower)
        return tower.eval()


class TwoTower(nn.Module):
    """Both towers, as training sees them; saved as the folders `query/` and `candidate/`."""

    def __init__(self, config: TwoTowerConfig) -> None:
        super().__init__()
        self.config = config
        self.query = QueryTower(config)
        self.candidate = CandidateTower(config)

    def forward(self, user: tuple[Any, ...], item: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """B users and N items → scores float [B, N]."""
        queries = self.query(*user)  # [B, D]
        candidates = self.candidate(*item)  # [N, D]
        scores: Tensor = queries @ candidates.T
        return scores

    def save(self, folder: Path) -> None:
        """Write both towers, the query tower marked with its candidate tower's fingerprint."""
        self.query.candidate_fingerprint = self.candidate.fingerprint()
        self.candidate.save(folder / "candidate")
        self.query.save(folder / "query")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Both towers from `folder`. Raises ModelFileError where they were not trained together."""
        query, candidate = QueryTower.load(folder / "query"), CandidateTower.load(folder / "candidate")
        if query.candidate_fingerprint != candidate.fingerprint():
            raise ModelFileError(
                f"the towers in {folder} were not trained together: the query tower names candidate "
                f"{query.candidate_fingerprint}, the one found is {candidate.fingerprint()}"
            )
        model = cls(query.config)
        model.query, model.candidate = query, candidate
        return model.eval()


def require_query(config: TwoTowerConfig, categorical: Rows, continuous: Floats, history: HistoryArrays | None) -> None:
    """Raises ModelInputError unless the arrays are what a query tower of this configuration takes."""
    same_length(categorical=categorical, continuous=continuous)
    columns = (len(config.query_cardinalities), config.query_continuous)
    if categorical.ndim != 2 or continuous.ndim != 2 or (categorical.shape[1], continuous.shape[1]) != columns:
        raise ModelInputError(
            f"a query's columns have shapes {categorical.shape} and {continuous.shape}; this tower of mode "
            f"{config.mode} takes [rows, {columns[0]}] categorical and [rows, {columns[1]}] continuous ones"
        )
    if (history is None) != (config.mode != "session"):
        raise ModelInputError(
            f"a tower of mode {config.mode} was given {'no' if history is None else 'a'} history; "
            "mode session takes one, with no events where there are none, and the others take none"
        )
    if history is not None:
        history.require(config.dim)
        same_length(categorical=categorical, history=history.there)
        if history.there.shape[1] > config.history_length:
            raise ModelInputError(
                f"a history has {history.there.shape[1]} events; this tower reads the latest {config.history_length}"
            )


def _scaled(vectors: Tensor, config: TwoTowerConfig) -> Tensor:
    if not config.normalise:
        return vectors
    unit: Tensor = F.normalize(vectors, dim=1)
    return unit


def _network(stored: dict[str, Any], folder: Path) -> TwoTowerConfig:
    network = stored.get("network")
    if not isinstance(network, dict):
        raise ModelFileError(f"{folder} names no network; save the tower again")
    return TwoTowerConfig.from_dict(network)


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _numpy(vectors: Tensor) -> Floats:
    array: Floats = vectors.float().cpu().numpy()
    return array
