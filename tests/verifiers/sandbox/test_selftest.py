import struct

import pytest

from tunesmith.verifiers.sandbox import process, seccomp, selftest, tiers


def test_a_tier_without_its_filter_fails_its_self_test(tier: tiers.Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_all = struct.pack("<HBBI", seccomp.RETURN, 0, 0, seccomp.ALLOW)
    monkeypatch.setattr(seccomp, "program", lambda *, execve: allow_all)
    assert "opens a UNIX socket" in str(selftest.failure(tier))


def test_the_reason_why_a_tier_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        process.bubblewrap, "command", lambda descriptor: ["sh", "-c", "echo no namespaces >&2; exit 1"]
    )
    assert str(selftest.failure("bubblewrap")).endswith("does not start: no namespaces")
    monkeypatch.setattr(process.bubblewrap, "command", lambda descriptor: ["no-such-bubblewrap"])
    assert "No such file" in str(selftest.failure("bubblewrap"))
