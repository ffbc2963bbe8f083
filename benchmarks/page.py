"""Times the page at `/` of the demo in a browser with an empty cache, visit after visit.

    python -m benchmarks.page --turns 20

*First paint* is the browser's own first contentful paint, in which the prompt is there to be typed;
*whole* is the paint of all fields, which are made from `/api/info`; both from the begin of the
navigation. *Page* is what the page's own files take on the wire, and *all* what everything but
pictures does, heads included.
"""

import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from benchmarks.browser import NAMES, browsing, find_browser
from benchmarks.frame import (
    RESULTS,
    Figure,
    add_turn_flags,
    benchmark_parser,
    in_turns,
    keep,
    show,
)
from benchmarks.server_process import ServingError
from benchmarks.serving import Server, ServerOptions
from benchmarks.subjects import DEMO_ENGINES

UNITS = {"first paint": "ms", "whole": "ms", "page": "bytes", "all": "bytes"}
BUTTON = "#request button[type=submit]:enabled"
NOTE_WHOLE = """new MutationObserver((_, observer) => {
    if (!document.querySelector('%s')) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => window.whole = performance.now(), 0));
}).observe(document, {subtree: true, childList: true});"""
READ = """async () => {
    const painted = () => performance.getEntriesByName("first-contentful-paint")[0];
    while (!window.whole || !painted()) await new Promise(requestAnimationFrame);
    const sent = performance.getEntries().filter(({transferSize}) => transferSize !== undefined);
    const sum = (entries) => entries.reduce((total, {transferSize}) => total + transferSize, 0);
    return [
        painted().startTime,
        window.whole,
        sum(sent.filter(({name}) => !name.includes("/api/"))),
        sum(sent.filter(({name}) => !/thumbs|api.images./.test(name))),
    ];
}"""


def main() -> None:
    """Measure, print, and write the result."""
    flags = benchmark_parser(__doc__)
    add_turn_flags(flags, turns=20, warm=2)
    arguments = flags.parse_args()
    program = find_browser()
    if program is None:
        raise ServingError(f"no browser is installed: none of {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as folder:
        options = ServerOptions(DEMO_ENGINES, "demo", Path(folder), "onnxruntime-cpu")
        with Server(options) as server, browsing(program) as browser:
            address = f"{server.client.base_url}"
            taken = in_turns(
                {"page": lambda _: _visit(browser, address)}, arguments.turns, warm=arguments.warm
            )
    columns = zip(*taken["page"], strict=True)
    figures = {
        name: Figure(unit, tuple(values))
        for (name, unit), values in zip(UNITS.items(), columns, strict=True)
    }
    keep({"model": "demo"}, arguments.output or RESULTS / "page_demo.json", figures)
    show(figures)


def _visit(browser: Browser, address: str) -> list[float]:
    """The figures of one visit, in the order of UNITS."""
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(NOTE_WHOLE % BUTTON)
    page.goto(address)
    page.locator("#empty").wait_for()
    found: list[float] = page.evaluate(READ)
    context.close()
    return found


if __name__ == "__main__":
    main()
