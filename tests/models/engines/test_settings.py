from typing import Any

import pytest
from pydantic import ValidationError

from tunesmith.models.engines.settings import Engine

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8001",
        "http://localhost:8001",
        "http://[::1]:8001",
        "http://10.0.0.5:8001",
        "http://192.168.1.2",
        "https://vllm.example.com",
    ],
)
def test_an_address_is_of_this_machine_of_a_private_network_or_https(address: str) -> None:
    assert Engine.model_validate({"address": address}).address == address
    assert Engine.model_validate({"address": f"{address}/"}).address == address


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://vllm.example.com:8001", "anyone on the way could read the prompts and change the answers"),
        ("http://8.8.8.8:8001", "anyone on the way"),
        ("http://0.0.0.0:8001", "anyone on the way"),
        ("http://localhost.example.com:8001", "anyone on the way"),
        ("http://127.0.0.1:8001/v1", "an address ends with its port"),
        ("http://me:secret@127.0.0.1:8001", "an address ends with its port"),
        ("127.0.0.1:8001", "valid URL"),
        ("unix:///run/vllm.sock", "URL scheme"),
    ],
)
def test_any_other_address_is_refused(address: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Engine.model_validate({"address": address})


@pytest.mark.parametrize("image", [DIGEST, f"vllm/vllm-openai@{DIGEST}", f"my.registry:5000/vllm@{DIGEST}"])
def test_an_image_is_named_by_digest(image: str) -> None:
    assert Engine.model_validate({"image": image}).image == image


@pytest.mark.parametrize(
    "image", ["vllm/vllm-openai:latest", "vllm@sha256:12", f"--privileged@{DIGEST}", f"a b@{DIGEST}"]
)
def test_a_tag_or_an_option_is_no_image(image: str) -> None:
    with pytest.raises(ValidationError, match="must be named by its digest"):
        Engine.model_validate({"image": image})


@pytest.mark.parametrize(
    "values",
    [
        {"python": "a", "image": DIGEST},
        {"python": "a", "address": "http://127.0.0.1"},
        {"image": DIGEST, "address": "http://127.0.0.1"},
    ],
)
def test_two_engines_are_refused_by_name(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=" and ".join(values)):
        Engine.model_validate(values)


@pytest.mark.parametrize(
    "argument",
    [
        "--dtype",
        "--dtype=half",
        "--max_model_len=5",
        "--uds",
        "--trust-remote-code",
        "--trust-remote-c",
        "--hf-overrides.rope_theta=1",
        "--override-generation-config.repetition_penalty=1.3",
        "--no-enable-lora",
        "--load-format=pt",
        "--quantization",
        "--worker-cls",
    ],
)
def test_an_argument_cannot_contradict_a_param_or_run_code_of_a_model(argument: str) -> None:
    option = argument.partition("=")[0].partition(".")[0].replace("_", "-").replace("--no-", "--")
    with pytest.raises(ValidationError, match=option):
        Engine.model_validate({"args": [argument, "1"]})


def test_other_arguments_are_passed_on_in_their_order() -> None:
    section = Engine.model_validate({"args": ["--max-num-seqs", "64", "--dtype-of-something", "--host-memory"]})
    assert section.args == ("--max-num-seqs", "64", "--dtype-of-something", "--host-memory")


@pytest.mark.parametrize("values", [{"gpu_memory_share": 0.96}, {"gpu_memory_share": 0}, {"max_model_len": 0}])
def test_values_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Engine.model_validate(values)
