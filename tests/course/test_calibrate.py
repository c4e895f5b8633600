"""Bands from seeds: Howe's factor against printed tables, stored runs, proposals, and what stands in course.toml
afterwards.
"""

import json
import math
import shutil
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from course import bands
from course.authoring.build import build
from course.authoring.check import check
from course.bands import Run, beyond, howe, proposed, read_runs, says_nothing, store_run
from course.errors import CourseError
from course.execution import run as running
from course.execution.worker import digest
from course.manifest import load
from course.outcome import Result
from course.reporting import calibrate as module
from course.reporting.calibrate import calibrate, read_seeds

# Two-sided tolerance factors, 95 % of the population with confidence .90: Eisenhart, Hastay, Wallis, Techniques of
# statistical analysis (1947), table 2.1; printed again in Montgomery's textbooks.
PRINTED = {3: 6.919, 5: 4.152, 8: 3.264, 10: 3.018, 20: 2.564, 50: 2.284}


@pytest.mark.parametrize("runs", PRINTED)
def test_howes_factor_is_within_a_hundredth_of_the_printed_one(runs):
    assert howe(runs) == pytest.approx(PRINTED[runs], rel=0.01)


def test_howes_factor_by_scipys_quantiles():
    for runs in (2, 7, 100):
        expected = stats.norm.ppf(0.975) * math.sqrt((runs - 1) * (1 + 1 / runs) / stats.chi2.ppf(0.1, runs - 1))
        assert howe(runs) == pytest.approx(expected, rel=1e-12)


def test_a_band_holds_95_of_100_runs_with_90_percent_confidence():
    """By simulation: of 2000 calibrations with five seeds, nine in ten give a band with 95 % of the population in
    it."""
    draws = np.random.default_rng(0).normal(0.8, 0.02, (2000, 5))
    good = 0
    for values in draws:
        low, high = proposed(values.tolist())
        good += stats.norm.cdf(high, 0.8, 0.02) - stats.norm.cdf(low, 0.8, 0.02) >= 0.95
    assert 0.88 <= good / len(draws) <= 0.94  # rounding outward makes it a little wider


def test_a_band_by_hand():
    # mean .8, standard deviation .02, factor 6.972 for three seeds: .8 - .1394 and .8 + .1394, outward to two digits of
    # .279
    assert proposed([0.78, 0.80, 0.82]) == (0.66, 0.94)
    assert proposed([0.96, 0.98, 1.0], (0, 1)) == (0.84, 1)
    assert proposed([0.0, 0.02, 0.04], (0, 1)) == (0, 0.16)
    assert proposed([1480.0, 1500.0, 1520.0]) == (1360.0, 1640.0)


def test_a_metric_that_is_the_same_with_every_seed_has_a_band_of_its_own():
    assert proposed([212.0, 212.0]) == (212.0, 212.0)
    assert proposed([0.0] * 5) == (0.0, 0.0)
    low, high = proposed([11.98372645] * 3)
    assert (low, high) == (11.9, 12.1)  # another machine rounds otherwise: room in the third digit


@given(
    st.lists(st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False), min_size=2, max_size=12),
    st.sampled_from([None, (0.0, 1.0), (-math.inf, math.inf)]),
)
def test_a_band_holds_the_values_it_comes_from(values, limits):
    if 0 < max(values) - min(values) < 1e-9 * max(map(abs, values)):
        return  # differences of the last bits
    low, high = proposed(values, limits)
    assert low <= min(values) and max(values) <= high


@pytest.mark.parametrize(
    "band, limits, words",
    [
        ((0.2, 0.75), (0, 1), "covers 55 %"),
        ((0.2, 0.4), (0, 1), ""),
        ((-0.02, 0.03), (-1, 1), ""),  # a gain of about nothing is something to say
        ((-0.1, 0.8), (-math.inf, math.inf), "sign"),
        ((0.2, 1.9), (0, math.inf), "a factor of 9.5"),
        ((1.5, 1.9), (0, math.inf), ""),
        ((0.0, 0.0), None, ""),
        ((-3.0, -2.0), None, ""),
    ],
)
def test_a_band_that_is_too_wide_to_say_anything_is_told(band, limits, words):
    said = says_nothing(band, limits)
    assert words in said and bool(words) == bool(said)


def test_a_band_is_beyond_what_it_carries_only_where_it_leaves_something_out():
    values = [0.78, 0.80, 0.82]
    assert beyond((0.66, 0.94), values, (0, 1)) is None
    assert beyond((0.5, 1.0), values, (0, 1)) is None
    assert beyond((0.7, 0.94), values, (0, 1)) == (0.66, 0.94)


# ------------------------------------------------------------------------------------------------------- stored runs


