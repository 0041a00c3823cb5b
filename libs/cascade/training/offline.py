"""From a dataset folder to models that can be evaluated, without a running system or an earlier build.

The same transforms, tables, trainings and index as the build's, in one process: `prepare` does what no hyper-parameter
changes, `train` the rest. The evaluation rows are later than the training rows (`time`), or each user's last
(`leave-last-out`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascade.data.contract import Dataset
from cascade.features.history import histories_of_rows
from cascade.features.item_table import ItemTable
from cascade.features.masking import Masking
from cascade.features.point_in_time import training_rows
from cascade.features.source import QueryLimits
from cascade.features.spec import EMBEDDING_DIM, OOV, USER_CATEGORICAL
from cascade.features.top_category import EVENT_WEIGHTS, EventWeights
from cascade.features.training_set import ClickWeights, TrainingSet
from cascade.features.transforms import ContextTransform, ItemTransform, UserTransform
from cascade.index.build import build_index
from cascade.index.interface import CandidateIndex
from cascade.models.dlrm import Dlrm
from cascade.models.two_tower import Mode, QueryTower, TwoTower
from cascade.training.affinities import stack
from cascade.training.dlrm_training import dlrm_config, train_dlrm
from cascade.training.errors import EvaluationError
from cascade.training.loop import LoopConfig, TrainingReport
from cascade.training.parameters import Parameters
from cascade.training.query_rows import two_tower_config
from cascade.training.two_tower_training import train_two_tower

Split = Literal["time", "leave-last-out"]
SPLITS: tuple[Split, ...] = ("time", "leave-last-out")
Floats = NDArray[np.float32]
Progress = Callable[[str], None]

EVALUATE_SHARE = 0.1
"""Of the interactions, the last ones, rounded to whole days where there are days enough."""
MIN_PICTURES = 32
"""Fewer pictures with texts than this teach a CLIP nothing."""
JUDGED_SHARE = 0.05
"""The last part of the training rows, in which half of the users judge epochs instead of being learned from."""
TWO_TOWER_ROWS, DLRM_ROWS = 3_000_000, 1_000_000
"""Rows that a training meets, repeats counted, where the data is small: the more passes. Early stopping ends them."""
TWO_TOWER_AT_MOST, DLRM_AT_MOST = 3_000_000, 2_000_000
"""And where it is large: about five and two minutes of processor time."""


@dataclass(frozen=True)
class Content:
    """What items look like and say, float32 [I, 64] each, and whether there was anything to encode."""

    image: Floats
    text: Floats
    has_images: bool
    has_texts: bool


@dataclass(frozen=True)
class Prepared:
    """What a training starts from.

    train_file, rows_file: training and evaluation rows as `training_rows` writes them
    learned, judged: training rows, encoded and masked, and those that judge epochs
    """

    dataset: Dataset
    split: Split
    query: Mode
    train_days: list[dt.date]
    eval_days: list[dt.date]
    train_file: Path
    rows_file: Path
    user: UserTransform
    item: ItemTransform
    context: ContextTransform
    items: ItemTable
    content: Content
    learned: TrainingSet
    judged: TrainingSet
    click_weights: ClickWeights | None = None


@dataclass(frozen=True)
class Retrieval:
    """What a retrieval bundle holds."""

    user_transform: UserTransform
    query_tower: QueryTower
    index: CandidateIndex
    item_ids: list[str]
    context_transform: ContextTransform | None
    item_vectors: Floats | None


@dataclass(frozen=True)
class Ranker:
    """What a ranker bundle holds."""

    user_transform: UserTransform
    context_transform: ContextTransform
    items: ItemTable
    dlrm: Dlrm


@dataclass(frozen=True)
class Trained:
    """Both stages, the towers they come from, and how the trainings went."""

    retrieval: Retrieval
    ranker: Ranker
    towers: TwoTower
    reports: dict[str, TrainingReport]


class CachedDataset(Dataset):
    """A folder that does not change while it is read: its days are listed once, its tables read once.

    Hundreds of sparse days would otherwise be listed again for each of them.
    """

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        self._known: dict[Any, Any] = {}

    def days(self, *, base_only: bool = False) -> list[dt.date]:
        """As `Dataset.days`."""
        days: list[dt.date] = self._once(
            ("days", base_only), lambda: super(CachedDataset, self).days(base_only=base_only)
        )
        return list(days)

    def users(self) -> pa.Table:
        """As `Dataset.users`."""
        return self._once("users", super().users)

    def items(self) -> pa.Table:
        """As `Dataset.items`."""
        return self._once("items", super().items)

    def _once(self, key: Any, read: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = read()
        return self._known[key]


def encode_content(
    dataset: Dataset,
    folder: Path,
    *,
    images: bool = True,
    texts: bool = True,
    text_encoder: str,
    seed: int,
    progress: Progress,
) -> Content:
    """Pictures by a CLIP trained on the shop's own, texts by the sentence encoder, both reduced to 64; zeros where
    there is nothing to encode, or nothing is to be encoded.

    folder: for the CLIP's checkpoints
    """
    from cascade.embeddings.item_text import item_text
    from cascade.embeddings.pca import Pca

    items = dataset.items()
    said = [
        item_text(*pair) for pair in zip(*(items.column(n).to_pylist() for n in ("title", "description")), strict=True)
    ]
    paths = [dataset.image_path(image) for image in items.column("image").to_pylist()]
    nothing = np.zeros((len(said), EMBEDDING_DIM), np.float32)
    image, text = nothing, nothing
    has_texts = texts and any(said)
    has_images = images and sum(bool(path and words) for path, words in zip(paths, said, strict=True)) >= MIN_PICTURES
    if has_texts:
        from cascade.embeddings.text import TextEncoder

        progress("texts")
        vectors = TextEncoder(text_encoder).encode(said)
        text = Pca.fit(vectors, EMBEDDING_DIM).transform(vectors)
    if has_images:
        from cascade.embeddings.clip_training import train_clip
        from cascade.embeddings.image import ImageEncoder

        progress("pictures")
        train_clip(paths, said, folder / "clip", seed=seed)
        vectors = ImageEncoder(folder / "clip").encode(paths)
        image = Pca.fit(vectors, EMBEDDING_DIM).transform(vectors)
    return Content(image, text, has_images, has_texts)


def prepare(
    dataset: Dataset,
    folder: Path,
    content: Callable[[], Content],
    *,
    split: Split = "time",
    query: Mode = "session",
    evaluate_share: float = EVALUATE_SHARE,
    mask_share: float = 0.05,
    seed: int = 0,
    weights: EventWeights = EVENT_WEIGHTS,
    click_weights: ClickWeights | None = None,
    limits: QueryLimits | None = None,
    rows: Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Split the rows, fit transforms on the training ones, and encode.

    query: what the query tower reads; in mode session the ranker reads histories too
    click_weights: what rows of an event type count for in the ranker's training
    rows: point-in-time rows to split instead of the dataset's, for a split within the training rows
    Raises EvaluationError where a side of the split would be empty.
    """
    tell = progress or (lambda stage: None)
    folder.mkdir(parents=True, exist_ok=True)
    if rows is None:
        tell("features of each row's moment")
        rows = folder / "rows.parquet"
        training_rows(dataset, dataset.days(), rows, weights=weights, limits=limits)
    table = pq.read_table(rows)
    later = _last_of_users(table) if split == "leave-last-out" else _later(table, evaluate_share)
    if not later.any() or later.all():
        raise EvaluationError(
            f"of {len(later)} interactions {int(later.sum())} would be evaluated on and the others trained on; "
            + ("each user has one" if split == "leave-last-out" else "they all have the same moment")
        )
    train, judged_rows = table.filter(pa.array(~later)), table.filter(pa.array(later))
    train_file, rows_file = folder / "train.parquet", folder / "evaluate.parquet"
    pq.write_table(train, train_file)
    pq.write_table(judged_rows, rows_file)
    tell("transforms")
    catalog, users = dataset.items(), dataset.users()
    users = users.filter(pc.is_in(users.column("user_id"), pc.unique(train.column("user_id"))))
    user = UserTransform.fit(users, pc.unique(catalog.column("category_l1")).to_pylist())
    item = ItemTransform.fit(catalog, pc.unique(train.column("item_id")))
    context = ContextTransform.fit(train.select(["device_type"]))
    encoded = content()
    items = ItemTable.build(catalog, item, encoded.image, encoded.text)
    tell("training set")
    masking = Masking(seed, mask_share, mask_share)
    histories = histories_of_rows(train_file, dataset, items.item_ids) if query == "session" else None
    encoded_rows = TrainingSet.build(
        train_file, user, context, items, histories=histories, masking=masking, weights=click_weights
    )
    learned, judged = _judged(encoded_rows, seed)
    return Prepared(
        dataset,
        split,
        query,
        _days(train),
        _days(judged_rows),
        train_file,
        rows_file,
        user,
        item,
        context,
        items,
        encoded,
        learned,
        judged,
        click_weights,
    )


