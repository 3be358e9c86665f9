"""A lineage as a training writes it."""

from typing import Any

ORIGIN: dict[str, Any] = {
    "created": "2026-01-02T03:04:05+00:00",
    "code": {"commit": "c" * 40, "clean": True},
    "base": {"source": "package demo==1 sha256:abc", "digest": "base", "weights_digest": "w"},
    "inputs": {"data/ready/demo/train.jsonl": {"sha256": "rows", "rows": 1384, "dvc": "md5:x.dir"}},
    "params": {"sft": {"epochs": 1}, "lora": {"rank": 2}},
    "seed": 20,
    "environment": {"lock_sha256": "lock", "image_digest": None, "python": "3.11", "libraries": {"torch": "2.13"}},
    "hardware": {"device": "a CPU x 2, float32", "machine": "x86_64", "system": "Linux"},
}
