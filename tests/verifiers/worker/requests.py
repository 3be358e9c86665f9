"""What a worker of the tests runs: Python expressions."""

import os
import time

SPACE = {"os": os, "time": time}


def prepare(request: dict[str, str]) -> None:
    eval(request.get("prepare", "None"), SPACE)


def reply(request: dict[str, str]) -> dict[str, str]:
    return {"value": str(eval(request["run"], SPACE))}
