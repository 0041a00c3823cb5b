"""Who is let in. A guard looks at a request's head, before anything of its body is read, on both ways to a route.

Services behind the gateway have a TokenGuard: all of their callers (the gateway, a scraper, whoever tells them to
refresh) send one shared token. The gateway has a guard of its own, which knows API keys.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Protocol

from pydantic import SecretStr
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cascade.serving.errors import NoKey, NotAuthorised, Overloaded
from cascade.serving.metrics import ServiceMetrics
from cascade.serving.problems import DEFAULT_PROBLEMS, problem_response

PROBES = frozenset({"/healthz", "/readyz"})
"""Open to everybody: the kubelet sends no token."""
LOOKS = frozenset({"/metrics", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""Open besides in the local profile."""

_BEARER = b"bearer "


class Guard(Protocol):
    """Lets a request in or raises."""

    async def check(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises NotAuthorised or Overloaded. headers: names in lower case."""


def bearer(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The token of the header `authorization: Bearer …`; None without such a header, b"" for another scheme."""
    for name, value in headers:
        if name == b"authorization":
            return value[len(_BEARER) :].strip() if value[: len(_BEARER)].lower() == _BEARER else b""
    return None


def is_token(offered: bytes | None, token: SecretStr | None) -> bool:
    """Whether it is the token, in a time that tells nothing of it. False where there is no token."""
    if offered is None or token is None:
        return False
    return hmac.compare_digest(offered, token.get_secret_value().encode())


class TokenGuard:
    """Lets in who sends the token; without a token, everybody.

    looks: whether metrics and documentation are open to everybody
    """

    def __init__(self, token: SecretStr | None, *, looks: bool) -> None:
        self._token = token
        self._open = PROBES | LOOKS if looks else PROBES

    async def check(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """See Guard."""
        if self._token is None or path in self._open:
            return
        if not is_token(bearer(headers), self._token):
            raise NoKey("This service answers the gateway alone; send its internal token.")


class Guarded:
    """ASGI: asks the guard before anything else of the app sees the request."""

    def __init__(self, app: ASGIApp, guard: Guard, metrics: ServiceMetrics) -> None:
        self.app = app
        self.guard = guard
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await refusal_of(self.guard, self.metrics, scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)


async def refusal_of(guard: Guard, metrics: ServiceMetrics, scope: Scope) -> Response | None:
    """The response to a request that is not let in; None for one that is."""
    try:
        await guard.check(scope["method"], scope["path"], scope["headers"])
    except (NotAuthorised, Overloaded) as error:
        nearest = next(one for one in type(error).__mro__ if one in DEFAULT_PROBLEMS)
        problem = DEFAULT_PROBLEMS[nearest](error)
        metrics.error(problem.kind)
        return problem_response(problem, scope)
    return None
