"""The client offers what the gateway's OpenAPI document promises: every operation, and its parameters and messages."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import Any

import pytest

from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings
from tests.libs.client.agreement import disagreements


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Of a gateway with all that settings can turn on."""
    settings = GatewaySettings(_env_file=None, storefront=True, log_level="error")
    return json.loads(json.dumps(create_app(settings).openapi()))


def test_the_client_is_what_the_document_promises(document: dict[str, Any]) -> None:
    assert disagreements(document) == []


def test_each_way_to_disagree_is_found(document: dict[str, Any]) -> None:
    def after(change: Any) -> str:
        other = copy.deepcopy(document)
        change(other, other["paths"])
        return " ".join(disagreements(other))

    def item_of(paths: Any) -> Any:
        return paths["/v1/items"]["get"]

    assert "has no method" in after(lambda d, p: p.update({"/v1/new": {"get": item_of(p)}}))
    assert "facets: the gateway has no" in after(lambda d, p: p.pop("/v1/facets"))
    assert "takes" in after(lambda d, p: item_of(p)["parameters"].pop())
    assert "by default" in after(lambda d, p: item_of(p)["parameters"][-1]["schema"].update(default=7))
    assert "at the gateway" in after(lambda d, p: item_of(p)["parameters"][-1]["schema"].update(type="string"))
    assert "the client expects 202" in after(
        lambda d, p: p["/v1/interactions"]["post"]["responses"].update({"200": {}})
    )
    assert "Item differs" in after(lambda d, p: d["components"]["schemas"]["Item"]["properties"].pop("title"))
    assert "live: answers" in after(
        lambda d, p: p["/v1/live"]["get"]["responses"]["200"].update(content={"application/json": {}})
    )


def test_it_imports_nothing_heavy() -> None:
    program = (
        "import sys; before = set(sys.modules); import cascade.client;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout

    assert {"cascade", "httpx", "pydantic", "tenacity"} <= set(printed.split())
    heavy = {"numpy", "pyarrow", "torch", "fastapi", "starlette", "redis", "structlog", "typer", "fsspec"}
    assert not heavy & set(printed.split())
