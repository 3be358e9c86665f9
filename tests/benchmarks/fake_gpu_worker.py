"""A worker of benchmarks/gpu that measures nothing: a part's name says what it does.

It appends a line to the file that is its argument when it starts.
"""

import json
import os
import sys
import time
from pathlib import Path


def answer(content: dict[str, object]) -> None:
    print(json.dumps(content), flush=True)


with Path(sys.argv[1]).open("a") as log:
    log.write(f"{os.getpid()}\n")
answer({"ready": 0.0, "missing": ["absent"]})
for line in sys.stdin:
    asked = json.loads(line)
    match asked.get("part"):
        case None:
            answer({"card": "a card"})
        case "crashes":
            os._exit(3)
        case "hangs":
            time.sleep(600)
        case "fails":
            answer({"failed": "ValueError: a reason"})
            break
        case name:
            answer({"ok": True, "by": os.getpid(), "name": name})
