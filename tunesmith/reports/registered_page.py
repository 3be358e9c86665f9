"""reports/registered/comparison.html: the page of the comparison with the runs and versions of its models.

`compare` leaves an element for them, since versions exist only after `register`, and the page must exist without it.
"""

from collections.abc import Mapping
from typing import TypedDict
from urllib.parse import quote, urlsplit

from tunesmith.reports import templating

UNREGISTERED = '<script type="application/json" id="registered">null</script>'
"""The element of the page, as `compare` leaves it."""
LOCAL = "this project's own store, which `tunesmith ui` opens"


class RegisteredModel(TypedDict):
    """A registered model. An address is null where the tracking server is no web server."""

    run: str
    run_address: str | None
    version: str
    version_address: str | None


class Registered(TypedDict):
    """The registrations of a comparison's models."""

    model: str
    """The name of the registered model."""
    tracking: str
    """The address of the tracking server; of a store that is none, how to open it."""
    models: dict[str, RegisteredModel]


def registered(model: str, uri: str, experiment: str, versions: Mapping[str, tuple[str, str]]) -> Registered:
    """The registrations for a page.

    model: the name of the registered model. uri: of the tracking server. experiment: its id. versions: the run and the
    version of each model, by name.
    """
    address = _web_address(uri)

    def page(path: str) -> str | None:
        return f"{address}/#/{path}" if address else None

    return {
        "model": model,
        "tracking": address or LOCAL,
        "models": {
            name: {
                "run": run,
                "run_address": page(f"experiments/{experiment}/runs/{run}"),
                "version": version,
                "version_address": page(f"models/{quote(model, safe='')}/versions/{version}"),
            }
            for name, (run, version) in versions.items()
        },
    }


def fill(html: str, registered: Registered) -> str:
    """The page of the comparison with its registrations."""
    return html.replace(UNREGISTERED, UNREGISTERED.replace("null", templating.for_script(registered)), 1)


def _web_address(uri: str) -> str | None:
    """The address of a tracking server without the user's name and password; None where it is no web server."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
