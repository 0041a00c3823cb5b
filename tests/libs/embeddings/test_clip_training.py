from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from cascade.embeddings.clip_checkpoint import Checkpoints, TrainingState
from cascade.embeddings.clip_model import WEIGHTS_FILE, ClipShape
from cascade.embeddings.clip_training import (
    CHECKPOINT_FOLDER,
    REPORT_FILE,
    ClipReport,
    ClipSettings,
    train_clip,
)
from cascade.embeddings.errors import ClipCheckpointBroken, ClipDiverged, PictureUnreadable, TooFewPairs
from cascade.embeddings.image import ImageEncoder
from cascade.embeddings.progress import Progress

SETTINGS = ClipSettings(
    shape=ClipShape(
        image_size=32, patch_size=16, image_width=32, image_layers=2, text_width=32, text_layers=1,
        context_length=12, embed_dim=32, head_width=32,
    ),
    batch_size=32,
    held_out_share=0.2,
    learning_rate=3e-3,
)  # fmt: skip


class Interrupted(Exception):
    """Stands for a process that dies."""


def train(items: Any, out: Path, *, epochs: int = 3, progress: Progress | None = None, **more: Any) -> ClipReport:
    options = {"seed": 7, "settings": SETTINGS, "device": "cpu", **more}
    return train_clip(items.paths, items.texts, out, epochs=epochs, progress=progress, **options)


def interrupt_at(step: int) -> Progress:
    def progress(done: int, total: int) -> None:
        if done == step:
            raise Interrupted

    return progress


def same_weights(one: Path, other: Path) -> bool:
    left, right = load_file(one / WEIGHTS_FILE), load_file(other / WEIGHTS_FILE)
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def items(make_items: Callable[[int], Any]) -> Any:
    return make_items(160)


@pytest.fixture(scope="module")
def trained(items: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ClipReport]:
    out = tmp_path_factory.mktemp("trained")
    return out, train(items, out)


def test_pictures_find_their_texts(items: Any, tmp_path: Path) -> None:
    report = train(items, tmp_path, epochs=15)
    assert report.epoch_losses[-1] < 0.8 * report.epoch_losses[0]
    # 32 held-out captions: a guess finds the right one among 10 in 0.31 of all cases.
    assert report.held_out_chance == pytest.approx(10 / report.held_out_captions)
    assert report.held_out_recall > 2 * report.held_out_chance


def test_the_report_counts_what_was_done(items: Any, trained: tuple[Path, ClipReport]) -> None:
    out, report = trained
    assert (report.pairs, report.skipped, report.captions) == (160, 0, 160)
    assert report.held_out_pairs == report.held_out_captions == 32
    assert (report.epochs, report.steps) == (3, 12)
    assert len(report.step_losses) == 12
    assert len(report.epoch_losses) == 3
    assert report.resumed_from_epoch == 0
    assert json.loads((out / REPORT_FILE).read_text()) == json.loads(json.dumps(report.to_dict()))
    assert not (out / CHECKPOINT_FOLDER).exists()
    assert not list(out.glob(".*"))


def test_the_image_encoder_loads_the_result(items: Any, trained: tuple[Path, ClipReport]) -> None:
    vectors = ImageEncoder(trained[0], device="cpu").encode(items.paths[:8])
    assert vectors.shape == (8, 32)
    assert np.isfinite(vectors).all()


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    items: Any, trained: tuple[Path, ClipReport], tmp_path: Path
) -> None:
    torch.manual_seed(99)  # the global generator has no say
    again = train(items, tmp_path / "again")
    assert again.step_losses == trained[1].step_losses
    assert same_weights(tmp_path / "again", trained[0])
    train(items, tmp_path / "other", seed=8)
    assert not same_weights(tmp_path / "other", trained[0])


@pytest.mark.parametrize("step", [6, 8])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    step: int, items: Any, trained: tuple[Path, ClipReport], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(items, tmp_path, progress=interrupt_at(step))
    assert [path.name for path in (tmp_path / CHECKPOINT_FOLDER).iterdir()] == ["epoch-00001"]
    assert not list(tmp_path.glob(".*"))
    steps: list[int] = []
    report = train(items, tmp_path, progress=lambda done, total: steps.append(done))
    assert report.resumed_from_epoch == 1
    assert steps == list(range(5, 13))
    assert dataclasses.replace(report, resumed_from_epoch=0, seconds=0.0) == dataclasses.replace(
        trained[1], seconds=0.0
    )
    assert same_weights(tmp_path, trained[0])


