import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import image_files as files
import pytest

from tunesmith.core.errors import DataError
from tunesmith.data.images import store
from tunesmith.data.images.reader import Reader
from tunesmith.data.images.settings import Images
from tunesmith.data.images.sources import Source
from tunesmith.data.records import RowError


def reader(tmp_path: Path, **limits: Any) -> Reader:
    """A reader of tmp_path/data, beside which secret.png lies."""
    files.put(tmp_path / "secret.png", files.png(9))
    files.put(tmp_path / "data" / "sub" / "1.png", files.png(1))
    return Reader(Images(**limits), tmp_path / "data", watched=True)


def read(reader: Reader, *sources: Source) -> list[str]:
    rows = reader.folder / "sub" / "rows.jsonl"
    return [found.part["image"] for found in reader.images(sources, rows, 1)]


def test_a_path_is_beside_the_rows_or_below_the_folder_of_the_data_set(tmp_path: Path) -> None:
    places = ["1.png", "sub/1.png", "./1.png", "../sub/1.png", "file:1.png", str(tmp_path / "data/sub/1.png"),
              f"file://{tmp_path}/data/sub/1.png", files.png(1), files.url(files.png(1))]  # fmt: skip
    assert len({*read(reader(tmp_path), *places)}) == 1
    assert len(read(reader(tmp_path, folder="sub"), "1.png")) == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("../../secret.png", "image outside the data: '../../secret.png' is not below "),
        ("{tmp}/secret.png", "image outside the data: "),
        ("file://{tmp}/secret.png", "image outside the data: "),
        ("file:///etc/%70asswd", "image outside the data: "),
        ("link.png", "image outside the data: 'link.png' is not below "),
        ("linked/secret.png", "image outside the data: "),
        ("circle.png", "image missing: "),
        ("pipe.png", "image missing: no file 'pipe.png' below "),
        ("", "image missing: "),
        (".", "image missing: "),
        ("none.png", "image missing: no file 'none.png' below "),
        ("a\0.png", "image missing: 'a\\x00.png'… is no path: it has over 1,000 characters, or a NUL"),
        ("a" * 5000, f"image missing: '{'a' * 80}'… is no path"),
        ("http://[1/a.png", "remote image: http://[1/a.png: nothing is downloaded here"),
        ("https://a\u2100/1.png", "remote image: https://a\u2100/1.png: nothing is downloaded here"),
        ("file://[1/a.png", "remote image: file://[1/a.png: a file of another machine"),
        ("..%2F..%2Fsecret.png", "image outside the data: '..%2F..%2Fsecret.png' is not below "),
        ("..\\..\\secret.png", "image outside the data: "),
        ("C:\\photos\\1.png", "image missing: no file 'C:\\\\photos\\\\1.png' below {tmp}/data; put the images there"),
        ("/mnt/1.png", "image outside the data: '/mnt/1.png' is not below {tmp}/data; put the images there, and name"),
        ("blob:1.png", "image missing: no file 'blob:1.png' below "),
        ("a" * 400, "image missing: "),
        ("http://127.0.0.1/1.png", "remote image: http://127.0.0.1/1.png: nothing is downloaded here"),
        ("s3://bucket/1.png", "remote image: s3://bucket/1.png: nothing is downloaded"),
        ("file://host/1.png", "remote image: file://host/1.png: a file of another machine"),
        ("data:image/png;base64,@@@", "image damaged: its base64 is broken"),
        ("data:image/png", "image damaged: a data: URL without a comma"),
        ("data:text/plain,red", "image of another kind: it is no image"),
    ],
)
def test_nothing_else_is_read(tmp_path: Path, source: str, reason: str) -> None:
    images = reader(tmp_path)
    (images.folder / "link.png").symlink_to(tmp_path / "secret.png")
    (images.folder / "linked").symlink_to(tmp_path, target_is_directory=True)
    (images.folder / "circle.png").symlink_to(images.folder / "circle.png")
    os.mkfifo(images.folder / "pipe.png")
    with pytest.raises(RowError) as error:
        read(images, source.replace("{tmp}", str(tmp_path)))
    assert str(error.value).startswith(reason.replace("{tmp}", str(tmp_path)))


