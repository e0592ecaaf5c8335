"""
`/swagger.json`: what a client can know of the service without asking its author.

A file of the user's (`swagger2.json`, `swagger3.json`, …, in the script's folder)
is given out as it is. Without one the document is made from the script's schema.

Source: azureml-inference-server-http; its documents are reproduced byte for byte.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelport_scoring.exchange import JSON
from modelport_scoring.script import Script, ScriptError
from modelport_scoring.settings import Settings

FILES = {"2": ("swagger.json", "swagger2.json"), "3": ("swagger3.json",), "3.1": ("swagger3.1.json",)}
"""Version → names of the user's files for it, the first one found wins."""

ALIASES = {"2.0": "2", "3.0": "3"}

ANYTHING = {"type": "object", "example": {}}
"""The schema of a script that has none."""

FAILED = "The service failed to execute due to an error."
HEALTHY = "If service is up and running, this response will be returned with the content 'Healthy'"
PROCESSED = "The service processed the input correctly and provided a result prediction, if applicable."
SPECIFICATION = "The Swagger specification."
PAYLOAD = "The input payload for executing the real-time machine learning service."


class Swagger:
    """The service's documents, made once."""

    def __init__(self, script: Script, settings: Settings) -> None:
        """
        Read the user's files, and make what they leave out.

        Raises:
            ScriptError: A file of the user's is not JSON.
        """
        self._documents: dict[str, bytes] = {}
        able = {ALIASES.get(version, version) for version in script.schema_versions}
        for version, names in FILES.items():
            document = _own(settings.app_root, names)
            if document is None and version in able:
                document = _made(version, script, settings)
            if document is not None:
                self._documents[version] = json.dumps(document).encode()

    def answer(self, version: str) -> tuple[int, bytes]:
        """Return the status and the body for this version, e.g. `"3"`."""
        document = self._documents.get(ALIASES.get(version, version))
        if document is not None:
            return 200, document
        known = version in FILES or version in ALIASES
        fault = "supported for the scoring script. Supported swagger" if known else "valid. Supported"
        message = f"Swagger version [{version}] is not {fault} versions: [{', '.join(sorted(self._documents))}]."
        return 404, json.dumps({"message": message}).encode()


def _own(folder: Path, names: tuple[str, ...]) -> Any | None:
    for name in names:
        path = folder / name
        if path.is_file():
            try:
                return json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ScriptError("UserScriptInitFailed", f"{name} beside the script is not JSON: {error}.") from error
    return None


def _made(version: str, script: Script, settings: Settings) -> dict[str, Any]:
    given, returned = script.schemas or (ANYTHING, ANYTHING)
    error = {"type": "object", "properties": {"message": {"type": "string"}}}
    typed = script.input.components(version)
    schemas = {"ServiceInput": given, "ServiceOutput": returned, "ErrorResponse": error, **typed}
    media_type = script.input.media_type
    bearer = {"type": "apiKey", "name": "Authorization", "in": "header", "description": "For example: Bearer abc123"}
    prefix = settings.path_prefix.strip("/")
    base = f"/{prefix}" if prefix else ""
    info = {
        "title": settings.service_name,
        "description": f"API specification for the Azure Machine Learning service {settings.service_name}",
        "version": settings.service_version,
    }
    if version == "2":
        return {
            "swagger": "2.0",
            "info": info,
            "schemes": ["https"],
            "consumes": ["application/json"],
            "produces": ["application/json"],
            "securityDefinitions": {"Bearer": bearer},
            "paths": _paths(_Second(), base, media_type),
            "definitions": schemas,
        }
    return {
        "openapi": "3.0.3" if version == "3" else "3.1.0",
        "info": info,
        "security": [{"Bearer": []}],
        "paths": _paths(_Third(), base, media_type),
        "components": {"schemas": schemas, "securitySchemes": {"Bearer": bearer}},
    }


class _Second:
    """How version 2 spells what both say."""

    version: dict[str, Any] = {"type": "integer", "enum": [2, 3]}

    def text(self, description: str, example: str | None = None) -> dict[str, Any]:
        examples = {"examples": {"application/json": example}} if example else {}
        return {"description": description, "schema": {"type": "string"}, **examples}

    def json(self, description: str, name: str) -> dict[str, Any]:
        return {"description": description, "schema": {"$ref": f"#/definitions/{name}"}}

    def body(self, description: str, name: str, media_type: str) -> dict[str, Any]:
        parameter = {"name": "serviceInputPayload", "in": "body", **self.json(description, name)}
        return {"parameters": [parameter], **({} if media_type == JSON else {"consumes": [media_type]})}


class _Third:
    """How version 3 spells it."""

    version: dict[str, Any] = {"schema": {"type": "integer", "enum": [2, 3]}}

    def text(self, description: str, example: str | None = None) -> dict[str, Any]:
        schema = {"type": "string", **({"example": example} if example else {})}
        return {"description": description, "content": {"text/plain": {"schema": schema}}}

    def json(self, description: str, name: str, media_type: str = JSON) -> dict[str, Any]:
        schema = {"$ref": f"#/components/schemas/{name}"}
        return {"description": description, "content": {media_type: {"schema": schema}}}

    def body(self, description: str, name: str, media_type: str) -> dict[str, Any]:
        return {"requestBody": self.json(description, name, media_type)}


def _paths(spell: _Second | _Third, base: str, media_type: str) -> dict[str, Any]:
    failed = {"default": spell.json(FAILED, "ErrorResponse")}
    return {
        f"{base}/": {
            "get": {
                "operationId": "ServiceHealthCheck",
                "description": "Simple health check endpoint to ensure the service is up at any given point.",
                "responses": {"200": spell.text(HEALTHY, "Healthy"), **failed},
            }
        },
        f"{base}/score": {
            "post": {
                "operationId": "RunMLService",
                "description": "Run web service's model and get the prediction output",
                "security": [{"Bearer": []}],
                **spell.body(PAYLOAD, "ServiceInput", media_type),
                "responses": {"200": spell.json(PROCESSED, "ServiceOutput"), **failed},
            }
        },
        f"{base}/swagger.json": {
            "get": {
                "operationId": "GetSwaggerSpec",
                "description": "Get the Swagger specification.",
                "parameters": [{"name": "version", "in": "query", "required": False, **spell.version}],
                "responses": {"200": spell.text(SPECIFICATION), **failed},
            }
        },
    }
