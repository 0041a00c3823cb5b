"""The page of a report: every number is the report's, nothing comes from elsewhere, nothing hostile gets out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from cascade.evaluation_page import CatalogMap, render
from cascade.evaluation_page.catalog_map import Point
from cascade.training.report import (
    Ablation,
    Comparison,
    Curves,
    EvaluationReport,
    EvaluationRow,
    Exposure,
    RecallCurve,
    Reliability,
)

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"
CASCADE, TWO_TOWER = "two-tower + DLRM", "two-tower"


def row(model: str, name: str, value: float, **more: float) -> EvaluationRow:
    metrics = {"recall@10": value, "recall@300": value + 0.3, "ndcg@10": value / 2, **more}
    return EvaluationRow(model, name, 1234, metrics, {"recall@10": (value - 0.01, value + 0.02)})


@pytest.fixture
def content() -> dict[str, Any]:
    """What `cascade evaluate --json` prints."""
    slices = ("all", "mobile", f"category {HOSTILE}")
    rows = [
        row(model, name, value + at / 100, **({"calibration_error": 0.0217} if model == CASCADE else {}))
        for at, name in enumerate(slices)
        for model, value in (("popularity", 0.111), (TWO_TOWER, 0.222), (CASCADE, 0.333))
    ]
    report = EvaluationReport(
        tuple(rows),
        {"train_days": ["2026-01-05", "2026-01-06"], "eval_days": ["2026-01-07"], "rows": 1234, "users": 77, "seed": 5},
        (Comparison("all", "recall@10", CASCADE, "popularity", 0.111, 0.222, (0.2, 0.25)),),
        (
            Ablation("text", CASCADE, "ndcg@10", 0.1, 0.0456, (0.01, 0.09)),
            Ablation("text", TWO_TOWER, "ndcg@10", 0.1, -0.0123, None),
        ),
        Curves(
            (
                RecallCurve(CASCADE, (1, 10, 300), (0.05, 0.333, 0.633)),
                RecallCurve("popularity", (1, 10), (0.01, 0.111)),
            ),
            (Reliability(CASCADE, (0.02, 0.41), (0.03, 0.38), (3702, 3702)),),
            Exposure((1, 10, 200), (0.1, 0.3, 1.0), {CASCADE: (0.02, 0.25, 1.0), "popularity": (0.1, 1.0, 1.0)}),
        ),
    )
    about = {"versions": {"ranker": "20260106-abc"}, "folder": HOSTILE, "absent": {"items.parquet": ["gender"]}}
    return {**about, **json.loads(json.dumps(report.to_dict()))}


@pytest.fixture
def catalog() -> CatalogMap:
    points = [Point(HOSTILE, HOSTILE, 0.5, -0.25, "data:image/webp;base64,AAAA"), Point("Plain", "b", -1.0, 1.0, None)]
    return CatalogMap(points, 9, missing=("Pictures of all items.",))


class Reader(HTMLParser):
    """Elements, their attributes, and the text that is shown."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._within: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.text.append(data)

    @property
    def shown(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_every_number_is_the_reports(content: dict[str, Any], catalog: CatalogMap) -> None:
    page = Reader(render(content, catalog))
    for one in content["rows"]:
        for name, value in one["metrics"].items():
            assert f"{value:.3f}" in page.shown, (one["model"], one["slice"], name)
        low, high = one["intervals"]["recall@10"]
        assert f"{low:.3f} to {high:.3f}" in page.shown
    for text in ("1,234 of 77 users", "20260106-abc", "2026-01-05 to 2026-01-06 (2 days)", "seed 5"):
        assert text in page.shown
    assert "+0.222 +0.200 to +0.250 ahead" in page.shown
    assert "+0.046 +0.010 to +0.090" in page.shown
    assert "-0.012" in page.shown
    assert "1 0.0200 0.0300 3,702 2 0.4100 0.3800 3,702" in page.shown
    for title in (f"{CASCADE}: 10, 0.333", "popularity: 10, 0.111", f"{CASCADE}: 41 %, 38 %"):
        assert title in page.shown
    told = [attrs.get("aria-label") or "" for tag, attrs in page.elements if tag == "svg"]
    assert f"Recall against k: {CASCADE} 0.633 at 300; popularity 0.111 at 10" in told
    assert any(one.endswith(f"10 most popular items have: {CASCADE} 25 %; popularity 100 %") for one in told)


def test_the_bars_are_as_long_as_the_numbers_say(content: dict[str, Any]) -> None:
    page = render(content)
    longest = max(one["intervals"]["recall@10"][1] for one in content["rows"] if one["slice"] == "all")
    width = round(100 * 0.333 / longest, 2)
    assert re.search(rf'<rect class="bar s1" x="0.0" y="2" width="{width}"', page)


def test_nothing_comes_from_elsewhere(content: dict[str, Any], catalog: CatalogMap) -> None:
    text = render(content, catalog)
    page = Reader(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name == "style"]
        for name in ("src", "href"):
            assert (attrs.get(name) or "#").startswith(("#", "data:"))
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    for body in (
        re.search(r"<style>(.*?)</style>", text, re.DOTALL),
        re.search(r"<script>(.*?)</script>", text, re.DOTALL),
    ):
        assert body is not None
        assert base64.b64encode(hashlib.sha256(body[1].encode()).digest()).decode() in policy


def test_hostile_titles_stay_text(content: dict[str, Any], catalog: CatalogMap) -> None:
    text = render(content, catalog)
    page = Reader(text)
    assert [tag for tag, _ in page.elements if tag == "script"] == ["script", "script"]
    assert [attrs for tag, attrs in page.elements if tag == "img"] == [
        {"id": "item-picture", "alt": "", "hidden": None}
    ]
    assert f"category {HOSTILE}" in "".join(page.text)
    data = re.search(r'<script type="application/json" id="items">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    assert json.loads(data[1]) == [[HOSTILE, HOSTILE, "data:image/webp;base64,AAAA"], ["Plain", "b", None]]


def test_the_map_is_coloured_by_the_largest_categories(content: dict[str, Any]) -> None:
    points = [Point("t", f"category {number:02}", 0, 0, None) for number in range(14) for _ in range(14 - number)]
    page = render(content, CatalogMap(points, len(points)))
    assert page.count('<circle class="dot c1"') == 14 + 1
    assert page.count('<circle class="dot c10"') == 5 + 1
    assert page.count('<circle class="dot c0"') == 4 + 3 + 2 + 1 + 1
    assert ">other<" in re.sub(r"\s+", "", page).replace("</svg>other", "</svg>>other<")


def test_what_cannot_be_drawn_is_left_out_and_named(content: dict[str, Any], catalog: CatalogMap) -> None:
    whole = Reader(render(content, catalog)).shown
    assert "What needs gender: items.parquet has none." in whole
    assert "Pictures of all items." in whole
    assert "bundles hold no candidate tower" in whole

    for name in ("curves", "ablations", "comparisons"):
        del content[name]
    for one in content["rows"]:
        one["intervals"] = {}
    page = Reader(render(content))
    for sentence in (
        "Curves, calibration and popularity:",
        "Ablations: no features",
        "Leads: there is",
        "Intervals: none",
    ):
        assert sentence in page.shown
    assert not [attrs for tag, attrs in page.elements if attrs.get("id") in ("curves", "ablations", "catalog")]
    assert "0.333" in page.shown
