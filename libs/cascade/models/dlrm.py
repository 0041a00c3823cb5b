"""The deep learning recommendation model, which ranks candidates.

Naumov et al. 2019, "Deep learning recommendation model for personalization and recommendation systems":
every feature becomes a vector of the same width, all pairs of vectors interact by their dot product, and a
network over the interactions gives one logit.

Beside the dot products stands what an item has in common with what its visitor did lately (`models/matches.py`), where
the configuration has a history's length.

Shapes: N rows (one user, context and item each), C categorical features, F continuous features, D the width
of the vectors, V = C + 3 vectors (the continuous features together, C tables, picture, text), B histories.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascade.models import files
from cascade.models.affinity import Affinity, ItemAffinity
from cascade.models.arrays import Floats, Rows, require_rows, same_length, to_tensor
from cascade.models.calibration import Calibration
from cascade.models.errors import ModelConfigError, ModelFileError, ModelInputError
from cascade.models.layers import ContentScale, Tables, mlp
from cascade.models.matches import EventHistories, EventTensors, HistoryMatches, columns_of
from cascade.models.target_attention import TargetAttention

if TYPE_CHECKING:
    from cascade.models.dlrm_split import ItemFeatures

_AFFINITY = "affinity"


@dataclass(frozen=True)
class DlrmConfig:
    """Everything needed to build the network; stored beside its weights.

    Columns arrive in the order user, item, context, both categorical and continuous.
    """

    user_cardinalities: tuple[int, ...]
    """rows of each table, the out-of-vocabulary row included"""
    item_cardinalities: tuple[int, ...]
    context_cardinalities: tuple[int, ...]
    user_continuous: int
    item_continuous: int
    context_continuous: int
    image_dim: int = 64
    text_dim: int = 64
    dim: int = 64
    """the width of every vector that interacts"""
    bottom: tuple[int, ...] = (128,)
    """hidden layers over the continuous features; the last layer has `dim`"""
    top: tuple[int, ...] = (128, 64, 32)
    """hidden layers over the interactions; the last layer is the logit"""
    history_length: int = 0
    """how many of a visitor's latest events are read; 0: none, and what follows says nothing"""
    history_event_types: int = 0
    share_kernels: int = 4
    count_kernels: int = 2
    attention_heads: int = 0
    """of target attention over those events (`models/target_attention.py`); 0: none"""
    attention_dim: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(not isinstance(number, int) or number < 0 for number in numbers):
                raise ModelConfigError(f"{field.name} is {value!r}; give whole numbers of at least 0")
        if self.continuous < 1 or self.dim < 1:
            raise ModelConfigError(
                f"{self.continuous} continuous features and dim {self.dim}; the network needs 1 of each"
            )
        kernels = self.share_kernels + self.count_kernels
        if self.history_length and not (self.history_event_types and kernels and self.item_cardinalities):
            raise ModelConfigError(
                f"histories of {self.history_length} with {self.history_event_types} event types, {kernels} kernels "
                f"and {len(self.item_cardinalities)} fields of items; a network that reads them needs 1 of each"
            )

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Rows of all C tables: user, item, context."""
        return self.user_cardinalities + self.item_cardinalities + self.context_cardinalities

    @property
    def continuous(self) -> int:
        """F: user, item and context together."""
        return self.user_continuous + self.item_continuous + self.context_continuous

    @property
    def matches(self) -> int:
        """Columns that histories give to the top network."""
        sizes = (len(self.item_cardinalities), self.share_kernels, self.count_kernels, self.attention_heads)
        return columns_of(*sizes) if self.history_length else 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From JSON, where tuples have become lists. Raises ModelConfigError on names it does not know."""
        try:
            return cls(**files.tuples(values))
        except TypeError as error:
            raise ModelConfigError(f"not a DLRM configuration: {error}") from error


