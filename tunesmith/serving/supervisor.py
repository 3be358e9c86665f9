"""`tunesmith serve`: serve a version at one address, and follow the champion without losing a request.

A new champion is fetched, verified, started and probed beside the current deployment before it gets a request; the
current one then stops after its last request. Where no second engine fits the GPU (`Serve.fit_twice`), the current one
stops first, and is started again if the champion fails. A champion that fails leaves the current deployment serving and
is not tried again, except after a transient error (`retries.TRANSIENT`). An engine that ended or hangs is restarted
from files that are verified again, or fetched again where they have changed.
"""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from tunesmith.core import params
from tunesmith.core.errors import IntegrityError, ParamsError, ServingError, SigningError, UntrustedError
from tunesmith.core.formatting import printable
from tunesmith.registry import ledger, versions
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings, Signing
from tunesmith.registry.tracker import Names
from tunesmith.registry.trust.chain import Chain, Entry
from tunesmith.serving import deployment, model_cache
from tunesmith.serving.attended import Attend, attended
from tunesmith.serving.deployment import Candidate, Deployment
from tunesmith.serving.gateway.proxy import Proxy
from tunesmith.serving.gateway.web import listening
from tunesmith.serving.retries import TRANSIENT, Backoff, TransientErrors, error_message, retry_transient
from tunesmith.serving.settings import Serve

TRUST_ERRORS = (UntrustedError, SigningError, ParamsError)
"""Errors that adding a trusted key to params.yaml resolves, or that occur while that file is being edited."""


@dataclass(frozen=True)
class Waiting:
    """No version has been started yet, or all have been stopped."""


@dataclass(frozen=True)
class Serving:
    """A version is served."""

    deployment: Deployment


@dataclass(frozen=True)
class Restarting:
    """The engine of a version ended or hung, and the version is not served until it is started again."""

    candidate: Candidate


def log_to_stderr(line: str) -> None:
    print(printable(line, lines=True), file=sys.stderr, flush=True)


