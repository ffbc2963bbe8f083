"""Stands in for a part of a run: does as its first argument says, and writes its file or not."""

import json
import sys
import threading
from pathlib import Path


def main() -> None:
    what, *_, output = sys.argv[1:]
    if what != "silent":
        Path(output).write_text(json.dumps({"did": what}))
    print(f"this part is to {what}")
    if what == "fail":
        raise SystemExit("the engines\nare not there")
    if what == "hang":
        threading.Event().wait()


if __name__ == "__main__":
    main()
