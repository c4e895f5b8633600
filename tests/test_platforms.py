"""What notebooks and `utils` use exists on Windows and macOS too: read from their code, without running it."""

import ast
import re
from pathlib import Path

import pytest

from course.notebook import python_nodes

ROOT = Path(__file__).resolve().parents[1]
# Modules of the standard library that Windows lacks ("Availability: Unix" in Python's documentation).
MODULES = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog", "termios", "tty"}
# Attributes of its other modules that Windows lacks.
MISSING = {
    "os": """chown fchown lchown chroot fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpriority
        getsid getuid killpg mkfifo mknod nice openpty pathconf posix_fadvise posix_spawn sched_getaffinity
        sched_setaffinity setegid seteuid setgid setpgid setsid setuid statvfs sync sysconf uname wait wait3 wait4
        waitid WNOHANG""",
    "signal": """SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH alarm
        pause pthread_kill pthread_sigmask setitimer sigwait""",
    "socket": "AF_UNIX socketpair",
    "time": "tzset clock_gettime",
}
ATTRIBUTES = {module: set(names.split()) for module, names in MISSING.items()}
FOLDERS = re.compile(r"/(?:tmp|dev|proc|home|usr|etc|var|root|opt|sys)(?:/|$)")
COMMANDS = {"bash", "sh", "cp", "mv", "rm", "ls", "cat", "grep", "wget", "curl", "unzip", "tar", "mkdir"}
READERS = {"read_text", "write_text"}
BINARY = re.compile(r"[rwxa+]*b[rwxa+]*")
FILES = sorted([*ROOT.glob("utils/**/*.py"), *ROOT.glob("sources/**/*.py")])


def unportable(source):
    """(line, what) of everything in the code that not every system has."""
    nodes = python_nodes(source)
    loads = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "json.loads"]
    ascii = {id(part) for node in loads for part in ast.walk(node)}  # as json.dumps writes it
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                if name.partition(".")[0] in MODULES:
                    yield node.lineno, f"the module {name} is missing on Windows"
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name in ATTRIBUTES.get(node.module or "", ()):
                        yield node.lineno, f"{node.module}.{alias.name} is missing on Windows"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            asked = f'hasattr({node.value.id}, "{node.attr}")' in source  # another way stands beside it
            if node.attr in ATTRIBUTES.get(node.value.id, ()) and not asked:
                yield node.lineno, f"{node.value.id}.{node.attr} is missing on Windows"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and FOLDERS.match(node.value):
            yield node.lineno, f"the folder {node.value!r} is one of Unix: tempfile and Path.home() know theirs"
        elif isinstance(node, ast.Call) and id(node) not in ascii:
            yield from _call(node)


def _call(node):
    words = {keyword.arg: keyword.value for keyword in node.keywords}
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    texts = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    module = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else ""
    if module == "os" and name in ("system", "popen"):
        yield node.lineno, f"os.{name} hands a line to a shell, which is another one on Windows"
    if module == "subprocess":
        first = node.args[0] if node.args else None
        program = first.elts[0] if isinstance(first, (ast.List, ast.Tuple)) and first.elts else first
        if isinstance(program, ast.Constant) and str(program.value).split(" ")[0] in COMMANDS:
            yield node.lineno, f"the command {program.value!r} is one of Unix"
        if "shell" in words:
            yield node.lineno, "shell=True hands a line to a shell, which is another one on Windows"
    if name in ("get_context", "set_start_method") and "fork" in texts:
        yield node.lineno, "processes are not forked on Windows"
    if name == "strftime" and any("%-" in text for text in texts):
        yield node.lineno, "strftime's %- is the C library's of Linux"
    inside = [part for argument in node.args for part in ast.walk(argument)]
    mode = [part for part in inside if isinstance(part, ast.Constant) and BINARY.fullmatch(str(part.value))]
    builtin = isinstance(node.func, ast.Name) and name == "open"
    json = any(isinstance(part, ast.Call) and ast.unparse(part.func) == "json.dumps" for part in inside)  # is ASCII
    if (builtin or name in READERS) and "encoding" not in words and not mode and not json:
        yield node.lineno, f"{name} without encoding=: Windows takes another than UTF-8"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_belongs_to_one_system(path):
    assert list(unportable(path.read_text(encoding="utf-8"))) == []


def test_no_two_files_differ_by_case_and_all_names_are_windows_names():
    names = [path.relative_to(ROOT).as_posix() for path in FILES]
    names += [
        path.relative_to(ROOT).as_posix()
        for kind in ("lectures", "labs", "solutions")
        for path in ROOT.glob(f"{kind}/*")
    ]
    assert len({name.lower() for name in names}) == len(names)
    reserved = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
    for name in names:
        assert not any(reserved.match(part) or re.search(r'[<>:"|?*\\]|[. ]$', part) for part in name.split("/")), name


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import fcntl", "the module fcntl"),
        ("from resource import getrusage", "the module resource"),
        ("from os import fork", "os.fork"),
        ("import os\nos.sched_getaffinity(0)", "os.sched_getaffinity"),
        ("signal.signal(signal.SIGALRM, f)", "signal.SIGALRM"),
        ("folder = '/tmp/course'", "'/tmp/course'"),
        ("os.system('ls')", "os.system"),
        ("subprocess.run(['rm', '-r', name])", "'rm'"),
        ("subprocess.run(line, shell=True)", "shell=True"),
        ("multiprocessing.get_context('fork')", "not forked"),
        ("now.strftime('%-d')", "strftime"),
        ("open(path)", "open without encoding"),
        ("open(path, 'w')", "open without encoding"),
        ("path.read_text()", "read_text without encoding"),
    ],
)
def test_what_one_system_has_is_found(source, said):
    [(_, found)] = unportable(source)
    assert said in found


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.cpu_count()",
        "open(path, 'rb')",
        'count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()',
        "open(path, 'ab' if there else 'wb')",
        "Image.open(path)",
        "path.write_text(json.dumps(table))",
        "table = json.loads(path.read_text())",
        "path.write_text(text, encoding='utf-8')",
        "subprocess.run([sys.executable, '-m', 'pip'])",
        "title = 'a/tmp'",
    ],
)
def test_what_every_system_has_is_not(source):
    assert list(unportable(source)) == []
