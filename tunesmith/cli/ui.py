"""`tunesmith ui`: the MLflow UI on the registry, at the page of the project's runs."""

import os
import sys
from typing import NoReturn

from tunesmith.core.params import load
from tunesmith.registry.runs import Experiment
from tunesmith.registry.tracker import Names, artifacts_folder, tracking_uri, without_password


def run(port: int) -> None:
    """Become an MLflow server on loopback; where the registry is a server already, print its address instead."""
    uri = tracking_uri()
    page = runs_page(Experiment(load(Names, "registry").experiment))
    if uri.startswith(("http:", "https:")):
        print(f"the registry is a server already: {without_password(uri)}/{page}")
    else:
        print(f"MLflow UI on http://127.0.0.1:{port}/{page}", file=sys.stderr, flush=True)
        _become_server(uri, port)


def runs_page(experiment: Experiment) -> str:
    """Return the path of the page with the runs; MLflow's start page hides them in another part of its UI."""
    return f"#/experiments/{experiment.id}/runs?workflowType=machine_learning"


def _become_server(uri: str, port: int) -> NoReturn:
    # Server-side jobs and unpickling would let a request run code, and nothing here needs them.
    os.environ |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # not an argument: a list of processes would show its password
    server = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [*server, "--default-artifact-root", str(artifacts_folder())])
