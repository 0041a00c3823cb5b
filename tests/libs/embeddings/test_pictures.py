from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cascade.embeddings.clip_model import ClipShape, create_clip
from cascade.embeddings.errors import PictureTooLarge, PictureUnreadable
from cascade.embeddings.pictures import Preprocess, decode_all, open_picture
from cascade.embeddings.third_party import import_open_clip

TINY = ClipShape(
    image_size=32, image_width=32, image_layers=1, text_width=32, text_layers=1, embed_dim=16, head_width=32
)


@pytest.fixture(scope="module")
def model() -> Any:
    return create_clip(TINY.open_clip_config(), seed=0)


def test_modes_become_rgb_and_transparency_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png")
    Image.new("P", (4, 4), 0).save(tmp_path / "palette.gif")
    assert open_picture(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(tmp_path / "grey.png").getpixel((0, 0)) == (7, 7, 7)
    assert open_picture(tmp_path / "palette.gif").mode == "RGB"


def test_a_picture_turned_by_its_camera_is_turned_back(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (4, 8)


def test_a_large_jpeg_is_decoded_small(tmp_path: Path) -> None:
    Image.new("RGB", (640, 640), (9, 99, 199)).save(tmp_path / "large.jpg")
    small = open_picture(tmp_path / "large.jpg", at_least=64)
    assert small.size == (80, 80)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (100, 100)).save(path)
    with pytest.raises(PictureTooLarge, match=r"large\.png.*100 x 100.*9,999"):
        open_picture(path, max_pixels=9_999)
    assert open_picture(path, max_pixels=10_000).size == (100, 100)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.bmp"
    Image.new("1", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[18:26] = (60_000).to_bytes(4, "little") * 2  # the header claims 60,000 x 60,000
    path.write_bytes(content)
    with pytest.raises(PictureTooLarge, match=r"bomb\.bmp"):
        open_picture(path)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_picture_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "item.png"
    path.write_bytes(content)
    with pytest.raises(PictureUnreadable, match=r"item\.png.*PNG, JPEG"):
        open_picture(path)


def test_a_cut_off_or_missing_picture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(PictureUnreadable, match=r"cut\.png"):
        open_picture(path)
    with pytest.raises(PictureUnreadable, match=r"missing\.png"):
        open_picture(tmp_path / "missing.png")


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (20, 90)])
def test_decoding_and_normalising_equal_open_clips_own_preprocessing(
    size: tuple[int, int], model: Any, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    Image.effect_noise(size, 80).convert("RGB").save(path)
    open_clip = import_open_clip()
    declared = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    expected = open_clip.transform.image_transform_v2(declared, is_train=False)(Image.open(path))
    preprocess = Preprocess.of(model)
    found = preprocess.normalise(preprocess.decode(path)[None], torch.device("cpu"))[0]
    torch.testing.assert_close(found, expected)


def test_the_whole_product_stays_in_the_picture(model: Any, tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("RGB", (64, 16), (200, 0, 0)).save(path)
    pixels = Preprocess.of(model).decode(path)
    assert pixels.shape == (32, 32, 3)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[16, 0].tolist() == pixels[16, 31].tolist() == [200, 0, 0]


def test_pictures_come_in_order_from_memory_or_a_file(
    make_items: Callable[[int], Any], model: Any, tmp_path: Path
) -> None:
    paths = make_items(10).paths
    preprocess = Preprocess.of(model)
    expected = np.stack([preprocess.decode(path) for path in paths])
    calls: list[tuple[int, int]] = []
    np.testing.assert_array_equal(
        decode_all(paths, preprocess, progress=lambda done, total: calls.append((done, total))), expected
    )
    assert calls[-1] == (10, 10)
    mapped = decode_all(paths, preprocess, into=tmp_path / "pixels.npy")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, expected)
    assert [len(batch) for batch in preprocess.decode_batches(paths, 4)] == [4, 4, 2]
    assert list(preprocess.decode_batches([], 4)) == []
