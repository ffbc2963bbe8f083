"""The OpenAPI document as a snapshot, so that a change of the contract is seen in review."""

import json
from pathlib import Path

from api.a1111.errors import PREFIXES
from tests.api.paper import SNAPSHOT, paper_document, write_snapshot


def test_the_contract_is_the_one_that_was_reviewed() -> None:
    found = json.loads(SNAPSHOT.read_text())
    assert paper_document() == found, "if this change is meant: python -m tests.api.paper"


def test_the_snapshot_is_written_as_it_is_read(tmp_path: Path) -> None:
    written = tmp_path / "openapi.json"
    write_snapshot(written)
    assert written.read_text() == SNAPSHOT.read_text()


def test_every_error_is_documented_in_the_form_of_its_dialect() -> None:
    error = {"$ref": "#/components/schemas/OpenAIErrorBody"}
    for path, operations in paper_document()["paths"].items():
        form = "application/json" if path.startswith(PREFIXES) else "application/problem+json"
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) < 400:
                    continue
                if path.startswith("/v1/"):
                    assert answer["content"] == {"application/json": {"schema": error}}
                else:
                    assert list(answer["content"]) == [form]


def test_every_reference_leads_somewhere() -> None:
    document = paper_document()
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= names


def test_every_operation_and_its_parameters_are_described() -> None:
    for path in paper_document()["paths"].values():
        for operation in path.values():
            assert operation["description"]
            assert operation["tags"]


def references(node: object) -> set[str]:
    """Every `$ref` in a document."""
    match node:
        case dict():
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        case list():
            return set[str]().union(*map(references, node))
    return set()
