"""Commits of repositories on the Hugging Face hub."""

from typing import Literal

from httpx2 import HTTPError  # of its transport, which the hub's client passes on
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tunesmith.core.errors import BaseModelError, UnreachableBaseError

SECONDS = 10.0
"""Timeout of a request to the hub."""


def commit(repo: str, revision: str = "main", *, kind: Literal["model", "dataset"] = "model") -> str:
    """The commit, as 40 hex digits, that a branch, a tag or the start of a commit's hash names now.

    repo: OWNER/NAME. Raises UnreachableBaseError where the hub does not answer, and BaseModelError where it has no such
    repository or revision, or does not show it without a token.
    """
    where, what = f"{repo}@{revision}", "data set" if kind == "dataset" else "model"
    try:
        info = HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=SECONDS)
    except RevisionNotFoundError:
        raise BaseModelError(
            f"{where}: the repository has no branch, tag or commit {revision!r}",
            fix=f"leave the revision out to take the newest commit: {repo}",
        ) from None
    except (GatedRepoError, RepositoryNotFoundError):
        token = "the token of this machine has no access" if get_token() else "this machine has no token"
        raise BaseModelError(
            f"{where}: the hub shows no {what} of this name: it does not exist, or it is private or gated and {token}",
            fix="check the name; for a private or gated one, set HF_TOKEN to a token of an account that has access",
        ) from None
    except HFValidationError as error:
        raise BaseModelError(f"{where}: not the name of a repository: {error}", fix="write OWNER/NAME") from None
    except OfflineModeIsEnabled:
        raise UnreachableBaseError(
            f"{where}: HF_HUB_OFFLINE is set, and the hub alone knows what {revision!r} is now", fix="unset it"
        ) from None
    except (HTTPError, OSError) as error:
        raise UnreachableBaseError(
            f"{where}: the hub did not answer: {error}",
            fix="check the network (and HF_ENDPOINT, if set); a folder needs no hub: base_model: {path: FOLDER}",
        ) from None
    assert info.sha is not None
    return info.sha