@pytest.mark.parametrize(
    ("source", "prefixes"),
    [
        ("/mnt/photos/sub/1.png", ["/mnt/photos"]),
        ("file:///mnt/photos/sub/1.png", ["/mnt/photos/"]),
        ("C:\\photos\\sub\\1.png", ["C:\\photos"]),
        ("https://example.org/sub/1.png", ["http://example.org/", "https://example.org/"]),
        ("https://sub/1.png", ["https://"]),
        ("https://sub/a%20b.png?c=d", ["https://"]),
        ("sub\\1.png", []),
        ("sub/a b.png?c=d", []),
    ],
)
def test_paths_and_addresses_of_elsewhere_stand_for_files_of_the_folder(
    tmp_path: Path, source: str, prefixes: list[str]
) -> None:
    images = reader(tmp_path, prefixes=prefixes)
    files.put(images.folder / "sub" / "a b.png?c=d", files.png(1))
    assert read(images, source) == read(images, files.png(1))


@pytest.mark.parametrize("source", ["https://../secret.png", "https:///etc/passwd", "https://%2e%2e/secret.png"])
def test_what_a_prefix_leaves_is_in_the_folder_or_nowhere(tmp_path: Path, source: str) -> None:
    with pytest.raises(RowError, match=r"image (outside the data|missing)"):
        read(reader(tmp_path, prefixes=["https://"]), source)


def test_a_damaged_file_that_many_rows_show_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, opened = reader(tmp_path), []
    files.put(images.folder / "sub" / "bad.png", files.png(1)[:60])
    monkeypatch.setattr(Reader, "_content", lambda _, path: (opened.append(path), path.read_bytes())[1])
    for _ in range(3):
        with pytest.raises(RowError, match="image damaged: it is cut off"):
            read(images, "bad.png")
    assert len(opened) == 1


def base64_of(content: bytes) -> str:
    return files.url(content).partition(",")[2]


@pytest.mark.parametrize(
    "written",
    [
        lambda text: "data:image/png;charset=utf-8;base64," + text,
        lambda text: "DATA:image/png;BASE64," + text,
        lambda text: "data:;base64," + "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        lambda text: "data:image/png;base64," + text.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "-").replace("/", "_"),
    ],
)
def test_base64_is_read_as_libraries_write_it(tmp_path: Path, written: Callable[[str], str]) -> None:
    content = files.png(1) + b"\0\0\xfb\xef\xbe\xff\xff\xff\0"  # which has all that is written in several ways
    assert {"+", "/", "="} <= {*base64_of(content)}
    assert read(reader(tmp_path), written(base64_of(content))) == read(reader(tmp_path), files.png(1))


def test_a_large_file_is_judged_before_it_is_read(tmp_path: Path) -> None:
    images = reader(tmp_path)
    with (images.folder / "large.png").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(RowError, match=r"image too large: large.png has 1,000,000,000,000 bytes"):
        read(images, "large.png")


def test_an_image_is_stored_once_by_the_digest_of_its_file(tmp_path: Path) -> None:
    folder = store.new(tmp_path)
    images = Reader(Images(), tmp_path, watched=True, store=folder)
    rows = tmp_path / "rows.jsonl"
    sources: list[Source] = [files.png(1), files.jpeg(1), files.url(files.png(1)), files.jpeg(1, comment=b"other")]
    digests = [found.part["image"] for found in images.images(sources, rows, 1)]
    assert digests[0] == digests[2]
    assert digests[1] == digests[3]
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"{digests[0]}.png", f"{digests[1]}.jpg"])


def test_a_machine_without_the_folder_of_images_says_so(tmp_path: Path) -> None:
    images = Reader(Images(), tmp_path, watched=True, store=tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"rows:7: the row has an image, and images are on the machine"):
        images.images([files.png(1)], tmp_path / "rows", 7)


def test_images_that_no_row_shows_are_not_kept(tmp_path: Path) -> None:
    folder = store.new(tmp_path)
    images = Reader(Images(), tmp_path, watched=True, store=folder)
    shown, other = (found.part for found in images.images([files.png(1), files.png(2)], tmp_path / "rows", 1))
    line = b'{"id":"1","prompt":[{"role":"user","content":[{"type":"image","image":"%s"}]}]}\n'
    (tmp_path / "train.jsonl").write_bytes(line % shown["image"].encode())
    assert store.keep(tmp_path) == 1
    assert [path.stem for path in folder.iterdir()] == [shown["image"]]
    (tmp_path / "test.jsonl").write_bytes(line % other["image"].encode())
    with pytest.raises(DataError, match="1 images of the rows are not there"):
        store.keep(tmp_path)


def test_a_data_set_of_text_has_no_folder_of_images(tmp_path: Path) -> None:
    folder = store.new(tmp_path)
    assert store.keep(tmp_path) == 0
    assert not folder.exists()
