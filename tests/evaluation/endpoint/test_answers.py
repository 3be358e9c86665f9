import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import image_files
import pytest
import tiny_vision

from stages import baseline as stage
from tunesmith.core import layout, params, ready_rows
from tunesmith.core.errors import EvaluationError
from tunesmith.core.ready_rows import Row
from tunesmith.evaluation.endpoint import answers, grade
from tunesmith.evaluation.endpoint.answers import Asked
from tunesmith.evaluation.endpoint.settings import Baseline
from tunesmith.evaluation.evaluate import SuiteRows
from tunesmith.evaluation.suites import Answers

KEY = "sk-test-secret"
Reply = tuple[int, dict[str, Any], dict[str, str]]
"""HTTP status, body and headers."""


def says(text: str | None, finish: str = "stop", **message: Any) -> Reply:
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 10, "completion_tokens": 3}
    return 200, {"model": "served-2024-07-18", "choices": [choice], "usage": usage}, {}


def fails(status: int, code: str = "", param: str | None = None, **headers: str) -> Reply:
    error = {"message": f"Unsupported: key {KEY}", "code": code, "param": param}
    return status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()}


class Service:
    """An OpenAI-compatible service on this machine, whose play answers a request, by its body and number from 0."""

    def __init__(self, play: Callable[[dict[str, Any], int], Reply | None]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        service, lock = self, Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(service.bodies)
                    service.bodies.append(body)
                    service.keys.add(self.headers["Authorization"])
                reply = play(body, number) if self.path == "/v1/chat/completions" else fails(404)
                if reply is None:
                    return  # the connection is lost
                status, content, headers = reply
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(BrokenPipeError):
                    self.wfile.write(json.dumps(content).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"


Start = Callable[[Callable[[dict[str, Any], int], Reply | None]], Service]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HOSTED_KEY", KEY)
    started: list[Service] = []

    def serve(play: Callable[[dict[str, Any], int], Reply | None]) -> Service:
        started.append(Service(play))
        Thread(target=started[-1].server.serve_forever, args=(0.02,), daemon=True).start()
        return started[-1]

    yield serve
    for service in started:
        service.server.shutdown()
        service.server.server_close()


def hosted(service: Service, **changes: Any) -> Baseline:
    values = {"base_url": service.url, "model": "ft:mine", "api_key_variable": "HOSTED_KEY", "backoff": 0}
    return Baseline.model_validate(values | changes)


def rows(count: int) -> list[Row]:
    return [
        {"id": f"{n:016x}", "prompt": [{"role": "user", "content": f"{n} + {n}?"}], "reference": str(2 * n)}
        for n in range(count)
    ]


def ask(settings: Baseline, asked: list[Row], folder: Path, kept: Any = ()) -> list[answers.BaselineAnswer]:
    suites = {"sums": (Asked(dataset="sums", max_new_tokens=8), asked)}
    return answers.ask_all(settings, suites, kept, folder / "asked.jsonl")[0]


def right(body: dict[str, Any], number: int) -> Reply:
    return says(str(2 * int(body["messages"][-1]["content"].split()[0])))


def test_every_prompt_is_asked_once_with_the_key_and_in_the_order_of_the_rows(start: Start, tmp_path: Path) -> None:
    service = start(right)
    settings = hosted(service, request={"seed": 1})
    first = ask(settings, rows(20), tmp_path)
    assert [answer["text"] for answer in first] == [str(2 * n) for n in range(20)]
    assert {answer["model"] for answer in first} == {"served-2024-07-18"}
    assert service.keys == {f"Bearer {KEY}"}
    assert all(body["max_tokens"] == 8 and body["temperature"] == 0 and body["seed"] == 1 for body in service.bodies)
    assert KEY not in json.dumps(first)
    assert ask(settings, rows(20), tmp_path, first) == first
    assert len(service.bodies) == 20
    ask(hosted(service, request={"seed": 2}), rows(20), tmp_path, first)
    assert len(service.bodies) == 40


def test_the_answers_of_a_run_that_was_cut_short_are_not_paid_for_again(start: Start, tmp_path: Path) -> None:
    credit = Event()

    def play(body: dict[str, Any], number: int) -> Reply:
        return right(body, number) if number < 5 or credit.is_set() else fails(429, "insufficient_quota")

    service = start(play)
    with pytest.raises(EvaluationError, match="add credit"):
        ask(hosted(service, concurrency=1), rows(9), tmp_path)
    with (tmp_path / "asked.jsonl").open("ab") as journal:
        journal.write(b'{"suite": "sums", "te')  # killed while it wrote
    credit.set()
    kept = answers.read(tmp_path / "asked.jsonl")
    before = len(service.bodies)
    assert [answer["text"] for answer in ask(hosted(service), rows(9), tmp_path, kept)] == [
        str(2 * n) for n in range(9)
    ]
    assert len(kept) == 5
    assert len(service.bodies) == before + 4


@pytest.mark.parametrize("trouble", [fails(429), fails(429, retry_after_ms="250"), fails(500), fails(503), None])
def test_a_service_that_asks_for_patience_gets_it(start: Start, tmp_path: Path, trouble: Reply | None) -> None:
    service = start(lambda body, number: trouble if number < 3 else right(body, number))
    [answer] = ask(hosted(service), rows(1), tmp_path)
    assert (answer["text"], len(service.bodies)) == ("0", 4)


def test_the_wait_that_a_server_asks_for_is_kept_or_ends_the_run(start: Start, tmp_path: Path) -> None:
    service = start(lambda body, number: fails(429, retry_after="3600"))
    with pytest.raises(EvaluationError, match="asks to wait 3600 s"):
        ask(hosted(service), rows(1), tmp_path)
    assert len(service.bodies) == 1


@pytest.mark.parametrize(
    ("trouble", "fix"),
    [
        (fails(401), "api_key_variable"),
        (fails(404, "model_not_found"), "baseline.base_url, .model"),
        (fails(400, "context_length_exceeded"), "baseline.base_url, .model"),
        (fails(429, "insufficient_quota"), "add credit at the service"),
    ],
)
def test_what_no_waiting_ends_is_asked_once_and_names_its_fix_without_the_key(
    start: Start, tmp_path: Path, trouble: Reply, fix: str
) -> None:
    service = start(lambda body, number: trouble)
    with pytest.raises(EvaluationError, match=fix) as error:
        ask(hosted(service), rows(1), tmp_path)
    assert KEY not in str(error.value)
    assert len(service.bodies) == 1


def test_a_reply_that_is_no_chat_completion_and_a_missing_key_are_errors(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start(lambda body, number: (200, {"choices": []}, {}))
    with pytest.raises(EvaluationError, match="does not reply as chat completions do"):
        ask(hosted(service), rows(1), tmp_path)
    monkeypatch.delenv("HOSTED_KEY")
    with pytest.raises(EvaluationError, match="HOSTED_KEY, which is not set"):
        ask(hosted(service), rows(1), tmp_path)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (says(None, refusal="I cannot help with that."), "I cannot help with that."),
        (says("", "content_filter"), ""),
        (fails(400, "content_filter"), ""),
    ],
)
def test_a_refusal_is_an_answer(start: Start, tmp_path: Path, reply: Reply, text: str) -> None:
    service = start(lambda body, number: reply)
    [answer] = ask(hosted(service), rows(1), tmp_path)
    assert (answer["text"], answer["refused"]) == (text, True)


def test_fields_that_a_model_does_not_take_are_renamed_or_left_out(start: Start, tmp_path: Path) -> None:
    def play(body: dict[str, Any], number: int) -> Reply:
        refused = next((name for name in ("max_tokens", "temperature") if name in body), None)
        return fails(400, "unsupported_parameter", refused) if refused else right(body, number)

    service = start(play)
    assert len(ask(hosted(service), rows(6), tmp_path)) == 6
    assert service.bodies[-1]["max_completion_tokens"] == 8


def test_calls_of_tools_are_sent_as_the_api_has_them_and_read_as_text(start: Start, tmp_path: Path) -> None:
    call = {"name": "weather", "arguments": {"city": "Porto"}}
    sent = {"id": "call_0", "type": "function", "function": call | {"arguments": '{"city":"Porto"}'}}
    service = start(lambda body, number: says(None, "tool_calls", tool_calls=[sent]))
    prompt = [
        {"role": "user", "content": "Warm?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": call}]},
        {"role": "tool", "content": "20", "tool_call_id": "call_0"},
    ]
    row: Any = {"id": "1", "prompt": prompt, "tools": [{"type": "function", "function": {"name": "weather"}}]}
    [answer] = ask(hosted(service), [row], tmp_path)
    assert service.bodies[0]["messages"][1]["tool_calls"] == [sent]
    assert service.bodies[0]["tools"] == row["tools"]
    assert answer["text"] == f"<tool_call>\n{json.dumps(call)}\n</tool_call>"


