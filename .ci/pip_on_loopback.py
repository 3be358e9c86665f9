"""Give image builds on this machine the package sources of its pip: python pip_on_loopback.py CONFIGURATION.

A build has this machine's network but not its files. The script writes a configuration in which every local folder is
an address on loopback, then serves these folders until it is stopped.
"""

import ast
import functools
import http.server
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

SOURCES = ("find-links", "index-url", "extra-index-url")
KEPT = (*SOURCES, "cert", "timeout", "default-timeout", "trusted-host")
"""Settings that a build gets. Others concern this machine alone, such as a constraints file, which a build lacks."""


def local(word: str) -> Path | None:
    """The folder of this machine that a path or a file: address names."""
    path = Path(unquote(urlsplit(word).path))
    return path if urlsplit(word).scheme in ("", "file") and path.is_dir() else None


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves several folders by number: /3/simple/torch/ is in the fourth, and so are the files that it links to."""

    def __init__(self, folders: list[Path], *request: object) -> None:
        self.folders = folders
        super().__init__(*request)

    def translate_path(self, path: str) -> str:
        number, _, rest = path.lstrip("/").partition("/")
        self.directory = str(self.folders[int(number)])
        return super().translate_path(f"/{rest}")

    def log_message(self, *message: object) -> None:
        pass


def main(configuration: Path) -> None:
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    settings = dict(line.split("=", 1) for line in listed.stdout.splitlines())
    files_first = sorted(settings.items(), key=lambda item: item[0].startswith(":env:"))  # as pip does: variables win
    named = ((key.rsplit(".", 1)[1], str(ast.literal_eval(value))) for key, value in files_first)
    values = {name: value for name, value in named if name in KEPT}
    folders: list[Path] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, folders))
    for name in SOURCES:
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
