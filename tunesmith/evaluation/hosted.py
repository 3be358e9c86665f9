"""What the documents of an evaluation say of a hosted model."""

from typing import TypedDict


class HostedModel(TypedDict):
    """What is known of the hosted model behind an endpoint."""

    models: dict[str, int]
    """The number of answers of each model that the service named; several where it changed what a name stands for."""
    first: str
    """The date of the first answer, in UTC."""
    last: str
    """The date of the last answer, in UTC."""
    answers: int
    refused: int
    """The number of answers that the service or the model marked as refused."""
    prompt_tokens: int
    """Tokens of all prompts, as the service counts them."""
    completion_tokens: int
    """Tokens of all answers, as the service counts them."""
