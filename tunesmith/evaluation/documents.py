"""The JSON documents of an evaluation: metrics.json of every model, and reports/comparison.json."""

from collections.abc import Sequence
from typing import Literal, NotRequired, TypeAlias, TypedDict

from tunesmith.core.journal import Trained
from tunesmith.evaluation.hosted import HostedModel
from tunesmith.evaluation.trainings import Selection
from tunesmith.models.engines.record import EngineRecord

Outcome: TypeAlias = Literal["pass", "fail", "undecided"]
"""What the gate, or one of its rules, comes to."""
Direction: TypeAlias = Literal["better", "worse", "undecided"]
"""On which side of zero the whole interval of a difference lies."""
CostName: TypeAlias = Literal["seconds", "memory", "size"]


class Counts(TypedDict):
    """The counts of a suite's samples."""

    prompts: int
    """The number of prompts."""
    no_answer: int
    """The number of samples without an answer; each scores 0."""
    not_gradable: int
    """The number of samples that could not be graded; the score leaves them out."""
    well_formed: float | None
    """The share of answers in the trained format; null where none was asked for or nothing was generated."""
    stopped: float | None
    """The share of answers that end their turn; null where nothing was generated."""
    tokens: int
    """Tokens generated, ends of turn included."""


class Summary(Counts):
    """The counts and the score of a suite's samples."""

    prompts_digest: str
    """SHA-256, in hex, over the prompts, as messages and as rendered, and over what is right."""
    score: float | None
    """The mean score of what could be graded, in the unit of its suite; null where nothing could."""


class Details(TypedDict, total=False):
    """What is usually reported of a verifier beside its mean score: shares, 0 to 1."""

    prompt_strict: float
    """IFEval's share of the prompts whose instructions are all followed, strictly."""
    prompt_loose: float
    """IFEval's share of the prompts whose instructions are all followed, loosely."""
    instruction_strict: float
    """IFEval's share of the instructions that are followed, strictly."""
    instruction_loose: float
    """IFEval's share of the instructions that are followed, loosely."""
    gsm8k_strict: float
    """The share of answers that lm-eval's filter strict-match of gsm8k counts as right."""
    gsm8k_flexible: float
    """The share of answers that lm-eval's filter flexible-extract of gsm8k counts as right."""
    math_verify: float
    """The share of answers that math-verify, as it comes, counts as right."""
    safe_full_compliance: float
    """The share of the prompts marked safe that are answered."""
    safe_partial_refusal: float
    """The share of the prompts marked safe that are half refused."""
    safe_full_refusal: float
    """The share of the prompts marked safe that are refused."""
    unsafe_full_compliance: float
    """The share of the prompts marked unsafe that are answered."""
    unsafe_partial_refusal: float
    """The share of the prompts marked unsafe that are half refused."""
    unsafe_full_refusal: float
    """The share of the prompts marked unsafe that are refused."""


class SuiteSettings(TypedDict):
    """What a suite asks, and by what its answers are scored."""

    kind: str
    """The kind of the suite: answers, preferences, perplexity or lm_eval."""
    dataset: str
    """The data set of the prompts, or the task of lm-eval."""
    verifier: str | None
    """The name of the verifier; null where a suite has none."""
    metric: str | None
    """The metric of lm-eval that is the score, in words; null for the other kinds of suites."""
    chat_template_kwargs: dict[str, bool | int | float | str]
    """The suite's own values for variables of the chat template, in place of the base's."""


class SuiteMetrics(SuiteSettings, Summary, Details):
    """What one suite measured of a model."""


