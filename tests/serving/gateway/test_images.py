"""Images come within requests, within bounds; nothing is fetched for a client, from a network or a disk."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import fake_engine
import httpx2
import image_files as files
import pytest
from serving_settings import SETTINGS, WordReader

from tunesmith.serving.gateway import images
from tunesmith.serving.gateway.proxy import Proxy, Upstream
from tunesmith.serving.gateway.requests import Chat, RequestError
from tunesmith.serving.gateway.web import listening

PNG = files.url(files.png(1))


class SeeingReader(WordReader):
    reads_images = True


def part(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def body(*content: dict[str, Any], role: str = "user") -> dict[str, Any]:
    turns = [{"role": role, "content": [*content, {"type": "text", "text": "What is it?"}]}]
    return {"model": "shapes", "messages": turns if role == "user" else [*turns, {"role": "user", "content": "?"}]}


@pytest.fixture(scope="module")
def received() -> list[Any]:
    return []


@pytest.fixture(scope="module", params=["transformers", "vllm"])
def url(request: pytest.FixtureRequest, received: list[Any]) -> Iterator[str]:
    """A gateway before an engine, whichever of the two, that reads images."""
    with TemporaryDirectory() as folder:
        script = {"otherwise": "a square", "received": received}
        server = fake_engine.server("shapes@1", str(Path(folder, "e.sock")), script)
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        proxy = Proxy("shapes", None)
        served: Any = {"version": "1", "engine": request.param}
        proxy.switch(Upstream(Path(folder, "e.sock"), "shapes@1", served, SeeingReader()))
        with listening([proxy], SETTINGS.model_copy(update={"max_request_bytes": 20_000_000}), 0) as address:
            yield address
        server.shutdown()
        server.server_close()


def post(url: str, asked: dict[str, Any]) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/chat/completions", json=asked, trust_env=False, timeout=30)


def test_an_image_goes_to_the_engine_as_a_data_url(url: str, received: list[Any]) -> None:
    reply = post(url, body(part(PNG, detail="high"), part(files.url(files.jpeg(2), "image/jpeg"))))
    assert reply.json()["choices"][0]["message"]["content"] == "a square"
    first, second, text = received[-1]["messages"][0]["content"]
    assert first["image_url"]["url"] == PNG
    assert second["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert "Home" not in str(files.base64.b64decode(second["image_url"]["url"].partition(",")[2]))  # metadata
    assert text == {"type": "text", "text": "What is it?"}


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/a.png",
        "https://example.com/a.png",
        "file:///etc/passwd",
        "/etc/passwd",
        "images/a.png",
        "ftp://example.com/a.png",
        "data:text/html;base64,PGI+",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/png,raw",
        "",
    ],
)
def test_addresses_and_paths_are_refused_and_reach_no_engine(url: str, received: list[Any], address: str) -> None:
    before = len(received)
    reply = post(url, body(part(address)))
    assert reply.status_code == 400
    assert "nothing is fetched from a network or read from a disk" in reply.json()["error"]["message"]
    assert reply.json()["error"]["message"].startswith("messages[0].content[0].image_url.url: ")
    assert len(received) == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (files.bomb(), "image too large: 60,000 × 60,000 pixels"),
        (files.webp_bomb(), "image too large"),
        (files.png(1)[:60], "image damaged"),
        (files.animated("PNG"), "it is animated"),
        (b"GIF89a" + bytes(50), "it is a GIF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is an SVG"),
        (files.with_chunks(files.png(1), *[(b"tEXt", b"")] * 200_000), "image too large: it consists of over 100,000"),
        (b"", "it is no image"),
        (bytes(11 * 2**20), "image too large: 11,534,336 bytes"),
    ],
)
def test_hostile_images_are_refused_with_their_place(url: str, content: bytes, reason: str) -> None:
    reply = post(url, body(part(PNG), part(files.url(content))))
    assert reply.status_code == 400
    assert reply.json()["error"]["message"].startswith("messages[0].content[1].image_url: image")
    assert reason in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (body(*[part(PNG)] * 11), "11 images, where 10 are read"),
        (body(part(PNG), role="assistant"), "shown by a user or a tool"),
        (body(part(PNG), role="system"), "shown by a user or a tool"),
        (body(part(PNG, detail="all")), "messages[0].content[0].image_url.detail: Input should be 'auto'"),
        (body({"type": "image_url", "image_url": PNG}), "messages[0].content[0].image_url: Input should be an object"),
        (body({"type": "image", "image": "/etc/passwd"}), "messages[0].content[0]: Input tag 'image' found"),
        (body(part("data:image/png;base64," + "%" * 5_000_000)), "its base64 is broken"),
        (body(part("data:image/png;base64,%%%%")), "its base64 is broken"),
        (
            body({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
            "messages[0].content[0]: audio and video are not supported (input_audio): send text, or images",
        ),
        (body({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,"}}), "not supported (video_url)"),
    ],
)
def test_what_no_row_could_have_is_refused(url: str, asked: dict[str, Any], reason: str) -> None:
    reply = post(url, asked)
    assert reply.status_code == 400
    assert reason in reply.json()["error"]["message"]


def test_texts_wait_for_no_image(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looking, looked, check = Event(), Event(), images.check

    def slow(*arguments: Any, **settings: Any) -> None:
        looking.set()
        assert looked.wait(30)
        check(*arguments, **settings)

    monkeypatch.setattr(images, "check", slow)
    with ThreadPoolExecutor() as pool:
        shown = [pool.submit(post, url, body(part(PNG))) for _ in range(3)]
        assert looking.wait(30)
        assert post(url, body()).status_code == 200
        looked.set()
        assert [reply.result().status_code for reply in shown] == [200] * 3


def test_pixels_are_bounded_over_all_images_of_a_request() -> None:
    large = files.url(files.encoded(files.picture(1, (4000, 4000)), "JPEG"))
    few = Chat.model_validate(body(*[part(large)] * 3))
    images.check(few, "shapes@1", seeing=True)
    many = Chat.model_validate(body(*[part(large)] * 4))
    with pytest.raises(RequestError, match=r"content\[3\].image_url: image too large: 4,000 × 4,000 pixels"):
        images.check(many, "shapes@1", seeing=True)


def test_a_model_of_text_says_that_it_reads_none() -> None:
    asked = Chat.model_validate(body(part(PNG)))
    with pytest.raises(RequestError, match="calculator@3 reads text alone, and the request has an image"):
        images.check(asked, "calculator@3", seeing=False)


def test_texts_alone_are_sent_as_before() -> None:
    texts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    made = Chat.model_validate({"messages": [{"role": "user", "content": texts}]})
    assert made.engine_fields()["messages"] == [{"role": "user", "content": "one\ntwo"}]
