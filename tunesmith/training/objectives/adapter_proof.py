"""The proof that vLLM answers as the policy of this step, before any of its answers counts.

vLLM has answered as the base in place of an adapter, and as another adapter, without an error (see
`models.engines.identity`). A few conversations are therefore scored by vLLM under every new name, and by the policy in
this process. The log-probabilities must be the policy's, and not those of its start, of the weights without an adapter,
or of the step before.
"""

from collections.abc import Sequence

from peft import PeftModel

from tunesmith.core.errors import EngineError
from tunesmith.core.ready_rows import Row
from tunesmith.models import chat, device, generation, weights
from tunesmith.models.engines import identity
from tunesmith.models.engines.identity import LogProbs
from tunesmith.models.loading import OpenModel
from tunesmith.models.log_probs import Tokens, token_log_probs

SEQUENCES, ANSWER_TOKENS = 8, 32
"""Maximum number of scored conversations, and of tokens of their answers."""
POLICY, START, BASE = "this step's policy", "the start", "the weights alone"
REMEDY = (
    "run it again, which goes on from the last checkpoint; if it stays so, set rollouts.engine to transformers, or "
    "take another version of vLLM (`tunesmith engine` shows this one). No answer was used"
)


def conversations(policy: OpenModel, rows: Sequence[Row]) -> list[Tokens]:
    """The shortest prompts of ``rows``, each with the policy's greedy answer."""
    prompts = [chat.encode_prompt(policy.tokenizer, row["prompt"], row.get("tools")) for row in rows]
    shortest = sorted(prompts, key=len)[:SEQUENCES]
    with device.autocast(policy.profile):
        answers = generation.greedy_log_probs(policy.model, policy.tokenizer, shortest, max_new_tokens=ANSWER_TOKENS)
    return [prompt + answer for prompt, (answer, _) in zip(shortest, answers, strict=True)]


class AdapterProof:
    """Compares vLLM's log-probabilities of ``sequences`` with the policy's. To be made before the first step."""

    def __init__(self, policy: OpenModel, sequences: list[Tokens]) -> None:
        self.policy, self.sequences = policy, sequences
        self._others = {START: self._score()}
        assert isinstance(policy.model, PeftModel)
        if not weights.is_on_changed_weights(policy.model):  # else the weights without the adapter are no model
            with policy.model.disable_adapter():
                self._others[BASE] = self._score()
        self._before: tuple[LogProbs, LogProbs] | None = None

    def check(self, answered: LogProbs) -> float:
        """The difference of vLLM from the current policy, in nats a token.

        answered: the log-probability of every token of every sequence but its first. Raises EngineError where they are
        another model's.
        """
        ours = self._score()
        difference = identity.check(POLICY, answered, {POLICY: ours, **self._others}, remedy=REMEDY)
        if self._before is not None:
            answered_before, before = self._before
            followed = [
                [now - then + own for now, then, own in zip(*sequences, strict=True)]
                for sequences in zip(answered, answered_before, before, strict=True)
            ]  # the policy before the step, moved as vLLM's answers moved
            side, error = identity.place(followed, ours, before)
            if side < 0.5 - identity.CERTAIN * error:
                raise EngineError(
                    f"vLLM answers as it did before this step, which moved the policy by "
                    f"{identity.distance(ours, before):.3g} nats a token: it did not take the new adapter",
                    fix=REMEDY,
                )
        self._before = answered, ours
        return difference

    def _score(self) -> LogProbs:
        model = self.policy.model
        was_training = model.training
        model.eval()
        scored = token_log_probs(self.policy, self.sequences, batch_size=len(self.sequences))
        model.train(was_training)
        return scored
