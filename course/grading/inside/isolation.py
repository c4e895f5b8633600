"""A forked child of the template gets namespaces of its own, and gives up every right it does not need.

The template itself lies in bubblewrap's box, as an ordinary user. What a child adds: a user namespace of its own (so
that limits on processes count its own), process numbers that begin at 1, its own `/proc`, network (with nothing in it),
shared memory and scratch disk; then limits, no capabilities, and the filter of system calls. What the box mounts is
read-only, so nothing that one child leaves is there for the next.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from course.grading.inside import seccomp

_NEW = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000  # mount, uts, ipc, user, pid, net
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXECUTION, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
_DEATH_SIGNAL, _DUMPABLE, _DROP_BOUNDING, _NO_NEW_PRIVILEGES = 1, 4, 24, 38
_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    def encoded(text: str | None) -> bytes | None:
        return None if text is None else text.encode()

    _call(_LIBC.mount(encoded(source), target.encode(), encoded(kind), flags, encoded(options)), f"mount {target}")


def hide() -> None:
    """No process of the same user may look into this one's memory."""
    _LIBC.prctl(_DUMPABLE, 0, 0, 0, 0)


def die_with_parent() -> None:
    _LIBC.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def launch(limits: Mapping[str, Any], keep: Sequence[int], run: Callable[[], None]) -> None:
    """Run a function in a sandbox of its own and end with its exit code. Called in a fork made for this; it does not
    return.

    Args:
        limits: `memory_bytes`, `processes`, `file_bytes`, `disk_bytes`, `cpu_seconds`; `boxed` is False where no
            sandbox is wanted.
        keep: file descriptors that stay open beside the standard three.
        run: what to do inside.
    """
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    if not limits["boxed"]:
        _unboxed(limits, run)
    user, group = os.getuid(), os.getgid()
    _LIBC.prctl(_DUMPABLE, 1, 0, 0, 0)  # the maps below may be written by a process that can be looked into
    _call(_LIBC.unshare(_NEW), "unshare")
    for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    hide()
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(_code(status))
    try:
        _first(limits, keep, run)
    finally:
        os._exit(70)


def _unboxed(limits: Mapping[str, Any], run: Callable[[], None]) -> None:
    """Nothing but limits and a folder of its own. Does not return."""
    folder = tempfile.mkdtemp(dir=os.environ["HOME"])
    os.environ["HOME"] = os.environ["TMPDIR"] = folder
    os.chdir(folder)
    _limited(
        {**limits, "processes": resource.getrlimit(resource.RLIMIT_NPROC)[0]}
    )  # which would count all of this user's
    try:
        run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


def _first(limits: Mapping[str, Any], keep: Sequence[int], run: Callable[[], None]) -> None:
    """The first process of the new namespace: it furnishes it, starts the one that does the work, and ends it all with
    that.
    """
    die_with_parent()
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    disk = f"size={limits['disk_bytes']},nr_inodes=20000,mode="
    for folder, mode in (("/tmp", "1777"), ("/dev/shm", "1777"), ("/scratch", "0700")):
        _mount("tmpfs", folder, "tmpfs", _NO_SUID | _NO_DEVICES, disk + mode)
    _mount("proc", "/proc", "proc", _NO_SUID | _NO_DEVICES | _NO_EXECUTION)
    _LIBC.sethostname(b"sandbox", 7)
    os.chdir("/scratch")
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    _close_all_but({0, 1, 2, *keep})
    working = os.fork()
    if working:
        _close_all_but({0, 1, 2})
        _powerless()
        while True:
            found, status = os.wait()  # it is the parent of every orphan, too
            if found == working:
                os._exit(_code(status))
    os.setsid()
    _limited(limits)
    _powerless()
    _LIBC.prctl(_DUMPABLE, 1, 0, 0, 0)  # its own `/proc/self` is its own
    seccomp.install()
    code = 1
    try:
        run()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(code & 255)


def _close_all_but(keep: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:  # the one that listed the folder
                continue


def _limited(limits: Mapping[str, Any]) -> None:
    for what, value in (
        (resource.RLIMIT_NPROC, limits["processes"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, 1024),
        (resource.RLIMIT_DATA, limits["memory_bytes"]),  # not RLIMIT_AS: TensorFlow maps 2.5 GB that it never touches
    ):
        _, most = resource.getrlimit(what)
        if value == resource.RLIM_INFINITY:
            continue
        value = int(value) if most == resource.RLIM_INFINITY else min(int(value), most)
        resource.setrlimit(what, (value, value))


def _powerless() -> None:
    for capability in range(64):
        _LIBC.prctl(_DROP_BOUNDING, capability, 0, 0, 0)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    _call(_LIBC.capset(header, nothing), "capset")
    _call(_LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no_new_privs")


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
