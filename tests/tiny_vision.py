"""Tiny random models that read images, of six architectures, as bases; and images, named by their digests."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tiny_model import make_tokenizer
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Gemma3Processor,
    Idefics3Processor,
    LlavaProcessor,
    PreTrainedTokenizerBase,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from tunesmith.core import manifest
from tunesmith.core.ready_rows import ImagePart, Message
from tunesmith.models.base import base_model
from tunesmith.models.base_sources import Folder

KINDS = ("idefics3", "smolvlm", "qwen2_5_vl", "qwen3_vl", "llava", "gemma3")
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
QWEN: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "out_hidden_size": 32,
}
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% elif part.type == 'image' %}<image>{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML in the manner of SmolVLM's template, which writes nothing of a content that is a string."""
TEXT_OR_PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% elif part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML in the manner of Qwen's templates."""
TOWER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.2,
}
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def write(kind: str, folder: Path) -> Path:
    """Write the model, its tokenizer and its processor, as they are published."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    match kind:
        case "idefics3" | "smolvlm":
            config = _idefics3(kind, tokenizer, folder)
        case "llava":
            config = _llava(tokenizer, folder)
        case "gemma3":
            config = _gemma3(tokenizer, folder)
        case _:
            config = _qwen(kind, tokenizer, folder)
    model = AutoModelForImageTextToText.from_config(config)
    if kind == "gemma3":  # whose projector would be zeros
        torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.5)
    model.save_pretrained(folder)
    return folder


def fetch(kind: str, folder: Path, out: Path) -> Path:
    """Write the model into ``folder``, and fetch it from there as a base."""
    write(kind, folder)
    source = Folder(kind="folder", path=folder, sha256=manifest.folder_digest(folder), chat_template=None)
    base_model.fetch(source, out)
    return out


def _idefics3(kind: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Any:
    """Images of 32 pixels are 16 patches and 4 tokens."""
    sizes = {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}}
    tokenizer.add_special_tokens({"additional_special_tokens": ["<global-img>"]})
    images = Idefics3ImageProcessorPil(**sizes, do_image_splitting=False)
    Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=PARTS).save_pretrained(folder)
    if kind == "smolvlm":  # whose own class opens only beside torchvision
        published = folder / "processor_config.json"
        renamed = published.read_text().replace("Idefics3", "SmolVLM")
        published.write_text(renamed)
    return AutoConfig.for_model(
        kind,
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), "tie_word_embeddings": True} | TEXT,
        vision_config=TOWER,
        scale_factor=2,
        initializer_range=0.2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )


def _llava(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Any:
    """In the manner of LLaVA-1.5, whose tower gets the arguments of the language model: 16 tokens an image."""
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = TEXT_OR_PARTS.replace(QWEN_IMAGE, "<image>")
    images = LlavaImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)
    return AutoConfig.for_model(
        "llava",
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), "tie_word_embeddings": True} | TEXT,
        vision_config={"model_type": "clip_vision_model", "projection_dim": 32} | TOWER,
        vision_feature_layer=-1,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )


def _gemma3(tokenizer: PreTrainedTokenizerBase, folder: Path) -> Any:
    """An image's 4 tokens see each other in both directions, and a template writes another token for it."""
    names = {"boi_token": "<begin>", "image_token": "<image>", "eoi_token": "<end>"}
    tokenizer.add_special_tokens({"additional_special_tokens": [*names.values()]})
    tokenizer._set_model_specific_special_tokens(names)
    tokenizer.init_kwargs.update(names)
    tokenizer.chat_template = TEXT_OR_PARTS.replace(QWEN_IMAGE, "<begin>")
    images = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=tokenizer.chat_template).save_pretrained(
        folder
    )
    begin, image, end = (tokenizer.convert_tokens_to_ids(name) for name in names.values())
    return AutoConfig.for_model(
        "gemma3",
        text_config={"model_type": "gemma3_text", "vocab_size": len(tokenizer), "sliding_window": 64} | TEXT,
        tie_word_embeddings=False,
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False} | TOWER,
        mm_tokens_per_image=4,
        boi_token_index=begin,
        image_token_index=image,
        eoi_token_index=end,
        initializer_range=0.2,
    )


def _qwen(kind: str, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Any:
    """Each 16 x 16 pixels are 4 patches and a token."""
    tokenizer.add_special_tokens({"additional_special_tokens": QWEN_TOKENS})
    tokenizer.chat_template = TEXT_OR_PARTS
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, temporal_patch_size=2, min_pixels=256, max_pixels=4096
    ).save_pretrained(folder)
    vision: dict[str, Any] = {"initializer_range": 0.2}
    if kind == "qwen3_vl":
        vision |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    else:
        vision |= {"window_size": 32, "fullatt_block_indexes": [1]}
    sections = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    if kind == "qwen3_vl":
        sections["mrope_interleaved"] = True
    ids = dict(zip(("vision_start", "vision_end", "image", "video"), QWEN_TOKENS, strict=True))
    return AutoConfig.for_model(
        kind,
        text_config=TEXT | {"vocab_size": len(tokenizer), "rope_parameters": sections, "tie_word_embeddings": True},
        vision_config=QWEN | vision,
        tie_word_embeddings=True,
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in ids.items()},
    )


def draw(folder: Path, colors: Sequence[str], size: tuple[int, int] = (32, 32)) -> list[ImagePart]:
    """Write an image of each color, with a corner in white, as `prepare_data` does, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[ImagePart] = []
    for color in colors:
        image = Image.new("RGB", size, color)
        image.paste("white", (0, 0, size[0] // 2, size[1] // 2))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        (folder / f"{digest}.png").write_bytes(buffer.getvalue())
        found.append({"type": "image", "image": digest, "width": size[0], "height": size[1]})
    return found


def ask(*images: ImagePart, text: str = "What color?") -> list[Message]:
    """A prompt with images before its text."""
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def say(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]