def test_more_prompts_than_allowed_are_refused_before_any_is_asked(start: Start, tmp_path: Path) -> None:
    service = start(right)
    with pytest.raises(EvaluationError, match="3 prompts would be asked, more than baseline"):
        ask(hosted(service, max_prompts=2), rows(3), tmp_path)
    assert not service.bodies


def test_the_closing_line_says_what_was_paid(start: Start, tmp_path: Path) -> None:
    settings = hosted(start(right), price={"input": 100000, "output": 1e6})
    found = ask(settings, rows(2), tmp_path)
    assert answers.cost(found, settings) == "2 asked, 20 tokens in, 6 out, cost 8.00"


def test_answers_are_graded_like_a_models_and_a_missing_one_is_an_error(start: Start, tmp_path: Path) -> None:
    found = ask(hosted(start(lambda body, number: says("0", "length" if number else "stop"))), rows(3), tmp_path)
    asked = SuiteRows("sums", Answers(dataset="sums", verifier="number"), rows(3))
    samples = grade.grade({"sums": asked}, found, lambda text: len(text.split()))["sums"]
    assert [(sample["score"], sample["status"]) for sample in samples] == [(1, "scored"), (0, "scored"), (0, "scored")]
    assert sorted(bool(sample["stopped"]) for sample in samples) == [False, False, True]
    assert grade.about(found)["models"] == {"served-2024-07-18": 3}
    with pytest.raises(EvaluationError, match="has not answered 1 of 3 prompts of sums"):
        grade.grade({"sums": asked}, found[:2], len)