class Interactions(nn.Module):
    """The dot products of all pairs of V vectors, each pair once."""

    pairs: Tensor

    def __init__(self, vectors: int) -> None:
        super().__init__()
        first, second = torch.triu_indices(vectors, vectors, offset=1)
        self.register_buffer("pairs", first * vectors + second, persistent=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """float [N, V, D] → float [N, V(V-1)/2]."""
        products = torch.bmm(vectors, vectors.transpose(1, 2))  # [N, V, V]
        return products.flatten(1).index_select(1, self.pairs)


class Dlrm(nn.Module):
    """User, item and context features, picture and text → the logit of a click.

    calibration: what makes probabilities of its logits; no part of what is trained
    affinity: the retrieval model's part of the logit, fitted after training (`models/affinity.py`); None: it has none
    """

    KIND = "dlrm"

    def __init__(self, config: DlrmConfig) -> None:
        super().__init__()
        self.config = config
        self.calibration = Calibration()
        self.affinity: Affinity | None = None
        dim, tables = config.dim, len(config.cardinalities)
        self.bottom = mlp((config.continuous, *config.bottom, dim), activate_last=True)
        self.embed = Tables(config.cardinalities, [dim] * tables)
        self.image_scale = ContentScale()
        self.text_scale = ContentScale()
        self.image = nn.Linear(config.image_dim, dim)
        self.text = nn.Linear(config.text_dim, dim)
        vectors = tables + 3
        self.interact = Interactions(vectors)
        self.matches: HistoryMatches | None = None
        if config.history_length:
            sizes = (config.history_length, config.history_event_types, config.share_kernels, config.count_kernels)
            looks = None
            if config.attention_heads:
                looks = TargetAttention(config.item_cardinalities, config.attention_heads, config.attention_dim)
            self.matches = HistoryMatches(len(config.item_cardinalities), *sizes, attention=looks)
        pairs = vectors * (vectors - 1) // 2
        self.over = mlp((dim + pairs + config.matches, *config.top, 1), activate_last=False)

    def forward(
        self,
        categorical: Tensor,
        continuous: Tensor,
        image: Tensor,
        text: Tensor,
        histories: EventTensors | None = None,
        owner: Tensor | None = None,
    ) -> Tensor:
        """int [N, C], float [N, F], float [N, image_dim], float [N, text_dim] → logits float [N].

        histories: of B visitors, where the network reads them; None: nobody did anything yet
        owner: int64 [N], whose history each row has; None: there are N, one each
        """
        dense = self.bottom(continuous)  # [N, D]
        content = [self.image(self.image_scale(image)), self.text(self.text_scale(text))]
        vectors = torch.stack([dense, *self.embed(categorical), *content], dim=1)  # [N, V, D]
        columns = [dense, self.interact(vectors)]
        if self.matches is not None:
            users, fields = len(self.config.user_cardinalities), len(self.config.item_cardinalities)
            if histories is None:
                histories, owner = EventHistories.empty(len(categorical), fields).tensors(categorical.device), None
            columns.append(self.matches(histories, owner, categorical[:, users : users + fields]))
        logits: Tensor = self.over(torch.cat(columns, dim=1))  # [N, 1]
        return logits.squeeze(1)

    def predict(
        self,
        categorical: Rows,
        continuous: Floats,
        image: Floats,
        text: Floats,
        histories: EventHistories | None = None,
        owner: NDArray[np.integer] | None = None,
        offset: Floats | None = None,
    ) -> Floats:
        """int32 [N, C], float32 [N, F], [N, image_dim], [N, text_dim] → click probability float32 [N], calibrated.

        The probability is that of a click among one click and the negatives of training (docs/models.md).
        histories: of B visitors, their newest `history_length` events read; None: nobody did anything yet. Whoever has
            them may give them to a network that reads none.
        owner: int [N], whose history each row has; None: there are N, one each
        offset: float32 [N], the affinity's part of the logits; None: nothing
        Raises ModelInputError on arrays that do not fit.
        """
        with torch.inference_mode():
            logits = self._checked(categorical, continuous, image, text, histories, owner)
            if offset is not None:
                same_length(categorical=categorical, offset=offset)
                logits = logits + torch.from_numpy(np.ascontiguousarray(offset, np.float32)).to(logits.device)
            probabilities: Floats = self.calibration.of_tensor(logits).sigmoid().cpu().numpy()
            return probabilities

    def logits(
        self,
        categorical: Rows,
        continuous: Floats,
        image: Floats,
        text: Floats,
        histories: EventHistories | None = None,
        owner: NDArray[np.integer] | None = None,
    ) -> Floats:
        """As `predict`, but the network's own logits float32 [N], before calibration."""
        with torch.inference_mode():
            logits: Floats = self._checked(categorical, continuous, image, text, histories, owner).cpu().numpy()
            return logits

    def _checked(
        self,
        categorical: Rows,
        continuous: Floats,
        image: Floats,
        text: Floats,
        histories: EventHistories | None,
        owner: NDArray[np.integer] | None,
    ) -> Tensor:
        same_length(categorical=categorical, continuous=continuous, image=image, text=text)
        config, device = self.config, self.image.weight.device
        read = self._histories(histories, owner, len(categorical), device)
        if device.type == "cuda" and categorical.shape[1:] == (len(config.cardinalities),):
            require_rows(categorical, config.cardinalities)  # a GPU does not survive a row outside its table
        try:
            logits: Tensor = self(
                to_tensor(categorical, len(config.cardinalities), "categorical", device),
                to_tensor(continuous, config.continuous, "continuous", device),
                to_tensor(image, config.image_dim, "image", device),
                to_tensor(text, config.text_dim, "text", device),
                *read,
            )
        except IndexError as error:
            require_rows(categorical, config.cardinalities)
            raise ModelInputError(f"the ranker cannot read its input: {error}") from error
        return logits.float()

    def _histories(
        self, histories: EventHistories | None, owner: NDArray[np.integer] | None, rows: int, device: torch.device
    ) -> tuple[EventTensors | None, Tensor | None]:
        """What `forward` takes of them: nothing, where there are none to be read."""
        if self.matches is None or histories is None:
            return None, None
        config = self.config
        fields, length, types = len(config.item_cardinalities), config.history_length, config.history_event_types
        read = histories.checked(rows if owner is None else None, fields, length, types).tensors(device)
        if owner is None:
            return read, None
        if owner.shape != (rows,) or (rows and not 0 <= owner.min() <= owner.max() < len(histories)):
            raise ModelInputError(
                f"owners of shape {owner.shape} for {rows} rows and {len(histories)} histories; give each row one of "
                "them"
            )
        return read, torch.from_numpy(np.ascontiguousarray(owner, np.int64)).to(device)

    @property
    def events_read(self) -> int:
        """The most events of a visitor that the network or its affinity reads; 0: none."""
        by_affinity = 0 if self.affinity is None else self.affinity.events_read
        return max(self.config.history_length, by_affinity)

    def affinity_over(self, items: ItemFeatures) -> ItemAffinity | None:
        """The affinity for a catalog, whose vectors are computed; None where the ranker has none."""
        return None if self.affinity is None else self.affinity.over(items)

    def fingerprint(self) -> str:
        """The sha256 of the weights."""
        return files.fingerprint(self.state_dict())

    def save(self, folder: Path) -> None:
        """Write configuration, calibration and weights into `folder`."""
        config = {"network": self.config.to_dict(), "calibration": self.calibration.to_dict()}
        files.save(folder, self, self.KIND, config)
        if self.affinity is not None:
            self.affinity.save(folder / _AFFINITY)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The network saved in `folder`, ready to predict. Raises ModelFileError."""
        config = files.read_config(folder, cls.KIND)
        network = config.get("network")
        if not isinstance(network, dict):
            raise ModelFileError(f"{folder} names no network; save the model again")
        model = cls(DlrmConfig.from_dict(network))
        model.calibration = Calibration.from_dict(config.get("calibration"))
        files.load_weights(folder, model)
        if (folder / _AFFINITY).is_dir():
            model.affinity = Affinity.load(folder / _AFFINITY)
        return model.eval()
