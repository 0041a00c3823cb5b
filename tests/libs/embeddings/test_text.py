from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from cascade.embeddings import text as text_module
from cascade.embeddings.errors import EncoderUnavailable, WeightsRefused
from cascade.embeddings.text import DEFAULT_TEXT_ENCODER, TextEncoder, carried_model


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    """The default encoder, loaded with the network out of reach."""

    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("the carried model needs no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return TextEncoder(device="cpu")


def test_the_default_gives_384_numbers_of_norm_one(encoder: TextEncoder) -> None:
    calls: list[tuple[int, int]] = []
    vectors = encoder.encode(["a red coat", "a blue lamp"], progress=lambda done, total: calls.append((done, total)))
    assert vectors.shape == (2, encoder.dim) == (2, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert calls == [(2, 2)]


def test_meaning_is_nearer_than_words(encoder: TextEncoder) -> None:
    sofa, couch, sandal = encoder.encode(["a comfortable sofa", "a cosy couch", "comfortable sandals"])
    assert sofa @ couch > sofa @ sandal


def test_order_is_kept_and_repeats_are_equal(encoder: TextEncoder) -> None:
    texts = ["long " * 30, "short", "middle " * 8, "short", ""]
    vectors = encoder.encode(texts, batch_size=2)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_allclose(vector, encoder.encode([text])[0], atol=1e-5)
    np.testing.assert_array_equal(vectors[1], vectors[3])


def test_equal_texts_give_equal_bits(encoder: TextEncoder) -> None:
    texts = [f"item {index} " + "word " * (index % 20) for index in range(40)]
    np.testing.assert_array_equal(encoder.encode(texts), encoder.encode(texts))


def test_it_equals_sentence_transformers_own_encoding(encoder: TextEncoder) -> None:
    texts = ["a red coat of wool", "lamp", "a very long text " * 40]
    expected = encoder._model.encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-5)


def test_no_texts_give_no_rows(encoder: TextEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_threads_come_back_after_an_interrupted_run(encoder: TextEncoder) -> None:
    def interrupt(done: int, total: int) -> NoReturn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder.encode([f"text {index}" for index in range(100)], progress=interrupt)
    assert torch.get_num_threads() == 2


def test_the_fingerprint_names_weights_and_length(encoder: TextEncoder) -> None:
    folder = str(carried_model())
    same, shorter = TextEncoder(folder, device="cpu"), TextEncoder(folder, max_tokens=16, device="cpu")
    assert encoder.fingerprint() == same.fingerprint() != shorter.fingerprint()


@pytest.fixture(autouse=True)
def two_threads(one_thread: None) -> None:
    """Encoding on a CPU spreads batches over as many workers as torch has threads."""
    torch.set_num_threads(2)


def make_package(folder: Path, weights: bytes | None) -> str:
    """A package that claims to carry the model; its code must never run."""
    package = folder / "impostor"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('the carrier was imported')\n")
    if weights is not None:
        (package / "model" / "model.safetensors").write_bytes(weights)
    return package.name


def test_other_weights_than_the_pinned_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(text_module, "_CARRIER", make_package(tmp_path, b"abc"))
    with pytest.raises(WeightsRefused, match="ba7816bf") as caught:
        TextEncoder()
    assert caught.value.path == tmp_path / "impostor" / "model" / "model.safetensors"
    assert "impostor" not in sys.modules


def test_a_carrier_without_weights_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderUnavailable, match="reinstall the package impostor"):
        carried_model(make_package(tmp_path, None))


def test_without_the_carrier_the_default_is_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "_CARRIER", "no_such_package")
    assert carried_model("no_such_package") is None
    for name in (DEFAULT_TEXT_ENCODER, "sentence-transformers/all-MiniLM-L6-v2"):
        assert text_module._resolve(name) == ("sentence-transformers/all-MiniLM-L6-v2", False)
    assert text_module._resolve("intfloat/e5-small-v2") == ("intfloat/e5-small-v2", False)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailable, match="safetensors"):
        TextEncoder(str(tmp_path))
