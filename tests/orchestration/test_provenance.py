"""A digest changes with what an asset is made of, and with nothing else."""

from __future__ import annotations

import dagster as dg
import pytest

from cascade.settings import Settings
from orchestration.provenance import Provenance, reads


def assets(code: str = "1") -> list[dg.AssetsDefinition]:
    @dg.asset(code_version="1", metadata=reads("seed"))
    def source() -> None: ...

    @dg.asset(code_version=code, deps=[source], metadata=reads("mask_share"))
    def middle() -> None: ...

    @dg.asset(code_version="1", deps=[middle])
    def end() -> None: ...

    @dg.asset(code_version="1", deps=[source])
    def beside() -> None: ...

    return [end, beside, middle, source]


def digests(settings: Settings, code: str = "1") -> dict[str, str]:
    provenance = Provenance(assets(code), settings)
    return {key.to_user_string(): provenance.digest(key) for key in provenance.ordered()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_same_settings_and_code_give_the_same_digests(settings: Settings) -> None:
    assert digests(settings) == digests(settings.model_copy())


def test_setting_changes_its_readers_and_what_is_made_of_them(settings: Settings) -> None:
    after = digests(settings.model_copy(update={"mask_share": 0.2}))

    assert changed(digests(settings), after) == {"middle", "end"}


def test_setting_that_nobody_reads_changes_nothing(settings: Settings) -> None:
    assert changed(digests(settings), digests(settings.model_copy(update={"host": "127.0.0.2"}))) == set()


def test_code_version_changes_the_asset_and_what_is_made_of_it(settings: Settings) -> None:
    assert changed(digests(settings), digests(settings, code="2")) == {"middle", "end"}


def test_inputs_come_before_what_is_made_of_them(settings: Settings) -> None:
    ordered = [key.to_user_string() for key in Provenance(assets(), settings).ordered()]

    assert ordered.index("source") < ordered.index("middle") < ordered.index("end")
    assert sorted(ordered) == ["beside", "end", "middle", "source"]


def test_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_shear"):
        reads("mask_shear")
