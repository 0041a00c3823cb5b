from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cascade.data.contract import Dataset
from cascade.data.errors import SourceUnreadable
from cascade.data.generator import Shop
from cascade.data.generator.taxonomy import COLOURS, LOOKS, MATERIALS
from cascade.data.retail_demo_store import import_retail_demo_store
from cascade.data.validation import validate

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "retail_demo_store"


def products() -> list[dict[str, Any]]:
    made = []
    for n in range(60):
        category = ("hats", "pans", "pens", "mugs")[n % 4]
        made.append(
            {
                "id": f"p{n}",
                "name": f"Retro crimson denim {category} {n}" if n < 30 else f"Thing {n}",
                "category": category,
                "style": f"{category}-{n // 4 % 2}",
                "description": "Made for every day.",
                "price": 10.0 + n,
                "image": f"p{n}.jpg",
                **({"gender_affinity": "F"} if n % 3 == 0 else {}),
            }
        )
    return made


def users() -> list[dict[str, Any]]:
    sensitivity = ("lower_priced_products", "all_discounts", "discount_indifferent")
    return [
        {
            "id": str(n),
            "age": 20 + n % 50,
            "gender": "FM"[n % 2],
            "persona": "hats_pans_pens" if n % 2 else "mugs_pens_hats",
            "discount_persona": sensitivity[n % 3],
            "email": "somebody@example.com",
        }
        for n in range(80)
    ]


def write(folder: Path, items: Any, people: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "products.yaml").write_text(yaml.safe_dump(items))
    with gzip.open(folder / "users.json.gz", "wt") as file:
        json.dump(people, file)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write(tmp_path / "source", products(), users())


def test_the_folder_is_sound_and_has_an_oracle(source: Path, tmp_path: Path) -> None:
    import_retail_demo_store(source, tmp_path / "shop", days=3, seed=4)
    assert validate(tmp_path / "shop") == []
    dataset = Dataset(tmp_path / "shop")
    assert dataset.users().column_names == ["user_id", "age", "gender"]  # and no email
    assert dataset.items().column("category_l2").to_pylist()[:2] == ["hats-0", "pans-0"]
    assert dataset.items().column("gender").to_pylist()[:2] == ["F", None]
    assert len(dataset.days()) == 3
    shop = Shop.load(tmp_path / "shop")
    chance = shop.click_probability(["1"], None, ["mobile"], [1_767_600_000], [[]])
    assert chance.shape == (1, 60)
    assert chance.sum() == pytest.approx(1, abs=1e-4)


def test_text_persona_and_discount_become_attributes_and_affinities(source: Path, tmp_path: Path) -> None:
    shop = import_retail_demo_store(source, tmp_path / "shop", days=1)
    catalog, model = shop.catalog, shop.model
    assert {tuple(COLOURS)[c] for c in catalog.colour[:30]} == {"red"}
    assert {MATERIALS[m] for m in catalog.material[:30]} == {"cotton"}
    assert {LOOKS[look].name for look in catalog.look[:30]} == {"vintage"}
    assert len(set(catalog.colour[30:].tolist())) > 1
    order = [catalog.category_names[c] for c in np.argsort(-model.affinity[1])[:3]]
    assert order == ["hats", "pans", "pens"]
    sensitivity = shop.people.price_sensitivity
    assert sensitivity[0::3].mean() > sensitivity[1::3].mean() > sensitivity[2::3].mean()


def test_the_import_is_repeatable(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        import_retail_demo_store(source, tmp_path / name, days=2, seed=3)
    one, two = Dataset(tmp_path / "one"), Dataset(tmp_path / "two")
    assert one.fingerprint() == two.fingerprint()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda items, people: items[3].pop("style"), "record 3 has no style"),
        (lambda items, people: people[2].update(persona="hats_boats_pens"), "user 2 has persona 'hats_boats_pens'"),
        (lambda items, people: people[2].update(persona="hats"), "three categories"),
        (lambda items, people: items[4].update(price="cheap"), "record 4 has price 'cheap'"),
        (lambda items, people: people[1].update(age=-1), "record 1 has age -1"),
        (lambda items, people: items[4].update(id="p3"), "id 'p3' stands more than once"),
        (lambda items, people: people.clear(), "should hold a list of records"),
    ],
)
def test_records_that_cannot_be_used_are_named(tmp_path: Path, spoil: Any, said: str) -> None:
    items, people = products(), users()
    spoil(items, people)
    folder = write(tmp_path / "source", items, people)
    with pytest.raises(SourceUnreadable, match=said):
        import_retail_demo_store(folder, tmp_path / "shop")
    assert not (tmp_path / "shop").exists()


def test_files_that_cannot_be_read_are_named(source: Path, tmp_path: Path) -> None:
    (source / "users.json.gz").write_bytes(b"not gzip")
    with pytest.raises(SourceUnreadable, match=r"users\.json\.gz cannot be read"):
        import_retail_demo_store(source, tmp_path / "shop")
    (source / "products.yaml").write_text("- [")
    with pytest.raises(SourceUnreadable, match=r"products\.yaml cannot be read"):
        import_retail_demo_store(source, tmp_path / "shop")
    (source / "products.yaml").unlink()
    with pytest.raises(SourceUnreadable, match="does not exist"):
        import_retail_demo_store(source, tmp_path / "shop")


@pytest.mark.skipif(not REAL.is_dir(), reason="no Retail Demo Store folder at ../shared/data/retail_demo_store")
def test_the_real_folder_comes_in_whole(tmp_path: Path) -> None:
    import_retail_demo_store(REAL, tmp_path / "shop", days=1)
    assert validate(tmp_path / "shop") == []
    dataset = Dataset(tmp_path / "shop")
    assert dataset.items().num_rows == 2465
    assert dataset.users().num_rows == 5250
    assert dataset.interactions().num_rows > 20_000
