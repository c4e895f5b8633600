"""`course doctor`: what this machine has, what it lacks, and what to do about it.

Each look is a function that returns findings; none of them imports Keras, TensorFlow or `utils`, starts a kernel or
writes more than one empty file, so that it answers in seconds on a machine where nothing else works.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from course.backend import chosen_backend, keras_folder
from course.manifest import Manifest

DISTRIBUTION = "convnets-for-vision"
BACKENDS = ("tensorflow", "jax", "torch")
# The distributions that bring a backend: any of them will do.
PROVIDERS = {"tensorflow": ("tensorflow", "tensorflow-cpu"), "jax": ("jax",), "torch": ("torch",)}
MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}
GIGABYTE = 10**9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `mark` is "ok", "note" or "problem"; `advice` says what to do, empty when nothing
    need be done.
    """

    mark: str
    subject: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{MARKS[self.mark]}  {self.subject}: {self.text}"
        return f"{line}\n         -> {self.advice}" if self.advice else line


def doctor(manifest: Manifest) -> list[Finding]:
    """Everything that was found, in the order in which a student would ask; the command exits with 1 when one is a
    problem.
    """
    looks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("Python", python_version),
        ("Packages", lambda: packages(manifest.root)),
        ("Course files", lambda: own_modules(manifest.root)),
        ("Backend", backend),
        ("GPU", gpu),
        ("Processor", processor),
        ("Memory", lambda: memory(manifest)),
        ("Disk", lambda: disk(manifest.root)),
        ("Weights", lambda: weights()),
        ("Data", data),
        ("Keras files", keras_home),
        ("Jupyter", kernel),
        ("Version", lambda: version(manifest)),
    ]
    findings = []
    for subject, look in looks:
        try:
            findings += look()
        except Exception as error:  # a look that fails must not hide the others
            findings.append(Finding("note", subject, f"could not be looked at ({type(error).__name__}: {error})"))
    return findings


def render(findings: Iterable[Finding]) -> str:
    """The findings as text, a line each (advice below it), and a last line that counts the problems."""
    findings = list(findings)
    problems = sum(finding.mark == "problem" for finding in findings)
    last = "Everything the course needs is here." if not problems else f"{count(problems, 'problem')} to solve."
    return "\n".join([*map(str, findings), "", last])


