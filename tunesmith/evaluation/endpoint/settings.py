"""The section `baseline` of params.yaml."""

from typing import Literal

from pydantic import Field, HttpUrl, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from tunesmith.core.params import Section

NAME: Literal["baseline"] = "baseline"
"""The name of the endpoint's model, for `gate.against` and in reports."""


class Price(Section):
    """The service's price of a million tokens, in any currency."""

    input: NonNegativeFloat
    output: NonNegativeFloat


class Baseline(Section):
    """A model behind an OpenAI-compatible endpoint, whose answers others are held against; null for none."""

    base_url: HttpUrl
    """The endpoint's address without ``/chat/completions``, as in https://api.openai.com/v1."""
    model: str
    """The model's id at the service, such as ft:gpt-4o-mini-2024-07-18:acme::abc123."""
    api_key_variable: str | None = None
    """The environment variable that holds the key, which is written nowhere; null for an endpoint without keys."""
    temperature: NonNegativeFloat | None = 0
    """0 for its likeliest answers, as every other model is asked; null sends none."""
    max_tokens: PositiveInt | None = None
    """Longest answer, in the service's tokens; null: the suites' max_new_tokens. More for a model that thinks first,
    since its thoughts count."""
    request: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of a request, such as {reasoning_effort: low}."""
    max_prompts: PositiveInt = 5000
    """Greatest number of prompts to pay for in a run; more of them stop the stage before it asks any."""
    concurrency: PositiveInt = 4
    """Number of requests in flight."""
    timeout: PositiveFloat = 120
    """Timeout of a request, in seconds without a byte received."""
    retries: NonNegativeInt = 6
    """Retries of a request after a timeout, a lost connection, a rate limit or an error of the server."""
    backoff: NonNegativeFloat = 1
    """Seconds before the first retry; each further one waits twice as long, or as long as the server asks for."""
    max_wait: PositiveFloat = 300
    """Longest wait that a server may ask for, in seconds; a longer one ends the stage, which goes on later."""
    price: Price | None = None
    """Prices, such as {input: 0.3, output: 1.2}, for the cost in the closing line and in the report."""
