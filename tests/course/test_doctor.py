"""`course doctor`: every look, on machines that are broken on purpose."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from course import backend, doctor
from course.manifest import load

MINI = Path(__file__).resolve().parents[1] / "minicourse"


@pytest.fixture
def mini(tmp_path):
    """A course folder that holds its manifest and nothing else."""
    root = tmp_path / "mini"
    root.mkdir()
    shutil.copy(MINI / "course.toml", root)
    return load(root)


def marks(findings):
    return [finding.mark for finding in findings]


def only(findings, mark):
    (finding,) = [finding for finding in findings if finding.mark == mark]
    return finding


def versions(**installed):
    """A stand-in for what is installed."""
    return lambda name: installed.get(name.replace("-", "_"))


def test_a_healthy_machine_has_no_problem_and_the_last_line_says_so(mini):
    findings = doctor.doctor(mini)
    assert "problem" not in marks(findings), doctor.render(findings)
    text = doctor.render(findings)
    assert text.splitlines()[0].startswith("ok       Python: 3.")
    assert text.endswith("Everything the course needs is here.")


def test_every_problem_says_what_to_do_and_is_counted():
    findings = [doctor.Finding("problem", "Disk", "full", "make room"), doctor.Finding("ok", "GPU", "none")]
    assert doctor.render(findings).splitlines() == [
        "PROBLEM  Disk: full",
        "         -> make room",
        "ok       GPU: none",
        "",
        "1 problem to solve.",
    ]


def test_a_look_that_fails_is_a_note_and_hides_no_other(mini, monkeypatch):
    def broken():
        raise OSError("the cable is out")

    monkeypatch.setattr(doctor, "gpu", broken)
    findings = doctor.doctor(mini)
    assert "GPU: could not be looked at (OSError: the cable is out)" in doctor.render(findings)
    assert findings[-1].subject == "Version"


def test_python_that_is_too_old_or_too_new_is_a_problem():
    assert marks(doctor.python_version((3, 12, 1), ">=3.11,<3.14")) == ["ok"]
    for version in [(3, 10, 9), (3, 14, 0)]:
        (finding,) = doctor.python_version(version, ">=3.11,<3.14")
        assert finding.mark == "problem" and "needs >=3.11,<3.14" in finding.text and "make setup" in finding.advice


def test_lock_is_read_with_its_markers():
    lock = """
    # a comment
    Keras_Thing==3.15.1
        # via nothing
    colour==1.0 ; sys_platform == 'win32'
    colour==2.0 ; sys_platform != 'win32'
    --find-links somewhere
    """
    assert doctor.read_lock(lock, {"sys_platform": "linux"}) == {"keras-thing": "3.15.1", "colour": "2.0"}
    assert doctor.read_lock(lock, {"sys_platform": "win32"}) == {"keras-thing": "3.15.1", "colour": "1.0"}


def test_packages_a_missing_need_is_a_problem_another_version_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "needed_packages", lambda: {"keras": ">=3.13", "numpy": "", "rich": ">=13"})
    (tmp_path / "requirements.lock").write_text("keras==3.15\nnumpy==2.4\nrich==14\nuv==1.0\n")
    findings = doctor.packages(tmp_path, versions(keras="3.12", numpy="2.5"))
    assert [(finding.mark, finding.text) for finding in findings] == [
        ("problem", "not installed: rich"),
        ("problem", "too old or too new: keras 3.12 (needs >=3.13)"),
        ("note", "in the lock but not installed: uv"),
        ("note", "another version than the lock's: keras 3.12 (lock: 3.15), numpy 2.5 (lock: 2.4)"),
    ]
    assert all("pip install -r requirements.lock" in finding.advice for finding in findings)
    (tmp_path / "Makefile").touch()
    assert doctor.packages(tmp_path, versions(numpy="2.4"))[0].advice == "make setup"
    findings = doctor.packages(tmp_path, versions(keras="3.15", numpy="2.4", rich="14", uv="1.0"))
    assert [str(finding) for finding in findings] == ["ok       Packages: all 4 of requirements.lock, in its versions"]


def test_any_build_of_tensorflow_serves_for_the_locked_one(monkeypatch):
    builds = {"tensorflow": "2.21.0"}

    def version(name):
        if name not in builds:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return builds[name]

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    assert doctor.installed_version("tensorflow-cpu") == "2.21.0"
    assert doctor.installed_version("numpy") is None


def test_backend_is_the_environment_s_then_the_file_s_then_tensorflow(tmp_path):
    here = {"KERAS_HOME": str(tmp_path)}
    assert backend.chosen_backend(here) == ("tensorflow", "Keras's default")
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert backend.chosen_backend(here) == ("torch", str(tmp_path / "keras.json"))
    assert backend.chosen_backend({**here, "KERAS_BACKEND": "jax"}) == ("jax", "KERAS_BACKEND")
    (tmp_path / "keras.json").write_text("{")
    assert backend.chosen_backend(here)[0] == "tensorflow"


@pytest.mark.parametrize(
    "name, installed, expected",
    [
        ("tensorflow", versions(tensorflow="2.21"), ["ok"]),
        ("tensorflow", versions(tensorflow_cpu="2.21"), ["ok"]),
        ("jax", versions(tensorflow="2.21", jax="0.10"), ["ok"]),
        ("jax", versions(tensorflow="2.21"), ["problem"]),
        ("jax", versions(jax="0.10"), ["ok", "problem"]),
        ("theano", versions(tensorflow="2.21"), ["problem"]),
    ],
)
def test_backend_must_be_installed_and_tensorflow_beside_it(tmp_path, name, installed, expected):
    environment = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": name}
    findings = doctor.backend(environment, installed)
    assert marks(findings) == expected
    assert all(finding.advice for finding in findings if finding.mark == "problem")


def test_gpu_is_told_by_its_own_tool(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert marks(doctor.gpu()) == ["ok"]
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Card X, 80000 MiB, 600.1'\n")
    tool.chmod(0o755)
    monkeypatch.setattr(doctor.importlib.metadata, "version", lambda name: "2.21")
    findings = doctor.gpu()
    assert marks(findings) == ["ok", "note"] and findings[0].text == "Card X, 80000 MiB, 600.1"
    assert "CPU build" in findings[1].text
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert "does not answer" in only(doctor.gpu(), "note").text


def test_memory_is_held_against_the_most_demanding_notebook(mini, monkeypatch):
    import psutil

    def machine(total, free):
        return type("Memory", (), {"total": total * 10**9, "available": free * 10**9})

    for total, free, mark in [(8, 4, "ok"), (8, 0.5, "note"), (0.5, 0.4, "problem")]:
        monkeypatch.setattr(psutil, "virtual_memory", lambda total=total, free=free: machine(total, free))
        (finding,) = doctor.memory(mini)
        assert finding.mark == mark and "1 GB" in finding.text


def test_disk_a_full_one_and_a_read_only_folder_are_problems(mini, monkeypatch, tmp_path):
    environment = {"COURSE_CACHE": str(tmp_path / "not" / "yet")}
    for free, mark in [(50, "ok"), (1, "note"), (0.1, "problem")]:
        usage = type("Usage", (), {"free": free * 10**9})
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        assert marks(doctor.disk(mini.root, environment)) == [mark]

    def refused(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refused)
    problems = [finding for finding in doctor.disk(mini.root, environment) if "cannot write" in finding.text]
    assert len(problems) == 3 and "COURSE_CACHE" in problems[2].advice and "Permission denied" in problems[0].text
    assert list(tmp_path.iterdir()) == [mini.root], "the look left nothing behind"


def test_weights_are_held_against_the_hash_in_their_record(tmp_path):
    (tmp_path / "glyphs.npz").write_bytes(b"weights")
    record = tmp_path / "glyphs.json"
    record.write_text(json.dumps({"sha256": hashlib.sha256(b"weights").hexdigest()}))
    assert marks(doctor.weights(tmp_path)) == ["ok"]
    (tmp_path / "glyphs.npz").write_bytes(b"weightz")
    assert "hash differs" in only(doctor.weights(tmp_path), "problem").text
    (tmp_path / "glyphs.npz").unlink()
    assert "git checkout" in only(doctor.weights(tmp_path), "problem").advice
    record.write_text("{")
    assert "cannot be read" in only(doctor.weights(tmp_path), "problem").text


@pytest.fixture
def table(tmp_path):
    """A table of archives: one of the release, one of another host."""
    path = tmp_path / "archives.toml"
    digest = hashlib.sha256(b"pictures").hexdigest()
    path.write_text(
        'release = "https://example.org/data-1"\n'
        f'[clothing]\nfile = "clothing.zip"\nbytes = 8\nsha256 = "{digest}"\n'
        f'[cells]\nfile = "cells.zip"\nhost = "http://cells.example.org"\nbytes = 8\nsha256 = "{digest}"\n'
    )
    return path


def test_archives_are_read_from_the_table(table):
    found = doctor.read_archives(table)
    assert [(archive.name, archive.bytes, archive.url) for archive in found] == [
        ("clothing", 8, "https://example.org/data-1/clothing.zip"),
        ("cells", 8, "http://cells.example.org/cells.zip"),
    ]


@pytest.mark.parametrize("text", ["release = ", "[clothing]\nbytes = 8", None])
def test_a_table_that_cannot_be_read_is_a_problem_in_one_line(mini, tmp_path, text):
    path = tmp_path / "archives.toml"
    if text is not None:
        path.write_text(text)
    finding = only(doctor.data({"COURSE_CACHE": str(tmp_path)}, path), "problem")
    assert f"{path} cannot be read" in finding.text and "\n" not in finding.text


def test_data_absent_archives_are_notes_damaged_ones_problems(mini, table, tmp_path):
    given, cache = tmp_path / "given", tmp_path / "cache"
    environment = {"COURSE_DATA": str(given), "COURSE_CACHE": str(cache)}
    finding = only(doctor.data(environment, table), "problem")
    assert "COURSE_DATA" in finding.text and "no folder" in finding.text

    given.mkdir()
    findings = doctor.data(environment, table)
    assert marks(findings) == ["ok", "note", "note", "ok"]
    assert "clothing.zip, 0.0 MB, is not here" in findings[1].text
    assert "https://example.org/data-1/clothing.zip" in findings[1].advice

    (given / "clothing.zip").write_bytes(b"pictures")
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads" / "cells.zip").write_bytes(b"pictureX")
    findings = doctor.data(environment, table)
    assert marks(findings) == ["ok", "ok", "problem", "ok"]
    assert "damaged" in findings[2].text and "delete it" in findings[2].advice


def test_keras_home_must_be_a_folder(tmp_path):
    assert marks(doctor.keras_home({"KERAS_HOME": str(tmp_path / "nowhere")})) == ["problem"]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet.h5").touch()
    (finding,) = doctor.keras_home({"KERAS_HOME": str(tmp_path)})
    assert finding.mark == "ok" and "mobilenet.h5" in finding.text


def test_kernel_that_starts_another_python_is_a_problem(tmp_path, monkeypatch):
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    class Spec:
        resource_dir = "/kernels/python3"
        argv: tuple = ()

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: Spec)
    for program in ["python", "python3", "python3.12", sys.executable]:
        Spec.argv = (program,)
        assert marks(doctor.kernel()) == ["ok"]
    Spec.argv = ("/opt/other/bin/python",)
    (finding,) = doctor.kernel()
    assert (
        finding.mark == "problem" and "/opt/other/bin/python" in finding.text and "ipykernel install" in finding.advice
    )

    def none(self, name):
        raise NoSuchKernel(name)

    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", none)
    assert marks(doctor.kernel()) == ["problem"]


def test_files_that_hide_a_package_from_the_notebooks_are_named(mini, monkeypatch):
    labs = mini.root / "labs"
    (labs / "numpy").mkdir(parents=True)
    for name in ["utils.py", "random.py", "test.py", "my_utils.py", "numpy/__init__.py"]:
        (labs / name).touch()
    hiding = [path.name for path in doctor.hiding(mini.root)]
    assert hiding == ["numpy", "random.py", "utils.py"]
    problems = [finding for finding in doctor.own_modules(mini.root) if finding.mark == "problem"]
    assert "utils.py hides the course's own utils" in problems[2].text
    assert "rename it (my_utils.py" in problems[2].advice

    elsewhere = mini.root.parent / "my work"
    elsewhere.mkdir()
    (elsewhere / "lab.ipynb").touch()
    (elsewhere / "keras.py").touch()
    monkeypatch.chdir(elsewhere)
    assert elsewhere / "keras.py" in doctor.hiding(mini.root)


def test_a_utils_that_is_not_the_course_s_is_a_problem(tmp_path):
    (tmp_path / "utils.py").write_text("raise SystemExit('must not be imported')")
    (tmp_path / "course.toml").write_text((MINI / "course.toml").read_text())
    code = "from pathlib import Path; from course import doctor; print(*doctor.own_modules(Path('.')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "which is not the course's" in done.stdout and "rename that file" in done.stdout


def test_version_is_the_tag_against_what_is_checked_out(mini):
    assert marks(doctor.version(mini)) in (["ok"], ["note"])  # the folder may lie in someone's repository

    def git(*arguments):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=mini.root, check=True, capture_output=True)

    git("init", "-q")
    assert "no commit yet" in doctor.version(mini)[0].text
    git("add", ".")
    git("commit", "-qm", "start")
    assert marks(doctor.version(mini)) == ["note"]
    git("tag", mini.tag)
    assert doctor.version(mini)[0].text == "badges and Colab take v1, and so is this copy"


def test_doctor_imports_neither_keras_nor_a_backend_nor_utils(mini):
    code = (
        "import sys; from course import doctor, manifest; doctor.doctor(manifest.load(sys.argv[1]));"
        "print(*[name for name in ('keras', 'tensorflow', 'jax', 'torch', 'utils') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, mini.root], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
