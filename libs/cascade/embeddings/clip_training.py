"""A small CLIP, trained on a shop's own pictures and texts.

It gives a machine that cannot load pretrained weights an image encoder that knows the shop's styles and colours.
Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
arXiv:2103.00020; model, tokenizer and loss are open_clip's.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cascade.embeddings.clip_batches import Split, caption_groups, epoch_batches, split_by_caption
from cascade.embeddings.clip_checkpoint import Checkpoints, TrainingState
from cascade.embeddings.clip_model import ClipShape, create_clip, save_clip
from cascade.embeddings.device import pick_device
from cascade.embeddings.errors import ClipDiverged, TooFewPairs
from cascade.embeddings.pictures import Pixels, Preprocess, decode_all
from cascade.embeddings.progress import Progress
from cascade.embeddings.third_party import import_open_clip
from cascade.files import replacing

REPORT_FILE = "report.json"
CHECKPOINT_FOLDER = "checkpoint"
DEFAULT_EPOCHS = 6  # recall hardly rises after that, and it is half a minute on two cores

_RECALL_AT = 10
_FALL_STEPS = 20  # a loss is judged from this many steps on
_FALL_WINDOW = 0.2  # of the steps, at either end, that are compared
_FALL_LEAST = 0.02  # of the loss; less is the noise of the batches


@dataclass(frozen=True)
class ClipSettings:
    """How the small CLIP is trained."""

    shape: ClipShape = field(default_factory=ClipShape)
    batch_size: int = 128  # pairs; every other text in a batch is a negative
    learning_rate: float = 1e-3  # at its peak; a warm-up leads to it, a cosine away from it
    warmup_share: float = 0.1  # of all steps
    weight_decay: float = 0.1  # on matrices alone, not on biases, gains and the temperature
    max_norm: float = 1.0  # of the gradient
    max_logit_scale: float = 100.0  # the paper's bound on the inverse temperature
    held_out_share: float = 0.1  # of the pairs, by whole captions, to measure recall on
    max_held_out: int = 1_000
    in_memory: int = 1_000_000_000  # bytes of pixels kept in memory; more go to a memory-mapped file


@dataclass(frozen=True)
class ClipReport:
    """What a training did.

    pairs: items with both a picture and a text; skipped: items without
    captions: different texts among them, as the model reads them
    step_losses, epoch_losses: the symmetric cross-entropy of a step, and its mean over each epoch
    held_out_recall: share of held-out pictures whose own text is among the 10 nearest of all held-out texts
    held_out_chance: what guessing would give
    resumed_from_epoch: epochs taken over from a checkpoint
    seconds: of this run, decoding and tokenising included
    """

    pairs: int
    skipped: int
    captions: int
    held_out_pairs: int
    held_out_captions: int
    epochs: int
    steps: int
    step_losses: tuple[float, ...]
    epoch_losses: tuple[float, ...]
    held_out_recall: float
    held_out_chance: float
    resumed_from_epoch: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def train_clip(
    image_paths: Sequence[Path | None],
    texts: Sequence[str],
    out_dir: Path,
    *,
    seed: int,
    epochs: int = DEFAULT_EPOCHS,
    max_steps: int | None = None,
    settings: ClipSettings | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ClipReport:
    """Train on items' pictures and texts, and leave in `out_dir` a folder that `ImageEncoder` loads.

    image_paths, texts: one of each an item; items without a picture or with an empty text are skipped
    max_steps: stop after so many steps, whatever the epochs
    progress: called with the steps done and their total

    A checkpoint is written after every epoch. An interrupted call that is made again with the same pictures,
    texts, seed and settings goes on from it and gives the same weights as an uninterrupted one; with other ones it
    starts afresh. On a CPU with the same number of threads the same inputs give the same weights to the bit; on a
    GPU up to rounding.

    Raises TooFewPairs; PictureUnreadable, PictureTooLarge; ClipDiverged: the loss is not finite, or over at least
    20 steps it did not fall; ClipCheckpointBroken.
    """
    started = time.perf_counter()
    settings = settings or ClipSettings()
    if len(image_paths) != len(texts):
        raise ValueError(f"{len(image_paths)} pictures and {len(texts)} texts; expected one of each an item")
    pairs = [(path, text) for path, text in zip(image_paths, texts, strict=True) if path is not None and text.strip()]
    tokens = _tokenise([text for _, text in pairs], settings.shape.context_length)
    groups = caption_groups(tokens)
    captions = len(np.unique(groups))
    if captions < 3:
        raise TooFewPairs(len(pairs), captions)
    split = split_by_caption(groups, settings.held_out_share, settings.max_held_out, seed)

    out_dir.mkdir(parents=True, exist_ok=True)
    config = settings.shape.open_clip_config(context_length=tokens.shape[1])
    model = create_clip(config, seed)
    preprocess = Preprocess.of(model)
    with tempfile.TemporaryDirectory(prefix=".pixels.", dir=out_dir) as scratch:
        size = len(pairs) * preprocess.height * preprocess.width * 3
        into = Path(scratch) / "pixels.npy" if size > settings.in_memory else None
        pixels = decode_all([path for path, _ in pairs], preprocess, into)
        training = _Training(model, preprocess, pixels, tokens, groups, split, settings, seed, pick_device(device))
        checkpoints = Checkpoints(out_dir / CHECKPOINT_FOLDER, training.fingerprint(epochs, max_steps))
        resumed, state = training.run(epochs, max_steps, checkpoints, progress)
        recall, held_out_captions = training.held_out_recall()
        # On Windows a mapped file cannot be removed.
        del pixels, training

    report = ClipReport(
        pairs=len(pairs),
        skipped=len(texts) - len(pairs),
        captions=captions,
        held_out_pairs=len(split.held_out),
        held_out_captions=held_out_captions,
        epochs=len(state.epoch_losses),
        steps=len(state.step_losses),
        step_losses=tuple(state.step_losses),
        epoch_losses=tuple(state.epoch_losses),
        held_out_recall=recall,
        held_out_chance=min(1.0, _RECALL_AT / held_out_captions),
        resumed_from_epoch=resumed,
        seconds=time.perf_counter() - started,
    )
    save_clip(model, config, out_dir)
    with replacing(out_dir / REPORT_FILE) as temporary:
        temporary.write_text(json.dumps(report.to_dict(), indent=2) + "\n")
    checkpoints.clear()
    return report


def _tokenise(texts: list[str], context_length: int) -> NDArray[np.int64]:
    """texts [N] as token rows int64 [N, L], L no longer than the longest text needs."""
    open_clip = import_open_clip()
    different = list(dict.fromkeys(texts))
    row = {text: index for index, text in enumerate(different)}
    if not different:
        return np.zeros((0, context_length), dtype=np.int64)
    tokens: NDArray[np.int64] = open_clip.tokenize(different, context_length=context_length).numpy()
    longest = int(tokens.argmax(axis=1).max()) + 1  # a text ends with the highest token id
    return np.ascontiguousarray(tokens[:, :longest][[row[text] for text in texts]])


class _Training:
    """The loop, over pixels and tokens that are ready."""

    def __init__(
        self,
        model: torch.nn.Module,
        preprocess: Preprocess,
        pixels: Pixels,
        tokens: NDArray[np.int64],
        groups: NDArray[np.int64],
        split: Split,
        settings: ClipSettings,
        seed: int,
        device: torch.device,
    ) -> None:
        self._model: Any = model.to(device)
        self._preprocess = preprocess
        self._pixels = pixels
        self._tokens = tokens
        self._groups = groups
        self._split = split
        self._settings = settings
        self._seed = seed
        self._device = device
        self._loss = import_open_clip().ClipLoss()
        self._optimiser = _optimiser(model, settings)

    def fingerprint(self, epochs: int, max_steps: int | None) -> str:
        """Names everything that the resulting weights depend on."""
        described = [asdict(self._settings), self._seed, epochs, max_steps]
        digest = hashlib.sha256(json.dumps(described).encode())
        for array in (self._pixels, self._tokens):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def run(
        self, epochs: int, max_steps: int | None, checkpoints: Checkpoints, progress: Progress | None
    ) -> tuple[int, TrainingState]:
        """Train to the end; the epochs taken over from a checkpoint, and the losses."""
        state = checkpoints.resume(self._model, self._optimiser)
        resumed = state.epoch
        per_epoch = len(self._batches(0))
        total = epochs * per_epoch if max_steps is None else min(max_steps, epochs * per_epoch)
        self._model.train()
        while len(state.step_losses) < total:
            first = len(state.step_losses)
            for rows in self._batches(state.epoch)[: total - first]:
                step = len(state.step_losses)
                loss = self._step(rows, self._learning_rate(step, total))
                if not math.isfinite(loss):
                    raise ClipDiverged(step, f"the loss is {loss}")
                state.step_losses.append(loss)
                if progress is not None:
                    progress(len(state.step_losses), total)
            state.epoch += 1
            state.epoch_losses.append(float(np.mean(state.step_losses[first:])))
            checkpoints.save(state, self._model, self._optimiser)
        _require_fall(state.step_losses)
        return resumed, state

    def held_out_recall(self) -> tuple[float, int]:
        """Recall@10 from held-out pictures to held-out captions, and the number of those captions."""
        rows = self._split.held_out
        captions, first, own = np.unique(self._groups[rows], return_index=True, return_inverse=True)
        self._model.eval()
        with torch.inference_mode():
            texts = torch.cat(
                [self._model.encode_text(self._token_batch(part), normalize=True) for part in _parts(rows[first])]
            )  # [C, D]
            hits = 0
            for part, answers in zip(_parts(rows), _parts(own), strict=True):
                images = self._model.encode_image(self._image_batch(part), normalize=True)  # [B, D]
                nearest = (images @ texts.T).topk(min(_RECALL_AT, len(captions)), dim=1).indices  # [B, 10]
                hits += int((nearest.cpu().numpy() == answers[:, None]).any(axis=1).sum())
        return hits / len(rows), len(captions)

    def _step(self, rows: NDArray[np.int64], learning_rate: float) -> float:
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        images, texts, scale = self._model(self._image_batch(rows), self._token_batch(rows))  # [B, D], [B, D], []
        loss = self._loss(images, texts, scale)
        self._optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._settings.max_norm)
        self._optimiser.step()
        with torch.no_grad():
            self._model.logit_scale.clamp_(0.0, math.log(self._settings.max_logit_scale))
        return float(loss.detach())

    def _batches(self, epoch: int) -> list[NDArray[np.int64]]:
        return epoch_batches(self._split.train, self._groups, self._settings.batch_size, self._seed, epoch)

    def _image_batch(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return self._preprocess.normalise(self._pixels[rows], self._device)  # [B, 3, H, W]

    def _token_batch(self, rows: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self._tokens[rows]).to(self._device)  # [B, L]

    def _learning_rate(self, step: int, total: int) -> float:
        """Up in a straight line, down along a cosine; a function of the step alone, so resuming needs no state."""
        warmup = max(1, round(self._settings.warmup_share * total))
        if step < warmup:
            return self._settings.learning_rate * (step + 1) / warmup
        rest = (step - warmup) / max(1, total - warmup)
        return self._settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * rest))


def _optimiser(model: torch.nn.Module, settings: ClipSettings) -> torch.optim.Optimizer:
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": settings.weight_decay},
            {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),  # the paper's, for transformers
        eps=1e-6,
        fused=True,
    )


def _require_fall(losses: list[float]) -> None:
    if len(losses) < _FALL_STEPS:
        return
    width = round(_FALL_WINDOW * len(losses))
    before, after = float(np.mean(losses[:width])), float(np.mean(losses[-width:]))
    if after > before * (1.0 - _FALL_LEAST):
        raise ClipDiverged(len(losses), f"the mean loss went from {before:.4f} to {after:.4f}, which is no fall")


def _parts(rows: NDArray[np.int64], size: int = 256) -> list[NDArray[np.int64]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
