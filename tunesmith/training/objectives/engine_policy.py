"""The policy on vLLM: each step's adapter is saved, loaded under a name of its own, proved, used, and unloaded."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import torch
from peft import PeftModel

from tunesmith.core import files
from tunesmith.core.ready_rows import Row
from tunesmith.models import chat, generation, saving, weights
from tunesmith.models.engines.client import Generated
from tunesmith.models.engines.vllm import Server
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens
from tunesmith.training.objectives.adapter_proof import AdapterProof

PROBE = 0
"""The draw number of the probe; that of step n of a training is n + 1."""
DRAWS, PROMPTS = 2**20, 2**20
"""Maximum draws of a training, and prompts of a draw: each prompt has a seed of its own."""
SEEDS = 2**22
"""Number of different seeds of trainings: vLLM's seeds have 63 bits."""


class EnginePolicy:
    """A policy that is trained here and answers on vLLM, always with its current weights."""

    def __init__(
        self, server: Server, policy: OpenModel, proof: AdapterProof, folder: Path, *, seed: int, sleeps: bool
    ) -> None:
        """folder: for adapters; the server can read it too. sleeps: whether the server frees the GPU's memory after
        its answers, for the training that takes turns with it.
        """
        self.server, self.policy, self.proof, self.folder = server, policy, proof, folder
        self.seed, self.sleeps = seed % SEEDS, sleeps
        self.stop_tokens = generation.end_tokens(policy.model, policy.tokenizer)
        self._numbers, self._prefix = count(), uuid4().hex[:8]  # names that are new even to a shared server
        self._loaded: tuple[str, dict[str, str]] | None = None
        self._asleep = self._proved = False

    def sample(
        self, prompts: Sequence[Tokens], *, draw: int, max_new_tokens: int, temperature: float
    ) -> list[Generated]:
        """One sampled answer a prompt. draw: its number in this training; the same number gives the same answers."""
        seed = (self.seed * DRAWS + draw % DRAWS) * PROMPTS
        return self._generate(prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)

    def sample_texts(
        self, rows: Sequence[Row], *, group: int, max_new_tokens: int, temperature: float
    ) -> list[list[str]]:
        """``group`` sampled answers a row's prompt, without special tokens, for the probe."""
        prompts = [prompt for prompt in self._encode(rows) for _ in range(group)]
        drawn = self.sample(prompts, draw=PROBE, max_new_tokens=max_new_tokens, temperature=temperature)
        texts = [self._text(answer) for answer in drawn]
        return [texts[begin : begin + group] for begin in range(0, len(texts), group)]

    def answer(self, rows: Sequence[Row], *, max_new_tokens: int) -> list[str]:
        """The greedy answer to each row's prompt, without special tokens."""
        return [self._text(answer) for answer in self.greedy(self._encode(rows), max_new_tokens=max_new_tokens)]

    def greedy(self, prompts: Sequence[Tokens], *, max_new_tokens: int) -> list[Generated]:
        """The greedy answer to each prompt."""
        return self._generate(prompts, max_new_tokens=max_new_tokens, temperature=0.0, seed=None)

    def _generate(
        self, prompts: Sequence[Tokens], *, max_new_tokens: int, temperature: float, seed: int | None
    ) -> list[Generated]:
        with self._awake() as name:
            return self.server.client.generate(
                name,
                prompts,
                max_new_tokens=max_new_tokens,
                stop_tokens=self.stop_tokens,
                temperature=temperature,
                seed=seed,
            )

    @contextmanager
    def _awake(self) -> Iterator[str]:
        """Yield the proved name of the current policy; the server has the GPU while the block runs."""
        client = self.server.client
        if self._asleep:
            _free_gpu()
            client.wake_up()
            self._asleep = self._proved = False
        yield self._prove()
        if self.sleeps:
            client.sleep()
            self._asleep = True

    def _prove(self) -> str:
        """Load the adapter if it changed; prove it if it is new or the server slept. Returns its name."""
        client = self.server.client
        digests = weights.digests(self.policy.model, trained=True)
        if self._loaded is None or self._loaded[1] != digests:
            self.unload()
            name = f"{self._prefix}-{next(self._numbers)}"
            folder = self.save(name)
            client.load_adapter(name, folder)
            self._loaded, self._proved = (name, digests), False
        name = self._loaded[0]
        if not self._proved:
            scored = client.score(name, self.proof.sequences)
            self.proof.check([[token.log_prob for token in tokens] for tokens in scored])
            self._proved = True
        return name

    def save(self, name: str) -> Path:
        """Save the current adapter to a folder, which appears whole, and return it."""
        return save_adapter(self.policy, self.folder / name)

    def unload(self) -> None:
        """Unload the adapter from the server, and delete its folder."""
        if self._loaded is not None:
            name, self._loaded = self._loaded[0], None
            self.server.client.unload_adapter(name)
            shutil.rmtree(self.folder / name)

    def _encode(self, rows: Sequence[Row]) -> list[Tokens]:
        return [chat.encode_prompt(self.policy.tokenizer, row["prompt"], row.get("tools")) for row in rows]

    def _text(self, answer: Generated) -> str:
        text: str = self.policy.tokenizer.decode(answer.tokens, skip_special_tokens=True)
        return text


def save_adapter(policy: OpenModel, folder: Path) -> Path:
    """Save the policy's adapter to a folder, which appears whole, and return it."""
    assert isinstance(policy.model, PeftModel)
    with files.new_folder(folder) as work:
        saving.save_adapter(policy.model, work, None, policy.full_weights)
    return folder


def _free_gpu() -> None:
    """Free the GPU memory that torch cached in the training's last step."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
