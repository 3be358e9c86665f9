"""The section `engine` of params.yaml: the vLLM that evaluates, generates in trainings, and serves."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, HttpUrl, PositiveFloat, PositiveInt, TypeAdapter, model_validator

from tunesmith.core.params import Section

OURS = {
    "--model": "the model is the one at hand",
    "--tokenizer": "the tokenizer is the model's own",
    "--chat-template": "the chat template is the model's own",
    "--served-model-name": "requests name models as they are registered",
    "--uds": "an engine listens on a Unix socket of its own",
    "--host": "an engine listens on a Unix socket of its own",
    "--port": "an engine listens on a Unix socket of its own",
    "--api-key": "an engine answers only the process that started it",
    "--dtype": "engine.dtype sets it; what is served has the dtype of its evaluation",
    "--gpu-memory-utilization": "gpu_memory_share sets it",
    "--max-model-len": "max_model_len sets it",
    "--generation-config": "what a request does not set is as in the evaluation",
    "--override-generation-config": "what a request does not set is as in the evaluation",
    "--enable-lora": "it follows from the models",
    "--max-loras": "it follows from the models",
    "--max-cpu-loras": "it follows from the models",
    "--max-lora-rank": "it follows from the models; of serving, serve.max_lora_rank sets it",
    "--lora-target-modules": "it follows from the models",
    "--lora-modules": "adapters are loaded once their bytes are checked",
    "--trust-remote-code": "code of a model is never run",
    "--middleware": "code of others is never run",
    "--worker-cls": "code of others is never run",
    "--worker-extension-cls": "code of others is never run",
    "--logits-processors": "code of others is never run",
    "--load-format": "weights are safetensors, which hold no code",
    "--quantization": "a model is as its folder says",
    "--default-chat-template-kwargs": "the chat template has the values of the evaluation",
    "--hf-overrides": "a model is as its folder says",
    "--hf-config-path": "a model is as its folder says",
    "--tokenizer-mode": "the tokenizer is the model's own",
    "--logprobs-mode": "log-probabilities are those that answers are drawn by",
    "--config": "args are named here, where they are checked",
}
"""Options of `vllm serve` that no `args` may hold, each with the reason."""


def _check_image(name: str) -> str:
    if not re.fullmatch(r"(?:[^@\s-][^@\s]*@)?sha256:[0-9a-f]{64}", name):
        raise ValueError(
            "an image must be named by its digest, as in vllm/vllm-openai@sha256:..., since a tag can move"
        )
    return name


def _check_address(address: str) -> str:
    """The address without a slash at its end. Raises ValueError where others could read or change what is sent."""
    url = TypeAdapter(HttpUrl).validate_python(address)
    if url.path not in ("", "/") or url.query or url.fragment or url.username or url.password:
        raise ValueError("an address ends with its port, as in http://127.0.0.1:8001")
    if url.scheme == "http" and not _is_private(url.host or ""):
        raise ValueError(
            "plain http is for this machine and private networks (localhost, or an IP address): elsewhere anyone "
            "on the way could read the prompts and change the answers; write https"
        )
    return address.rstrip("/")


def _is_private(host: str) -> bool:
    """Whether a host is this machine, or an IP address of a private network; another name can mean any machine."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return (address.is_loopback or address.is_private) and not address.is_unspecified


def _check_argument(argument: str) -> str:
    option = argument.partition("=")[0].partition(".")[0].replace("_", "-")  # --a.b sets b of --a
    option = f"--{option.removeprefix('--no-')}" if option.startswith("--no-") else option
    for ours, reason in OURS.items():
        if option.startswith("--") and len(option) > 2 and ours.startswith(option):  # vLLM accepts abbreviations
            raise ValueError(f"{option} may not be among the arguments: {reason}")
    return argument


Argument = Annotated[str, AfterValidator(_check_argument)]
"""An argument of `vllm serve` that is not in `OURS`."""


class Engine(Section):
    """Where vLLM is, and how it runs. At most one of python, image and address; with none of them, the environment that
    `tunesmith engine install` made."""

    python: Path | None = None
    """Python of an environment with vLLM, such as .venv-vllm/bin/python."""
    image: Annotated[str, AfterValidator(_check_image)] | None = None
    """Image with vLLM, by digest, such as vllm/vllm-openai@sha256:..., which Docker runs."""
    address: Annotated[str, AfterValidator(_check_address)] | None = None
    """Address of a running `vllm serve` that somebody else maintains, such as http://127.0.0.1:8001."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Dtype that the engine computes in. auto: that of the weights."""
    batch_invariant: bool = False
    """Whether an answer is independent of what else is generated at the same time, which is slower."""
    gpu_memory_share: float = Field(default=0.85, gt=0, le=0.95)
    """Fraction of the GPU's memory that the engine takes."""
    max_model_len: PositiveInt | None = None
    """Maximum tokens of a prompt and its answer together. null: the model's context, as far as it fits a GPU."""
    start_seconds: PositiveFloat = 600
    """Timeout for the engine to become healthy, in seconds."""
    args: tuple[Argument, ...] = ()
    """Further arguments of `vllm serve`, such as [--max-num-seqs, "64"]."""

    @model_validator(mode="after")
    def _check_one_place(self) -> Self:
        named = [name for name in ("python", "image", "address") if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} each name an engine; keep one of them")
        return self
