"""Registered models that were made by who is trusted: a signature over the name is among the tags.

Any account of a tracking server may make a registered model of any name that is free, and who made one may take
versions out of it, and keep others from adding some. One that somebody else made first must not pass for ours.
"""

from tunesmith.core.errors import IntegrityError, UntrustedError
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Signing

MARK, PART = "tunesmith.mark", 4000
"""Tags ``tunesmith.mark.0`` and on: the signature, in parts of so many characters, of which a database takes 5000."""


def create(registry: Registry, name: str, signing: Signing) -> None:
    """Make a registered model, marked from its first moment, unless there is one of the name; `check` tells whose."""
    registry.create(name, _tags(name, signing))


def mark(registry: Registry, name: str, signing: Signing) -> None:
    """Mark a registered model that is there. Raises RegistryError for who may not change it."""
    for tag, part in _tags(name, signing).items():
        registry.tag(name, tag, part)


def check(registry: Registry, name: str, signing: Signing) -> bool:
    """Whether there is such a registered model. Raises IntegrityError where somebody made it who is not trusted."""
    tags = registry.tags(name)
    if tags is None:
        return False
    signature = "".join(tags.get(f"{MARK}.{number}", "") for number in range(len(tags)))
    try:
        signatures.verify_text(_text(name), signature, signing)
    except UntrustedError as error:
        signed = error.reason.partition(": ")[2]  # before it stands a temporary file
        raise UntrustedError(f"{name} was made by somebody else, {signed}", fix=error.fix) from None
    except IntegrityError:
        raise IntegrityError(
            f"{name} was made by somebody else, or by other means than registering: nobody trusted signed its name",
            fix="see in the tracker who made it and what is in it; your own history from before there were marks gets "
            "one when a model is registered again where all who signed it are trusted (params.yaml, signing.trusted); "
            f"where {name} is somebody else's, have its owner or an administrator remove it",
        ) from None
    return True


def _tags(name: str, signing: Signing) -> dict[str, str]:
    signature = signatures.sign_text(_text(name), signing)
    parts = [signature[start : start + PART] for start in range(0, len(signature), PART)]
    return {f"{MARK}.{number}": part for number, part in enumerate(parts)}


def _text(name: str) -> str:
    return f"The registered model {name} was made by Tunesmith."