@pytest.fixture
def seeded(mini):
    """The mini course with a parameter `seed` and a metric that depends on it."""
    source = mini / "sources/lectures/01_addition.py"
    text = source.read_text()
    text = text.replace("repeats: int = 10", "seed: int = 0  # [0, ] moves the sum\nrepeats: int = 10")
    text = text.replace(
        "total = sum([2 + 1] * repeats)", "total = sum([2 + 1] * repeats) + [0.0, 0.1, -0.1, 0.2][seed % 4]"
    )
    source.write_text(text)
    listed = mini / "course.toml"
    listed.write_text(
        listed.read_text()
        .replace("[[topics]]", '# what a metric can be\n[ranges]\n"*" = [0, inf]\n\n[[topics]]')
        .replace("total = {", "total = {  ", 1)
        .replace("[topics.solution]", "constant = [5, 5]  # an exact one\n\n[topics.solution]")
    )
    source.write_text(source.read_text().replace('{"total": total}', '{"total": total, "constant": 5}'))
    build(load(mini))
    return mini


class Fake:
    """In the place of `spawn`: values by seed, no process."""

    def __init__(self):
        self.seeds = []
        self.lock = threading.Lock()
        self.broken = set()
        self.reads = []  # files that the notebook reads
        self.shift = 0.0  # of the values, as other code gives them
        self.executed = None  # the notebook as it comes back

    def __call__(self, request, on_progress=None, cancel=None):
        seed = request.parameters.get("seed", 0)
        with self.lock:
            self.seeds.append(seed)
        if seed in self.broken:
            return Result(request.notebook, "failed", {"cell": 3, "name": "ValueError", "value": "no"}), None
        metrics = {"total": 30 + self.shift + [0.0, 0.1, -0.1, 0.2, 0.3][seed % 5], "constant": 5.0}
        result = Result(request.notebook, "passed", None, 30.0, 12.0, 500, [], metrics, {"python": "3"})
        result.files = {str(path): digest(path) for path in self.reads}
        return result, self.executed


@pytest.fixture
def fake(monkeypatch):
    made = Fake()
    monkeypatch.setattr(module, "spawn", made)
    return made


def go(root, seeds, write=False, profile="cpu"):
    manifest = load(root)
    said = []
    chosen = manifest.select(["01/lecture"])
    failures = calibrate(manifest, chosen, manifest.profile(profile), seeds, 1, write, said.append)
    return failures, "\n".join(said)


def test_a_seed_is_added_without_running_the_others_again(seeded, fake):
    go(seeded, [0, 1, 2])
    _, said = go(seeded, [0, 1, 2, 3])
    assert fake.seeds == [0, 1, 2, 3]
    assert "1 runs in profile cpu, 3 stored before" in said and "4 seeds" in said
    lecture = load(seeded).select(["01/lecture"])[0]
    assert [run.seed for run in read_runs(lecture)] == [0, 1, 2, 3]
    path = seeded / "calibration/01_addition.lecture.json"
    before = path.read_text().splitlines()
    go(seeded, [4])
    after = path.read_text().splitlines()
    assert len(set(before) - set(after)) <= 1, "a further run adds lines and changes none"


def test_runs_of_older_code_are_run_again_and_dropped(seeded, fake):
    go(seeded, [0, 1])
    source = seeded / "sources/lectures/01_addition.py"
    source.write_text(source.read_text().replace("print(label, total)", "print(total)\nprint(label)"))
    build(load(seeded))
    fake.shift = 1.0
    _, said = go(seeded, [1])
    assert fake.seeds == [0, 1, 1] and "2 runs of older code dropped" in said
    assert [run.seed for run in read_runs(load(seeded).select(["01/lecture"])[0])] == [1]


def test_a_text_that_changes_costs_no_run(seeded, fake):
    go(seeded, [0])
    source = seeded / "sources/lectures/01_addition.py"
    source.write_text(source.read_text().replace("Two and one make three", "One and two make three"))
    build(load(seeded))
    go(seeded, [0])
    assert fake.seeds == [0]


def test_a_run_that_fails_costs_its_own_line(seeded, fake):
    fake.broken = {1}
    failures, said = go(seeded, [0, 1, 2])
    assert len(failures) == 1 and "01/lecture  seed 1  failed" in said and "ValueError: no" in said
    assert [run.seed for run in read_runs(load(seeded).select(["01/lecture"])[0])] == [0, 2]


