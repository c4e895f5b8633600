"""A browser, JupyterLab and a server of pages for the tests of this folder: `make browser` installs what they need."""

import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Milliseconds until a step that never comes is told: a machine may be busy with other work.
PATIENCE = 300_000


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


def sync_api():
    return pytest.importorskip("playwright.sync_api", reason="no Playwright: `make browser` installs it")


@pytest.fixture(scope="session")
def chromium():
    """The browser, found on PATH and started without a window."""
    playwright = sync_api()
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser on PATH (looked for {', '.join(NAMES)})")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page in a browser without memory: no cookies and no storage of an earlier test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def served():
    """Function from a folder to the address at which it is served, on a port that was free."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    def serve(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}


class JupyterLab:
    """JupyterLab on a folder, as a student has it, but for the news that it fetches.

    All cells of a notebook are in the page, not only those in sight: a test counts them.
    """

    def __init__(self, folder, own):
        self.folder, self.token = folder, "browser-test"
        for name, values in SETTINGS.items():
            path = own / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        environment = os.environ | {
            "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
            **{f"JUPYTER_{kind}_DIR": str(own / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")},
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = {
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "ServerApp.root_dir": folder,
            "IdentityProvider.token": self.token,
            "ServerApp.allow_root": True,
        }
        command = [sys.executable, "-m", "jupyter", "lab", "--no-browser"]
        command += [f"--{name}={value}" for name, value in options.items()]
        self.log = own / "server.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)

    def address(self, path):
        return f"http://127.0.0.1:{self.port}/lab/tree/{path}?reset&token={self.token}"

    def wait(self):
        """Until the server says in its log that it listens."""
        while f":{self.port}/lab?token=" not in self.log.read_text():
            try:
                self.process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(f"JupyterLab ended at its start:\n{self.log.read_text()[-2000:]}")

    def close(self):
        """The server ends its kernels when it is told to end; one that stays would stay for ever."""
        server = psutil.Process(self.process.pid)
        started = [server, *server.children(recursive=True)]
        self.process.terminate()
        _, left = psutil.wait_procs(started, timeout=60)
        for process in left:
            process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def lab(chromium, tmp_path_factory):
    """JupyterLab on a folder with the course's labs, in which `course start` has been."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "course.toml", folder)
    shutil.copytree(ROOT / "labs", folder / "labs")
    started = JupyterLab(folder, tmp_path_factory.mktemp("jupyter"))
    try:
        started.wait()
        yield started
    finally:
        started.close()


class Notebook:
    """A notebook that stands open in JupyterLab: what a reader does with it."""

    def __init__(self, page, lab, path):
        self.page = page
        page.goto(lab.address(path))
        self.cells = page.locator(".jp-Notebook .jp-Cell")
        count = len(json.loads((lab.folder / path).read_text(encoding="utf-8"))["cells"])
        self.cells.nth(count - 1).wait_for(state="attached")
        self.idle()

    def idle(self):
        """Until the kernel has nothing left to do."""
        self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for(state="attached")

    def menu(self, *entries):
        """Choose an entry of the menus, as ("Run", "Run All Cells")."""
        bar, *rest = entries
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{bar}$")).click()
        for entry in rest:
            self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()

    def select(self, index):
        self.cells.nth(index).locator(".jp-InputPrompt, .jp-MarkdownOutput").first.click()

    def write(self, index, text):
        """Put a text in a cell's place, by hand: click, select all, type."""
        self.cells.nth(index).locator(".cm-content").click()
        self.page.keyboard.press("ControlOrMeta+a")
        self.page.keyboard.insert_text(text)

    def text(self, index):
        return self.cells.nth(index).locator(".cm-content").inner_text()

    def run(self, index):
        """Run the cell by Shift+Enter and wait for its end: what it shows, as text."""
        self.select(index)
        before = self.prompt(index)
        self.page.keyboard.press("Shift+Enter")
        self.finished(index, before)
        return self.output(index)

    def prompt(self, index):
        return self.cells.nth(index).locator(".jp-InputPrompt").inner_text()

    def finished(self, index, before="[ ]:"):
        """Until the cell has a number, and another one than before.

        The cell is looked up each time: JupyterLab may put a new element in its place while the notebook opens.
        """
        another = re.compile(rf"^(?!{re.escape(before)}$)\[\d+\]:$")
        prompt = self.cells.nth(index).locator(".jp-InputPrompt")
        sync_api().expect(prompt).to_have_text(another, timeout=PATIENCE)

    def output(self, index):
        return "\n".join(self.cells.nth(index).locator(".jp-OutputArea-output").all_inner_texts())

    def redrawn(self, picture, before):
        """Until a picture is another one than before."""
        sync_api().expect(picture).not_to_have_attribute("src", before, timeout=PATIENCE)

    def failed(self):
        """The output of a cell that failed."""
        return self.page.locator(
            ".jp-Notebook .jp-OutputArea-output", has_text="Traceback (most recent call last)"
        ).first

    def save(self):
        self.page.keyboard.press("ControlOrMeta+s")
        self.page.locator(".jp-mod-current.jp-mod-dirty").wait_for(state="detached")


@pytest.fixture
def opened(page, lab):
    """Function from a path below JupyterLab's folder to the notebook, open."""
    return lambda path, page=page: Notebook(page, lab, path)