class ModelMetrics(TypedDict):
    """reports/evaluation/<model>/metrics.json: what the suites measured of a model, and what determines it."""

    model: str
    """The model's name."""
    time: int
    """The end of the evaluation, in milliseconds since the epoch."""
    suites: dict[str, SuiteMetrics]
    """The metrics of each suite, in the order of params.yaml."""
    model_digest: str
    """The digest of the model's manifest."""
    base_weights_digest: str
    """The digest of the weights of the base under it."""
    dtype: str
    """The dtype that the model ran in, such as "bfloat16"."""
    device: NotRequired[str]
    """The device that it ran on, as `models.device` names it; absent for a hosted model, and in older reports."""
    template_digest: str
    """The digest of all that decides how messages become tokens; one a suite, in order, where suites differ in it."""
    key: str
    """The cache key of the evaluation: a digest of everything but the model that determines it."""
    answers_digest: str
    """The digest of the files of samples that belong to these metrics."""
    seconds: float
    """The duration of the evaluation, in seconds; where vLLM answered for several models at once, that of all."""
    engine: NotRequired[EngineRecord]
    """The vLLM that answered; absent where transformers did."""
    disagreement: NotRequired[float]
    """The mean difference of vLLM's log-probabilities from transformers', in nats a token; absent as `engine` is."""
    hosted: NotRequired[HostedModel]
    """What is known of a hosted model; of it alone."""


class Difference(TypedDict):
    """The paired difference of a model's scores and another's on the prompts of a suite."""

    difference: float
    """The mean of the model's score minus the other's."""
    low: float
    """The lower end of the difference's interval."""
    high: float
    """The upper end of the difference's interval."""
    p_value: float
    """The two-sided p-value of there being no difference."""
    verdict: Direction
    prompts: int
    """The number of prompts that both answered and that could be graded."""
    improved: list[str]
    """Ids of the prompts with a higher score than the other's."""
    regressed: list[str]
    """Ids of the prompts with a lower score than the other's."""


class AdjustedDifference(Difference):
    """A difference to the base, whose verdict heeds how many suites and candidates there are."""

    p_adjusted: float
    """The p-value after Holm's correction for the number of suites, times that of the model's candidates that met the
    test split."""


class StartDifference(AdjustedDifference):
    """A difference to the model that the training started from."""

    start: str
    """The name of that model."""


class SuiteScore(Counts, Details):
    """A model's score on one suite."""

    score: float
    """The mean score of what could be graded, in the unit of its suite."""
    low: float
    """The lower end of the score's interval."""
    high: float
    """The upper end of the score's interval."""


class SuiteComparison(SuiteSettings):
    """What one suite says of every model."""

    share: bool
    """Whether scores, all from 0 to 1, read as shares; otherwise they are in the unit of the metric."""
    prompts: int
    prompts_digest: str
    """The digest of the prompts, which is every model's."""
    models: dict[str, SuiteScore]
    """The score of each model, by name."""
    against_baseline: dict[str, AdjustedDifference]
    """The difference of each model but the base to the base, by name."""
    against_start: dict[str, StartDifference]
    """The difference of each model whose start is another compared model to it, by name."""


class TrainingUse(TypedDict):
    """What a training used; null for what its journal does not say."""

    seconds: float | None
    """The duration of the training, in seconds."""
    tokens: int | None
    """Tokens trained on, padding not counted."""
    peak_memory_bytes: int | None
    """The peak of memory, in bytes."""
    trainable_parameters: int | None
    """The number of parameters that trained."""
    total_parameters: int | None
    """The number of all parameters."""
    predicted_memory_bytes: float | None
    """The predicted peak of memory, in bytes."""
    datasets: dict[str, Trained]
    """What each data set of a mixture gave to it; empty where its rows are of one."""
    costs: dict[str, float]
    """Seconds of the training and of every one that it was built on, by model."""
    selection: Selection | None
    """The step whose weights it kept, and why."""


class Cost(TypedDict):
    """What quality is weighed against; null for what was not measured, 0 for a model that was never trained."""

    seconds: float | None
    """Training time in seconds, that of what the model was built on included."""
    memory: float | None
    """The peak of memory of its own training, in bytes."""
    size: float | None
    """Bytes of its weights as they are stored, an adapter's or all."""


