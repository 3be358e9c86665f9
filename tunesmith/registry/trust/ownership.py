"""The mark of ownership of a registered model: tags with a trusted user's signature over the model's name.

Any account of a tracking server may create a registered model under any free name; its creator may delete versions and
keep others from adding some. A model that a stranger created first must not pass for ours.
"""

from tunesmith.core.errors import IntegrityError, UntrustedError
from tunesmith.registry import signing as signatures
from tunesmith.registry.registered_models import Registry
from tunesmith.registry.signing import Signing

MARK, PART_LENGTH = "tunesmith.mark", 4000
"""The tags ``tunesmith.mark.0``, ``.1``, ... hold the signature in parts of 4000 characters; a tag holds 5000."""


def create(registry: Registry, name: str, signing: Signing) -> None:
    """Create a registered model, in one transaction with its mark, unless the name is taken; `check` tells by whom."""
    registry.create(name, _tags(name, signing))


def mark(registry: Registry, name: str, signing: Signing) -> None:
    """Mark an existing registered model. Raises RegistryError where this account may not change it."""
    for tag, part in _tags(name, signing).items():
        registry.tag(name, tag, part)


def check(registry: Registry, name: str, signing: Signing) -> bool:
    """Return whether the registered model exists. Raises IntegrityError where it lacks a trusted user's mark."""
    tags = registry.tags(name)
    if tags is None:
        return False
    signature = "".join(tags.get(f"{MARK}.{number}", "") for number in range(len(tags)))
    try:
        signatures.verify_text(mark_text(name), signature, signing, withdrawn=True)
    except UntrustedError as error:
        signer = error.reason.partition(": ")[2]  # without the temporary file before it
        raise UntrustedError(f"{name} was made by somebody else, {signer}", fix=error.fix) from None
    except IntegrityError:
        raise IntegrityError(
            f"{name} was made by somebody else, or by other means than registering: it lacks a trusted user's mark",
            fix="see in the tracker who made it and what it holds; your own history of an earlier release, without a "
            "mark, gets one when a model is registered again where all its signers are trusted (params.yaml, "
            f"signing.trusted); where {name} is somebody else's, have its owner or an administrator remove it",
        ) from None
    return True


def _tags(name: str, signing: Signing) -> dict[str, str]:
    signature = signatures.sign_text(mark_text(name), signing)
    parts = [signature[start : start + PART_LENGTH] for start in range(0, len(signature), PART_LENGTH)]
    return {f"{MARK}.{number}": part for number, part in enumerate(parts)}


def mark_text(name: str) -> str:
    """Return the text that a mark signs."""
    return f"The registered model {name} was made by Tunesmith."