def test_bands_are_written_where_they_stand_and_nothing_else_changes(seeded, fake):
    before = (seeded / "course.toml").read_text()
    go(seeded, [0, 1, 2, 3])
    assert (seeded / "course.toml").read_text() == before
    assert [finding.rule for finding in check(load(seeded))[0]] == []  # [29, 31] holds what four seeds carry
    (seeded / "course.toml").write_text(before.replace("cpu = [29, 31]", "cpu = [29.9, 31]"))
    (finding,) = check(load(seeded))[0]
    assert (
        finding.rule == "bands" and "cpu: total: the band 29.9 to 31 is narrower than 4 seeds carry" in finding.message
    )
    _, said = go(seeded, [0, 1, 2, 3], write=True)
    assert "1 band changed" in said and fake.seeds == [0, 1, 2, 3]
    band = proposed([30.0, 30.1, 29.9, 30.2])
    written = (seeded / "course.toml").read_text()
    assert written == before.replace("cpu = [29, 31]", f"cpu = [{band[0]}, {band[1]}]")
    assert load(seeded).select(["01/lecture"])[0].bands("smoke")["total"] == (5, 7)
    assert check(load(seeded))[0] == []


def test_a_plain_band_keeps_the_other_profiles_when_one_is_measured(seeded, fake):
    listed = seeded / "course.toml"
    listed.write_text(listed.read_text().replace("total = {   cpu = [29, 31], smoke = [5, 7] }", "total = [5, 31]"))
    go(seeded, [0, 1, 2], write=True)
    lecture = load(seeded).select(["01/lecture"])[0]
    assert lecture.bands("cpu")["total"] == proposed([30.0, 30.1, 29.9])
    assert lecture.bands("smoke") == {"total": (5, 31), "constant": (5, 5)}


def test_a_band_outside_of_what_the_metric_can_be_is_a_finding(seeded):
    listed = seeded / "course.toml"
    listed.write_text(listed.read_text().replace('"*" = [0, inf]', '"tot*" = [6, 40]'))
    findings = [finding.message for finding in check(load(seeded))[0]]
    assert len(findings) == 1 and "smoke: total: the band 5 to 7 leaves what the metric can be, 6 to 40" in findings[0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[" * 5000,
        '{"runs": [{"seed": 1}]}',
        '{"runs": [{"profile": "cpu", "seed": 0, "content": "", "metrics": {"a": "b"}, "versions": {}}]}',
    ],
)
def test_a_damaged_file_of_runs_is_one_line(seeded, content):
    path = seeded / "calibration/01_addition.lecture.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(CourseError, match=r"^calibration/01_addition\.lecture\.json: expected the runs"):
        go(seeded, [0])
    assert [finding.rule for finding in check(load(seeded))[0]] == ["bands"]


def test_a_notebook_without_a_seed_says_so(mini):
    with pytest.raises(CourseError, match=r"lectures/01_addition\.ipynb: unknown parameter seed"):
        go(mini, [0])


