from collections.abc import Iterator

import pytest

from tunesmith.verifiers import catalog, public_graders


@pytest.fixture(scope="package", autouse=True)
def _workers_end() -> Iterator[None]:
    yield
    for pool in (*catalog.POOLS.values(), public_graders.POOL):
        pool.stop()
