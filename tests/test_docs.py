"""README and docs: their params parse, their commands and options exist, their links lead somewhere.

A block ```yaml is a params.yaml or a part of one, ```text quotes our errors (… stands for what varies), one without a
language holds commands, each on a line with a comment or, after two spaces, what it prints.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from dvc.cli import DvcParserError
from dvc.cli.parser import get_main_parser
from pydantic import ValidationError

from tunesmith.cli.main import main
from tunesmith.core import params
from tunesmith.project import checks, document
from tunesmith.project.document import Document

ROOT = Path(__file__).parents[1]
PAGES = {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
TARGETS = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
PROGRAMS = ("tunesmith", "dvc", "make", "docker", "python", "pip")
DVC = get_main_parser()
SCHEMA = Document.model_json_schema()


def blocks(language: str) -> list[tuple[str, str]]:
    """The blocks of every page in a language, each with its page."""
    return [
        (page, text) for page, content in PAGES.items() for kind, text in BLOCK.findall(content) if kind == language
    ]


def spans() -> list[tuple[str, str]]:
    """The code within the sentences of every page, each with its page."""
    found = ((page, SPAN.findall(BLOCK.sub("", content))) for page, content in PAGES.items())
    return [(page, " ".join(span.split())) for page, texts in found for span in texts]


def commands(text: str) -> Iterator[list[str]]:
    """The commands of a line as words, without variables before them and explanations behind them."""
    line = re.split(r"\s{2,}|\s#\s", text.removeprefix("$ ").strip())[0].replace(".venv/bin/", "")
    for part in line.split(" && "):
        words = shlex.split(part) if part.count("'") % 2 == 0 and part.count('"') % 2 == 0 else []
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words and words[0] in PROGRAMS:
            yield words


def check_tunesmith(words: list[str], *, whole: bool = True) -> None:
    """Raise UsageError, or fail, for a command, an option or a value that there is not.

    whole: whether every argument must be there.
    """
    command = main.commands[words[0]]
    if isinstance(command, click.Group) and len(words) > 1:
        words = words[1:]
        command = command.commands[words[0]]
    context = click.Context(command, info_name=words[0])
    if not whole and words[-1].startswith("--"):  # an option that is named without its value
        assert words.pop() in {option for param in command.params for option in param.opts}
    values, left, _ = command.make_parser(context).parse_args(words[1:])
    assert not left, f"{left} are one argument too many"
    for param in command.params:
        value = values.get(str(param.name))
        missing = param.value_is_missing(value)
        assert not (missing and whole and param.required), f"{param.name} is missing"
        if not missing and not isinstance(param.type, click.Path):
            param.type_cast_value(context, value)


def check_dvc(words: list[str], *, whole: bool = True) -> None:
    """Raise DvcParserError, or fail, for a command, an option, a stage or a param that there is not."""
    if not whole and len(words) == 1:
        with suppress(SystemExit):  # of a command that there is
            DVC.parse_args([*words, "--help"])
        return
    arguments = DVC.parse_args(words)
    named = arguments.targets or [] if words[0] in ("repro", "commit", "status") else []
    for target in named:
        stage, _, entry = target.partition("@")
        assert stage in STAGES, f"dvc.yaml has no stage {stage}"
        assert not entry or "foreach" in STAGES[stage], f"{stage} has no entries"
    for setting in getattr(arguments, "set_param", None) or []:
        check_param(setting.lstrip("+").partition("=")[0])


def check_make(words: list[str], *, whole: bool = True) -> None:
    assert {word for word in words if "=" not in word} <= TARGETS


def check_docker(words: list[str], *, whole: bool = True) -> None:
    if words[0] == "compose":
        profiles = {profile for service in COMPOSE.values() for profile in service.get("profiles", [])}
        assert {after for word, after in pairwise(words) if word == "--profile"} <= profiles
        assert "restart" not in words or set(words[words.index("restart") + 1 :]) <= COMPOSE.keys()


def check_python(words: list[str], *, whole: bool = True) -> None:
    if words[:2] in (["-m", "venv"], ["-m"]):
        return
    assert words[0] == "-m"
    module = ROOT.joinpath(*words[1].split("."))
    assert module.is_dir() or module.with_suffix(".py").exists()


def check_pip(words: list[str], *, whole: bool = True) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for extra in re.findall(r"tunesmith\[(\w+)\]", " ".join(words)):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), f"there is no extra {extra}"


CHECKS: dict[str, Callable[..., None]] = {
    "tunesmith": check_tunesmith,
    "dvc": check_dvc,
    "make": check_make,
    "docker": check_docker,
    "python": check_python,
    "pip": check_pip,
}


def check_param(path: str) -> None:
    """Fail unless a dotted path, in which an entry may have any name, leads to a param."""
    places = [SCHEMA]
    for name in path.split("."):
        places = [below for place in places for below in _below(place, name)]
        assert places, f"there is no param {path}"


def _below(place: dict[str, Any], name: str) -> list[dict[str, Any]]:
    if "$ref" in place:
        place = SCHEMA["$defs"][place["$ref"].rpartition("/")[2]]
    members = [member for key in ("anyOf", "oneOf", "allOf") for member in place.get(key, [])]
    found = [below for member in members for below in _below(member, name)]
    entries = place.get("additionalProperties")
    known = place.get("properties", {}).get(name)
    return [*found, *([known] if known else []), *([entries] if isinstance(entries, dict) else [])]


def check_part(content: dict[str, Any]) -> None:
    """Fail for values that no params.yaml may hold; what a part leaves out may be missing."""
    params.check_sections(content, Path("params.yaml"))
    try:
        Document.model_validate(content)
    except ValidationError as error:
        wrong = [
            problem for problem in error.errors() if problem["type"] not in ("missing", "default_factory_not_called")
        ]
        assert not wrong, wrong


@pytest.mark.parametrize(("page", "text"), blocks("yaml"))
def test_every_block_of_params_is_valid(page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(text)
    check_part(content)
    if not {"base_model", "data", "evaluate"} <= content.keys():
        return
    params.PATH.write_text(text)
    for place in [Path("data/held_out/rows"), *(Path(entry["path"]) for entry in content["data"].values())]:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    checks.check(document.load())


def test_the_guides_params_are_short() -> None:
    [(_, text)] = [block for block in blocks("yaml") if block[0] == "docs/guide.md"]
    assert len(text.splitlines()) <= 20


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_block_exists(page: str) -> None:
    lines = [line for place, text in blocks("") if place == page for line in text.splitlines()]
    for line in lines:
        for program, *words in commands(line):
            CHECKS[program](words)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_param_in_a_sentence_exists(page: str) -> None:
    for span in (text for place, text in spans() if place == page):
        name, colon, _ = span.partition(": ")
        if name.split(".")[0] in params.SECTIONS and re.fullmatch(r"[\w.-]+", name) and (colon or "." in name):
            check_param(name)
            value: Any = yaml.safe_load(span)[name] if colon else None
            for part in reversed(name.split(".")):
                value = {part: value}
            if colon:
                check_part(value)
        for program, *words in commands(span):
            if words:
                CHECKS[program](words, whole=False)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        path, _, anchor = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def test_every_page_and_every_picture_is_linked() -> None:
    linked = {
        ((ROOT / page).parent / target.partition("#")[0]).resolve()
        for page, text in PAGES.items()
        for target in re.findall(r"\]\(([^)]+)\)", text)
    }
    assert linked >= {*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "pictures").iterdir()}


def test_quoted_errors_are_ours() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tunesmith").rglob("*.py"))
    texts = re.sub(r'"\s*\n\s*f?"', "", sources)  # strings that go on in the next line
    quoted = [line for _, text in blocks("text") for line in text.splitlines()]
    assert len(quoted) > 10
    for line in quoted:
        for part in filter(None, line.split("…")):
            assert part in texts, line


@pytest.mark.parametrize(
    "line",
    [
        "tunesmith inti",
        "tunesmith plan --gpuz 24",
        "tunesmith plan --kind pairs",
        "tunesmith promote",
        "tunesmith promote a b",
        "dvc repro train_sfd@sft-lora",
        "dvc repro evaluate@sft-lora",
        "dvc repro --forse evaluate",
        "dvc exp run -S 'sft.sft-lora.lora.rnak=8'",
        "make tets",
        "docker compose --profile tpu up",
        "python -m benchmarks.memroy cpu",
        "pip install 'tunesmith[cuda]'",
    ],
)
def test_a_misspelt_command_is_found(line: str) -> None:
    [(program, *words)] = commands(f"{line}   explained")
    with pytest.raises((AssertionError, KeyError, click.UsageError, DvcParserError)):
        CHECKS[program](words)


@pytest.mark.parametrize("text", ["sft: {a: {dataset: b, wieghts: lora}}", "serve: {engine: vlm}", "dta: {}"])
def test_a_misspelt_param_is_found(text: str) -> None:
    with pytest.raises((AssertionError, params.ParamsError)):
        check_part(yaml.safe_load(text))
