"""Keeps one version served, and follows its alias without losing a request.

A new champion is fetched, verified, started and probed beside the current deployment before it gets a request: where it
is an adapter that fits the running vLLM, it is loaded there beside the others (`Engines.shared`). The current one then
stops after its last request. Where a second engine is needed and does not fit the GPU (`Serve.fit`), the current one
stops first, and is started again if the champion fails. A champion that fails leaves the current deployment serving and
is not tried again, except after a transient error (`retries.TRANSIENT`). An engine that ended or hangs is restarted
from files that are verified again, or fetched again where they have changed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tunesmith.core import params
from tunesmith.core.errors import (
    EngineError,
    IntegrityError,
    ParamsError,
    ServingError,
    SigningError,
    UntrustedError,
)
from tunesmith.registry import ledger, versions
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Settings, Signing
from tunesmith.registry.trust.chain import Chain, Entry
from tunesmith.serving import candidates, deployment, model_cache
from tunesmith.serving.attended import Attend, attended
from tunesmith.serving.candidates import Candidate
from tunesmith.serving.deployment import Deployment
from tunesmith.serving.engine import Engine
from tunesmith.serving.engines import Engines
from tunesmith.serving.gateway.proxy import Proxy
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


class Supervisor:
    """Keeps one version of a registered model served. The thread that uses it must live as long as the engines."""

    peers: Sequence["Supervisor"]
    """All that share the engines, this one included."""

    def __init__(
        self,
        registry: Registry,
        name: str,
        proxy: Proxy,
        settings: Serve,
        signing: Signing,
        log: Callable[[str], None],
        engines: Engines | None = None,
    ) -> None:
        """engines: shared with other aliases; None: its own."""
        self.engines, self.peers = engines or Engines(settings), [self]
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
        self._died_for: str | None = None
        """The hash of the ledger entry during whose start the engine of others ended."""
        self._leaving: list[Deployment] = []
        """Versions that get no new requests, and stay loaded on an engine of others for those in flight."""
        self._prune_due = False
        """Whether the cache is to be pruned, because another model took over."""

    @property
    def deployment(self) -> Deployment | None:
        """The current deployment, if a version is served."""
        return self.state.deployment if isinstance(self.state, Serving) else None

    def wait_for_first(self, alias: str) -> None:
        """Wait until something has been promoted to ``alias`` by a trusted key, and the tracker can be reached."""
        while self.must_wait(alias):
            time.sleep(self.settings.poll_seconds)

    def must_wait(self, alias: str) -> bool:
        """Whether nothing has been promoted to ``alias`` by a trusted key, for a reason that is logged and shown.

        The trusted keys are read from params.yaml every time, so the key may still be added.
        """
        reason, previous = self._reason_to_wait(alias), self.proxy.unavailable_reason
        self.proxy.unavailable_reason = reason or f"the first {alias} is being started"
        if reason and reason != previous:
            self.log(reason)
        return reason is not None

    def _reason_to_wait(self, alias: str) -> str | None:
        try:
            self.signing = params.load(Settings, "signing").root
            head = retry_transient(self._head, self.settings, self._errors)
        except TRUST_ERRORS as error:
            return error_message(error)
        to = "" if alias == "champion" else f" --to {alias}"
        return None if head else f"{self.name} has no {alias} yet: `tunesmith promote MODEL{to}` makes one"

    def start(self, which: str) -> None:
        """Serve the first version. Raises the errors of `run`."""
        if head := retry_transient(self._head, self.settings, self._errors):
            self._settled_hash = head.hash
            fetch = partial(self._fetch, head.version, head.digest)
        else:
            # Not retried: a version that is missing now will not appear.
            version = versions.choose(self.registry, self.name, which, self.signing)
            fetch = partial(candidates.fetch, self.registry, self.name, version, self.signing)

        def start() -> Deployment:
            self._check_room(candidate := fetch())
            return deployment.start(candidate, self.engines)

        self._switch(retry_transient(start, self.settings, self._errors))

    def poll(self) -> None:
        """Restart a dead engine, follow the champion, prune the cache. Raises nothing; failed steps are retried."""
        self._try("restart", self._restart_dead_engine)
        self._try("follow", self._follow_champion)
        self._try("unload", self._unload_idle)
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
        """Return what to do while a champion is started: restart the engines of served versions that end or hang."""
        serving = [peer for peer in self.peers if isinstance(peer.state, Serving)]

        def attend() -> None:
            for peer in serving:
                peer._try("restart", peer._restart_dead_engine)

        return attend if serving else None

    def close(self) -> None:
        """Stop the engine, if one runs."""
        if isinstance(self.state, Serving):
            self.state.deployment.stop()
        while self._leaving:
            self._leaving.pop().stop()
        self.state = Waiting()

    def _restart_dead_engine(self) -> None:
        if isinstance(self.state, Serving):
            current = self.state.deployment
            try:
                current.check_health(self.settings.stall_seconds)
            except EngineError as error:
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
        return deployment.start(candidate, self.engines)

    def _follow_champion(self) -> None:
        head = self._head()
        if head is None or head.hash == self._settled_hash:
            return
        current = self.deployment.candidate if self.deployment else None
        if current is None or (current.version, current.digest) != (head.version, head.digest):
            if self._pending != head:
                self.log(f"new champion: version {head.version} ({head.model})")
            self._pending, shared = head, None
            try:
                with self._start_backoff.attempt(head.hash):
                    candidate = attended(lambda: self._fetch(head.version, head.digest), self._attend())
                    self._make_room(candidate)
                    shared = self.engines.shared(candidate)
                    champion = deployment.start(candidate, self.engines, self._attend())
            except TRANSIENT:
                raise  # retried at a later poll
            except Exception as error:  # any other failure is final, and must not end the current deployment
                died = shared and isinstance(error, EngineError) and shared.has_ended()
                if died and self._died_for != head.hash:
                    self._died_for = head.hash  # not by the champion's fault, it may be: it has one more try
                    raise
                reason = error_message(error)
                self._settled_hash, self._pending = head.hash, None
                self.proxy.failed = {"version": head.version, "reason": reason}
                self.log(f"version {head.version} cannot serve; still serving {self._serving}\n{reason}")
                return
            self._switch(champion)
            self.log(f"serving {champion}")
        self._settled_hash, self._pending, self.proxy.failed = head.hash, None, None

    def _make_room(self, successor: Candidate) -> None:
        """Stop the current engine where no second one fits beside it; if the successor fails, it is restarted.

        Raises ServingError, before anything is stopped, where the successor would not fit then either.
        """
        if self.engines.fit_with(successor):
            return
        current = self.deployment
        self._check_room(successor, without=current.engine if current else None)
        if current is None:
            return
        share = f"serve.gpu_memory_share is {self.settings.gpu_memory_share:g}"
        self.log(f"stopping {current} first: {share}, so no second engine fits; requests are refused until one is up")
        self.proxy.switch(None, f"version {successor.version} is being started ({share}, so one engine at a time)")
        self.state = Restarting(current.candidate)
        self._drain(current)

    def _check_room(self, candidate: Candidate, without: Engine | None = None) -> None:
        """Raise ServingError where a candidate can share no running engine, and the GPU has no room for one more."""
        if not self.engines.fit_with(candidate, without=without):
            raise ServingError(
                f"{candidate} shares base, tokenizer and chat template with no other alias: it needs its own vLLM, and "
                f"serve.gpu_memory_share is {self.settings.gpu_memory_share:g} of the GPU for each",
                fix="serve it elsewhere, or set serve.gpu_memory_share to what leaves room for each: 0.45 for two",
            )

    def _prune_cache(self) -> None:
        """After a switch, keep what `_needed` names, of every alias that is served."""
        if not self._prune_due or self.proxy.alias is None:
            return
        removed = model_cache.prune({digest for peer in self.peers for digest in peer._needed()})
        self._prune_due = False
        if removed:
            self.log(f"removed from {model_cache.folder()}: {', '.join(digest[:12] for digest in removed)}")

    def _needed(self) -> list[str]:
        """Return the digests of the current and the previous version, the champion, and the target of a rollback."""
        chain, alias = self._chain(), self.proxy.alias
        entries = (chain.head(alias), chain.rollback_target(alias)) if alias else ()
        return [*self._recent_digests, *(entry.digest for entry in entries if entry)]

    def _head(self) -> Entry | None:
        """Return the ledger entry of the champion, if an alias is followed and something was promoted to it."""
        return self._chain().head(self.proxy.alias) if self.proxy.alias else None

    def _chain(self) -> Chain:
        return ledger.read(self.registry, self.name, self.signing).verified(self.name)

    def _fetch(self, number: str, digest: str) -> Candidate:
        version = versions.choose(self.registry, self.name, number, self.signing)
        fetch = partial(candidates.fetch, self.registry, self.name, version, self.signing)
        candidate = fetch(loaded := self.engines.loaded())
        if loaded and not self.engines.shared(candidate):
            candidate = fetch()  # an engine of its own reads the full weights, so they are checked first
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
        if not (left := previous.drain(self.settings.drain_seconds)):
            return
        if previous.engine.is_shared:
            self._leaving.append(previous)
            self.log(f"{left} requests to {previous.upstream.name} go on; it stays loaded for them")
        else:
            self.log(f"{left} requests to {previous.upstream.name} were cut off (serve.drain_seconds)")

    def _unload_idle(self) -> None:
        """Stop the versions that answered further requests after `Serve.drain_seconds`, once there are none."""
        for deployment_ in [each for each in self._leaving if not each.upstream.in_flight or each.engine.failed]:
            self._leaving.remove(deployment_)
            deployment_.stop()

    @property
    def _serving(self) -> str:
        if isinstance(self.state, Restarting):
            return f"nothing until {self.state.candidate} is started again"
        return str(self.deployment or "nothing")
