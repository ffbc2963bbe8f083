"""Names out of other people's files, as they can stand in a message of one line."""

_LONGEST = 200


def printable(name: str) -> str:
    """The same name; an escaped one where a terminal would do something else than show the name,
    and the beginning of one that is too long."""
    shown = name if name.isprintable() else repr(name)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
