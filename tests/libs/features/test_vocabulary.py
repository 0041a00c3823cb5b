from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.features.errors import (
    FeatureFileCorruptedError,
    FeatureFileMissingError,
    FeatureFormatError,
    FeatureInputError,
)
from cascade.features.vocabulary import Vocabulary

# Arrow holds UTF-8, which has no lone surrogates.
words = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5))


def test_rows_are_sorted_and_start_after_oov() -> None:
    vocabulary = Vocabulary.build(["b", "a", None, "", "b"])
    assert vocabulary.values == ["a", "b"]
    assert (len(vocabulary), vocabulary.cardinality) == (2, 3)
    assert vocabulary.rows(["b", "a", None, "", "c"]).tolist() == [2, 1, 0, 0, 0]
    assert [vocabulary.row(value) for value in ("a", None, "", "c")] == [1, 0, 0, 0]
    assert "a" in vocabulary
    assert "" not in vocabulary


def test_empty_vocabulary_knows_nothing(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build([])
    assert vocabulary.cardinality == 1
    assert vocabulary.rows(["a", None]).tolist() == [0, 0]
    assert vocabulary.rows(pa.array(["a", None])).tolist() == [0, 0]
    vocabulary.save(tmp_path / "empty.parquet")
    assert Vocabulary.load(tmp_path / "empty.parquet") == vocabulary


@given(known=st.lists(words), asked=st.lists(words))
def test_every_form_of_the_same_values_gives_the_same_rows(known: list[str | None], asked: list[str | None]) -> None:
    vocabulary = Vocabulary.build(known)
    assert vocabulary == Vocabulary.build(reversed(known)) == Vocabulary.build(pa.array(known, pa.string()))
    expected = vocabulary.rows(asked)
    assert expected.dtype == np.int32
    assert expected.tolist() == [vocabulary.row(value) for value in asked]
    array = pa.array(asked, pa.string())
    forms = [
        array,
        array.cast(pa.large_string()),
        array.dictionary_encode(),
        pa.chunked_array([array[:2], array[2:]], pa.string()),
        pa.chunked_array([array[:2].dictionary_encode(), array[2:].dictionary_encode()]),
    ]
    for form in forms:
        rows = vocabulary.rows(form)
        assert rows.dtype == np.int32
        assert rows.tolist() == expected.tolist()


def test_digest_depends_on_where_values_end() -> None:
    assert Vocabulary.build(["ab", "c"]).digest != Vocabulary.build(["a", "bc"]).digest


def test_only_strings_are_taken() -> None:
    with pytest.raises(FeatureInputError, match="int64"):
        Vocabulary.build(pa.array([1, 2]))
    with pytest.raises(FeatureInputError, match="double"):
        Vocabulary.build(["a"]).rows(pa.array([1.5]))


def test_save_load_gives_the_same_vocabulary_and_leaves_nothing_beside(tmp_path: Path) -> None:
    vocabulary = Vocabulary.build(["zoë", "a\0b", "ß", "a"])
    path = tmp_path / "deep" / "v.parquet"
    vocabulary.save(path)
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert [file.name for file in path.parent.iterdir()] == ["v.parquet"]


def test_load_refuses_what_was_not_written(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    with pytest.raises(FeatureFileMissingError, match=r"v\.parquet"):
        Vocabulary.load(path)
    Vocabulary.build(["a", "b"]).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FeatureFileCorruptedError, match="not a readable Parquet file"):
        Vocabulary.load(path)
    path.write_bytes(whole)
    metadata = pq.read_schema(path).metadata
    swapped = pa.table({"value": ["b", "a"]}).replace_schema_metadata(metadata)
    pq.write_table(swapped, path)
    with pytest.raises(FeatureFileCorruptedError, match="sha256"):
        Vocabulary.load(path)
    pq.write_table(swapped.replace_schema_metadata({**metadata, b"format": b"99"}), path)
    with pytest.raises(FeatureFormatError, match="99 is newer"):
        Vocabulary.load(path)
    pq.write_table(pa.table({"value": ["a"]}), path)
    with pytest.raises(FeatureFormatError, match="expected 'vocabulary'"):
        Vocabulary.load(path)
