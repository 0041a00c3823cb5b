from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.api.common import Context, UserFeatures
from cascade.api.retrieval import RetrieveRequest, SimilarRequest
from cascade.features.history import Histories
from cascade.features.spec import EVENT_TYPE_ROWS
from cascade.features.transforms import ContextTransform
from cascade.index.faiss_index import FaissIndex
from cascade.models.two_tower import QueryTower
from cascade.serving.errors import ModelFault, UnknownItem
from cascade.store.artifacts import RetrievalArtifacts
from cascade.store.errors import BundleCorrupt
from cascade.training.query_rows import query_vectors
from services.retrieval.engine import Query, search, warm_up

CONTEXT = Context(timestamp=1_767_600_000)


def retrieve(user_id: str = "u1", k: int = 10, **features: object) -> RetrieveRequest:
    user = UserFeatures.model_validate({"user_id": user_id, **features})
    return RetrieveRequest(user=user, context=CONTEXT, k=k)


def vectors_of(bundle: RetrievalArtifacts) -> np.ndarray:
    return np.stack([bundle.index.reconstruct(i) for i in range(bundle.index.count)])


def test_candidates_are_the_best_by_dot_product_and_features_are_encoded_as_in_training(
    bundle: RetrievalArtifacts,
) -> None:
    table = pa.table({"user_id": ["u7"], "age": [30.0], "gender": ["F"], "top_category": ["shoes"]})
    encoded = bundle.user_transform.transform(table)
    scores = vectors_of(bundle) @ bundle.query_tower.predict(encoded.categorical, encoded.continuous)[0]
    [found] = search(bundle, [retrieve("u7", 5, age=30, gender="F", top_category="shoes")])
    assert not isinstance(found, Exception)
    best = np.argsort(-scores)[:5]
    assert found[0] == [f"i{i}" for i in best]
    np.testing.assert_allclose(found[1], scores[best], rtol=1e-5)


def test_an_unknown_user_is_answered_and_top_category_alone_counts(bundle: RetrievalArtifacts) -> None:
    unknown, with_category = search(bundle, [retrieve("new"), retrieve("new", top_category="shoes")])
    assert not isinstance(unknown, Exception)
    assert not isinstance(with_category, Exception)
    assert unknown[1] != with_category[1]


def test_a_catalog_smaller_than_k_gives_all_of_it_once(bundle: RetrievalArtifacts) -> None:
    found, similar = search(bundle, [retrieve(k=1000), SimilarRequest(item_id="i3", k=1000)])
    assert not isinstance(found, Exception)
    assert not isinstance(similar, Exception)
    assert sorted(found[0]) == sorted(bundle.item_ids)
    assert sorted(similar[0]) == sorted(set(bundle.item_ids) - {"i3"})


