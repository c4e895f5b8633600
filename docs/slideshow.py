"""The lectures as slide shows and PDF files, from their last run: `make slides` calls it after `course run`.

    python docs/slideshow.py --profile cpu --reveal build/node/package 01

Writes build/slides/NN_name.html, which holds everything it shows, and beside it the same as .pdf, printed by a browser
with one page for each slide. Without Playwright or without a browser there are no PDF files, and a line says so.
"""

import argparse
import shutil
import sys
from pathlib import Path

from course import manifest as course_manifest
from course.errors import CourseError
from course.files import write_atomically
from course.reporting.slides import slide_show

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "slides"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def printed(shows):
    """Print each show. In one line, why there are no PDF files, or "" when there are."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "Playwright is not installed"
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return f"no browser on PATH (looked for {', '.join(BROWSERS)})"
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser)
        for show in shows:
            page = chromium.new_page(viewport={"width": 1280, "height": 720})
            page.set_default_timeout(0)  # a lecture of many pictures on a busy machine takes its time
            page.emulate_media(media="screen", color_scheme="light")  # heights were measured as on the screen
            page.goto(f"{show.as_uri()}?print-pdf")
            page.locator(".reveal.ready .pdf-page").last.wait_for(state="attached")
            page.pdf(path=show.with_suffix(".pdf"), width="1280px", height="720px", print_background=True)
            page.close()
        chromium.close()
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("topics", nargs="*", help="all when none is given")
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--reveal", required=True, type=Path, help="folder of reveal.js's npm package")
    arguments = parser.parse_args()
    course = course_manifest.load(ROOT)
    lectures = course.select(arguments.topics, ["lecture"])
    shows = []
    for lecture in lectures:
        shows.append(FOLDER / f"{lecture.stem}.html")
        write_atomically(shows[-1], slide_show(course, lecture, arguments.profile, arguments.reveal))
    missing = printed(shows)
    told = f", no PDF files: {missing}" if missing else " and PDF files"
    print(f"{FOLDER.relative_to(ROOT)}: {len(shows)} slide shows{told}")


if __name__ == "__main__":
    try:
        main()
    except CourseError as error:
        sys.exit(f"docs/slideshow.py: {error}")
