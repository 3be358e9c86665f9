"""Refusals of requests, and the checks of key, host name and content type that come before an answer."""

import hmac
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tunesmith.serving.settings import Serve

WITHHELD = "shown to requests with the API key, and in the server's log"


class RefusalError(Exception):
    """A request that gets an error instead of an answer."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> Response:
        """Return the error in OpenAI's form, which its client shows."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": None, "code": self.code}
        # A body that was not read to its end must not be read as the next request.
        headers = {"Retry-After": "1"} if self.status == 429 else {"Connection": "close"}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": error}, self.status, headers)


def check_key(request: Request, key: str | None) -> None:
    """Raise RefusalError where a request does not send the key. key: None where none is needed."""
    if key is None:
        return
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    brought = given.strip().encode("latin-1") if kind.lower() == "bearer" else b""
    if not brought:
        raise RefusalError(401, "send the API key of this server: Authorization: Bearer KEY", "missing_api_key")
    if not hmac.compare_digest(brought, key.encode()):
        raise RefusalError(401, "the API key is not the one of this server", "invalid_api_key")


def check_name(request: Request, settings: Serve) -> None:
    """Raise RefusalError where an address is asked under a name that a web page may have given it.

    A page can be given a name, and no IP address; with a key, it cannot ask anyway.
    """
    name = request.url.hostname or ""
    numeric = is_loopback(name) if is_loopback(settings.host) else is_address(name)
    if not (numeric or is_loopback(name) or name in settings.names or _needs_key(settings)):
        raise RefusalError(421, f"{name!r} is no name of this server; serve.names lists those of a proxy in front")


def check_page(request: Request, settings: Serve) -> None:
    """Raise RefusalError where a web page may be asking: it must not reach a server on its reader's machine."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusalError(415, "send Content-Type: application/json")
    check_name(request, settings)


def _needs_key(settings: Serve) -> bool:
    return settings.api_key_variable is not None and not is_loopback(settings.host)


def is_address(host: str) -> bool:
    """Return whether a host is an IP address rather than a name."""
    with suppress(ValueError):
        return bool(ip_address(host))
    return False


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address or name."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


def without_reasons(report: dict[str, Any]) -> dict[str, Any]:
    """Return the content of /health without messages, which may quote prompts, answers and logs."""
    shown: dict[str, Any] = {}
    for name, value in report.items():
        if isinstance(value, dict):
            shown[name] = without_reasons(value)
        elif name in ("reason", "retrying") and value:
            shown[name] = WITHHELD if name == "reason" else [WITHHELD]
        else:
            shown[name] = value
    return shown