def test_a_checkpoint_of_other_inputs_is_not_continued(
    items: Any, trained: tuple[Path, ClipReport], tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(items, tmp_path, seed=8, progress=interrupt_at(6))
    report = train(items, tmp_path)
    assert report.resumed_from_epoch == 0
    assert same_weights(tmp_path, trained[0])


def test_a_damaged_checkpoint_is_named(items: Any, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(items, tmp_path, progress=interrupt_at(6))
    (weights,) = (tmp_path / CHECKPOINT_FOLDER).glob("*/optimiser.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ClipCheckpointBroken, match=r"epoch-00001.*delete the folder"):
        train(items, tmp_path)


def test_a_checkpoint_without_its_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "epoch-00001").mkdir()
    model = torch.nn.Linear(2, 2)
    checkpoints = Checkpoints(tmp_path, "a")
    with pytest.raises(ClipCheckpointBroken, match="FileNotFoundError"):
        checkpoints.resume(model, torch.optim.AdamW(model.parameters()))


def test_no_checkpoint_is_epoch_zero(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    checkpoints = Checkpoints(tmp_path / "none", "a")
    assert checkpoints.resume(model, torch.optim.AdamW(model.parameters())) == TrainingState(0, [], [])
    checkpoints.clear()


def test_max_steps_ends_within_an_epoch(items: Any, tmp_path: Path) -> None:
    report = train(items, tmp_path, max_steps=6)
    assert (report.steps, report.epochs) == (6, 2)


def test_many_pixels_go_through_a_file(items: Any, trained: tuple[Path, ClipReport], tmp_path: Path) -> None:
    report = train(items, tmp_path, settings=dataclasses.replace(SETTINGS, in_memory=1000))
    assert report.step_losses == trained[1].step_losses
    assert not list(tmp_path.glob(".*"))


def test_items_without_a_picture_or_text_are_skipped(items: Any, tmp_path: Path) -> None:
    paths, texts = [*items.paths[:40]], [*items.texts[:40]]
    paths[3], texts[4] = None, "  "
    report = train_clip(paths, texts, tmp_path, seed=0, epochs=1, settings=SETTINGS)
    assert (report.pairs, report.skipped) == (38, 2)


def test_repeated_captions_train_too(items: Any, tmp_path: Path) -> None:
    texts = [f"{text.split()[0]} {text.split()[1]}" for text in items.texts]  # 16 captions for 160 pictures
    report = train_clip(items.paths, texts, tmp_path, seed=0, epochs=1, settings=SETTINGS)
    assert report.captions == 16
    assert report.held_out_captions < report.held_out_pairs


def test_too_few_captions_are_refused(items: Any, tmp_path: Path) -> None:
    with pytest.raises(TooFewPairs, match="2 different captions"):
        train_clip(items.paths[:9], ["one", "two", "one"] * 3, tmp_path, seed=0)
    with pytest.raises(TooFewPairs, match="0 items"):
        train_clip([None], ["one"], tmp_path, seed=0)
    with pytest.raises(ValueError, match="1 pictures and 2 texts"):
        train_clip([None], ["one", "two"], tmp_path, seed=0)


def test_an_unreadable_picture_is_named_and_nothing_is_left(items: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    with pytest.raises(PictureUnreadable, match=r"broken\.png"):
        train_clip(
            [*items.paths[:10], tmp_path / "broken.png"],
            items.texts[:11],
            tmp_path / "out",
            seed=0,
            settings=SETTINGS,
        )
    assert not list((tmp_path / "out").iterdir())


def test_a_loss_that_is_not_finite_raises(items: Any, tmp_path: Path) -> None:
    with pytest.raises(ClipDiverged, match=r"the loss is (nan|inf)"):
        train(items, tmp_path, settings=dataclasses.replace(SETTINGS, learning_rate=1e30))
    assert not (tmp_path / WEIGHTS_FILE).exists()


def test_a_loss_that_does_not_fall_raises(items: Any, tmp_path: Path) -> None:
    with pytest.raises(ClipDiverged, match="the mean loss went from"):
        train(items, tmp_path, epochs=5, settings=dataclasses.replace(SETTINGS, learning_rate=0.0))
    assert not (tmp_path / WEIGHTS_FILE).exists()
