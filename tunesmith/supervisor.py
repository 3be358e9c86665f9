"""`tunesmith serve`: a version behind one address; the champion is followed, and no request is lost at a change.

A new champion is fetched, checked, started and probed beside the old one before it gets a request; the old one ends
when its last request has. One that fails any of that leaves the old one serving, and is not tried again.
"""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tunesmith import ledger, local_models, params, serving, versions
from tunesmith.errors import BusyError, RegistryError, ServingError, TunesmithError
from tunesmith.inference import Engine
from tunesmith.ledger import Entry
from tunesmith.proxy import Proxy, Upstream, listening
from tunesmith.publishing import Names
from tunesmith.registry import Registry, Version
from tunesmith.servers import Serve
from tunesmith.serving import Candidate
from tunesmith.signing import Settings, Signing


def run(which: str, port: int | None, host: str | None = None) -> None:
    """Serve what ``which`` names (`versions.choose`) until interrupted; an alias is followed.

    Raises RegistryError, IntegrityError or ServingError where it cannot be served to begin with.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings, names = params.load(Serve, "serve"), params.load(Names, "registry")
    settings = settings.model_copy(update={"host": host or settings.host})
    proxy = Proxy(names.model, which[1:] if which.startswith("@") else None)
    registry, signing = Registry(names.experiment), params.load(Settings, "signing").root
    supervisor = Supervisor(registry, names.model, proxy, settings, signing)
    with closing(supervisor), listening(proxy, settings, settings.port if port is None else port) as url:
        try:
            supervisor.begin(which)
            print(
                f"{url}/v1 serves {names.model} {supervisor.standing}\n{url}/health tells; Ctrl-C ends it", flush=True
            )
            while True:
                time.sleep(settings.poll_seconds)
                supervisor.look()
        except KeyboardInterrupt:
            _say("ending, when open requests have ended")


@dataclass(frozen=True)
class Standing:
    """A candidate that runs. until: ends its engine."""

    candidate: Candidate
    engine: Engine
    upstream: Upstream
    until: ExitStack

    def __str__(self) -> str:
        return f"{self.candidate}, by {self.engine.kind} in {self.candidate.served.dtype}"


class Supervisor:
    """What runs, and what becomes of it. For one thread, which must live as long as the engines shall."""

    def __init__(
        self,
        registry: Registry,
        name: str,
        proxy: Proxy,
        settings: Serve,
        signing: Signing,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.registry, self.name, self.proxy = registry, name, proxy
        self.settings, self.signing, self.say = settings, signing, say or _say
        self.standing: Standing | None = None
        self._dead: Candidate | None = None
        """Whose engine ended by itself, and is to be started again."""
        self._settled: str | None = None
        """Hash of the entry whose champion serves, or failed to."""
        self._told: dict[str, str] = {}
        """What each step found wrong: said once, however often it is found."""

    def begin(self, which: str) -> None:
        """Bring up what is served first. The errors are `run`'s."""
        head = self._head()
        if self.proxy.alias and head:
            self._settled = head.hash
            self._switch(self._start(self._candidate_of(head)))
        else:
            self._switch(self._start(self._candidate(versions.choose(self.registry, self.name, which, self.signing))))

    def look(self) -> None:
        """See to it that the champion serves: called again and again, raises nothing."""
        for step in (self._revive, self._follow):
            try:
                step()
                self._told.pop(step.__name__, None)
            except Exception as error:  # such as a tracker that is down, or a full disk: what serves needs neither
                reason = str(error) if isinstance(error, TunesmithError) else repr(error)
                if self._told.get(step.__name__) != (line := f"still serving {self._serving}; {reason}"):
                    self.say(line)
                self._told[step.__name__] = line

    def close(self) -> None:
        if self.standing:
            self.standing.until.close()
        self.standing = None

    def _follow(self) -> None:
        head = self._head()
        if head is None or head.hash == self._settled:
            return
        serves = self.standing and self.standing.candidate
        if not serves or (serves.version, serves.digest) != (head.version, head.digest):
            self.say(f"new champion: version {head.version} ({head.model})")
            try:
                starting = self._start(self._candidate_of(head))
            except (RegistryError, BusyError):
                raise  # to be tried again
            except Exception as error:  # whatever it is, it must not end what serves
                self._settled = head.hash
                reason = str(error) if isinstance(error, TunesmithError) else repr(error)
                self.proxy.failed = {"version": head.version, "reason": reason}
                self.say(f"version {head.version} cannot serve; still serving {self._serving}\n{reason}")
                return
            self._switch(starting)
            self.say(f"serving {self.standing}")
        self._settled, self.proxy.failed = head.hash, None

    def _revive(self) -> None:
        """Start an engine that ended by itself again, from files that are checked again."""
        if self.standing:
            try:
                self.standing.engine.check()
            except ServingError as error:
                self.say(str(error))
                self._dead = self.standing.candidate
                self.proxy.switch(None, f"{self._dead.served.name} ended by itself; it is started again")
                self.close()
        if self._dead:
            self._dead.verify()
            self._switch(self._start(self._dead))
            self.say(f"serving {self.standing} again")

    def _head(self) -> Entry | None:
        if self.proxy.alias is None:
            return None
        return ledger.read(self.registry, self.name, self.signing).sound(self.name).head(self.proxy.alias)

    def _candidate_of(self, head: Entry) -> Candidate:
        version = versions.choose(self.registry, self.name, head.version, self.signing)
        made = self._candidate(version)
        if made.digest != head.digest:
            raise versions.changed(self.name, version, f"it was promoted with digest {head.digest[:12]}")
        return made

    def _candidate(self, version: Version) -> Candidate:
        with TemporaryDirectory() as scratch:
            return serving.candidate(local_models.fetch(self.registry, self.name, version, Path(scratch), self.signing))

    def _start(self, candidate: Candidate) -> Standing:
        with ExitStack() as until:
            engine = until.enter_context(serving.proven(candidate, self.settings))
            about = {
                "version": candidate.version,
                "trained": candidate.model,
                "digest": candidate.digest,
                "engine": engine.kind,
                "dtype": candidate.served.dtype,
            }
            return Standing(candidate, engine, Upstream(engine.url, engine.name, about), until.pop_all())

    def _switch(self, to: Standing) -> None:
        """Send new requests to it; what served before ends with its last request, or when its time is up."""
        before, self.standing, self._dead = self.standing, to, None
        self.proxy.switch(to.upstream)
        if before is None:
            return
        deadline = time.monotonic() + self.settings.drain_seconds
        while before.upstream.in_flight and time.monotonic() < deadline:
            time.sleep(0.05)
        if before.upstream.in_flight:
            self.say(
                f"{before.upstream.in_flight} requests to {before.upstream.name} were cut off (serve.drain_seconds)"
            )
        before.until.close()

    @property
    def _serving(self) -> str:
        return str(self.standing or "nothing")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
