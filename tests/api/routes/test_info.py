"""The server's answers about itself: its model, its documentation."""

from datetime import datetime

from jsonschema import Draft202012Validator

from runtime.plan.sampling.samplers import SAMPLERS
from tests.api.live import Api


def test_info_names_the_model_its_limits_and_its_engines(api: Api) -> None:
    info = api.client.get("/api/info").json()
    assert set(info) == {"model", "models", "parameters", "samplers", "loras", "engine", "version"}
    assert info["models"] == ["tiny"]
    assert info["model"]["name"] == "tiny"
    assert info["model"]["family"] == "sdxl"
    assert set(info["model"]) == {"name", "family", "source", "description", "vocabulary"}
    assert info["samplers"] == list(SAMPLERS)
    engine = info["engine"]
    facts = {"backend", "target", "device", "precision", "ready_since", "sizes", "note"}
    assert set(engine) == facts
    assert engine["backend"] == "onnxruntime-cpu"
    assert datetime.fromisoformat(engine["ready_since"]).utcoffset() is not None
    assert engine["sizes"] is None
    assert engine["note"]


def test_parameters_are_the_schema_that_requests_are_held_to(api: Api) -> None:
    schema = api.client.get("/api/info").json()["parameters"]
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    width = schema["properties"]["width"]
    for value in (width["minimum"], width["maximum"], width["minimum"] + width["multipleOf"]):
        assert validator.is_valid({"prompt": "a", "width": value})
    for value in (width["minimum"] - width["multipleOf"], width["minimum"] + 1):
        body = {"prompt": "a", "width": value}
        assert not validator.is_valid(body)
        assert api.client.post("/api/generate", json=body).status_code == 422


def test_the_documentation_shows_the_loaded_models_limits(api: Api) -> None:
    info = api.client.get("/api/info").json()
    document = api.client.get("/openapi.json").json()
    body = document["components"]["schemas"]["GenerateRequest"]
    assert body == {key: rule for key, rule in info["parameters"].items() if key != "$schema"}
    assert "swagger" in api.client.get("/docs").text.lower()


def test_every_example_of_the_documentation_is_taken(api: Api) -> None:
    document = api.client.get("/openapi.json").json()
    content = document["paths"]["/api/generate"]["post"]["requestBody"]["content"]
    examples = content["application/json"]["examples"].values()
    assert examples
    for example in examples:
        api.submit(**{**example["value"], "steps": 1})
    api.cancel_all()


def test_what_is_not_there_is_a_problem(api: Api) -> None:
    for path in ("/index.html", "/api", "/api/generate/", "/api/nothing", "/api/images/"):
        answer = api.client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 404


def test_a_method_that_is_not_possible_is_told_those_that_are(api: Api) -> None:
    for method, path, allowed in (
        ("PUT", "/api/generate", "POST"),
        ("GET", "/api/generate", "POST"),
        ("POST", "/api/images/a.png", "GET, HEAD, DELETE"),
        ("PATCH", "/api/jobs/a", "GET, HEAD, DELETE"),
        ("POST", "/api/sse/gallery", "GET, HEAD"),
    ):
        answer = api.client.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
        assert answer.headers["content-type"] == "application/problem+json"
