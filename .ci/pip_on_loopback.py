"""Let image builds on this machine use pip as it is set up here: python pip_on_loopback.py CONFIGURATION.

A build has this machine's network, but not its files. Writes where pip finds packages, with every local folder as an
address on loopback, then serves these folders until it is ended.
"""

import ast
import functools
import http.server
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

PLACES = ("find-links", "index-url", "extra-index-url")
KEPT = (*PLACES, "cert", "timeout", "default-timeout", "trusted-host")
"""Of the configuration. The rest is this machine's own affair, such as a file of constraints, which a build lacks."""


def local(word: str) -> Path | None:
    path = Path(unquote(urlsplit(word).path))
    return path if urlsplit(word).scheme in ("", "file") and path.is_dir() else None


class Handler(http.server.SimpleHTTPRequestHandler):
    """/3/simple/torch/ is in the fourth folder, which holds `simple` and what its pages point to."""

    def __init__(self, folders: list[Path], *given: object) -> None:
        self.folders = folders
        super().__init__(*given)

    def translate_path(self, path: str) -> str:
        number, _, rest = path.lstrip("/").partition("/")
        self.directory = str(self.folders[int(number)])
        return super().translate_path(f"/{rest}")

    def log_message(self, *given: object) -> None:
        pass


def main(configuration: Path) -> None:
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in listed.stdout.splitlines())
    files_first = sorted(found.items(), key=lambda item: item[0].startswith(":env:"))  # as pip does: variables win
    named = ((key.rsplit(".", 1)[1], str(ast.literal_eval(value))) for key, value in files_first)
    values = {name: value for name, value in named if name in KEPT}
    folders: list[Path] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, folders))
    for name in PLACES:
        words = values.get(name, "").split()
        for place, word in enumerate(words):
            if (folder := local(word)) is not None:
                words[place] = f"http://127.0.0.1:{server.server_port}/{len(folders)}/{folder.name}/"
                folders.append(folder.parent)
        if words:
            values[name] = " ".join(words)
    configuration.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
