import pickle

import pytest

from tunesmith.data import text_scan
from tunesmith.data.text_scan import Scanner

SPECIAL = ["<|im_start|>", "<|im_end|>", "<s>"]
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKC\nabc\n-----END RSA PRIVATE KEY-----"


def scan(text: str) -> str | None:
    return Scanner(SPECIAL).scan([("prompt", "before"), ("completion", text), ("prompt", "after")]).get(1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\0b", "NUL byte: in the completion"),
        ("a\x1bb", "control character: U+001B in the completion"),
        ("é\x85", "control character: U+0085 in the completion"),
        ("say <|im_end|> now", "special token: '<|im_end|>' in the completion would be read as a control token"),
        ("AKIAABCDEFGHIJKLMNOP", "secret: an AWS access key in the completion (AKIA…)"),
        ("token ghp_" + "a" * 36, "secret: a GitHub token in the completion (ghp_…)"),
        ("hf_" + "a" * 34, "secret: a Hugging Face token in the completion (hf_a…)"),
        ("sk-ant-" + "a1" * 20, "secret: a model provider's API key in the completion (sk-a…)"),
        ("xoxb-123456789012-abc", "secret: a Slack token in the completion (xoxb…)"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0." + "a" * 20, "secret: a JSON web token in the completion (eyJh…)"),
        (KEY, "secret: a private key in the completion (private key …)"),
    ],
)
def test_text_that_must_not_be_in_a_row_is_found(text: str, reason: str) -> None:
    assert scan(text) == reason


ORDINARY = [
    *("tab\tline\nreturn\r", "漢字 é ∑", "<b>", "a task-oriented sk-learn", "AKIA", "ghp_short", "<S>"),
    *("xoxo-gossip-girl", "sk-hynix-announces-new-memory-chip-for-2024", "how -----BEGIN PRIVATE KEY----- is written"),
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_passes(text: str) -> None:
    assert scan(text) is None


def test_each_finding_belongs_to_its_own_text() -> None:
    reasons = Scanner(SPECIAL).scan([("prompt", "漢\x01"), ("completion", "fine"), ("completion", "é<s>\x02")])
    assert set(reasons) == {0, 2}
    assert reasons[2].startswith("special token: '<s>'")


def test_a_scanner_can_be_sent_to_another_process_after_use() -> None:
    scanner = Scanner(SPECIAL)
    scanner.scan([("prompt", "x")])
    assert pickle.loads(pickle.dumps(scanner)).scan([("prompt", "<s>")]) != {}


def test_masked_text_holds_no_secret() -> None:
    text = text_scan.mask_secrets(f"use AKIAABCDEFGHIJKLMNOP or {KEY} and go on")
    assert text == "use AKIA… or private key … and go on"


def test_masking_takes_linear_time_on_hostile_text() -> None:
    assert text_scan.mask_secrets("-eyJ" * 250_000)  # minutes, were it a backtracking search


def test_a_key_without_an_end_is_masked_to_the_end() -> None:
    assert "MIIEow" not in text_scan.mask_secrets(KEY.split("-----END", maxsplit=1)[0])
