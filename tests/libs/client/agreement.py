"""Where the client and a gateway's OpenAPI document disagree, in sentences; none is what the tests want."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_type_hints

from pydantic import BaseModel, TypeAdapter

from cascade.client import AsyncClient, Client, Event
from cascade.client.operations import OPERATIONS, Operation

_SCHEMA = "#/components/schemas/{model}"
_MEDIA = {str: "text/plain", Event: "text/event-stream"}
PATH = "path"


def disagreements(document: dict[str, Any]) -> list[str]:
    """All of them."""
    promised = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    known = {(one.method, one.path): name for name, one in OPERATIONS.items()}
    found = [f"{key} has no method" for key in promised.keys() - known.keys()]
    found += [f"{known[key]}: the gateway has no {key}" for key in known.keys() - promised.keys()]
    for key in promised.keys() & known.keys():
        name = known[key]
        found += [f"{name}: {fault}" for fault in _faults(name, OPERATIONS[name], promised[key], document)]
    return found


def _faults(name: str, operation: Operation[Any], promised: dict[str, Any], document: dict[str, Any]) -> Iterator[str]:
    for client in (Client, AsyncClient):
        yield from _signature_faults(getattr(client, name), promised)
    good = [status for status in promised["responses"] if status.startswith("2")]
    if good != [str(operation.status)]:
        yield f"{good} where the client expects {operation.status}"
        return
    content = promised["responses"][good[0]]["content"]
    if operation.answer in _MEDIA:
        # The client names what it takes; a gateway may offer more (metrics in OpenMetrics' form).
        if _MEDIA[operation.answer] not in [media.split(";")[0] for media in content]:
            yield f"answers {list(content)}"
    else:
        yield from _message_faults(operation.answer, content["application/json"]["schema"], document, "serialization")
    sent = promised.get("requestBody")
    if (sent is None) != (operation.body is None):
        yield f"body: {sent} and {operation.body}"
    elif sent is not None and operation.body is not None:
        yield from _message_faults(
            operation.body, sent["content"]["application/json"]["schema"], document, "validation"
        )


def _message_faults(
    message: type[BaseModel], schema: dict[str, Any], document: dict[str, Any], mode: Any
) -> Iterator[str]:
    """Whether the document's schema, and all that it refers to, is the message's own."""
    if schema != {"$ref": _SCHEMA.format(model=message.__name__)}:
        yield f"{schema} where the client has {message.__name__}"
        return
    own = message.model_json_schema(ref_template=_SCHEMA, mode=mode)
    parts = {**own.pop("$defs", {}), message.__name__: own}
    for name, part in parts.items():
        if document["components"]["schemas"].get(name) != _as_written(part):
            yield f"{name} differs"


def _as_written(schema: Any) -> Any:
    """As FastAPI writes schemas: a default of null goes without saying, and bounds are floats."""
    if isinstance(schema, list):
        return [_as_written(one) for one in schema]
    if isinstance(schema, dict):
        return {name: _as_written(one) for name, one in schema.items() if not (name == "default" and one is None)}
    return float(schema) if isinstance(schema, int) and not isinstance(schema, bool) else schema


def _signature_faults(method: Any, promised: dict[str, Any]) -> Iterator[str]:
    """Whether its parameters are those of path and query, with the same defaults and types."""
    signature, hints = inspect.signature(method), get_type_hints(method)
    parameters = {one["name"]: one for one in promised.get("parameters", [])}
    own = {name: one for name, one in signature.parameters.items() if name not in ("self", "request", "tracks")}
    if "requestBody" in promised and "request" not in signature.parameters:
        own = {name: one for name, one in own.items() if name in parameters}  # the others become the body
    if own.keys() != parameters.keys():
        yield f"{method.__qualname__} takes {sorted(own)}, the gateway {sorted(parameters)}"
        return
    for name, one in own.items():
        schema = parameters[name]["schema"]
        default = None if one.default is inspect.Parameter.empty else one.default
        if (one.default is inspect.Parameter.empty) != parameters[name]["required"]:
            yield f"{name}: required by one of them alone"
        if schema.get("default") != default:
            yield f"{name}: {default!r} by default, at the gateway {schema.get('default')!r}"
        if _types(TypeAdapter(hints[name]).json_schema()) != _types(schema):
            yield f"{name}: {hints[name]}, at the gateway {schema}"
        if (parameters[name]["in"] == PATH) != (one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD):
            yield f"{name}: ids are given by place, all else by name"


def _types(schema: dict[str, Any]) -> set[str]:
    return {one["type"] for one in schema.get("anyOf", [schema])}