def test_the_stage_writes_the_answers_and_asks_nothing_where_params_name_no_baseline(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    service = start(right)
    test_file = layout.split("sums", "test")
    test_file.parent.mkdir(parents=True)
    ready_rows.write_jsonl(test_file, rows(4))
    asked = {"sums": {"dataset": "sums", "limit": 3, "max_new_tokens": 8}}
    path = params.resolved("baseline")
    path.parent.mkdir(parents=True)
    ready_rows.write_json(path, {"baseline": hosted(service).model_dump(mode="json"), "suites": asked})
    assert stage.main().endswith("3 answers of ft:mine, 0 refused; 3 asked, 30 tokens in, 9 out")
    assert stage.main().endswith("; 0 asked, 0 tokens in, 0 out")
    assert not stage.JOURNAL.exists()
    ready_rows.write_json(path, {})
    assert stage.main() == f"{layout.BASELINE}: params.yaml names no baseline"
    assert answers.read(layout.BASELINE) == []


def test_an_image_is_sent_as_a_data_url_and_asked_again_where_it_changed(start: Start, tmp_path: Path) -> None:
    parts = tiny_vision.draw(tmp_path / "ready" / "sums" / "images", ["red", "blue"])
    service = start(lambda body, number: says(body["messages"][0]["content"][0]["image_url"]["url"][-24:]))
    settings, text = hosted(service), {"type": "text", "text": "What color?"}
    seen: list[Row] = [
        {"id": part["image"][:16], "prompt": [{"role": "user", "content": [part, text]}]} for part in parts
    ]  # type: ignore[list-item]

    def asked(rows: list[Row], kept: Any) -> list[answers.BaselineAnswer]:
        suites = {"sums": (Asked(dataset="sums", max_new_tokens=8), rows)}
        return answers.ask_all(settings, suites, kept, tmp_path / "asked.jsonl", tmp_path / "ready")[0]

    first = asked(seen[:1], ())
    file = tmp_path / "ready" / "sums" / "images" / f"{parts[0]['image']}.png"
    [content] = [message["content"] for body in service.bodies for message in body["messages"]]
    assert content == [{"type": "image_url", "image_url": {"url": image_files.url(file.read_bytes())}}, text]
    both = asked(seen, first)
    assert len(service.bodies) == 2
    assert both[0]["text"] == first[0]["text"]
    assert parts[0]["image"] not in json.dumps(service.bodies)
