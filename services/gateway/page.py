"""What a person sees: a page at `/`."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from services.gateway.routes import gateway_of

router = APIRouter(include_in_schema=False)

_STYLE = """
  :root { color-scheme: light dark; }
  body { font: 1rem/1.6 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
  pre { padding: 1rem; overflow-x: auto; border: 1px solid color-mix(in srgb, currentColor 25%, transparent); }
"""
_HEADERS = {
    # This one style by its hash, and nothing else.
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cascade</title>
<style>{style}</style>
<main>
<h1>Cascade</h1>
<p>A recommender for online shops. A request passes four stages, each lighter than the next is heavy:
retrieve, filter, rank, re-rank. This is its gateway. {state}</p>
<p><a href="/docs">Interactive documentation</a> · <a href="/v1/items">items</a> ·
<a href="/v1/popular">popular</a> · <a href="/readyz">state</a> · <a href="/metrics">metrics</a></p>
<h2>Ask for a list</h2>
<pre>curl -s {base}/v1/recommendations \\
  -H 'content-type: application/json' \\
  -d '{{"user_id": "new-visitor", "device_type": "mobile", "k": 10}}'</pre>
<h2>Tell what a visitor met</h2>
<pre>curl -s {base}/v1/interactions \\
  -H 'content-type: application/json' \\
  -d '{{"user_id": "new-visitor", "item_id": "{item_id}", "event_type": "click"}}'</pre>
</main>
</html>
"""


@router.get("/")
async def index(request: Request) -> Response:
    """What this is and how to call it."""
    shop = gateway_of(request).loaded_shop()
    if shop is None:
        state, item_id = "It has no catalog yet: the models have not been built.", "ITEM"
    else:
        state, item_id = f"It serves {len(shop.catalog):,} items.", shop.catalog.first_id() or "ITEM"
    base = str(request.base_url).rstrip("/")
    return HTMLResponse(
        _PAGE.format(style=_STYLE, state=state, base=escape(base), item_id=escape(item_id)), headers=_HEADERS
    )
