"""An engine by transformers: its own server's handlers, for one model, on a Unix socket.

    python -m tunesmith.serving.transformers_server MODEL SOCKET DEVICE DTYPE

`transformers serve` listens on a port that every process of the machine can reach, and has routes that load another
model, or this one again, without a check (docs/decisions/035). Here there are only those that generate.
"""

import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from transformers import GenerationConfig
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.utils import GenerationState, Modality

from tunesmith.serving.gateway.requests import for_template


class Chat(ChatCompletionHandler):  # type: ignore[misc, unused-ignore]
    """Hands the template what a request says: by default the handler drops reasoning, and content beside calls."""

    @staticmethod
    def get_processor_inputs_from_messages(messages: list[dict[str, Any]], modality: Modality) -> list[dict[str, Any]]:
        return for_template(messages)


def app(model: str, device: str, dtype: str) -> FastAPI:
    """Load a model from the working folder, and return the application that generates with it."""
    manager, state, server = ModelManager(device=device, dtype=dtype, force_model=model), GenerationState(), FastAPI()
    handlers = {
        "/v1/chat/completions": Chat(manager, state),
        "/v1/completions": CompletionHandler(manager, state),
    }
    seen = 0
    loaded = manager.load_model_and_processor(manager.process_model_name(model))[0]
    loaded.generation_config = defaults = _neutral(loaded.generation_config)

    async def generate(request: Request) -> Any:
        nonlocal seen
        seen += 1
        body = await request.json()
        if body.get("temperature") or body.get("top_p"):  # which a handler alone takes for no wish to sample
            body["generation_config"] = json.dumps({**defaults.to_dict(), "do_sample": True})
        return await handlers[request.url.path].handle_request(body, f"request-{seen}")

    for path in handlers:
        server.add_api_route(path, generate, methods=["POST"], response_model=None)
    server.add_api_route("/health", lambda: {"status": "ok"})
    return server


def _neutral(own: GenerationConfig) -> GenerationConfig:
    """A config without a base's own settings of sampling, which were not those of the evaluation."""
    ends = {"eos_token_id": own.eos_token_id, "pad_token_id": own.pad_token_id, "bos_token_id": own.bos_token_id}
    return GenerationConfig(**ends, top_k=0)


if __name__ == "__main__":
    model, socket, device, dtype = sys.argv[1:]
    uvicorn.run(app(model, device, dtype), uds=socket, access_log=False)