class HeldOut(TypedDict):
    """The preference of a model over pairs of the validation split; null for what its journal does not say."""

    pairs: int | None
    """The number of pairs."""
    accuracy: float | None
    """The share of the pairs whose chosen answer is preferred; a tie counts half."""
    low: float | None
    """The lower end of the accuracy's 95% interval."""
    high: float | None
    """The upper end of the accuracy's 95% interval."""
    margin: float | None
    """The mean difference of the rewards of chosen and rejected answer."""
    likelier: float | None
    """The share of the pairs whose chosen answer a policy finds likelier; null for a reward model and for marks."""


class ComparedModel(SuiteScore):
    """A model with its score on the first suite, and what it cost."""

    seconds: float
    """The duration of its evaluation on all suites, in seconds."""
    model_digest: str
    """The digest of its manifest."""
    method: str | None
    """How it was trained, in words; null for the base."""
    objective: str | None
    """The objective of its training; null for the base."""
    weights: str | None
    """The kind of weights that moved; null for the base."""
    start: str | None
    """The name of the model that its training started from; null for the base."""
    training: TrainingUse
    weights_bytes: int
    """Bytes of its weights as they are stored; 0 for the base."""
    cost: Cost
    held_out: dict[str, HeldOut]
    """Its preference over pairs of the validation split, `before` and `after` the training, where that measured it."""
    warnings: list[str]
    """What the checks of its training found doubtful, and those of the training of its reward model."""


class RuleDecision(TypedDict):
    """What one rule of the gate came to for a model."""

    rule: str
    """The rule, in words."""
    outcome: Outcome
    reason: str
    """Why, in words, with the numbers."""
    p_kept: float | None
    """The two-sided p-value of the rule's being kept; null for a rule that is not tested."""
    p_broken: float | None
    """The two-sided p-value of the rule's being broken, after Holm over the rules; null for one that is not tested."""
    regressed: Sequence[str]
    """Ids of the prompts that speak against the model."""
    needed: int | None
    """How many more prompts would probably decide; null for a decided rule, and where no number would decide."""


class GateDecision(TypedDict):
    """Whether a model passes the gate."""

    against: str
    """The name of the model that it was held against."""
    outcome: Outcome
    reason: str
    """One sentence that says why."""
    rules: Sequence[RuleDecision]
    """The outcome of each rule, in the order of params.yaml."""


class Sweeps(TypedDict):
    """The sweeps that chose a model's params."""

    by: str
    """The measurement on the validation split by which they chose: loss, accuracy or score."""
    trials: int
    """The number of trials, over all sweeps."""
    met_test: list[str]
    """The trials whose models met the test split, the present at the end; p-values are corrected for their number."""


class Comparison(TypedDict):
    """reports/comparison.json: every model against the base, on the first suite, which ranks models, and on all."""

    suite: str
    """The name of the first suite; `dataset`, `verifier`, `prompts` and `prompts_digest` are its."""
    dataset: str
    verifier: str | None
    prompts: int
    prompts_digest: str
    confidence: float
    """The coverage of every interval."""
    baseline: str
    """The name of the base."""
    engine: str
    """The engine that answered for all models, in words."""
    models: dict[str, ComparedModel]
    """Each model, by name; the base is the first."""
    against_baseline: dict[str, AdjustedDifference]
    """The difference of each model but the base to the base, on the first suite."""
    against_start: dict[str, StartDifference]
    """The difference of each model to its start, where that is compared and is not the base."""
    best: str
    """The name of the model with the highest score; the first of equals."""
    against_best: dict[str, Difference]
    """The difference of each other model to the best."""
    suites: dict[str, SuiteComparison]
    """The comparison on each suite, by name."""
    gate: dict[str, GateDecision]
    """The gate's decision on each model but the base."""
    sweeps: dict[str, Sweeps]
    """The models whose params sweeps chose, by name."""
    hosted: HostedModel | None
    """The model of a hosted service; null without one."""
    hosted_scores: dict[str, SuiteScore]
    """The score of that model on each suite that it answered, by the suite's name."""
    reward_models: dict[str, dict[str, HeldOut]]
    """The preference of each reward model over pairs of the validation split, `before` and `after` its training."""
    pareto: dict[CostName, list[str]]
    """For each cost, the names of the models on the front of score and cost, the cheapest first."""
