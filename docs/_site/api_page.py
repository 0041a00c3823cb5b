"""The page of the API, made of the gateway's OpenAPI document when the site is built."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mkdocs.structure.files import File

from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

PAGE = "api.md"
_FIRST = ("recommendations", "visitors", "shop")
"""Tags of what a shop's pages ask; the others follow."""
_HEAD = """# The API

{description} A gateway serves this document itself, at `/openapi.json`, and as a page to try calls on at `/docs`.
Operations of the section *storefront* are there where the setting `CASCADE_GATEWAY_STOREFRONT` is on, those that
change models with a key of the scope `admin` ([security.md](security.md)). [The Python client](client.md) has a method
for each.
"""
_PROBLEMS = """
## Problems

Whatever is not answered as above is `application/problem+json`:
"""


def on_files(files: Any, *, config: Any) -> Any:
    """Adds the page."""
    files.append(File.generated(config, PAGE, content=page(document())))
    return files


def document() -> dict[str, Any]:
    """Of a gateway with all that settings can turn on. Nothing is opened: the app does not run."""
    settings = GatewaySettings(_env_file=None, storefront=True, log_level="error")
    described: dict[str, Any] = create_app(settings).openapi()
    return described


def page(api: dict[str, Any]) -> str:
    """Operations by tag, then messages."""
    lines = [_HEAD.format(description=api["info"]["description"])]
    operations = [
        (method.upper(), path, operation)
        for path, methods in api["paths"].items()
        for method, operation in methods.items()
    ]
    for tag in dict.fromkeys([*_FIRST, *(operation["tags"][0] for *_, operation in operations)]):
        lines.append(f"\n## {tag.capitalize()}\n")
        for method, path, operation in operations:
            if operation["tags"][0] == tag:
                lines += _operation(method, path, operation)
    lines.append("\n## Messages\n")
    for name, schema in sorted(api["components"]["schemas"].items()):
        lines += [f"\n### {name}\n", *_message(schema)]
    problem = next(iter(api["paths"]["/v1/items"]["get"]["responses"]["default"]["content"].values()))["schema"]
    lines += [_PROBLEMS, *_message({**problem, "description": ""})]
    return "\n".join(lines)


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {method} {path}\n"
    yield f"**{operation['summary']}.** {operation.get('description', '')}\n"
    rows = [
        (one["name"], one["in"], _type(one["schema"]), one.get("description", ""))
        for one in operation.get("parameters", [])
    ]
    if rows:
        yield "| parameter | in | type | |\n| --- | --- | --- | --- |"
        yield from (f"| `{name}` | {place} | {kind} | {said} |" for name, place, kind, said in rows)
        yield ""
    if "requestBody" in operation:
        yield f"Body: {_type(operation['requestBody']['content']['application/json']['schema'])}\n"
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            for media, content in response["content"].items():
                schema = content.get("schema", {})
                told = _type(schema) if "$ref" in schema else f"`{media}`"
                yield f"Answer {status}: {told}\n"


def _message(schema: dict[str, Any]) -> Iterator[str]:
    yield from (f"{line.strip()}\n" for line in schema.get("description", "").split("\n") if line.strip())
    if "properties" not in schema:
        return
    yield "| field | type | |\n| --- | --- | --- |"
    required = schema.get("required", [])
    for name, one in schema["properties"].items():
        said = [one.get("description", "")]
        if name in required:
            said.append("required")
        elif one.get("default") is not None:
            said.append(f"default `{one['default']}`")
        yield f"| `{name}` | {_type(one)} | {'; '.join(part for part in said if part)} |"


def _type(schema: dict[str, Any]) -> str:
    """In a few words, with a link where it is a message."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})" if schema["$ref"].startswith("#/components") else name
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " · ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"by name: {_type(schema['additionalProperties'])}"
    kind = str(schema.get("type", "anything"))
    low, high = (schema.get(name, schema.get(exclusive)) for name, exclusive in _BOUNDS)
    if low is not None or high is not None:
        return f"{kind}, {'' if low is None else f'{low:g}'} … {'' if high is None else f'{high:g}'}"
    if "maxLength" in schema:
        return f"{kind}, {schema.get('minLength', 0)} to {schema['maxLength']} characters"
    return kind


_BOUNDS = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
