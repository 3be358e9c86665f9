import pytest

from tunesmith.verifiers import catalog
from tunesmith.verifiers.code import refused_tests

REFUSED = {
    "assert eval(candidate(3)) == 6": "eval",
    "assert eval(candidate(3), {}) == 6": "eval",
    "exec(candidate(3), space)": "exec",
    "run = eval\nassert run(candidate(3)) == 6": "eval",
    "assert sum(map(eval, candidate(3))) == 6": "eval",
    "exec(compile(candidate(3), '', 'exec'))": "exec",
    "import pickle\nassert pickle.loads(candidate(3)) == 6": "pickle",
    "from pickle import loads\nassert loads(candidate(3)) == 6": "pickle",
    "import marshal as m": "marshal",
    "assert __import__('pickle').loads(candidate(3)) == 6": "pickle",
    "assert __import__(candidate(3))": "__import__",
    "__builtins__['ev' + 'al'](candidate(3))": "__builtins__",
    "import timeit\ntimeit.timeit(candidate(3))": "timeit",
    "class S:\n    def __getitem__(self, i): return candidate(i)": "__getitem__",
    "try: candidate(3)\nexcept StopIteration: pass": "StopIteration",
}
KEPT = [
    "assert candidate(3) == eval('2 + 4')",
    "import re\nassert re.compile('a').match(candidate(3))",
    "import ast\nassert ast.literal_eval(candidate(3)) == 6",
    "assert __import__('math').isclose(candidate(3), 6)",
    "evaluate = str\nassert evaluate(candidate(3)) == '6'",
    "def check(",
]


@pytest.mark.parametrize("body", REFUSED)
def test_a_test_that_runs_what_the_program_returns_is_refused_by_name(body: str) -> None:
    test = "def check(candidate):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    reason = refused_tests.reason(test)
    assert reason
    assert f"uses {REFUSED[body]}:" in reason
    row = {"entry_point": "f", "test": test, "reference": "def f(x): return 2 * x"}
    verdict = catalog.verify("code", "def f(x): return 6", row)
    assert (verdict.status, verdict.reason) == ("not_gradable", reason)


@pytest.mark.parametrize("body", KEPT)
def test_a_test_that_runs_only_its_own_text_is_kept(body: str) -> None:
    assert refused_tests.reason(body) is None
