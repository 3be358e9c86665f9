"""`tunesmith serve`: a version behind one address; the champion is followed, and no request is lost at a change.

A new champion is fetched, checked, started and probed beside the old one before it gets a request; the old one ends
when its last request has. One that is refused leaves the old one serving, and is not tried again; what only cannot be
had for now (`troubles.TRANSIENT`) is. An engine that ended or hangs is started again from files that are checked again,
and brought again where they are no longer what they were.
"""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from tunesmith.core import params
from tunesmith.core.errors import IntegrityError, ParamsError, ServingError, SigningError, UntrustedError
from tunesmith.registry import ledger, versions
from tunesmith.registry.ledger import Chain, Entry
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings, Signing
from tunesmith.registry.tracker import Names
from tunesmith.serving import deployment, model_cache
from tunesmith.serving.deployment import Candidate, Standing
from tunesmith.serving.proxy import Proxy, listening
from tunesmith.serving.retries import TRANSIENT, Attempts, Troubles, patiently, words
from tunesmith.serving.settings import Serve

UNSETTLED = (UntrustedError, SigningError, ParamsError)
"""What adding a key to params.yaml mends, and what is met amid that."""


def run(which: str, port: int | None, host: str | None = None, wait: bool = False) -> None:
    """Serve what ``which`` names (`versions.choose`) until interrupted; an alias is followed.

    wait: for an alias that nothing has yet. Raises RegistryError, IntegrityError or ServingError where it cannot be
    served to begin with, and what may pass (`troubles.TRANSIENT`) where it lasts for `Serve.start_seconds`.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings, names = params.load(Serve, "serve"), params.load(Names, "registry")
    settings = settings.model_copy(update={"host": host or settings.host})
    proxy = Proxy(names.model, which[1:] if which.startswith("@") else None)
    signing = params.load(Settings, "signing").root
    # Engines end after the proxy, which lets open requests end.
    with ExitStack() as engines, listening(proxy, settings, settings.port if port is None else port) as url:
        try:
            registry = patiently(lambda: Registry(names.experiment), settings, Troubles(proxy, _say))
            supervisor = Supervisor(registry, names.model, proxy, settings, signing)
            engines.callback(supervisor.close)
            if wait and proxy.alias:
                supervisor.await_first(proxy.alias)
            supervisor.begin(which)
            print(
                f"{url}/v1 serves {names.model} {supervisor.standing}\n{url}/health tells; Ctrl-C ends it", flush=True
            )
            while True:
                time.sleep(settings.poll_seconds)
                supervisor.look()
        except KeyboardInterrupt:
            _say("ending, when open requests have ended")


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
        self._troubles = Troubles(proxy, self.say)
        self._starts, self._restarts = Attempts(settings.poll_seconds), Attempts(settings.poll_seconds)
        self._dead: Candidate | None = None
        """Whose engine ended or hung, and is to be started again."""
        self._next: Entry | None = None
        """The champion that was announced, and waits until it can be had."""
        self._settled: str | None = None
        """Hash of the entry whose champion serves, or was refused."""
        self._served: list[str] = []
        """Digests of what serves, last, and of what served before it."""
        self._tidied = True
        """Whether the cache was seen to since the last change."""

    def await_first(self, alias: str) -> None:
        """Return when something has been promoted to ``alias``. What may pass is waited for too.

        So is trust: the key that signed first may yet be added to `signing` in params.yaml, which each look reads.
        """
        while reason := self._lacking(alias):
            before, self.proxy.waiting = self.proxy.waiting, reason
            if reason != before:
                self.say(reason)
            time.sleep(self.settings.poll_seconds)
        self.proxy.waiting = f"the first {alias} is being started"

    def _lacking(self, alias: str) -> str | None:
        """What keeps ``alias`` from being followed, as things are."""
        try:
            self.signing = params.load(Settings, "signing").root
            head = patiently(self._head, self.settings, self._troubles)
        except UNSETTLED as error:
            return words(error)
        return None if head else f"{self.name} has no {alias} yet: `tunesmith promote MODEL` makes one"

    def begin(self, which: str) -> None:
        """Bring up what is served first. The errors are `run`'s."""
        if head := patiently(self._head, self.settings, self._troubles):
            self._settled = head.hash
            fetch = partial(self._fetch, head.version, head.digest)
        else:
            version = versions.choose(self.registry, self.name, which, self.signing)  # what is not there will not come
            fetch = partial(deployment.fetch, self.registry, self.name, version, self.signing)
        self._switch(patiently(lambda: deployment.start(fetch(), self.settings), self.settings, self._troubles))

    def look(self) -> None:
        """See to it that the champion serves: called again and again, raises nothing."""
        for step in (self._revive, self._follow, self._tidy):
            try:
                step()
                self._troubles.over(step.__name__)
            except Exception as error:  # such as a tracker that is down, or a full disk: what serves needs neither
                waits = f", version {self._next.version} waits" if self._next else ""
                self._troubles.met(step.__name__, f"still serving {self._serving}{waits}; {words(error)}")

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
            if self._next != head:
                self.say(f"new champion: version {head.version} ({head.model})")
            self._next = head
            try:
                starting = self._starts.make(
                    head.hash, lambda: deployment.start(self._fetch(head.version, head.digest), self.settings)
                )
            except TRANSIENT:
                raise  # it is tried again
            except Exception as error:  # whatever it is, it must not end what serves
                self._settled, self._next, reason = head.hash, None, words(error)
                self.proxy.failed = {"version": head.version, "reason": reason}
                self.say(f"version {head.version} cannot serve; still serving {self._serving}\n{reason}")
                return
            self._switch(starting)
            self.say(f"serving {self.standing}")
        self._settled, self._next, self.proxy.failed = head.hash, None, None

    def _revive(self) -> None:
        """Start an engine that ended by itself, or hung, again, from files that are checked again."""
        if self.standing:
            try:
                self.standing.engine.watch()
            except ServingError as error:
                self.say(str(error))
                self._dead = self.standing.candidate
                self.proxy.switch(None, f"{error.reason.partition(';')[0]}; it is started again")
                self.close()
        if self._dead:
            self._switch(self._restarts.make(self._dead.version, partial(self._restart, self._dead)))
            self.say(f"serving {self.standing} again")

    def _restart(self, dead: Candidate) -> Standing:
        try:
            dead.verify()
        except IntegrityError as error:  # such as by a training in this project, whose models/ hold what is under it
            self._dead = dead = self._fetch(dead.version, dead.digest)
            self.say(f"{error.reason}; it was fetched again")
        return deployment.start(dead, self.settings)

    def _tidy(self) -> None:
        """After a change, keep in the cache what serves, what did before, who is champion, and who a rollback needs."""
        if self._tidied or self.proxy.alias is None:
            return
        chain, alias = self._chain(), self.proxy.alias
        needed = [entry.digest for entry in (chain.head(alias), chain.rollback_target(alias)) if entry]
        removed = model_cache.prune({*self._served, *needed})
        self._tidied = True
        if removed:
            self.say(f"removed from {model_cache.folder()}: {', '.join(digest[:12] for digest in removed)}")

    def _head(self) -> Entry | None:
        return self._chain().head(self.proxy.alias) if self.proxy.alias else None

    def _chain(self) -> Chain:
        return ledger.read(self.registry, self.name, self.signing).verified(self.name)

    def _fetch(self, number: str, digest: str) -> Candidate:
        version = versions.choose(self.registry, self.name, number, self.signing)
        made = deployment.fetch(self.registry, self.name, version, self.signing)
        if made.digest != digest:
            raise versions.changed(self.name, version, f"it had digest {digest[:12]}, not {made.digest[:12]}")
        return made

    def _switch(self, to: Standing) -> None:
        """Send new requests to it; what served before ends with its last request, or when its time is up."""
        before, self.standing, self._dead = self.standing, to, None
        self.proxy.switch(to.upstream)
        if self._served[-1:] != [to.candidate.digest]:
            self._served, self._tidied = [*self._served[-1:], to.candidate.digest], False
        if before and (lost := before.drain(self.settings.drain_seconds)):
            self.say(f"{lost} requests to {before.upstream.name} were cut off (serve.drain_seconds)")

    @property
    def _serving(self) -> str:
        return str(self.standing or "nothing")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
