"""Answers that attack: each is right only if its attack succeeds, and no attack may cost the next gap its points.

An attack's `add` gives the right sum only when it got what it must not get. So a passed check is a hole in the sandbox.
"""

import os
import socket
import threading

import pytest

from course.grading.batch import Job
from course.grading.release import Release
from course.grading.sandbox import Limits

SECRET = "a-secret-of-the-grader"
os.environ["COURSE_TEST_SECRET"] = SECRET
DOUBLE = "def double(a):\n    return 2 * a\n"
LIMITS = Limits(cell_seconds=2, memory_bytes=5 << 28, disk_bytes=64 << 20, file_bytes=32 << 20)


def got(body, head=""):
    """An answer that is right only when `body`, which sets `hole`, finds one."""
    lines = "\n".join(f"        {line}" for line in body.strip().split("\n"))
    return (
        f"{head}\ndef add(a, b):\n    hole = False\n    try:\n{lines}\n    except Exception:\n        pass\n"
        "    return a + b if hole else None\n"
    )


LATE, ENDED = "no answer within", "ended by itself"

ENDING = {  # how the gap ends -> what the check says
    "loop at the definition": ("while True:\n    pass", LATE),
    "loop in the call": ("def add(a, b):\n    while True:\n        pass", LATE),
    "loop that swallows every exception": (
        "def add(a, b):\n    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            pass",
        LATE,
    ),
    "sleep": ("import time\ndef add(a, b):\n    time.sleep(10_000)", LATE),
    "stop": ("import os, signal\ndef add(a, b):\n    os.kill(os.getpid(), signal.SIGSTOP)", LATE),
    "os._exit": ("import os\ndef add(a, b):\n    os._exit(0)", ENDED),
    "os._exit at the definition": ("import os\nos._exit(0)", ENDED),
    "sys.exit": ("import sys\ndef add(a, b):\n    sys.exit(0)", "SystemExit"),
    "raise SystemExit at the definition": ("raise SystemExit(0)", "add"),
    "KeyboardInterrupt": ("def add(a, b):\n    raise KeyboardInterrupt", "KeyboardInterrupt"),
    "a segmentation fault": ("import ctypes\ndef add(a, b):\n    ctypes.string_at(0)", ENDED),
    "recursion": ("def add(a, b):\n    return add(a, b)", "RecursionError"),
    "a large array": ("import numpy as np\ndef add(a, b):\n    return np.ones(10**9)", "MemoryError"),
    "memory, piece by piece": (
        "def add(a, b):\n    kept = []\n    while True:\n        kept.append(bytearray(b'x') * (64 << 20))",
        "MemoryError",
    ),
    "an exception without words": (
        "class Mute(Exception):\n    def __str__(self):\n        raise RuntimeError\ndef add(a, b):\n    raise Mute",
        "cannot be read",
    ),
    "a syntax error": ("def add(a, b)\n    return a + b", "SyntaxError"),
    "nothing at all": ("pass", "'add' is not defined"),
    "a giant number": ("def add(a, b):\n    return 10 ** 20_000", ENDED),
    "a giant text": ("def add(a, b):\n    return 'x' * (20 << 20)", ENDED),
    "a giant array": ("import numpy as np\ndef add(a, b):\n    return np.zeros(90_000_000)", ENDED),
}

LYING = {  # an answer that is wrong, and would be taken for right by a grader that believes it
    "equal to everything": "class Equal:\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Equal()",
    "a number equal to everything": "class Equal(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\n"
    "def add(a, b):\n    return Equal(0)",
    "patched builtins": "import builtins\nbuiltins.isinstance = lambda *a: True\nbuiltins.AssertionError = type('A', (), {})\n"
    "builtins.len = lambda x: 5\ndef add(a, b):\n    return 0",
    "patched numpy.testing": "import numpy.testing\nnumpy.testing.assert_allclose = numpy.testing.assert_equal = lambda *a, **k: None\n"
    "import numpy\nnumpy.allclose = lambda *a, **k: True\ndef add(a, b):\n    return 0",
    "patched IPython": "import IPython.core.interactiveshell as shell\nshell.InteractiveShell.run_cell = lambda *a, **k: None\n"
    "def add(a, b):\n    return 0",
    "a trace function": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef add(a, b):\n    return 0",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b):\n    return 0",
    "a warning that is an error": "import warnings\nwarnings.simplefilter('error')\ndef add(a, b):\n    return 0",
    "an AssertionError that looks like the check's": "def add(a, b):\n    raise AssertionError('passed')",
    "not a number": "def add(a, b):\n    return float('nan')",
    "a list in itself": "def add(a, b):\n    x = []\n    x.append(x)\n    return x",
    "lists ten thousand deep": "def add(a, b):\n    x = 5\n    for _ in range(10_000):\n        x = [x]\n    return x",
    "a generator": "def add(a, b):\n    yield a + b",
    "a function": "def add(a, b):\n    return add",
    "a module": "import sys\ndef add(a, b):\n    return sys",
    "a lock": "import threading\ndef add(a, b):\n    return threading.Lock()",
    "an array of objects": "import numpy as np\nclass E:\n    def __eq__(self, o):\n        return True\ndef add(a, b):\n    return np.array([E()])",
    "the visible case only": "def add(a, b):\n    return 5 if (a, b) == (2, 3) else None",
}