@pytest.mark.parametrize("text, seeds", [("3", [0, 1, 2]), ("0,10,20", [0, 10, 20]), ("7,7", [7])])
def test_seeds_are_a_number_or_a_list(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1,", "1e3", "²", "9" * 5000])
def test_other_seeds_are_one_line(text):
    with pytest.raises(CourseError, match="expected how many"):
        read_seeds(text)


def test_two_real_runs(seeded):
    failures, said = go(seeded, [0, 1])
    assert failures == [] and "01/lecture  seed 1  passed in" in said
    runs = read_runs(load(seeded).select(["01/lecture"])[0])
    assert [run.metrics for run in runs] == [{"total": 30.0, "constant": 5.0}, {"total": 30.1, "constant": 5.0}]
    assert runs[0].content == runs[1].content and runs[0].versions["python"].startswith("3.")
    assert "total: 30, 30.1: band" in said and "constant: 5 with every seed: band 5" in said


def test_the_run_with_the_own_seed_serves_both_commands(seeded, fake, monkeypatch):
    monkeypatch.setattr(running, "spawn", fake)
    fake.executed = (seeded / "lectures/01_addition.ipynb").read_bytes()
    go(seeded, [0, 1])
    lecture = load(seeded).select(["01/lecture"])
    (outcome,) = running.run(load(seeded), lecture, "cpu")
    assert fake.seeds == [0, 1] and outcome.cached and outcome.result.metrics["total"] == 30.0
    bands.calibration_path(lecture[0]).unlink()
    go(seeded, [0, 1])
    assert fake.seeds == [0, 1, 1]
    (outcome,) = running.run(load(seeded), lecture, "cpu", {"seed": 1})
    assert fake.seeds == [0, 1, 1, 1] and not outcome.cached


def test_a_run_counts_while_the_files_that_it_read_are_the_same(seeded, fake):
    table = seeded / "table.csv"
    table.write_text("1")
    fake.reads = [table]
    go(seeded, [0, 1])
    go(seeded, [0, 1])
    assert sorted(fake.seeds) == [0, 1]
    table.write_text("22")
    go(seeded, [0])
    assert sorted(fake.seeds) == [0, 0, 1]


def test_words_about_code_and_code_that_draws_are_no_change(seeded, fake):
    code, drawing = seeded / "helper.py", seeded / "utils" / "plots" / "lines.py"
    drawing.parent.mkdir(parents=True)
    code.write_text("def f(x):\n    return x\n")
    drawing.write_text("a = 1\n")
    fake.reads = [code, drawing]
    go(seeded, [0])
    code.write_text('"""Of a module."""\n\n\ndef f(x):\n    """Of a function."""\n    return x  # what came\n')
    drawing.write_text("a = 2\n")
    go(seeded, [0])
    assert fake.seeds == [0]
    code.write_text("def f(x):\n    return x + 1\n")
    go(seeded, [0])
    assert fake.seeds == [0, 0]
    code.write_text("def f(x:\n")  # no Python: its bytes count
    go(seeded, [0])
    assert fake.seeds == [0, 0, 0]


def test_stored_runs_count_in_another_copy_of_the_repository(seeded, fake, tmp_path):
    folder = seeded / "tables"
    folder.mkdir()
    (folder / "table.csv").write_text("1")
    fake.reads = [folder, folder / "table.csv"]
    go(seeded, [0, 1])
    copy = tmp_path / "copy"
    shutil.copytree(seeded, copy, copy_function=shutil.copyfile)  # with times of their own
    go(copy, [0, 1])
    assert fake.seeds == [0, 1]
    (copy / "tables" / "other.csv").write_text("2")
    go(copy, [0])
    assert fake.seeds == [0, 1, 0]


def test_older_runs_count_when_one_of_them_repeats_itself(seeded, fake):
    """The code has changed, the values have not: one run shows it, and the others need not be repeated."""
    table = seeded / "table.csv"
    table.write_text("1")
    fake.reads = [table]
    go(seeded, [0, 1, 2])
    table.write_text("22")
    _, said = go(seeded, [0, 1, 2, 3])
    assert fake.seeds == [0, 1, 2, 0, 3] and "dropped" not in said and "4 seeds" in said
    assert len({run.content for run in read_runs(load(seeded).select(["01/lecture"])[0])}) == 1


def test_older_runs_are_dropped_when_one_of_them_gives_other_values(seeded, fake):
    table = seeded / "table.csv"
    table.write_text("1")
    fake.reads = [table]
    go(seeded, [0, 1, 2])
    table.write_text("22")
    fake.shift = 1.0
    _, said = go(seeded, [0, 1, 2])
    assert fake.seeds == [0, 1, 2, 0, 1, 2] and "3 runs of older code dropped" in said
    fake.shift, fake.broken = 0.0, {0}
    table.write_text("333")
    failures, _ = go(seeded, [0])
    assert len(failures) == 1 and fake.seeds[6:] == [0]  # what fails is not tried a second time


def test_runs_are_stored_beside_those_of_other_profiles(seeded):
    lecture = load(seeded).select(["01/lecture"])[0]
    store_run(lecture, Run("smoke", 0, "a", [], {"total": 6.0}, {}))
    store_run(lecture, Run("cpu", 0, "b", [], {"total": 30.0}, {}))
    assert store_run(lecture, Run("cpu", 1, "c", [], {"total": 30.0}, {})) == [
        Run("cpu", 0, "b", [], {"total": 30.0}, {})
    ]
    assert bands.values_of(read_runs(lecture), "smoke") == {"total": [6.0]}


def test_measured_times_may_differ_where_older_runs_count(seeded):
    lecture = load(seeded).select(["01/lecture"])[0]
    for seed in (0, 1):
        store_run(lecture, Run("cpu", seed, "a", ["f"], {"total": 30.0 + seed, "speedup": 2.0}, {}))
    again = Run("cpu", 0, "b", ["g"], {"total": 30.0, "speedup": 3.0}, {})
    assert store_run(lecture, again, lambda metric: metric == "speedup") == []
    runs = read_runs(lecture)
    assert [(run.content, run.metrics["speedup"]) for run in runs] == [("b", 3.0), ("b", 2.0)]
    assert len(store_run(lecture, Run("cpu", 0, "c", [], {"total": 30.0, "speedup": 4.0}, {}))) == 2


def test_the_file_of_runs_names_its_notebook(seeded):
    lecture = load(seeded).select(["01/lecture"])[0]
    store_run(lecture, Run("cpu", 1, "c", [], {"total": 30.0}, {}))
    assert json.loads(bands.calibration_path(lecture).read_text())["notebook"] == "lectures/01_addition.ipynb"
