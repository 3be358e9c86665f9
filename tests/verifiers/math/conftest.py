from collections.abc import Iterator

import pytest

from tunesmith.verifiers.math import verifier


@pytest.fixture(scope="module", autouse=True)
def _worker_ends() -> Iterator[None]:
    yield
    verifier.WORKER.stop()
