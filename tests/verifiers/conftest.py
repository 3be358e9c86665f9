from collections.abc import Iterator

import pytest

from tunesmith.verifiers import catalog


@pytest.fixture(scope="package", autouse=True)
def _workers_end() -> Iterator[None]:
    yield
    for pool in catalog.POOLS.values():
        pool.stop()
