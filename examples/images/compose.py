"""Compose a small model that reads images from a text model's weights and a tower with random ones.

    python examples/images/compose.py TEXT OUT       such as models/base build/shapes/base

TEXT is the folder of a Llama model with tied embeddings, such as SmolLM2-135M as `dvc repro fetch_base` leaves it. OUT
becomes an Idefics3 model: an image of 64 × 64 pixels is 64 patches for a SigLIP tower of three layers, and four tokens
for the language model, whose answers to texts stay as they were. The tower has seen nothing yet, so a training must
move it (`vision: all`). Prints the SHA-256 of OUT, which params.yaml takes as `base_model.sha256`.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoTokenizer, Idefics3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from tunesmith.core import manifest

EDGE, PATCH, SCALE = 64, 8, 4
"""Pixels of an image's side and of a patch's, and patches of a token's side."""
TOWER = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 3, "num_attention_heads": 3}
MARKS = ["<fake_token_around_image>", "<global-img>", "<image>"]
"""The tokens that the processor writes for an image."""
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""SmolLM2's chat template, for contents of texts and images too."""


def compose(text: Path, out: Path) -> str:
    """Write the model; return the SHA-256 of its folder."""
    tokenizer = AutoTokenizer.from_pretrained(text)
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    tokenizer.chat_template = TEMPLATE
    sizes = {"size": {"longest_edge": EDGE}, "max_image_size": {"longest_edge": EDGE}}
    images = Idefics3ImageProcessorPil(**sizes, do_image_splitting=False)
    tokens = (EDGE // PATCH // SCALE) ** 2
    Idefics3Processor(images, tokenizer, image_seq_len=tokens, chat_template=TEMPLATE).save_pretrained(out)
    text_config = json.loads((text / "config.json").read_text())
    config = AutoConfig.for_model(
        "idefics3",
        text_config=text_config | {"vocab_size": len(tokenizer)},
        vision_config=TOWER | {"image_size": EDGE, "patch_size": PATCH},
        scale_factor=SCALE,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
        pad_token_id=text_config["pad_token_id"],
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    load_text(model, load_file(text / "model.safetensors"))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = text_config["pad_token_id"]
    model.save_pretrained(out)
    return manifest.folder_digest(out)


def load_text(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put a text model's weights into the language model. New tokens get the mean of the others, and a little noise."""
    own = {f"model.text_model.{name.removeprefix('model.')}": value for name, value in weights.items()}
    embedding = "model.text_model.embed_tokens.weight"
    known = own[embedding].float()
    added = model.get_submodule("model.text_model.embed_tokens").weight.shape[0] - known.shape[0]
    new = known.mean(0) + known.std() * torch.randn(added, known.shape[1])
    own[embedding] = torch.cat([known, new])
    missing, unexpected = model.load_state_dict({**own, "lm_head.weight": own[embedding]}, strict=False)
    assert not unexpected, unexpected
    assert not [name for name in missing if "text_model" in name], missing


if __name__ == "__main__":
    print(compose(Path(sys.argv[1]), Path(sys.argv[2])))
