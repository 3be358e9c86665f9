"""How large the page of a big comparison is, and how fast it opens.

    python -m benchmarks.page [--prompts 5000] [--characters 1000] [--opens 5]

makes the page of a comparison of 8 models on as many prompts, each answer a passage of that many characters of English,
which no two answers share, and opens it in Chromium (Debian's package `chromium`) as often as asked. Prints the size of
the file, and the median seconds from the start until the window's load event and until the first rows of answers are
drawn, beside the load of the machine. Needs the test libraries of this repository.
"""

import argparse
import os
import pydoc_data.topics
import random
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
ENGLISH = " ".join(pydoc_data.topics.topics.values())
WATCH = """
addEventListener("load", () => { window.loaded = performance.now(); });
new MutationObserver((_, observer) => {
  if (!document.querySelector("#samples[data-drawn]")) return;
  observer.disconnect();
  window.drawn = performance.now();
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-drawn"] });
"""


def page(prompts: int, characters: int) -> str:
    """A page whose answers are passages of English."""
    sys.path.append(str(ROOT / "tests"))
    from reports import long_page

    draw = random.Random(0)

    def passage(_: str, length: int) -> str:
        start = draw.randrange(len(ENGLISH) - length)
        return ENGLISH[start : start + length]

    long_page.markdown = passage
    return long_page.page(prompts=prompts, length=characters, suites=1)


def opened(browser: Browser, path: Path) -> tuple[float, float]:
    """Seconds until the load event, and until the first rows are drawn."""
    window = browser.new_page(viewport={"width": 1280, "height": 900})
    window.add_init_script(WATCH)
    window.goto(path.as_uri())
    window.wait_for_function("window.drawn && window.loaded")
    loaded, drawn = window.evaluate("[window.loaded, window.drawn]")
    window.close()
    return loaded / 1000, drawn / 1000


def main(prompts: int, characters: int, opens: int) -> None:
    """Print the size, and the times with the load."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "comparison.html"
        path.write_text(page(prompts, characters))
        print(f"{prompts:,} prompts, 8 models, {characters:,} characters an answer: {path.stat().st_size / 1e6:.1f} MB")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        times = [opened(browser, path) for _ in range(opens)]
        browser.close()
    loaded, drawn = (statistics.median(column) for column in zip(*times, strict=True))
    load = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    print(f"load event after {loaded:.2f} s, first rows after {drawn:.2f} s (median of {opens}; {load})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--characters", type=int, default=1000)
    parser.add_argument("--opens", type=int, default=5)
    options = parser.parse_args()
    main(options.prompts, options.characters, options.opens)
