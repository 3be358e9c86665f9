import pytest

from tunesmith.verifiers.code.program import extract


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        ("```python\nx = 1\n```\n```python\ndef f(): pass\n```\n```python\nf()\n```", "def f(): pass"),
        ("```python\nx = 1\n```\nthen\n```\ny = 2\n```", "y = 2"),
        ("```bash\npip install x\n```\n```python\ndef f(): pass\n```", "def f(): pass"),
        ("  ```python\n  return 1\n  ```", "  return 1"),
        ("    return 1", "    return 1"),
    ],
)
def test_the_code_is_the_last_block_that_defines_the_function(completion: str, code: str) -> None:
    assert extract(completion, "f") == code
