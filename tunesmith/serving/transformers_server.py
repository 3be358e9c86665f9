"""An engine by transformers: its own server's handlers, for one model, on a Unix socket.

    python -m tunesmith.serving.transformers_server MODEL SOCKET DEVICE DTYPE

`transformers serve` listens on a port that every process of the machine can reach, and has routes that load another
model, or this one again, without a check (docs/decisions/035). Here there are only those that generate.
"""

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from transformers import GenerationConfig
from transformers.cli.serving.chat_completion import ChatCompletionHandler
from transformers.cli.serving.completion import CompletionHandler
from transformers.cli.serving.model_manager import ModelManager
from transformers.cli.serving.utils import GenerationState, Modality, split_revision

from tunesmith.models.images import processor
from tunesmith.models.rendering import style
from tunesmith.serving.gateway.requests import for_template

OF_INPUTS = ("return_tensors", "return_dict", "tokenize", "load_audio_from_video")
"""Arguments of the handler for a processor that are not of its chat template."""


class Chat(ChatCompletionHandler):  # type: ignore[misc, unused-ignore]
    """Hands the template what a request says: by default the handler drops reasoning, and content beside calls."""

    @staticmethod
    def get_processor_inputs_from_messages(messages: list[dict[str, Any]], modality: Modality) -> list[dict[str, Any]]:
        return for_template(messages)


class Models(ModelManager):  # type: ignore[misc, unused-ignore]
    """Opens the processor of a model that reads images as trainings and the evaluation do."""

    def _load_processor(self, model_id_and_revision: str, gguf_file: str | None = None) -> Any:
        folder = Path(split_revision(model_id_and_revision)[0])
        if not processor.reads_images(folder):
            return super()._load_processor(model_id_and_revision, gguf_file)
        opened: Any = processor.open_processor(folder)
        opened.apply_chat_template = lambda messages, **settings: _inputs(opened, messages, **settings)
        return opened


def _inputs(opened: Any, messages: list[dict[str, Any]], **settings: Any) -> Any:
    """A conversation as inputs of a model, rendered and tokenized as by `tunesmith.models.chat`.

    settings: those of the handler, with the tools and the values of the template's variables.
    """
    for_template = {name: value for name, value in settings.items() if name not in OF_INPUTS}
    tokenizer = opened.tokenizer
    text = tokenizer.apply_chat_template(style.in_parts(tokenizer, messages), tokenize=False, **for_template)
    parts = [part for message in messages if isinstance(message.get("content"), list) for part in message["content"]]
    images = [_image(part["url"]) for part in parts if part["type"] == "image"]
    return opened(text=[text], images=[images] if images else None, add_special_tokens=False, return_tensors="pt")


def _image(url: str) -> Any:
    """An image of a data URL, which the gateway has checked."""
    from PIL import Image  # which models of text do without

    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def app(model: str, device: str, dtype: str) -> FastAPI:
    """Load a model from the working folder, and return the application that generates with it."""
    manager, state, server = Models(device=device, dtype=dtype, force_model=model), GenerationState(), FastAPI()
    handlers = {
        "/v1/chat/completions": Chat(manager, state),
        "/v1/completions": CompletionHandler(manager, state),
    }
    seen = 0
    loaded, reader = manager.load_model_and_processor(manager.process_model_name(model))
    loaded.generation_config = defaults = _neutral(loaded.generation_config)
    if hasattr(reader, "image_token"):  # an answer has no image, and the token without pixels would be one not seen
        defaults.suppress_tokens = [processor.image_token(reader, loaded.config.to_dict())]

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
