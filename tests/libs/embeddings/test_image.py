from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.embeddings.clip_model import CONFIG_FILE, WEIGHTS_FILE, ClipShape, create_clip, save_clip
from cascade.embeddings.errors import EncoderUnavailable, PictureTooLarge, PictureUnreadable
from cascade.embeddings.image import ImageEncoder

SHAPE = ClipShape(
    image_size=32, image_width=32, image_layers=1, text_width=32, text_layers=1, embed_dim=16, head_width=32
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of random weights, in the layout that `train_clip` writes."""
    target = tmp_path_factory.mktemp("clip")
    config = SHAPE.open_clip_config()
    save_clip(create_clip(config, seed=5), config, target)
    return target


def test_pictures_become_rows_of_norm_one_and_their_absence_zeros(
    folder: Path, make_items: Callable[[int], Any]
) -> None:
    paths = make_items(6).paths
    encoder = ImageEncoder(folder, device="cpu")
    calls: list[tuple[int, int]] = []
    vectors = encoder.encode(
        [None, *paths, None], batch_size=4, progress=lambda done, total: calls.append((done, total))
    )
    assert vectors.shape == (8, encoder.dim) == (8, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[1:-1], axis=1), 1.0, atol=1e-5)
    assert not vectors[[0, -1]].any()
    assert calls == [(4, 6), (6, 6)]
    for path, vector in zip(paths, vectors[1:-1], strict=True):
        np.testing.assert_allclose(encoder.encode([path])[0], vector, atol=1e-5)


def test_no_pictures_at_all(folder: Path) -> None:
    encoder = ImageEncoder(folder, device="cpu")
    assert encoder.encode([]).shape == (0, 16)
    assert not encoder.encode([None, None]).any()


def test_saved_and_loaded_the_model_gives_the_same_bits(folder: Path, make_items: Callable[[int], Any]) -> None:
    paths = make_items(4).paths
    one, other = ImageEncoder(folder, device="cpu"), ImageEncoder(f"local-dir:{folder}", device="cpu")
    np.testing.assert_array_equal(one.encode(paths), other.encode(paths))
    assert one.fingerprint() == other.fingerprint()


def test_the_fingerprint_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    config = SHAPE.open_clip_config()
    save_clip(create_clip(config, seed=6), config, tmp_path)
    assert ImageEncoder(folder).fingerprint() != ImageEncoder(tmp_path).fingerprint()


def test_a_model_name_takes_a_file_of_weights(
    folder: Path, make_items: Callable[[int], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A built-in name stands for a large model, so a small one takes its place in open_clip's list.
    from cascade.embeddings.third_party import import_open_clip

    factory = import_open_clip().factory
    monkeypatch.setitem(factory._MODEL_CONFIGS, "tiny-clip", SHAPE.open_clip_config()["model_cfg"])
    encoder = ImageEncoder(f"tiny-clip/{folder / WEIGHTS_FILE}", device="cpu")
    assert encoder.encode(make_items(4).paths).shape == (4, 16)


@pytest.mark.parametrize("name", ["no-such-folder", "ViT-B-32", "ViT-B-32/", "ViT-B-32/no-such-tag", "no-model/tag"])
def test_what_is_neither_folder_nor_model_is_named(name: str) -> None:
    with pytest.raises(EncoderUnavailable, match=name):
        ImageEncoder(name)


def test_a_folder_of_pickled_or_no_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text((folder / CONFIG_FILE).read_text())
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(EncoderUnavailable, match="pickled"):
        ImageEncoder(tmp_path)


def test_a_folder_without_its_configuration_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes())
    with pytest.raises(EncoderUnavailable, match="config"):
        ImageEncoder(tmp_path)


def test_damaged_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_text((folder / CONFIG_FILE).read_text())
    (tmp_path / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:1000])
    with pytest.raises(EncoderUnavailable):
        ImageEncoder(tmp_path)


def test_a_picture_that_cannot_be_read_is_named(
    folder: Path, make_items: Callable[[int], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ImageEncoder(folder, device="cpu")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(PictureUnreadable, match=r"broken\.png"):
        encoder.encode([*make_items(2).paths, tmp_path / "broken.png"])
    monkeypatch.setattr("cascade.embeddings.pictures.MAX_PIXELS", 100)
    with pytest.raises(PictureTooLarge, match="48 x 48"):
        encoder.encode(make_items(2).paths)
