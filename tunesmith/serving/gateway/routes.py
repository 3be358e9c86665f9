"""The versions that are served at one address, each chosen by a request's `model`."""

from collections.abc import Sequence
from typing import TypedDict

from tunesmith.serving.gateway.proxy import AvailableReport, Proxy, UnavailableReport, Upstream
from tunesmith.serving.gateway.refusals import RefusalError


class Model(TypedDict):
    """A model in the answer of /v1/models."""

    id: str
    object: str
    created: int
    owned_by: str


class Routes:
    """The proxies of all served versions; the first also answers to the plain name of the registered model."""

    def __init__(self, proxies: Sequence[Proxy]) -> None:
        self.proxies, self.first = proxies, proxies[0]

    def acquire(self, model: str | None) -> Upstream:
        """Return the engine for a request's `model`, with one more request in flight; without a name, the first one.

        Raises RefusalError where nothing that is served has the name, or the engine is not up.
        """
        while True:
            proxy = self.find(model)
            if upstream := proxy.acquire(model or proxy.name):
                return upstream
            if proxy.current is None:
                raise RefusalError(503, proxy.unavailable_reason)
            # The proxy switched to another version, and so to another name, between the two calls.

    def find(self, model: str | None) -> Proxy:
        """Return the proxy of a name. Raises RefusalError where nothing that is served has it."""
        if model is None or model == self.first.name:
            return self.first
        for proxy in self.proxies:
            if model in proxy.names():
                return proxy
        names = dict.fromkeys([self.first.name, *(name for proxy in self.proxies for name in proxy.names())])
        raise RefusalError(404, f"no model {model!r} is served here, but {', '.join(names)}", "model_not_found")

    def upstreams(self) -> list[Upstream]:
        """Return the current engines, one for each name that is up."""
        return [proxy.current for proxy in self.proxies if proxy.current]

    def health(self) -> dict[str, object]:
        """Return the content of /health: that of the first, and of each alias where there are several."""
        report: AvailableReport | UnavailableReport = self.first.health()
        if len(self.proxies) == 1:
            return {**report}
        return {**report, "aliases": {proxy.label: proxy.health() for proxy in self.proxies}}

    def models(self) -> list[Model]:
        """Return the models of /v1/models: the registered name, and each alias where there are several.

        Raises RefusalError where none is up.
        """
        if not self.upstreams():
            raise RefusalError(503, self.first.unavailable_reason)
        named = {proxy.label: proxy.current for proxy in self.proxies} if len(self.proxies) > 1 else {}
        shown = {self.first.name: self.first.current, **named}
        return [
            {"id": name, "object": "model", "created": int(current.since.timestamp()), "owned_by": "tunesmith"}
            for name, current in shown.items()
            if current
        ]
