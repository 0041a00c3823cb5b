"""What JSON leaves open, closed: a key that stands twice, numbers that are none, halves of characters.

Readers differ on both (the first value or the last; NaN or an error), so a body that holds them means one thing to
whoever checks it and another to whoever uses it. Parsers that are fast do not tell; this one reads a body once more,
3 µs for a request of a visitor.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from fastapi import Request
from fastapi.exceptions import RequestValidationError


def check(body: bytes) -> None:
    """Raise RequestValidationError on JSON that is loose: a key twice, NaN or infinity, a lone surrogate, no UTF-8.

    What is no JSON at all passes: the parser that reads it for use tells more about it.
    """
    if b"\0" in body:  # UTF-16 or UTF-32, which Python's parser would guess
        raise _refusal("it is not UTF-8")
    try:
        found = json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_number)
        if b"\\u" in body:
            json.dumps(found, ensure_ascii=False).encode()
    except _Loose as error:
        raise _refusal(str(error)) from None
    except UnicodeEncodeError:
        raise _refusal("an escape stands for half a character (a lone surrogate)") from None
    except UnicodeDecodeError as error:
        raise _refusal(f"it is not UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError):
        return


async def strict_body(request: Request) -> None:
    """A dependency of routes: `check` of the request's body, where it has one."""
    body = await request.body()
    if body:
        check(body)


class _Loose(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Loose(f"the key {twice[:50]!r} stands twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise _Loose(f"{name} is no JSON number")


def _refusal(message: str) -> RequestValidationError:
    return RequestValidationError(
        [{"type": "json_invalid", "loc": ("body",), "msg": message, "input": None, "ctx": {"error": message}}]
    )
