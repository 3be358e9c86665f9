"""Write the digests of the images that compose.yaml and Dockerfile name, so that a tag that moved changes nothing.

    make pin-images

asks the registries for the present digest of each tag, by `docker buildx imagetools` or `skopeo`, and writes
NAME:TAG@sha256:DIGEST into both files; another run writes the newer ones. Our own image, which is built here, has none.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

IMAGE = r"[a-z0-9./-]+:[A-Za-z0-9._-]+"
PLACES = {
    "compose.yaml": re.compile(rf"(?<=\n    image: )({IMAGE})(@sha256:[0-9a-f]{{64}})?(?=\s)"),
    "Dockerfile": re.compile(rf"(?<=:[+-])({IMAGE})(@sha256:[0-9a-f]{{64}})?(?=\}})"),
}
"""Where each file names an image of others; `image: tunesmith-serve:${...}` and `${VARIABLE}` are none."""


def digest(image: str) -> str:
    """Return the digest of an image's index, of all its platforms, in its registry. Exits where nothing answers."""
    commands = {
        "docker": ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"],
        "skopeo": ["skopeo", "inspect", "--format", "{{.Digest}}", f"docker://docker.io/{image}"],
    }
    failures = []
    for program, command in commands.items():
        if shutil.which(program):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0 and re.fullmatch(r"sha256:[0-9a-f]{64}", done.stdout.strip()):
                return done.stdout.strip()
            failures.append(f"{program}: {(done.stderr or done.stdout).strip()}")
    sys.exit(f"error: {image}: no digest: {'; '.join(failures) or 'neither docker nor skopeo is installed'}")


def pinned(text: str, place: re.Pattern[str], digests: dict[str, str]) -> str:
    """Return the text of a file with the digest of every image of others."""
    return place.sub(lambda match: f"{match[1]}@{digests[match[1]]}", text)


def main(root: Path) -> None:
    """Pin the images in the files of ``root``: all of them, or none."""
    texts = {name: (root / name).read_text() for name in PLACES}
    images = {match[1] for name, text in texts.items() for match in PLACES[name].finditer(text)}
    digests = {image: digest(image) for image in sorted(images)}
    for name, text in texts.items():
        (root / name).write_text(pinned(text, PLACES[name], digests))
    print("\n".join(f"{image}@{found}" for image, found in digests.items()))


if __name__ == "__main__":
    main(Path(__file__).parent.parent)
