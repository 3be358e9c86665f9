"""lm-eval's requests to a model that vLLM serves: the same prompts as to a model in this process, token for token."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedTokenizerBase

from tunesmith.core.errors import EvaluationError
from tunesmith.evaluation.harness.tasks import too_long
from tunesmith.models.engines.client import Client
from tunesmith.models.rendering import style

SAMPLING = ("top_p", "top_k", "min_p", "repetition_penalty")
"""Settings of tasks that vLLM and transformers have under the same name."""
KNOWN = {*SAMPLING, "do_sample", "temperature", "until", "max_gen_toks"}


class VllmLM(TemplateLM):
    """lm-eval's view of a model that vLLM serves. All requests of a task are sent at once."""

    max_gen_toks = 256
    """Maximum tokens of an answer where a task sets none, as in lm-eval's other models."""

    def __init__(
        self, client: Client, name: str, tokenizer: PreTrainedTokenizerBase, context: int, in_flight: int
    ) -> None:
        """context: maximum tokens of a prompt and its answer together. in_flight: maximum prompts in flight."""
        super().__init__()
        self.client, self.name, self.tokenizer, self.max_length = client, name, tokenizer, context
        self.in_flight = in_flight

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """The text as token ids, with the tokenizer's special tokens unless it begins with the first of them."""
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(self.tokenizer.decode(self.prefix_token_id))
        return list(self.tokenizer.encode(string, add_special_tokens=add_special_tokens))

    def apply_chat_template(self, chat_history: list[dict[str, Any]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, by the model's own template."""
        return str(
            self.tokenizer.apply_chat_template(
                style.in_parts(self.tokenizer, chat_history),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answers to prompts, up to their stop sequences. Raises EvaluationError for a prompt that is too long."""
        alike = defaultdict[str, list[int]](list)
        for place, request in enumerate(requests):
            alike[json.dumps(request.args[1], sort_keys=True)].append(place)
        answers: dict[int, str] = {}
        for places in alike.values():
            prompts = [self.tok_encode(requests[place].args[0]) for place in places]
            answers |= dict(zip(places, self._answers(prompts, requests[places[0]].args[1]), strict=True))
        return [answers[place] for place in range(len(requests))]

    def _answers(self, prompts: list[list[int]], settings: dict[str, Any]) -> list[str]:
        chosen = normalize_gen_kwargs(settings, self.max_gen_toks)
        if unknown := sorted({name for name, value in chosen.items() if value is not None} - KNOWN):
            raise EvaluationError(
                f"a task of lm-eval sets {', '.join(unknown)} for its answers, which vLLM does not have",
                fix="set evaluate.engine to transformers in params.yaml, or leave the task out",
            )
        temperature = chosen.get("temperature", 0.0) if chosen.get("do_sample") else 0.0
        most, longest = int(chosen["max_gen_toks"]), max(map(len, prompts))
        if longest + most > self.max_length:
            raise too_long(longest, self.max_length - most, self.max_length)
        named = [text for text in chosen["until"] if text]
        until = handle_stop_sequences(named, eos=self.tokenizer.decode(self.eot_token_id))
        answers = self.client.generate(
            self.name,
            prompts,
            max_new_tokens=most,
            stop_tokens=[self.eot_token_id],
            temperature=temperature,
            seed=0 if temperature else None,
            in_flight=self.in_flight,
            stop=until,
            **{name: chosen[name] for name in SAMPLING if name in chosen},
        )
        texts = [self.tokenizer.decode(answer.tokens, skip_special_tokens=True) for answer in answers]
        return [postprocess_generated_text(text, until, None) for text in texts]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        # Cut on the left as in lm-eval's other models, with room for the one token that vLLM must generate.
        whole = [(context + continuation)[-(self.max_length - 1) :] for _, context, continuation in requests]
        scores = self.client.score(self.name, whole, in_flight=self.in_flight)
        given = [scored[-len(request[2]) :] for scored, request in zip(scores, requests, strict=True)]
        assert all(request[2] and len(each) == len(request[2]) for each, request in zip(given, requests, strict=True))
        return [(sum(each.log_prob for each in tokens), all(each.likeliest for each in tokens)) for tokens in given]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-probabilities of whole texts, in nats, each token after as many of those before it as fit."""
        windows = [
            [make_disjoint_window(window) for window in self._windows(str(request.args[0]))] for request in requests
        ]
        flat = [(None, context, continuation) for text in windows for context, continuation in text]
        scored = iter(self._loglikelihood_tokens(flat))
        return [sum(next(scored)[0] for _ in text) for text in windows]

    def _windows(self, text: str) -> Any:
        return get_rolling_token_windows(
            token_list=self.tok_encode(text),
            prefix_token=self.prefix_token_id,
            max_seq_len=self.max_length - 2,  # room for the token before the window, and for a generated one
            context_len=1,
        )