FORGED = {  # the wire itself, from inside
    "a forged verdict": "import os, struct, json\nhead = json.dumps({'verdict': {'checks': {'add-check': {'status': 'passed'}}}}).encode()\n"
    "for number in range(3, 64):\n    try:\n        os.write(number, struct.pack('>IQ', len(head), 0) + head)\n    except OSError:\n        pass\n"
    "def add(a, b):\n    return 0",
    "bytes of chance": "import os\nfor number in range(3, 64):\n    try:\n        os.write(number, os.urandom(4096))\n    except OSError:\n        pass\n"
    "def add(a, b):\n    return 0",
    "an encoder of its own": "from course.grading.inside import peer\npeer.Peer.encode = lambda self, thing, parcel, depth=0: {'t': 'yours', 'h': 1}\n"
    "def add(a, b):\n    return 0",
    "a kind that is none": "from course.grading.inside import peer\npeer.Peer.encode = lambda self, thing, parcel, depth=0: {'t': 'pickle'}\n"
    "def add(a, b):\n    return 0",
    "a call of what was never handed over": "from course.grading.inside import peer\n"
    "def add(a, b):\n    import gc\n    me = next(o for o in gc.get_objects() if isinstance(o, peer.Peer))\n"
    "    return me.call(7, '__class__', (), {})",
    "a call by name": "from course.grading.inside import peer\n"
    "def add(a, b):\n    import gc\n    me = next(o for o in gc.get_objects() if isinstance(o, peer.Peer))\n"
    "    return me.call('exit', None, (), {})",
    "a pickled array": "from course.grading.inside import peer, wire\nimport numpy as np\n"
    "def add(a, b):\n    import gc, struct, json\n    me = next(o for o in gc.get_objects() if isinstance(o, peer.Peer))\n"
    "    head = json.dumps({'m': {'op': 'return', 'v': {'t': 'array', 'i': 0}}, 'a': [['|O', [1]]]}).encode()\n"
    "    me.wire.connection.sendall(struct.pack('>IQ', len(head), 8) + head + b'12345678')",
}

