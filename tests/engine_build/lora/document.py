"""The tables of docs/loras.md, made of the tables that files are read by.

`python -m tests.engine_build.lora.document` writes them into the document.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine_build.lora.endings import (
    ALPHA,
    BIAS,
    DORA_SCALE,
    ENDINGS,
    FORMS,
    MAGNITUDE_VECTOR,
    UP_BIAS,
    Ending,
)
from engine_build.lora.naming import name_rows
from engine_build.lora.signs import KINDS, MODELS, REFUSED
from tests.places import ROOT

DOCUMENT = ROOT / "docs" / "loras.md"

_TABLE = re.compile(
    r"(?P<begin><!-- table: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)

_MEANINGS = {
    ALPHA: "the layer's alpha",
    BIAS: "a difference of the layer's bias",
    UP_BIAS: "a difference of the layer's bias that has the layer's scale",
    DORA_SCALE: "DoRA's magnitudes, by LyCORIS' rule",
    MAGNITUDE_VECTOR: "DoRA's magnitudes, by PEFT's rule",
}

_TITLES = {
    "lora": "LoRA, LoCon",
    "loha": "LoHa",
    "lokr": "LoKr",
    "diff": "differences (LyCORIS' full and norms)",
}


def with_tables(text: str) -> str:
    """The document with every table as the code has it."""
    tables = {
        "forms": _forms,
        "endings": _endings,
        "refused": _refused,
        "models": _models,
        "names": _names,
    }
    return _TABLE.sub(
        lambda found: found["begin"] + "\n".join(tables[found["name"]]()) + "\n" + found["end"],
        text,
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join(' --- ' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


def _forms() -> Iterator[str]:
    rows = (
        (_TITLES[form], "; ".join(" ".join(sorted(factors)) for factors in FORMS[form]))
        for form in FORMS
    )
    return _table(("form", "a layer's factors, in one of these sets"), rows)


def _endings() -> Iterator[str]:
    return _table(
        ("ending of a tensor's name", "it is"), ((_code(e.spelled), _is(e)) for e in ENDINGS)
    )


def _is(ending: Ending) -> str:
    return _MEANINGS.get(ending.factor) or f"`{ending.factor}` of {_TITLES[ending.form or 'lora']}"


def _refused() -> Iterator[str]:
    reasons = dict.fromkeys((method.name, method.reason) for method in REFUSED)
    return _table(("method", "refused, since"), reasons)


def _models() -> Iterator[str]:
    models = dict.fromkeys(model for model, _ in MODELS)
    rows = [(f"a LoRA for {model}",) for model in models] + [(kind,) for kind, _ in KINDS]
    return _table(("a file that is refused is called",), rows)


def _names() -> Iterator[str]:
    rows = (
        (row.family, row.network, row.written_by, row.numbering, _code(row.example))
        for row in name_rows()
    )
    return _table(("family", "network", "written by", "numbering", "example"), rows)


def _code(text: str) -> str:
    return f"`{text}`"


def main(document: Path = DOCUMENT) -> None:
    document.write_text(with_tables(document.read_text()))


if __name__ == "__main__":
    main()