def count(number: int, noun: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# Python and packages


def python_version(current: tuple[int, ...] = tuple(sys.version_info[:3]), needed: str | None = None) -> list[Finding]:
    """Whether this Python is one that the course is made for; `needed` is a specifier such as `>=3.11,<3.14`."""
    from packaging.specifiers import SpecifierSet

    if needed is None:
        try:
            needed = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
        except importlib.metadata.PackageNotFoundError:
            needed = None
    needed = needed or ">=3.11,<3.14"
    text = ".".join(map(str, current))
    where = f"{text} at {sys.executable}"
    if SpecifierSet(needed).contains(text, prereleases=True):
        return [Finding("ok", "Python", where)]
    return [
        Finding(
            "problem",
            "Python",
            f"{where}; the course needs {needed}",
            "install one of these, delete .venv and set up again: make setup PYTHON=python3.12",
        )
    ]


def read_lock(text: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Canonical name -> version of every line of a lock (`name==version ; marker`) that applies here."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    for line in text.splitlines():
        line = line.split(" #")[0].strip()
        if not line or line.startswith(("#", "-")):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate(dict(environment) if environment else None):
            continue
        versions = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
        if versions:
            pins[canonicalize_name(requirement.name)] = versions[0]
    return pins


def needed_packages(extra: str = "course") -> dict[str, str]:
    """Canonical name -> specifier of what the course itself asks for, by its installed metadata; empty when it is not
    installed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        lines = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    needed: dict[str, str] = {}
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            needed[canonicalize_name(requirement.name)] = str(requirement.specifier)
    return needed


def installed_version(name: str) -> str | None:
    """The version of a distribution, or None; any build of TensorFlow counts as TensorFlow."""
    for candidate in PROVIDERS["tensorflow"] if name in PROVIDERS["tensorflow"] else (name,):
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def packages(root: Path, installed: Callable[[str], str | None] = installed_version) -> list[Finding]:
    """What is installed against what the course asks for (a problem) and against requirements.lock (worth knowing)."""
    from packaging.specifiers import SpecifierSet

    findings = []
    needed = needed_packages()
    absent = sorted(name for name in needed if installed(name) is None)
    old = [
        f"{name} {installed(name)} (needs {wanted})"
        for name, wanted in sorted(needed.items())
        if installed(name) and not SpecifierSet(wanted).contains(installed(name) or "", prereleases=True)
    ]
    if absent:
        findings.append(Finding("problem", "Packages", f"not installed: {', '.join(absent)}", install_advice(root)))
    if old:
        findings.append(Finding("problem", "Packages", f"too old or too new: {', '.join(old)}", install_advice(root)))

    lock = root / "requirements.lock"
    if not lock.is_file():
        text = "there is no requirements.lock here, so versions were not compared"
        return [*findings, Finding("note", "Packages", text)]
    pins = read_lock(lock.read_text(encoding="utf-8"))
    missing = sorted(name for name in pins if installed(name) is None and name not in needed)
    other = sorted(
        f"{name} {installed(name)} (lock: {pin})" for name, pin in pins.items() if installed(name) not in (None, pin)
    )
    if missing:
        findings.append(
            Finding("note", "Packages", f"in the lock but not installed: {shorten(missing)}", install_advice(root))
        )
    if other:
        text = f"another version than the lock's: {shorten(other)}"
        advice = f"if a notebook behaves oddly, take the versions that were tested: {install_advice(root)}"
        findings.append(Finding("note", "Packages", text, advice))
    if not findings:
        findings.append(Finding("ok", "Packages", f"all {len(pins)} of requirements.lock, in its versions"))
    return findings


def shorten(names: list[str], most: int = 6) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def install_advice(root: Path) -> str:
    """How to get the locked versions here."""
    if (root / "Makefile").is_file():
        return "make setup"
    return f"{Path(sys.executable).name} -m pip install -r requirements.lock"


# The names that notebooks import, and what may hide them


def own_modules(root: Path) -> list[Finding]:
    """Whether `import utils` reaches the course's own package, and whether a file beside the notebooks hides one."""
    findings = []
    spec = importlib.util.find_spec("utils")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if spec is None:
        findings.append(
            Finding(
                "problem",
                "Course files",
                "`import utils` finds nothing: the course is not installed here",
                "make setup",
            )
        )
    elif folder is None or not (folder / "session.py").is_file():
        findings.append(
            Finding(
                "problem",
                "Course files",
                f"`import utils` finds {spec.origin or 'a folder without __init__.py'}, which is not the course's",
                "rename that file or folder (or leave its folder), then restart the kernel",
            )
        )
    else:
        findings.append(Finding("ok", "Course files", f"`utils` is the course's own, in {folder}"))
    for path in hiding(root):
        kind = "the course's own utils" if path.stem == "utils" else f"the package {path.stem}"
        findings.append(
            Finding(
                "problem",
                "Course files",
                f"{path} hides {kind} from the notebooks beside it",
                f"rename it (my_{path.name}, for instance) and restart the kernel",
            )
        )
    return findings


def hiding(root: Path) -> list[Path]:
    """Python files and folders beside the notebooks whose name is that of a package which a notebook imports."""
    folders = [root / name for name in ("lectures", "labs", "solutions")]
    here = Path.cwd()
    if here != root and here not in folders and any(here.glob("*.ipynb")):
        folders.append(here)
    taken = set(sys.stdlib_module_names) | set(BACKENDS) | set(importlib.metadata.packages_distributions())
    taken |= {"utils"}
    found = []
    for folder in folders:
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            module = path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").is_file())
            if module and path.stem in taken:
                found.append(path)
    return found


# Backend and machine


def backend(
    environment: Mapping[str, str] = os.environ, installed: Callable[[str], str | None] = installed_version
) -> list[Finding]:
    """Which backend Keras would take, and whether it is installed."""
    name, where = chosen_backend(environment)
    if name not in BACKENDS:
        text = f"{where} asks for {name!r}, which the course does not know"
        return [Finding("problem", "Backend", text, f"set it to one of {', '.join(BACKENDS)}")]
    versions = {candidate: provider_version(candidate, installed) for candidate in BACKENDS}
    others = ", ".join(f"{other} {text}" for other, text in versions.items() if text and other != name)
    findings = []
    if versions[name]:
        also = f"; also here: {others}" if others else ""
        findings.append(Finding("ok", "Backend", f"{name} {versions[name]} (by {where}){also}"))
    else:
        advice = f"install it, or unset {where}" if where == "KERAS_BACKEND" else f"install {name}"
        text = f"{name} is chosen by {where} but not installed{f'; here: {others}' if others else ''}"
        findings.append(Finding("problem", "Backend", text, advice))
    if name != "tensorflow" and not versions["tensorflow"]:
        text = "tensorflow is not installed; `utils.data` reads with it whatever the backend"
        findings.append(Finding("problem", "Backend", text, "pip install tensorflow (its CPU build is enough)"))
    return findings


def provider_version(name: str, installed: Callable[[str], str | None] = installed_version) -> str | None:
    """The version of the distribution that brings a backend."""
    return next((text for provider in PROVIDERS[name] if (text := installed(provider))), None)


def gpu() -> list[Finding]:
    """Whether there is an NVIDIA GPU, by asking its own tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        text = "no NVIDIA GPU is seen, and none is needed: the notebooks' own values are for two cores"
        return [Finding("ok", "GPU", text)]
    command = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=15, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        text = f"nvidia-smi is here but does not answer ({type(error).__name__})"
        return [Finding("note", "GPU", text, "the notebooks run without it; for the GPU, look at its driver")]
    cards = [line.strip() for line in answer.splitlines() if line.strip()]
    if not cards:
        return [Finding("ok", "GPU", "nvidia-smi sees none, and none is needed")]
    findings = [Finding("ok", "GPU", "; ".join(cards))]
    try:
        importlib.metadata.version("tensorflow-cpu")
    except importlib.metadata.PackageNotFoundError:
        return findings
    text = "TensorFlow is here in its CPU build, which does not use it"
    return [
        *findings,
        Finding("note", "GPU", text, "pip uninstall tensorflow-cpu, then pip install 'tensorflow[and-cuda]'"),
    ]


def usable_cores() -> float:
    """Cores that this process may use: its affinity, cut by the limit of a Linux container."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return cores if quota == "max" else min(cores, int(quota) / int(period))
    except (OSError, ValueError):
        return cores


def processor() -> list[Finding]:
    """How many cores there are; the budgets are made for two."""
    cores = usable_cores()
    text = f"{cores:g} {'core' if cores == 1 else 'cores'}, {platform.machine()}, {platform.system()}"
    if cores < 2:
        return [Finding("note", "Processor", text, "the stated times are for two cores: expect about twice as long")]
    return [Finding("ok", "Processor", text)]


def memory(manifest: Manifest) -> list[Finding]:
    """Whether the most demanding notebook of the profile `cpu` fits into what is free now, and into what there is."""
    import psutil

    machine = psutil.virtual_memory()
    total, free = machine.total / GIGABYTE, machine.available / GIGABYTE
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text()) / GIGABYTE
        used = int(Path("/sys/fs/cgroup/memory.current").read_text()) / GIGABYTE
        total, free = min(total, limit), min(free, limit - used)
    except (OSError, ValueError):
        pass
    largest = max(manifest.notebooks(), key=lambda notebook: notebook.memory_gb("cpu"), default=None)
    needs = largest.memory_gb("cpu") if largest else 0
    text = f"{free:.1f} of {total:.1f} GB free"
    if largest:
        text += f"; the most demanding notebook takes {needs:g} GB ({largest.id})"
    if total < needs:
        return [Finding("problem", "Memory", text, "run it on another machine or in Colab, or with the profile smoke")]
    if free < needs:
        return [Finding("note", "Memory", text, "close other programs and shut down kernels that you no longer use")]
    return [Finding("ok", "Memory", text)]


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where prepared data are kept: COURSE_CACHE, else ~/.cache/convnets-for-vision."""
    return Path(environment.get("COURSE_CACHE") or Path.home() / ".cache" / DISTRIBUTION).expanduser()


def nearest(path: Path) -> Path:
    """The path itself or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def disk(root: Path, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Room and leave to write in the course's folder, its build folder and the cache."""
    findings = []
    places = {"course": root, "build": root / "build", "cache": cache_folder(environment)}
    rooms: dict[int, tuple[float, list[str]]] = {}
    for name, path in places.items():
        where = nearest(path)
        try:
            with tempfile.NamedTemporaryFile(dir=where):
                pass
        except OSError as error:
            advice = (
                "choose another folder with COURSE_CACHE"
                if name == "cache"
                else "change its permissions or copy the course"
            )
            text = f"cannot write in {where} ({name}: {error.strerror or error})"
            findings.append(Finding("problem", "Disk", text, advice))
        room = rooms.setdefault(where.stat().st_dev, (shutil.disk_usage(where).free / GIGABYTE, []))
        room[1].append(f"{name} {path}")
    for free, names in rooms.values():
        text = f"{free:.1f} GB free ({', '.join(names)})"
        if free < 0.5:
            findings.append(Finding("problem", "Disk", text, "make room: course data and results take up to 2 GB"))
        elif free < 2:
            findings.append(
                Finding("note", "Disk", text, "make room before you run the whole course: it takes up to 2 GB")
            )
        else:
            findings.append(Finding("ok", "Disk", text))
    return findings


# Data and weights


def utils_folder() -> Path | None:
    """The folder of the installed `utils`, found without importing it."""
    spec = importlib.util.find_spec("utils")
    return Path(spec.origin).parent if spec and spec.origin else None


def sha256(path: Path) -> str:
    """The hex digest of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights(folder: Path | None = None) -> list[Finding]:
    """Whether the course's own weights are here and are those that its records name."""
    if folder is None:
        found = utils_folder()
        folder = found / "pretrained" if found else None
    if folder is None or not folder.is_dir():
        return []
    findings = []
    for record in sorted(folder.glob("*.json")):
        file = record.with_suffix(".npz")
        try:
            known = json.loads(record.read_text(encoding="utf-8"))
            digest = known.get("sha256") or known.get("hash")
        except (OSError, ValueError, AttributeError) as error:
            text = f"{record} cannot be read ({type(error).__name__})"
            findings.append(Finding("problem", "Weights", text, f"get it back: git checkout -- {record}"))
            continue
        if not file.is_file():
            text = f"{file.name} is not in {folder}"
            findings.append(Finding("problem", "Weights", text, f"get it back: git checkout -- {file}"))
        elif not digest:
            findings.append(Finding("note", "Weights", f"{record.name} names no hash, so {file.name} was not checked"))
        elif sha256(file) != str(digest).removeprefix("sha256:"):
            text = f"{file.name} is not the file that {record.name} names (its hash differs)"
            findings.append(Finding("problem", "Weights", text, f"get it back: git checkout -- {file}"))
        else:
            findings.append(
                Finding("ok", "Weights", f"{file.name}, {file.stat().st_size / 1000:.0f} kB, hash as recorded")
            )
    return findings


@dataclass(frozen=True)
class Archive:
    """A file that a data set is made from: its name, length in bytes, hash and address."""

    name: str
    file: str
    bytes: int
    sha256: str
    url: str


def read_archives(path: Path) -> list[Archive]:
    """The archives in the table `utils/data/archives.toml`.

    Raises:
        OSError, ValueError, KeyError, TypeError: the file cannot be read, or is not such a table.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    release = table.pop("release")
    return [
        Archive(name, facts["file"], facts["bytes"], facts["sha256"], f"{facts.get('host', release)}/{facts['file']}")
        for name, facts in table.items()
    ]


def data(environment: Mapping[str, str] = os.environ, table: Path | None = None) -> list[Finding]:
    """COURSE_DATA, the cache, and each archive of the downloaded sets by its hash."""
    findings = []
    given = environment.get("COURSE_DATA")
    folders = []
    if given:
        folder = Path(given).expanduser()
        if folder.is_dir():
            folders.append(folder)
            findings.append(Finding("ok", "Data", f"COURSE_DATA is {folder}"))
        else:
            text = f"COURSE_DATA names {folder}, which is no folder"
            findings.append(
                Finding("problem", "Data", text, "correct it, or unset it to download when a notebook asks")
            )
    cache = cache_folder(environment)
    folders.append(cache)
    if table is None:
        own = utils_folder()
        table = own / "data" / "archives.toml" if own else None
    archives: list[Archive] = []
    try:
        archives = read_archives(table) if table else []
    except (OSError, ValueError, KeyError, TypeError) as error:
        findings.append(Finding("problem", "Data", f"{table} cannot be read: {error}", "install the course again"))
    for archive in archives:
        path = find_archive(archive, folders)
        if path is None:
            text = f"{archive.file}, {archive.bytes / 1e6:.1f} MB, is not here; only the profile real asks for it"
            advice = (
                f"it is downloaded when first asked for, from {archive.url}; without a network, put it into a folder "
                "and "
                "name that in COURSE_DATA"
            )
            findings.append(Finding("note", "Data", text, advice))
        elif path.stat().st_size != archive.bytes or sha256(path) != archive.sha256:
            text = (
                f"{path} is damaged or another file ({path.stat().st_size:,} bytes; its hash is not the recorded one)"
            )
            findings.append(
                Finding("problem", "Data", text, "delete it: it is fetched again when a notebook asks for it")
            )
        else:
            findings.append(Finding("ok", "Data", f"{path}, hash as recorded"))
    text = "the default data sets are drawn or come with the packages: nothing to download"
    return [*findings, Finding("ok", "Data", text)]


def find_archive(archive: Archive, folders: list[Path]) -> Path | None:
    """The archive's file in one of the folders, at most two levels down (tfds keeps downloads in a folder of their
    own).
    """
    for folder in folders:
        for pattern in (archive.file, f"*/{archive.file}", f"*/*/{archive.file}"):
            for path in sorted(folder.glob(pattern)):
                if path.is_file():
                    return path
    return None


def keras_home(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Keras's own folder, where it keeps ImageNet weights."""
    folder = keras_folder(environment)
    where = "KERAS_HOME" if environment.get("KERAS_HOME") else "the default"
    if environment.get("KERAS_HOME") and not folder.is_dir():
        text = f"KERAS_HOME names {folder}, which is no folder"
        return [Finding("problem", "Keras files", text, "correct it, or unset it: Keras then uses ~/.keras")]
    models = folder / "models"
    held = sorted(path.name for path in models.iterdir() if path.is_file()) if models.is_dir() else []
    weights = shorten(held, 3) if held else "none; only the profiles real and gpu ask for them"
    text = f"{folder} ({where}); ImageNet weights here: {weights}"
    return [Finding("ok", "Keras files", text)]


# Jupyter and version


def kernel() -> list[Finding]:
    """Whether the kernel `python3`, which every notebook names, is there and starts this Python."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    advice = f"{sys.executable} -m ipykernel install --sys-prefix"
    try:
        spec = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        return [Finding("problem", "Jupyter", "there is no kernel python3, which every notebook names", advice)]
    program = spec.argv[0]
    # Jupyter itself puts its own Python in the place of a bare name.
    if re.fullmatch(r"python(3(\.\d+)?)?(\.exe)?", program) or same_environment(program):
        return [Finding("ok", "Jupyter", f"kernel python3 in {spec.resource_dir}, starting this Python")]
    text = f"the kernel python3 in {spec.resource_dir} starts another Python: {program}"
    return [Finding("problem", "Jupyter", text, advice)]


def same_environment(program: str) -> bool:
    """Whether a program lies in this environment; links are left as they are, because a virtual environment is made of
    them.
    """
    return Path(program).absolute().parent == Path(sys.executable).absolute().parent


def version(manifest: Manifest) -> list[Finding]:
    """Which version of the course this is: the tag that the Colab badges open against what is checked out here."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(manifest.root), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=15, check=True).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    chosen = f"badges and Colab take {manifest.tag}"
    if git("rev-parse", "--show-toplevel") is None:
        return [Finding("ok", "Version", f"{chosen}; this copy is not a git repository")]
    here = git("describe", "--tags", "--always") or "no commit yet"
    if git("describe", "--tags", "--exact-match") == manifest.tag:
        return [Finding("ok", "Version", f"{chosen}, and so is this copy")]
    return [
        Finding("note", "Version", f"{chosen}; this copy is {here}", "nothing to do, unless Colab should show the same")
    ]
