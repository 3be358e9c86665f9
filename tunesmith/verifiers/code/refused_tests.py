"""Refuse tests in which a program could answer for the test.

The sandboxed process of a test holds the nonce that proves its outcome. A value that the program returned cannot reach
it, unless the test itself runs the value, as `eval` and `pickle` do. Nor may an error of the program silently end a
loop of the test: an IndexError ends an iteration through ``__getitem__``, and a StopIteration never arrives (see
`sandbox.child`).
"""

import ast
from collections.abc import Iterator

EVALUATORS = ("eval", "exec", "compile", "__import__")
"""Functions that run a text; one that is called with constants alone runs none of the program's."""
MODULES = (
    *("builtins", "cloudpickle", "code", "cProfile", "ctypes", "dill", "joblib", "marshal", "pdb", "pickle", "_pickle"),
    *("profile", "runpy", "shelve", "timeit"),
)
"""Modules that run or unpickle what they are given."""
PROTOCOLS = ("__getitem__", "__getattr__", "__missing__")
"""Methods of a test whose errors Python takes for the end of a loop or for a missing item."""
RUNS = "what the program returns could run there, and report a pass"
HIDES = "an error of the program could end the test there in silence"


def reason(source: str) -> str | None:
    """The reason why a test may not run, which names its line; None for one that may, or that does not compile."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    constant = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _has_constants_alone(node)}
    for node in ast.walk(tree):
        if id(node) not in constant:
            for name, why in _refused(node):
                line = getattr(node, "lineno", 0)
                return f"line {line} of the test uses {name}: {why}; `{source.splitlines()[line - 1].strip()[:80]}`"
    return None


def _refused(node: ast.AST) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Name(id=name) if name in (*EVALUATORS, "__builtins__"):
            yield name, RUNS
        case ast.Name(id="StopIteration" | "StopAsyncIteration" as name):
            yield name, HIDES
        case ast.Import(names=aliases):
            yield from ((alias.name, RUNS) for alias in aliases if alias.name.partition(".")[0] in MODULES)
        case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
            yield module, RUNS
        case ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=name)]) if name in MODULES:
            yield str(name), RUNS
        case ast.FunctionDef(name=name) if name in PROTOCOLS:
            yield name, HIDES


def _has_constants_alone(call: ast.Call) -> bool:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return bool(values) and all(isinstance(value, ast.Constant) for value in values)
