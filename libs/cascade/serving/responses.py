"""JSON responses by orjson."""

from __future__ import annotations

import orjson
from starlette.responses import Response


class JsonResponse(Response):
    """A body of plain dicts, lists and numbers (NumPy's too). NaN becomes null."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