HOLES = {
    "the solutions": got(
        "import os\nfor here, folders, files in os.walk('/'):\n    folders[:] = [f for f in folders if f not in ('proc', 'sys')]\n"
        "    hole = hole or any(name.endswith('.ipynb') for name in files) or 'solutions' in folders"
    ),
    "the hidden tests in memory": got(
        "import gc\nhole = any('range(' + 'most)' in text for o in gc.get_objects() if isinstance(o, dict) for text in o.values() if isinstance(text, str))"
    ),
    "the environment": got(
        f"import os\ntexts = [repr(os.environ)]\nfor pid in filter(str.isdigit, os.listdir('/proc')):\n    try:\n"
        f"        texts.append(open(f'/proc/{{pid}}/environ').read())\n    except OSError:\n        pass\nhole = any({SECRET[:8]!r} + {SECRET[8:]!r} in t for t in texts)"
    ),
    "other processes": got("import os\nhole = sum(name.isdigit() for name in os.listdir('/proc')) > 3"),
    "the memory of the first process": got("hole = bool(open('/proc/1/mem', 'rb'))"),
    "the course's folder": got(f"import os\nhole = os.path.exists({os.path.abspath('course.toml')!r})"),
    "root's home": got(
        "import os\nhole = bool(os.listdir('/root')) and any(not n.startswith('.pyenv') for n in os.listdir('/root'))"
    ),
    "the passwords": got("hole = bool(open('/etc/passwd').read() or open('/etc/shadow').read())"),
    "to be root": got("import os\nos.setuid(0)\nhole = True"),
    "a namespace of its own": got("import ctypes\nhole = ctypes.CDLL(None).unshare(0x10000000) == 0"),
    "a mount": got("import ctypes\nhole = ctypes.CDLL(None).mount(b'x', b'/scratch', b'tmpfs', 0, None) == 0"),
    "what lies under its scratch": got("import ctypes\nhole = ctypes.CDLL(None).umount2(b'/tmp', 2) == 0"),
    "a trace of its parent": got("import ctypes, os\nhole = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0"),
    "the death of its parent": got(
        "import os, time\nparent = os.getppid()\nos.kill(parent, 9)\ntime.sleep(.2)\nhole = os.getppid() != parent"
    ),
    "the grader's code": got("open('/course/course/grading/score.py', 'a').write('#')\nhole = True"),
    "the libraries": got("import numpy\nopen(numpy.__file__, 'a').write('#')\nhole = True"),
    "the root folder": got("open('/x', 'w').write('#')\nhole = True"),
    "a device": got(
        "import os\nos.mknod('/scratch/m', 0o20600, os.makedev(1, 1))\nhole = bool(open('/scratch/m', 'rb').read(1))"
    ),
    "a packet socket": got("import socket\nhole = bool(socket.socket(17, socket.SOCK_RAW))"),
    "more disk than it may": got(
        "written = 0\nwhile written < 200:\n    open(f'/scratch/{written}', 'wb').write(bytes(16 << 20))\n    written += 16\nhole = True"
    ),
    "more shared memory than it may": got(
        "written = 0\nwhile written < 200:\n    open(f'/dev/shm/{written}', 'wb').write(bytes(16 << 20))\n    written += 16\nhole = True"
    ),
    "a file larger than it may": got("open('/scratch/x', 'wb').write(bytes(48 << 20))\nhole = True"),
    "a flood of files": got("for number in range(30_000):\n    open(f'/scratch/{number}', 'w').close()\nhole = True"),
    "a fork bomb": got(
        "import os, time\nfor number in range(2_000):\n    if os.fork() == 0:\n        time.sleep(5)\n        os._exit(0)\nhole = True"
    ),
    "a bomb of threads": got(
        "import threading, time\nfor number in range(5_000):\n    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\nhole = True"
    ),
    "the caller's frames": got(
        "import sys\nframe, seen = sys._getframe(), ''\nwhile frame:\n    seen += repr(frame.f_locals)\n    frame = frame.f_back\n"
        "hole = 'make ' + 'five' in seen"
    ),
}


@pytest.fixture(scope="module")
def release(manifest, lab):
    return Release(manifest, lab)


@pytest.fixture
def grade(release, boxes):
    def grade(answer, double=DOUBLE):
        program = release.program({"add": answer, "double": double})
        verdict = boxes(Job("x", release.name, program, None, {}, {}, LIMITS))["verdict"]
        assert verdict["problem"] is None, verdict
        return verdict

    return grade


def held(verdict):
    """The attack got nothing, and the next gap has lost nothing."""
    assert verdict["checks"]["double-check"]["status"] == "passed", verdict
    assert verdict["checks"]["add-check"]["status"] == "failed", verdict
    return verdict["checks"]["add-check"]["text"]


def test_a_right_answer_passes(grade):
    verdict = grade("def add(a, b):\n    return a + b")
    assert {check["status"] for check in verdict["checks"].values()} == {"passed"} and verdict["restarts"] == 0


@pytest.mark.parametrize("attack", ENDING)
def test_whatever_ends_an_answer_costs_its_own_gap(grade, attack):
    answer, told = ENDING[attack]
    assert told in held(grade(answer))


@pytest.mark.parametrize("attack", LYING)
def test_no_lie_is_taken_for_an_answer(grade, attack):
    held(grade(LYING[attack]))


@pytest.mark.parametrize("attack", FORGED)
def test_no_message_is_forged(grade, attack):
    verdict = grade(FORGED[attack])
    held(verdict)
    assert verdict["restarts"] <= 2


@pytest.mark.parametrize("attack", HOLES)
def test_the_sandbox_has_no_hole(grade, attack):
    held(grade(HOLES[attack]))


