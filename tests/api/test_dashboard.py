"""The dashboard for Grafana asks for what a real server shows, and for all of it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import Metrics
from runtime.jobs.facts import Counters, Loads, WorkerFacts, WorkerState
from tests.api.live import Api
from tests.places import ROOT

BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/calotype.json").read_text())
OF_THE_SCRAPE = {"instance"}
"""Labels that Prometheus adds."""

_METRIC = re.compile(r"(calotype_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\bby\s*\(([^)]*)\)")

Shown = dict[str, dict[str, set[str]]]
"""By the name of a sample, the values of each of its labels."""


@dataclass(frozen=True, slots=True)
class Query:
    """An expression of a panel, and the labels in its legend."""

    panel: str
    expr: str
    legend: str

    @property
    def metrics(self) -> set[str]:
        return {name for name, _ in _METRIC.findall(self.expr)}


def queries(board: dict[str, Any]) -> list[Query]:
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    return [
        Query(panel["title"], target["expr"], target["legendFormat"])
        for panel in panels
        for target in panel["targets"]
    ]


def faults(query: Query, shown: Shown) -> Iterator[str]:
    """The parts of the expression that no server shows."""
    known = set(OF_THE_SCRAPE)
    for name, matchers in _METRIC.findall(query.expr):
        if name not in shown:
            yield f"{query.panel}: no metric {name}"
            continue
        known |= shown[name].keys()
        for label, comparison, value in _MATCHER.findall(matchers):
            if label not in {*shown[name], *OF_THE_SCRAPE}:
                yield f"{query.panel}: {name} has no label {label}"
            elif comparison == "=" and value not in shown[name][label]:
                yield f"{query.panel}: {label} of {name} is never {value}"
    grouped = {
        label.strip() for group in _GROUPING.findall(query.expr) for label in group.split(",")
    }
    for label in grouped - known:
        yield f"{query.panel}: nothing has a label {label}"
    for label in set(re.findall(r"\{\{(\w+)\}\}", query.legend)) - grouped:
        yield f"{query.panel}: the legend's {label} is summed away"


@pytest.fixture(scope="module")
def gpu_page() -> str:
    """A page with the memory of a GPU, which the servers of tests have none of, and a model that
    was loaded for a job."""
    facts = WorkerFacts(
        1,
        WorkerState.READY,
        "Imagined GPU",
        0,
        None,
        {"weights": 1},
        loads={"other": Loads(1, 2.0)},
    )
    return Metrics().page(Counters(), (facts,)).decode()


@pytest.fixture
def shown(api: Api, gpu_page: str) -> Shown:
    """The samples of a server that has drawn a picture."""
    api.draw()
    found: Shown = {}
    for page in (api.client.get("/metrics").text, gpu_page):
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                values = found.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    values.setdefault(label, set()).add(value)
    return found


def test_every_query_asks_for_what_a_server_shows(shown: Shown) -> None:
    found = queries(BOARD)
    assert len(found) > 30
    assert [fault for query in found for fault in faults(query, shown)] == []


def test_every_metric_is_in_a_panel(shown: Shown) -> None:
    asked = {_family(name) for query in queries(BOARD) for name in query.metrics}
    # When a counter began is of use to Prometheus alone.
    own = {name for name in shown if name.startswith("calotype_") and not name.endswith("_created")}
    assert {_family(name) for name in own} - asked == set()


def _family(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name)


@pytest.mark.parametrize(
    ("expr", "legend", "fault"),
    [
        ("sum(calotype_job)", "", "no metric calotype_job"),
        ('calotype_jobs{state="queued"}', "", "calotype_jobs has no label state"),
        ('calotype_jobs{status="done"}', "", "status of calotype_jobs is never done"),
        ("sum by (state) (calotype_jobs)", "", "nothing has a label state"),
        ("sum(calotype_jobs)", "{{status}}", "the legend's status is summed away"),
    ],
)
def test_a_wrong_query_is_found(expr: str, legend: str, fault: str, shown: Shown) -> None:
    assert list(faults(Query("Jobs", expr, legend), shown)) == [f"Jobs: {fault}"]


def test_every_panel_reads_the_chosen_source_and_is_explained() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in (panel for panel in BOARD["panels"] if panel["type"] != "row"):
        source = {"type": "prometheus", "uid": "${datasource}"}
        assert [panel["datasource"], *(each["datasource"] for each in panel["targets"])] == [
            source,
            *[source] * len(panel["targets"]),
        ]
        assert panel["description"].endswith(".")
        assert all('instance=~"$instance"' in each["expr"] for each in panel["targets"])
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", "instance"]
