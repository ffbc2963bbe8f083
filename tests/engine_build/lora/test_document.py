"""docs/loras.md says what is taken and what is refused as the code has it."""

from tests.engine_build.lora.document import DOCUMENT, with_tables


def test_the_tables_of_the_document_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text()
    assert text == with_tables(text), "write them with: python -m tests.engine_build.lora.document"
    assert text.count("<!-- table: ") == 5