def train(
    prepared: Prepared,
    parameters: Parameters,
    *,
    towers: TwoTower | None = None,
    seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> Trained:
    """Train both models, the two towers only where none are given, and build the index."""
    tell = progress or (lambda stage: None)
    reports: dict[str, TrainingReport] = {}
    if towers is None:
        tell("two-tower")
        towers, reports["two_tower"] = train_towers(prepared, parameters, seed=seed, threads=threads)
    tell("index")
    retrieval = retrieval_of(prepared, towers, seed)
    tell("DLRM")
    p, training = prepared, parameters.dlrm
    network = replace(dlrm_config(p.query, p.user, p.item, p.context), **parameters.dlrm_network)
    if not parameters.dlrm_epochs:
        training = replace(training, loop=_enough(training.loop, len(p.learned), DLRM_ROWS, DLRM_AT_MOST))
    alone = replace(training, calibrate=False)  # what is calibrated is the sum, below
    dlrm, report = train_dlrm(p.learned, p.judged, p.items, network, alone, seed=seed, threads=threads)
    reports["dlrm"] = replace(report, calibration=stack(dlrm, towers, p.learned, p.judged, p.items, training, seed))
    return Trained(retrieval, Ranker(p.user, p.context, p.items, dlrm), towers, reports)


def train_towers(
    prepared: Prepared, parameters: Parameters, *, seed: int, threads: int
) -> tuple[TwoTower, TrainingReport]:
    """The two towers alone."""
    p, training = prepared, parameters.two_tower
    network = replace(two_tower_config(p.query, p.user, p.item, p.context), **parameters.two_tower_network)
    if not parameters.two_tower_epochs:
        loop = _enough(training.loop, len(p.learned), TWO_TOWER_ROWS, TWO_TOWER_AT_MOST)
        training = replace(training, loop=loop)
    return train_two_tower(p.learned, p.judged, p.items, network, training, seed=seed, threads=threads)


def retrieval_of(prepared: Prepared, towers: TwoTower, seed: int) -> Retrieval:
    """The retrieval stage of these towers."""
    items = prepared.items
    vectors = towers.candidate.predict(items.categorical, items.continuous, items.image, items.text)
    index, _ = build_index(vectors, source=towers.candidate.fingerprint(), seed=seed)
    return Retrieval(prepared.user, towers.query, index, items.item_ids, prepared.context, vectors)


def _enough(loop: LoopConfig, rows: int, wanted: int, at_most: int) -> LoopConfig:
    """The loop with as many epochs as bring the rows met to what is wanted, and an end at `at_most` rows where it has
    none."""
    return replace(loop.meeting(rows, wanted), rows_at_most=loop.rows_at_most or at_most)


def _later(table: pa.Table, share: float) -> NDArray[np.bool_]:
    """The rows from the day on with which the last `share` of them begins; where that would leave less than half or
    more than twice of it (few days), from that very second on."""
    moments = table.column("timestamp").to_numpy()
    cut = int(np.quantile(moments, 1 - share, method="higher"))
    start_of_day = cut - cut % 86_400
    later: NDArray[np.bool_] = moments >= start_of_day
    if not share / 2 <= later.mean() <= 2 * share:
        later = moments >= cut
    return later


def _last_of_users(table: pa.Table) -> NDArray[np.bool_]:
    """The last row of each user who has two or more; rows come in order of time."""
    user = table.column("user_id").combine_chunks().dictionary_encode()
    user = user.chunk(0) if isinstance(user, pa.ChunkedArray) else user
    codes = user.indices.to_numpy(zero_copy_only=False)
    backwards = codes[::-1]
    _, first = np.unique(backwards, return_index=True)
    last = len(codes) - 1 - first
    counts = np.bincount(codes)
    later = np.zeros(len(codes), bool)
    later[last[counts[codes[last]] > 1]] = True
    return later


def _judged(rows: TrainingSet, seed: int) -> tuple[TrainingSet, TrainingSet]:
    """Rows to learn from, and to judge epochs by: what a seeded half of the users did in the latest JUDGED_SHARE.

    As `validation.hold_out` does for a last day; a day of a sparse data set may hold a handful of rows. Whole users,
    because rows of one visit resemble each other.
    """
    order = np.argsort(rows.timestamp, kind="stable")
    late = order[len(order) - int(len(order) * JUDGED_SHARE) :]
    users = rows.user.categorical[late, USER_CATEGORICAL.index("user_id")]
    rng = np.random.default_rng(seed)
    chosen = rng.random(int(users.max(initial=OOV)) + 1) < 0.5
    alone = rng.random(len(late)) < 0.5  # rows without a known user: nothing of them can be learned by heart
    judged = np.sort(late[np.where(users == OOV, alone, chosen[users])])
    learned = np.ones(len(rows), bool)
    learned[judged] = False
    return rows.take(np.flatnonzero(learned)), rows.take(judged)


def _days(table: pa.Table) -> list[dt.date]:
    numbers = np.unique(table.column("timestamp").to_numpy() // 86_400)
    return [dt.date(1970, 1, 1) + dt.timedelta(days=int(number)) for number in numbers]