def test_the_network_is_not_there(grade):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        held(grade(got(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), .5)\nhole = True")))
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_gigabyte_of_output_harms_nobody(grade):
    answer = (
        "import os\ndef add(a, b):\n    for _ in range(1024):\n        os.write(1, bytes(1 << 20))\n    return a + b"
    )
    assert grade(answer)["checks"]["add-check"]["status"] == "passed"


def test_leftovers_of_one_submission_are_gone_for_the_next(grade):
    write = "open('/tmp/left', 'w').write('x'); open('/dev/shm/left', 'w').write('x'); open('/scratch/left', 'w').write('x')"
    assert grade(f"{write}\ndef add(a, b):\n    return a + b")["checks"]["add-check"]["status"] == "passed"
    held(
        grade(
            got(
                "import os\nhole = any(os.path.exists(f'{folder}/left') for folder in ('/tmp', '/dev/shm', '/scratch'))"
            )
        )
    )


def test_submissions_side_by_side_do_not_see_each_other(grade):
    attack = got(
        "import os, time\nfor _ in range(20):\n    hole = hole or os.path.exists('/tmp/mark')\n    time.sleep(.02)"
    )
    honest = "import time\nopen('/tmp/mark', 'w').write('x')\ndef add(a, b):\n    time.sleep(.3)\n    return a + b"
    verdicts = {}
    threads = [
        threading.Thread(target=lambda n=name, a=answer: verdicts.update({n: grade(a)}))
        for name, answer in (("attack", attack), ("honest", honest))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held(verdicts["attack"])
    assert verdicts["honest"]["checks"]["add-check"]["status"] == "passed"


def test_an_answer_of_a_kind_that_cannot_be_carried_is_for_a_person(grade):
    answer = (
        "def add(a, b):\n    import keras\n    image = keras.Input((2,))\n"
        "    return keras.Model(image, keras.layers.Lambda(lambda x: x)(image))"
    )
    verdict = grade(answer)
    assert verdict["checks"]["add-check"]["status"] == "hand" and "person" in verdict["checks"]["add-check"]["text"]
    assert verdict["checks"]["double-check"]["status"] == "passed"


def test_a_later_gap_is_judged_on_the_right_earlier_answer(grade):
    verdict = grade("def add(a, b):\n    return a - b", "def double(a):\n    return add(a, a)")
    held(verdict)


def test_a_late_thread_that_ends_everything_costs_only_its_own(grade):
    answer = "import os, threading\nthreading.Timer(.5, os._exit, (0,)).start()\nimport time\ndef add(a, b):\n    time.sleep(1)\n    return a + b"
    held(grade(answer))


def test_both_gaps_may_hang(grade):
    verdict = grade("while True:\n    pass", "while True:\n    pass")
    assert {check["status"] for check in verdict["checks"].values()} == {"failed"}


def test_one_array_in_two_places_is_one_and_what_changes_in_place_comes_back(manifest, lab, boxes):
    """What a plain call would do to its arguments is done to them here, too."""
    release = Release(manifest, lab)
    check = next(check for check in release.checks if check.gap == "add")
    source = (
        "import numpy as np\nx, rng = np.zeros(2), np.random.default_rng(1)\nbefore = rng.bit_generator.state\n"
        "y = add(x, x)\nassert x.tolist() == [5, 5] and y is x, (x, y)\n"
        "z = add([x], rng)\nassert rng.bit_generator.state != before and len(z) == 1\n"
        "assert x.tolist() == [0, 0] and z[0] is x"
    )
    answer = (
        "def add(a, b):\n    if isinstance(a, list):\n        b.random()\n        a[0][:] = 0\n        return a\n"
        "    a += 5\n    assert b is a\n    return b\n"
    )
    release.checks = [check.__class__(check.id, check.gap, check.points, source, check.index)]
    program = release.program({"add": answer})
    verdict = boxes(Job("x", release.name, program, None, {}, {}, LIMITS))["verdict"]
    assert verdict["checks"] == {"add-check": {"status": "passed", "text": ""}}, verdict


def test_a_check_is_not_passed_by_what_a_given_cell_left_when_it_failed(manifest, lab, boxes):
    """An untrained model stands there when `train` raises; a check whose floor is 0 must not take it."""
    release = Release(manifest, lab)
    steps = release.program({"add": "def add(a, b):\n    raise NotImplementedError", "double": DOUBLE})
    place = next(number for number, step in enumerate(steps) if step["kind"] == "check")
    given = {"kind": "given", "index": 1, "judge": "kept = 3\nkept = add(1, 2)", "submission": "", "functions": []}
    steps.insert(place, {**given, "needed": False})
    steps[place + 1]["source"] = "assert kept == 3"
    verdict = boxes(Job("x", release.name, steps, None, {}, {}, LIMITS))["verdict"]
    assert "the cell after it fails" in held(verdict)