def test_padding_never_leaves_the_service(bundle: RetrievalArtifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    def padded(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = np.full((len(queries), k), -np.inf, np.float32)
        positions = np.full((len(queries), k), -1, np.int32)
        scores[:, :2], positions[:, :2] = [2.0, 1.0], [4, 7]
        return scores, positions

    monkeypatch.setattr(bundle.index, "search", padded)
    [found] = search(bundle, [retrieve(k=10)])
    assert found == (["i4", "i7"], [2.0, 1.0])


def test_similar_items_are_the_nearest_by_cosine_without_the_item_itself(bundle: RetrievalArtifacts) -> None:
    vectors = vectors_of(bundle)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit[8]
    looked_at = [at for at in np.argsort(-(vectors @ vectors[8])) if at != 8][:16]
    best = sorted(looked_at, key=lambda at: -cosines[at])[:4]
    [found] = search(bundle, [SimilarRequest(item_id="i8", k=4)])
    assert not isinstance(found, Exception)
    assert found[0] == [f"i{i}" for i in best]
    np.testing.assert_allclose(found[1], cosines[best], atol=1e-6)


def test_what_everybody_meets_is_not_like_everything(bundle: RetrievalArtifacts) -> None:
    """The last dimension of a tower with biases is popularity: it neither brings an item up nor counts as likeness."""
    config = replace(bundle.query_tower.config, item_bias=True)
    tower = QueryTower(config).eval()
    tower.candidate_fingerprint = "tower"
    vectors = vectors_of(bundle)
    plain = vectors.copy()
    plain[:, -1] = 0
    vectors[:, -1] = np.linspace(0, 500, len(vectors))
    biased = RetrievalArtifacts(bundle.user_transform, tower, _index(vectors), bundle.item_ids)
    unbiased = RetrievalArtifacts(bundle.user_transform, tower, _index(plain), bundle.item_ids)
    asked = SimilarRequest(item_id="i8", k=4)
    assert search(biased, [asked]) == search(unbiased, [asked])


def _index(vectors: np.ndarray) -> FaissIndex:
    index = FaissIndex.flat(vectors, 1)
    index.source = "tower"
    return index


def test_one_request_at_fault_leaves_the_others_alone(bundle: RetrievalArtifacts) -> None:
    weights = bundle.query_tower.embed.state_dict()
    first = next(value for name, value in weights.items() if value.shape[0] == bundle.user_transform.cardinalities[0])
    row = bundle.user_transform.encode(["u2"], [None], [None], [None]).categorical[0, 0]
    with torch.no_grad():
        first[row] = float("nan")
    bad, unknown, good = search(bundle, [retrieve("u2"), SimilarRequest(item_id="nope"), retrieve("u3")])
    assert isinstance(bad, ModelFault)
    assert isinstance(unknown, UnknownItem)
    assert "'nope'" in str(unknown)
    assert not isinstance(good, Exception)
    assert np.isfinite(good[1]).all()


def test_a_batch_of_faults_only_needs_no_search(bundle: RetrievalArtifacts) -> None:
    assert [type(found) for found in search(bundle, [SimilarRequest(item_id="x")] * 2)] == [UnknownItem] * 2


def test_requests_of_any_kind_with_the_same_names_are_answered(bundle: RetrievalArtifacts) -> None:
    user = SimpleNamespace(user_id="u1", age=None, gender=None, top_category=None)
    likenesses = [SimpleNamespace(user=user, context=CONTEXT, k=10), SimpleNamespace(item_id="i8", k=4)]
    assert search(bundle, likenesses) == search(bundle, [retrieve("u1", 10), SimilarRequest(item_id="i8", k=4)])  # type: ignore[arg-type]


def test_warming_up_accepts_a_sound_tower(bundle: RetrievalArtifacts) -> None:
    warm_up(bundle)


def test_warming_up_refuses_a_tower_that_gives_nan(bundle: RetrievalArtifacts) -> None:
    with torch.no_grad():
        for parameter in bundle.query_tower.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ModelFault):
        warm_up(bundle)


queries: st.SearchStrategy[Query] = st.one_of(
    st.builds(
        retrieve,
        st.sampled_from(["u1", "u9", "new", "ü"]),
        st.integers(1, 60),
        age=st.none() | st.integers(0, 130),
        gender=st.sampled_from([None, "F", "x"]),
        top_category=st.sampled_from([None, "shoes", "nothing"]),
    ),
    st.builds(SimilarRequest, item_id=st.sampled_from(["i0", "i49", "gone"]), k=st.integers(1, 60)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(queries, min_size=1, max_size=8))
def test_a_batch_answers_as_each_alone_would(bundle: RetrievalArtifacts, batch: list[Query]) -> None:
    for query, together in zip(batch, search(bundle, batch), strict=True):
        [alone] = search(bundle, [query])
        if isinstance(alone, Exception):
            assert type(together) is type(alone)
        else:
            assert not isinstance(together, Exception)
            assert together[0] == alone[0]
            assert len(together[0]) == len(set(together[0])) <= query.k
            np.testing.assert_allclose(together[1], alone[1], rtol=1e-4, atol=1e-5)


def sessions_of(bundle: RetrievalArtifacts) -> RetrievalArtifacts:
    """The same with a query tower that reads the moment and the latest interactions."""
    moments = ContextTransform.fit(pa.table({"device_type": ["mobile", "desktop"]}))
    torch.manual_seed(1)
    config = replace(
        bundle.query_tower.config,
        context_cardinalities=moments.cardinalities,
        context_continuous=4,
        history_length=50,
        history_event_types=6,
    )
    tower = QueryTower(config).eval()
    tower.candidate_fingerprint = "tower"
    return replace(bundle, query_tower=tower, context_transform=moments, item_vectors=vectors_of(bundle))


def test_latest_interactions_are_read_as_in_training(bundle: RetrievalArtifacts) -> None:
    """Requests with the entries of Redis give what training's features of the same moment give."""
    bundle, now = sessions_of(bundle), CONTEXT.timestamp
    log = [
        (now - 5000, "purchase", "i3"),
        (now - 400, "wishlist", "i9"),
        (now - 60, "view", "gone"),
        (now - 7, "view", "i4"),
    ]
    recent = [f"{at}|{kind}|{item}" for at, kind, item in reversed(log)]
    histories = Histories(
        np.array([3, 9, -1, 4], np.int32),
        np.array([EVENT_TYPE_ROWS["purchase"], 0, 1, 1], np.int8),
        np.array([at for at, _, _ in log]),
        np.array([0]),
        np.array([4]),
    )
    row = pa.table({"user_id": ["u7"], "age": [30.0], "gender": ["F"], "top_category": ["shoes"]})
    assert bundle.context_transform is not None
    [query] = query_vectors(
        bundle.query_tower,
        bundle.user_transform.transform(row),
        bundle.context_transform.encode([CONTEXT.device_type], [now]),
        histories,
        np.array([now]),
        bundle.item_vectors,
    )
    scores = vectors_of(bundle) @ query
    features = {"age": 30, "gender": "F", "top_category": "shoes"}
    [found, without] = search(bundle, [retrieve("u7", 5, recent=recent, **features), retrieve("u7", 5, **features)])
    assert not isinstance(found, Exception)
    assert not isinstance(without, Exception)
    assert found[0] == [f"i{i}" for i in np.argsort(-scores)[:5]]
    np.testing.assert_allclose(found[1], np.sort(scores)[::-1][:5], rtol=1e-4)
    assert without[1] != found[1]


def test_events_of_this_very_second_count_and_damaged_entries_do_not(bundle: RetrievalArtifacts) -> None:
    bundle, now = sessions_of(bundle), CONTEXT.timestamp
    fresh, later, damaged, none = search(
        bundle,
        [
            retrieve(recent=[f"{now - 1}|view|i3"]),
            retrieve(recent=[f"{now + 90}|view|i3"]),
            retrieve(recent=["no entry", "x|view|i3"]),
            retrieve(),
        ],
    )
    assert fresh == later
    assert damaged == none
    assert fresh != none


def test_a_session_tower_without_its_parts_is_refused(bundle: RetrievalArtifacts, tmp_path: Path) -> None:
    whole = sessions_of(bundle)
    assert whole.lineage["query"] == "session"
    with pytest.raises(BundleCorrupt, match="without a context transform"):
        replace(whole, context_transform=None)
    with pytest.raises(BundleCorrupt, match="without the items' vectors"):
        replace(whole, item_vectors=None)
    with pytest.raises(BundleCorrupt, match="beside an index of 50"):
        replace(whole, item_vectors=np.zeros((3, 64), np.float32))
    whole.save(tmp_path)
    again = RetrievalArtifacts.load(tmp_path)
    asked = [retrieve(recent=[f"{CONTEXT.timestamp - 9}|view|i3"])]
    assert search(again, asked) == search(whole, asked)
