"""OpenAPI document: FastAPI's own, with the loaded model's limits and the types of events."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.a1111.answers import A1111Error
from api.a1111.errors import PREFIXES
from api.errors import problems
from api.gate import COOKIE, right_for
from api.openai.translation import images_schema
from api.schemas import GALLERY_EVENT, JOB_EVENT, Problem

BODY = "GenerateRequest"
IMAGES_BODY = "ImagesRequest"
JOB_EVENTS = "JobEvent"
BATCH_EVENTS = "BatchEvent"
GALLERY_EVENTS = "GalleryEvent"
TXT2IMG_BODY = "Txt2ImgRequest"
TXT2IMG_OPTIONS = "Txt2ImgSettings"

_REFERENCE = "#/components/schemas/{model}"
_VALIDATION_SCHEMAS = ("HTTPValidationError", "ValidationError")


def reference(schema: str) -> dict[str, str]:
    """A `$ref` to one of the document's schemas."""
    return {"$ref": _REFERENCE.format(model=schema)}


def openapi(
    app: FastAPI, bodies: Mapping[str, Mapping[str, Any]], *, keyed: bool
) -> dict[str, Any]:
    """The document for an app; `bodies` are the JSON Schemas of its model's requests, by their
    names. `keyed`: callers need a key.
    """
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    _drop_fastapi_errors(document)
    _drop_texts_of_streams(document)
    for name, body in bodies.items():
        schemas[name] = {key: rule for key, rule in body.items() if key != "$schema"}
    if "/v1/images/generations" in document["paths"]:
        schemas[IMAGES_BODY] = images_schema(bodies[BODY])
    schemas[Problem.__name__] = Problem.model_json_schema(ref_template=_REFERENCE)
    for name, adapter in ((JOB_EVENTS, JOB_EVENT), (GALLERY_EVENTS, GALLERY_EVENT)):
        schemas[name] = adapter.json_schema(ref_template=_REFERENCE, mode="serialization")
    job_id = {
        "type": "object",
        "required": ["job_id"],
        "properties": {"job_id": {"type": "string"}},
    }
    schemas[BATCH_EVENTS] = {"allOf": [job_id, reference(JOB_EVENTS)]}
    for schema in list(schemas.values()):
        schemas.update(schema.pop("$defs", {}))
    if keyed:
        _state_keys(document)
    _spell_errors(document)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def show_examples(document: Mapping[str, Any], examples: Mapping[str, Any]) -> None:
    """Put Example Objects into the document, as bodies of a request that may be sent at once."""
    body = document["paths"]["/api/generate"]["post"]["requestBody"]
    body["content"]["application/json"]["examples"] = examples


def _drop_fastapi_errors(document: dict[str, Any]) -> None:
    """Drop the 422 that FastAPI documents wherever there is a parameter: ours is a problem."""
    for name in _VALIDATION_SCHEMAS:
        document["components"]["schemas"].pop(name, None)
    for path in document["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in content:
                del operation["responses"]["422"]


def _drop_texts_of_streams(document: dict[str, Any]) -> None:
    """Drop FastAPI's statement that a stream is a string: its items are events."""
    for path in document["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                answer.get("content", {}).get("text/event-stream", {}).pop("schema", None)


def _spell_errors(document: dict[str, Any]) -> None:
    """Errors of AUTOMATIC1111's API have its own form (`api.error_dialect`)."""
    content = {"application/json": {"schema": reference(A1111Error.__name__)}}
    theirs = [path for path in document["paths"] if path.startswith(PREFIXES)]
    for path in theirs:
        for operation in document["paths"][path].values():
            for status, answer in operation["responses"].items():
                if int(status) >= HTTPStatus.BAD_REQUEST:
                    answer["content"] = content
    if theirs:
        document["components"]["schemas"][A1111Error.__name__] = A1111Error.model_json_schema()


def _state_keys(document: dict[str, Any]) -> None:
    """State how callers name their key, and the operations that ask for one."""
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "what `calotype keys` made"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            right = right_for(method.upper(), path)
            if right is None:
                continue
            operation["security"] = [{"key": []}, {"session": []}]
            refusals = {str(code): answer for code, answer in problems(401, 403).items()}
            operation["responses"] = {**refusals, **operation["responses"]}
            operation["x-scope"] = right.word
