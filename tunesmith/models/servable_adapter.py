"""What vLLM cannot serve of an adapter, by its config: known when its training begins, checked when it is registered.

vLLM refuses modules saved whole, DoRA, biases and ranks above its limit (`vllm.lora.peft_helper`), and scales every
layer by the one rank and alpha of the config, so that it would serve rank and alpha patterns wrong without an error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

HIGHEST_RANK = 512
"""The highest rank that vLLM can be started for."""
USUAL_RANK = 64
"""The rank up to which adapters are served where params.yaml does not say (`serve.max_lora_rank`)."""
UNSUPPORTED_FIELDS = {
    "modules_to_save": "saves whole modules",
    "lora_bias": "trains biases",
    "trainable_token_indices": "trains single tokens",
    "target_parameters": "adapts parameters that are not the weight of a layer",
    "rank_pattern": "has different ranks by layer",
    "alpha_pattern": "has different alphas by layer",
    "layer_replication": "repeats layers",
    **dict.fromkeys(("use_dora", "use_qalora", "use_bdlora"), "is a variant of LoRA"),
    **dict.fromkeys(("alora_invocation_tokens", "arrow_config", "kasa_config"), "is a variant of LoRA"),
    "monteclora_config": "is a variant of LoRA",
}
"""Fields of peft's LoraConfig that must be off, each with a description of an adapter that sets it."""
MERGE = "merge it (package.merged in params.yaml) and register that"


@dataclass(frozen=True)
class Reason:
    """A reason that a model cannot be served, with its fix."""

    text: str
    fix: str


def reasons(config: Mapping[str, object], max_rank: int) -> Iterator[Reason]:
    """Every reason against serving an adapter with this config, in peft's names, where ranks go up to ``max_rank``."""
    if config.get("peft_type") != "LORA":
        yield Reason(f"it is an adapter of kind {config.get('peft_type')}, not LoRA", MERGE)
    if config.get("task_type") != "CAUSAL_LM":
        yield Reason(f"it is for {config.get('task_type')} instead of answering", "register a policy")
    for field, description in UNSUPPORTED_FIELDS.items():
        if config.get(field):
            yield Reason(f"it {description} ({field})", MERGE)
    if config.get("bias", "none") != "none":
        yield Reason(f"it trains biases (bias: {config['bias']})", MERGE)
    if isinstance(rank := config.get("r"), int) and rank > max_rank:
        yield rank_over_limit(rank, max_rank)


def rank_over_limit(rank: int, limit: int) -> Reason:
    fix = f"raise that in params.yaml, or {MERGE}" if limit < HIGHEST_RANK else MERGE
    return Reason(f"its rank {rank} is over serve.max_lora_rank: {limit}", fix)


def warnings(config: Mapping[str, object]) -> list[str]:
    """What to say before the training of a policy's adapter whose config will be this one."""
    if config.get("task_type") != "CAUSAL_LM":
        return []  # a reward model is not served
    found = [
        f"vLLM cannot serve this adapter, since {reason.text}: {reason.fix}" for reason in reasons(config, HIGHEST_RANK)
    ]
    rank = config.get("r")
    if isinstance(rank, int) and USUAL_RANK < rank <= HIGHEST_RANK:
        found.append(
            f"vLLM serves this adapter, of rank {rank}, only where serve.max_lora_rank is no less: it is {USUAL_RANK} "
            "where params.yaml does not say"
        )
    return found
