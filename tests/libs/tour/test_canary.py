"""However the canary's chapter ends, the canary is aborted and what the tour made is gone."""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path

import pytest
from rich.console import Console

from cascade.settings import Settings
from cascade.store import ModelStore
from cascade.store import canary as canaries
from cascade.tour.canary import PERCENT, CanaryChapter
from cascade.tour.errors import GatewaySilent
from cascade.tour.guide import Guide


class Interrupted:
    """A gateway at whose first question something happens."""

    url = "http://gateway"

    def __init__(self, store: ModelStore, error: BaseException) -> None:
        self._store, self._error = store, error
        self.found: canaries.Canary | None = None

    def recommend(self, *_: object) -> None:
        self.found = canaries.read(self._store, "ranker")
        raise self._error


def write(store: ModelStore, content: str) -> str:
    def fill(folder: Path) -> None:
        (folder / "model.bin").write_text(content)

    return store.write("ranker", fill, training_days=[date(2026, 1, 5)]).version


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GatewaySilent("the gateway does not answer")])
def test_an_interrupted_tour_aborts_its_canary(tmp_path: Path, error: BaseException) -> None:
    settings = Settings(_env_file=None, state_dir=tmp_path)
    store = ModelStore(settings.model_store_url)
    store.set_alias("ranker", "stable", write(store, "stable"))
    other, told = write(store, "other"), io.StringIO()
    shop = Interrupted(store, error)
    guide = Guide(Console(file=told), pauses=False, yes=False)
    chapter = CanaryChapter(shop, guide, settings, store, "demo-1")  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        chapter.run()
    assert shop.found is not None
    assert (shop.found.version, shop.found.percent, shop.found.runs) == (other, PERCENT, True)
    ended = canaries.read(store, "ranker")
    assert ended is not None
    assert (ended.state, ended.reason) == ("aborted", "the tour is over")
    assert store.alias("ranker", "canary") is None
    assert other in store.versions("ranker"), "it was there before"