def run(which: str, port: int | None, host: str | None = None, wait: bool = False) -> None:
    """Serve the version that ``which`` names (`versions.choose`) until interrupted; an alias is followed.

    wait: whether to wait for the first promotion to an alias. Raises RegistryError, IntegrityError or ServingError
    where the first version cannot be served, and an error of `retries.TRANSIENT` that lasts for `Serve.start_seconds`.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings, names = params.load(Serve, "serve"), params.load(Names, "registry")
    settings = settings.model_copy(update={"host": host or settings.host})
    proxy = Proxy(names.model, which[1:] if which.startswith("@") else None, settings.stall_seconds)
    signing = params.load(Settings, "signing").root
    # Engines stop after the proxy, which drains its requests.
    with ExitStack() as engines, listening(proxy, settings, settings.port if port is None else port) as url:
        try:
            errors = TransientErrors(proxy, log_to_stderr)
            registry = retry_transient(lambda: Registry(), settings, errors)
            supervisor = Supervisor(registry, names.model, proxy, settings, signing)
            engines.callback(supervisor.close)
            if wait and proxy.alias:
                supervisor.wait_for_first(proxy.alias)
            supervisor.start(which)
            print(
                f"{url}/v1 serves {names.model} {supervisor.deployment}\n{url}/health shows the state; Ctrl-C stops it",
                flush=True,
            )
            while True:
                time.sleep(settings.poll_seconds)
                supervisor.poll()
        except KeyboardInterrupt:
            log_to_stderr("stopping after the requests in flight")


class Supervisor:
    """Keeps one version of a registered model served. The thread that uses it must live as long as the engines."""

    def __init__(
        self,
        registry: Registry,
        name: str,
        proxy: Proxy,
        settings: Serve,
        signing: Signing,
        log: Callable[[str], None] = log_to_stderr,
    ) -> None:
        self.registry, self.name, self.proxy = registry, name, proxy
        self.settings, self.signing, self.log = settings, signing, log
        self.state: Waiting | Serving | Restarting = Waiting()
        self._errors = TransientErrors(proxy, log)
        self._start_backoff, self._restart_backoff = Backoff(settings.poll_seconds), Backoff(settings.poll_seconds)
        self._pending: Entry | None = None
        """The ledger entry of the champion that was announced, and is not served yet."""
        self._settled_hash: str | None = None
        """The hash of the ledger entry whose champion is served, or was refused."""
        self._recent_digests: list[str] = []
        """The digests of the previous deployment, if any, and of the current one."""
        self._prune_due = False
        """Whether the cache is to be pruned, because another model took over."""

    @property
    def deployment(self) -> Deployment | None:
        """The current deployment, if a version is served."""
        return self.state.deployment if isinstance(self.state, Serving) else None

    def wait_for_first(self, alias: str) -> None:
        """Wait until something has been promoted to ``alias`` by a trusted key, and the tracker can be reached.

        The trusted keys are read from params.yaml at every poll, so the key may still be added.
        """
        while reason := self._reason_to_wait(alias):
            previous, self.proxy.unavailable_reason = self.proxy.unavailable_reason, reason
            if reason != previous:
                self.log(reason)
            time.sleep(self.settings.poll_seconds)
        self.proxy.unavailable_reason = f"the first {alias} is being started"

    def _reason_to_wait(self, alias: str) -> str | None:
        try:
            self.signing = params.load(Settings, "signing").root
            head = retry_transient(self._head, self.settings, self._errors)
        except TRUST_ERRORS as error:
            return error_message(error)
        return None if head else f"{self.name} has no {alias} yet: `tunesmith promote MODEL` makes one"

    def start(self, which: str) -> None:
        """Serve the first version. Raises the errors of `run`."""
        if head := retry_transient(self._head, self.settings, self._errors):
            self._settled_hash = head.hash
            fetch = partial(self._fetch, head.version, head.digest)
        else:
            # Not retried: a version that is missing now will not appear.
            version = versions.choose(self.registry, self.name, which, self.signing)
            fetch = partial(deployment.fetch, self.registry, self.name, version, self.signing)
        first = retry_transient(lambda: deployment.start(fetch(), self.settings), self.settings, self._errors)
        self._switch(first)

    def poll(self) -> None:
        """Restart a dead engine, follow the champion, prune the cache. Raises nothing; failed steps are retried."""
        self._try("restart", self._restart_dead_engine)
        self._try("follow", self._follow_champion)
        self._try("prune", self._prune_cache)

    def _try(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # such as an unreachable tracker or a full disk, which the engine does not need
            waiting = f", version {self._pending.version} waits" if self._pending else ""
            self._errors.report(name, f"still serving {self._serving}{waiting}; {error_message(error)}")
        else:
            self._errors.resolve(name)

    def _attend(self) -> Attend | None:
        """Return what to do while a champion is brought up: keep the current engine running, if it is to stay."""
        if not isinstance(self.state, Serving):
            return None
        return partial(self._try, "restart", self._restart_dead_engine)

    def close(self) -> None:
        """Stop the engine, if one runs."""
        if isinstance(self.state, Serving):
            self.state.deployment.stop()
        self.state = Waiting()

    def _restart_dead_engine(self) -> None:
        if isinstance(self.state, Serving):
            current = self.state.deployment
            try:
                current.engine.check_health(current.upstream.silence(), self.settings.stall_seconds)
            except ServingError as error:
                self.log(str(error))
                self.proxy.switch(None, f"{error.reason.partition(';')[0]}; it is being restarted")
                self.state = Restarting(current.candidate)
                current.stop()
        if isinstance(self.state, Restarting):
            with self._restart_backoff.attempt(self.state.candidate.version):
                restarted = self._restart(self.state.candidate)
            self._switch(restarted)
            self.log(f"serving {restarted} again")

    def _restart(self, candidate: Candidate) -> Deployment:
        """Start a candidate from files that are verified again, or fetched again where they have changed."""
        try:
            candidate.verify()
        except IntegrityError as error:  # such as after a training here, which replaces the full weights in models/
            candidate = self._fetch(candidate.version, candidate.digest)
            self.state = Restarting(candidate)
            self.log(f"{error.reason}; it was fetched again")
        return deployment.start(candidate, self.settings)

    def _follow_champion(self) -> None:
        head = self._head()
        if head is None or head.hash == self._settled_hash:
            return
        current = self.deployment.candidate if self.deployment else None
        if current is None or (current.version, current.digest) != (head.version, head.digest):
            if self._pending != head:
                self.log(f"new champion: version {head.version} ({head.model})")
            self._pending = head
            try:
                with self._start_backoff.attempt(head.hash):
                    candidate = attended(lambda: self._fetch(head.version, head.digest), self._attend())
                    self._make_room(candidate)
                    champion = deployment.start(candidate, self.settings, self._attend())
            except TRANSIENT:
                raise  # retried at a later poll
            except Exception as error:  # any other failure is final, and must not end the current deployment
                reason = error_message(error)
                self._settled_hash, self._pending = head.hash, None
                self.proxy.failed = {"version": head.version, "reason": reason}
                self.log(f"version {head.version} cannot serve; still serving {self._serving}\n{reason}")
                return
            self._switch(champion)
            self.log(f"serving {champion}")
        self._settled_hash, self._pending, self.proxy.failed = head.hash, None, None

    def _make_room(self, successor: Candidate) -> None:
        """Stop the current engine where no second one fits beside it; unless another takes over, it is restarted."""
        current = self.deployment
        if current is None or current.engine.kind != "vllm" or self.settings.fit_twice:
            return
        share = f"serve.gpu_memory_share is {self.settings.gpu_memory_share:g}"
        self.log(f"stopping {current} first: {share}, so no second engine fits; requests are refused until one is up")
        self.proxy.switch(None, f"version {successor.version} is being started ({share}, so one engine at a time)")
        self.state = Restarting(current.candidate)
        self._drain(current)

    def _prune_cache(self) -> None:
        """After a switch, keep the current and the previous version, the champion, and the target of a rollback."""
        if not self._prune_due or self.proxy.alias is None:
            return
        chain, alias = self._chain(), self.proxy.alias
        needed = [entry.digest for entry in (chain.head(alias), chain.rollback_target(alias)) if entry]
        removed = model_cache.prune({*self._recent_digests, *needed})
        self._prune_due = False
        if removed:
            self.log(f"removed from {model_cache.folder()}: {', '.join(digest[:12] for digest in removed)}")

    def _head(self) -> Entry | None:
        """Return the ledger entry of the champion, if an alias is followed and something was promoted to it."""
        return self._chain().head(self.proxy.alias) if self.proxy.alias else None

    def _chain(self) -> Chain:
        return ledger.read(self.registry, self.name, self.signing).verified(self.name)

    def _fetch(self, number: str, digest: str) -> Candidate:
        version = versions.choose(self.registry, self.name, number, self.signing)
        candidate = deployment.fetch(self.registry, self.name, version, self.signing)
        if candidate.digest != digest:
            raise versions.changed(self.name, version, f"it had digest {digest[:12]}, not {candidate.digest[:12]}")
        return candidate

    def _switch(self, successor: Deployment) -> None:
        """Send new requests to ``successor``, and drain the previous deployment for up to `Serve.drain_seconds`."""
        previous, self.state = self.deployment, Serving(successor)
        self.proxy.switch(successor.upstream)
        digest = successor.candidate.digest
        if self._recent_digests[-1:] != [digest]:
            self._recent_digests, self._prune_due = [*self._recent_digests[-1:], digest], True
        if previous:
            self._drain(previous)

    def _drain(self, previous: Deployment) -> None:
        """Stop a deployment that gets no new requests, after its last one or `Serve.drain_seconds`."""
        if lost := previous.drain(self.settings.drain_seconds):
            self.log(f"{lost} requests to {previous.upstream.name} were cut off (serve.drain_seconds)")

    @property
    def _serving(self) -> str:
        if isinstance(self.state, Restarting):
            return f"nothing until {self.state.candidate} is started again"
        return str(self.deployment or "nothing")
