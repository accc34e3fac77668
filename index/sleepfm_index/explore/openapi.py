"""The HTTP interface as an OpenAPI document and as docs/http.md, from the table of endpoints."""

from __future__ import annotations

from typing import Any

from sleepfm import __version__
from sleepfm_index.explore.answers import MEDIA
from sleepfm_index.explore.endpoints import ENDPOINTS, Endpoint

_UPLOAD = "Upload a recording as the body; it is cut into clips, and encoded when queried."


def document() -> dict[str, Any]:
    """Describe the interface in OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    name = {"name": "name", "in": "query", "required": True, "schema": {"type": "string"}}
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    paths["/files"] = {
        "post": {
            "summary": _UPLOAD,
            "parameters": [
                {**name, "description": "The file name; its extension determines the format."}
            ],
            "requestBody": {"required": True, "content": content},
            "responses": {"201": {"description": "its id, clips and slots"}},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "sleepfm-index explore", "version": __version__},
        "security": [{"token": []}, {"tokenInUrl": []}],
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "tokenInUrl": {"type": "apiKey", "in": "query", "name": "token"},
            }
        },
        "paths": paths,
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "responses": {
            "200" if endpoint.method == "GET" else "201": {
                "description": "the answer",
                "content": {media.partition(";")[0]: {} for media in MEDIA.values()}
                if endpoint.method == "GET"
                else {"application/json": {}},
            },
            "400": {"description": "invalid request; see `error`"},
            "401": {"description": "the token is missing or wrong"},
        },
    }
    if endpoint.body == "json":
        properties = {p.name: {**p.schema(), "description": p.text} for p in endpoint.parameters}
        required = [p.name for p in endpoint.parameters if p.required]
        schema = {"type": "object", "properties": properties, "required": required}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
        return operation
    operation["parameters"] = [
        {
            "name": p.name,
            "in": "path" if f"{{{p.name}}}" in endpoint.path else "query",
            "required": p.required,
            "description": p.text,
            "schema": p.schema(),
        }
        for p in endpoint.parameters
    ]
    return operation


def tables() -> str:
    """Write the endpoints as Markdown for docs/http.md."""
    parts = []
    for endpoint in ENDPOINTS:
        parts.append(f"### {endpoint.method} {endpoint.path}\n\n{endpoint.summary}\n")
        if endpoint.parameters:
            lines = ["| parameter | meaning | default |", "|---|---|---|"]
            for p in endpoint.parameters:
                choices = f" One of {', '.join(p.choices)}." if p.choices else ""
                default = "required" if p.required else "" if p.default is None else f"{p.default}"
                text = f"{p.text}{choices}".replace("|", "\\|")
                lines.append(f"| `{p.name}` | {text} | {default} |")
            parts.append("\n".join(lines) + "\n")
    parts.append(f"### POST /files?name=NAME\n\n{_UPLOAD}\n")
    return "\n".join(parts)
