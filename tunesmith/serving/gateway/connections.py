"""Connections of clients, of which there are only so many: a new one takes the place of the one idle for longest."""

import asyncio
import resource

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 1024
"""Connections that are open at once."""
FILES = 4 * MOST
"""Open files that the process should be allowed: connections to engines and their files come on top."""


class Connection(H11Protocol):
    """A connection that speaks HTTP/1.1, with h11, which limits the size of headers."""

    idle_since = 0.0
    """The time of the connection, or of its last answer, in the event loop's time."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = self.loop.time()
        if len(self.connections) > MOST:
            open_ones = [other for other in self.connections if not other.transport.is_closing()]
            if len(open_ones) > MOST:
                idle = [other for other in open_ones if isinstance(other, Connection) and other.is_idle()]
                min(idle, key=lambda other: other.idle_since).transport.close()

    def is_idle(self) -> bool:
        """Return whether no request is being read or answered; a head that has not arrived whole is no request."""
        return self.cycle is None or self.cycle.response_complete

    def on_response_complete(self) -> None:
        self.idle_since = self.loop.time()
        super().on_response_complete()


def allow_files() -> None:
    """Raise this process's limit of open files to what `MOST` connections need, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
