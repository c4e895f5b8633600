"""The box in which a template and all its children live: bubblewrap's, as an ordinary user.

What is mounted is listed here and read-only; there is no network, no environment and no way back to the course's
folder. Started by root, the box is entered as an unprivileged user (`UNPRIVILEGED`), after root has laid open the
folders that this user could not reach.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from course.errors import CourseError

UNPRIVILEGED = 61184  # a user of its own: above all that systems give out to people, below systemd's dynamic ones
INSIDE = "/course"  # where the packages `course` and `utils` lie inside
_SYSTEM = (
    "/usr",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/fonts",
    "/nix/store",
)
_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


@dataclass(frozen=True)
class Limits:
    """What one submission may take. Seconds are wall time unless they say CPU; sizes are bytes."""

    cell_seconds: float = 60
    wall_seconds: float = 900
    notebook_seconds: float = 240  # CPU seconds of the execution for the page
    cpu_seconds: int = 1800
    memory_bytes: int = 4 << 30
    processes: int = 512
    file_bytes: int = 128 << 20
    disk_bytes: int = 256 << 20
    output_bytes: int = 1 << 20
    boxed: bool = True  # False: no sandbox at all, only the limits

    def as_dict(self) -> dict[str, float | bool]:
        return asdict(self)


def find() -> str:
    """The path of bubblewrap. CourseError, with what to install, where no sandbox can be made."""
    if sys.platform != "linux":
        raise CourseError(f"no sandbox on {sys.platform}: grade on Linux, in a virtual machine or a container")
    path = shutil.which("bwrap")
    if path is None:
        raise CourseError(
            "no sandbox here: install bubblewrap (`apt-get install bubblewrap`, `dnf install bubblewrap`), "
            "or say --no-sandbox, which trusts every submission with this machine"
        )
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        raise CourseError("root needs `setpriv` (util-linux) to become an ordinary user before the sandbox")
    return path


def works() -> str | None:
    """Why no sandbox can be made here, in one line; None where one can. It makes one, with a namespace inside, and
    looks.
    """
    try:
        inside = "unshare --user --map-root-user --pid --fork --mount-proc true"
        command = [*box([]), "/usr/bin/env", "sh", "-c", inside]
        tried = subprocess.run(command, env={}, capture_output=True, text=True, timeout=30)
    except CourseError as error:
        return str(error)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the sandbox does not start: {error}"
    if tried.returncode:
        said = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return (
            f"the sandbox does not start: {said} (does this system allow user namespaces? see "
            "/proc/sys/user/max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns)"
        )
    return None


def python_folders() -> list[Path]:
    """What a Python of this environment reads: the environment, and the installation below it."""
    environment, base = Path(sys.prefix), Path(sys.base_prefix)
    found = [environment, base, *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))]
    found.append(Path(os.path.realpath(sys.executable)).parent)
    kept: list[Path] = []
    for folder in sorted({Path(os.path.realpath(folder)) for folder in found}, key=lambda path: len(path.parts)):
        if not any(folder.is_relative_to(other) for other in (*kept, Path("/usr"))):
            kept.append(folder)
    return kept


def box(mounts: Sequence[tuple[Path, str]]) -> list[str]:
    """The beginning of a command line: what follows it runs in the box, with the environment that this command is
    given.

    Args:
        mounts: (path here, path inside) of further files and folders, all read-only.
    """
    bubblewrap = find()
    whole = [*((folder, str(folder)) for folder in python_folders()), *mounts]
    arguments = [bubblewrap, "--unshare-all", "--new-session", "--hostname", "sandbox"]
    for system in _SYSTEM:
        if os.path.exists(system):
            arguments += ["--ro-bind", os.path.realpath(system), system]
    for link in _LINKS:
        if os.path.islink(link):
            arguments += ["--symlink", os.readlink(link), link]
        elif os.path.isdir(link):
            arguments += ["--ro-bind", link, link]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--dir", "/scratch"]
    for scratch in ("/tmp", "/dev/shm"):  # for the template's imports; each child has its own on top
        arguments += ["--perms", "1777", "--tmpfs", scratch]
    made: set[Path] = set()
    for source, target in whole:
        for parent in reversed(Path(target).parents):
            if parent not in made and str(parent) != "/":
                made.add(parent)
                if not any(parent.is_relative_to(other) for _, other in whole):
                    arguments += ["--perms", "0755", "--dir", str(parent)]
        arguments += ["--ro-bind", str(source), target]
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]
    if os.geteuid() == 0:
        return as_nobody([source for source, _ in whole], arguments)
    return arguments


def as_nobody(needed: Sequence[Path], command: Sequence[str], user: int = UNPRIVILEGED) -> list[str]:
    """Root's way into the box: reach what the unprivileged user could not, become that user, and give up everything
    else.

    Args:
        needed: paths that the user must be able to read.
        command: what runs as that user.
    """
    opening = [find(), "--dev-bind", "/", "/"]
    covered: set[Path] = set()
    for path in needed:
        closed = next((parent for parent in reversed(path.parents) if not os.stat(parent).st_mode & 0o001), None)
        if closed is None:
            continue
        if closed not in covered:
            covered.add(closed)
            opening += ["--perms", "0755", "--tmpfs", str(closed)]
        for parent in reversed(path.parents):
            if parent.is_relative_to(closed) and parent not in covered:
                covered.add(parent)
                opening += ["--perms", "0755", "--dir", str(parent)]
        opening += ["--ro-bind", str(path), str(path)]
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
        opening += ["--cap-add", capability]
    dropping = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "--no-new-privs"]
    return [*opening, *dropping, "--bounding-set=-all", "--inh-caps=-all", *command]
