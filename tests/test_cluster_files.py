"""The files of deploy/cluster say what the command line and the metrics know."""

import argparse
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from api.commands import serve, worker
from api.commands.settings_flags import settings_flags
from api.metrics import Metrics
from api.settings import Settings, read_settings, variable
from runtime.jobs.facts import Counters
from tests.places import ROOT

FOLDER = ROOT / "deploy/cluster"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
COMMANDS = {"serve": serve, "worker": worker}


def containers() -> Iterator[dict[str, Any]]:
    """The containers of the pods."""
    for manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            yield from manifest["spec"]["template"]["spec"]["containers"]


def lines() -> Iterator[list[str]]:
    """The command lines of Calotype in both files."""
    for service in COMPOSE["services"].values():
        if service["image"].startswith("calotype"):
            yield shlex.split(service["command"])
    for container in containers():
        yield container["args"]


def environments() -> Iterator[dict[str, str]]:
    """The settings that are given by variables."""
    for service in COMPOSE["services"].values():
        if "environment" in service:
            yield service["environment"]
    yield from (each["data"] for each in MANIFESTS if each["kind"] == "ConfigMap")


@pytest.mark.parametrize("line", list(lines()), ids=" ".join)
@pytest.mark.parametrize("environment", list(environments()))
def test_what_is_started_there_can_be_started(
    line: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    parser = argparse.ArgumentParser()
    COMMANDS[line[0]].configure(parser)
    settings = read_settings(settings_flags(parser.parse_args(line[1:])))
    assert settings.broker is not None
    assert settings.workers == (0 if line[0] == "serve" else 1)


def test_probes_ask_what_there_is() -> None:
    contract = (ROOT / "docs/openapi.json").read_text()
    (server,) = (each for each in containers() if each["args"][0] == "serve")
    for probe in ("readinessProbe", "livenessProbe"):
        assert f'"{server[probe]["httpGet"]["path"]}": {{' in contract


def test_workers_are_scaled_by_metrics_that_there_are() -> None:
    page = Metrics().page(Counters(), ()).decode()
    (scaled,) = (each for each in MANIFESTS if each["kind"] == "ScaledObject")
    queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
    names = {name for query in queries for name in re.findall(r"calotype_\w+", query)}
    assert len(names) == 2
    assert all(f"\n{name}{{" in page for name in names)


def test_what_a_pod_mounts_is_there() -> None:
    for manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            spec = manifest["spec"]["template"]["spec"]
            mounted = {each["name"] for each in spec["containers"][0]["volumeMounts"]}
            assert mounted == {each["name"] for each in spec["volumes"]}
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in COMPOSE["volumes"]
