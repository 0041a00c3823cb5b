"""The page as one string: template, style, script and data together; nothing in it names another host."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from cascade.evaluation_page import charts, sections
from cascade.evaluation_page.catalog_map import CatalogMap

_HERE = Path(__file__).parent
_COLOURS = 10
"""Categories that have a colour of their own on the map; the smaller ones share one."""


def render(content: Mapping[str, Any], catalog: CatalogMap | None = None) -> str:
    """The page of a report.

    content: the report as JSON, as `cascade evaluate` writes it, with what was evaluated beside it
    catalog: the map; None leaves it out
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["verdict"] = {"ahead": "good", "behind": "bad"}.get
    style, script = ((_HERE / name).read_text() for name in ("page.css", "page.js"))
    template = environment.from_string((_HERE / "page.html.j2").read_text())
    shown = catalog if catalog is not None and catalog.points else None
    return template.render(
        policy=(
            f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        # Ours, from this package: not to be escaped, or their hashes would not be the policy's.
        style=Markup(style),  # noqa: S704  # nosec B704
        script=Markup(script),  # noqa: S704  # nosec B704
        facts=sections.facts_of(content),
        headlines=sections.headlines_of(content),
        leads=sections.leads_of(content),
        off_policy=content.get("off_policy"),
        metric_tables=list(sections.metric_tables(content)),
        slice_tables=list(sections.slice_tables(content)),
        model_bars=sections.model_bars(content),
        slice_bars=sections.slice_bars(content),
        ablation_bars=sections.ablation_bars(content),
        recall=sections.recall_plot(content),
        reliability=sections.reliability_plot(content),
        reliability_tables=list(sections.reliability_tables(content)),
        exposure=sections.exposure_plot(content),
        catalog=shown,
        categories=_categories(shown),
        missing=[*sections.missing_of(content), *(catalog.missing if catalog else ())],
        size={name: getattr(charts, name.upper()) for name in ("width", "height", "left", "right", "top", "bottom")},
    )


def _categories(catalog: CatalogMap | None) -> dict[str, int]:
    """Category → the number of its colour: 1 the largest, 0 of those that are too many, or of none."""
    names = [point.category for point in catalog.points if point.category] if catalog else []
    by_size = sorted(set(names), key=lambda name: (-names.count(name), name))
    return {name: at if at <= _COLOURS else 0 for at, name in enumerate(by_size, start=1)}


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
