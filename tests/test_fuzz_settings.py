"""Configurations, session tables, layouts, parameters and names from elsewhere."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftwave import config, isolation, registry
from driftwave.activations.files import read_modules
from driftwave.cli import main
from driftwave.errors import DriftwaveError, InputError
from driftwave.expression import LONGEST, ExpressionError, evaluate
from driftwave.layout import Layout
from driftwave.reading import parse_yaml
from driftwave.scores.page import comparison_page
from driftwave.scores.table import COLUMNS
from driftwave.store import open_dataset
from driftwave.summary import Row
from driftwave.summary_page import as_html
from nwb_builder import TASK_LAYOUT

ROOT = Path(__file__).parents[1]
QUICK = settings(
    derandomize=True,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = settings(QUICK, max_examples=250)

TEXT = st.text(max_size=12) | st.sampled_from(
    ["../../x", "/etc/passwd", "a\nb", "a\0b", "..", "", "{session}", "$(touch x)", "'; ls", "nan"]
)
NUMBERS = st.integers(-(10**400), 10**400) | st.floats() | st.sampled_from([1e308, -1, 0, 2**63])
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SHIPPED = {path.stem: yaml.safe_load(path.read_text()) for path in ROOT.glob("config/layouts/*")}
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())


def one_sentence(error: DriftwaveError) -> str:
    sentence = str(error)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert len(sentence) < 3000
    assert sentence.isprintable()
    return sentence


def places(content: Any, at: tuple = ()) -> list[tuple]:
    """Every key and index of nested settings."""
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    found = []
    for key, value in inner:
        found.append((*at, key))
        if isinstance(value, dict | list):
            found += places(value, (*at, key))
    return found


def mutated(data: st.DataObject, content: dict) -> dict:
    """Settings with up to three values dropped, replaced or added."""
    new = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(sorted(places(new), key=repr) or [("name",)]))
        inner = new
        for key in place[:-1]:
            inner = inner[key]
        kind = data.draw(st.sampled_from(["drop", "replace", "add"]))
        if kind == "drop":
            del inner[place[-1]]
        elif kind == "replace":
            inner[place[-1]] = data.draw(JUNK)
        elif isinstance(inner, dict):
            inner[data.draw(TEXT)] = data.draw(JUNK)
        if not new:
            break
    return new


def parsed(parse: Any, content: Any) -> None:
    try:
        parse(content, "settings")
    except DriftwaveError as error:
        one_sentence(error)


# Configurations and layouts


@QUICK
@given(data=st.data())
def test_mutated_layouts_are_valid_or_told(data: st.DataObject) -> None:
    parsed(config.parse_layout, mutated(data, SHIPPED[data.draw(st.sampled_from(sorted(SHIPPED)))]))


@QUICK
@given(data=st.data())
def test_mutated_configurations_are_valid_or_told(data: st.DataObject) -> None:
    parsed(config.parse_config, mutated(data, CONFIG))


@pytest.mark.slow
@LONG
@given(data=st.data())
def test_many_mutated_settings_are_valid_or_told(data: st.DataObject) -> None:
    parsed(config.parse_layout, mutated(data, SHIPPED[data.draw(st.sampled_from(sorted(SHIPPED)))]))
    parsed(config.parse_config, mutated(data, CONFIG))


@QUICK
@given(content=st.dictionaries(TEXT, JUNK, max_size=4))
def test_any_mapping_is_told(content: dict) -> None:
    parsed(config.parse_config, content)
    parsed(config.parse_layout, content)


@QUICK
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8")))
def test_any_bytes_are_told_as_yaml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    for load in (config.load_config, lambda p: config.load_layout(str(p))):
        with pytest.raises(InputError) as caught:
            load(path)
        one_sentence(caught.value)


@QUICK
@given(data=st.data())
def test_any_session_table_is_read_or_told(tmp_path: Path, data: st.DataObject) -> None:
    cell = TEXT | st.sampled_from(['"', '""', '"a', "\ufeff", "\x85", "a" * 300, "fit,decode"])
    row = st.lists(cell, max_size=6).map("\t".join)
    head = st.sampled_from(["session\tnwb\tlayout", "session\tsession\tnwb\tlayout", "", "\ufeff"])
    lines = [data.draw(head), *data.draw(st.lists(row, max_size=3))]
    path = tmp_path / "s.tsv"
    path.write_bytes("\n".join(lines).encode("utf-8", errors="surrogatepass"))
    try:
        rows = config.load_sessions(path)
    except InputError as error:
        one_sentence(error)
    else:
        assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_\-]*", row.session) for row in rows)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "s.tsv"
    path.write_text("session\tnwb\tlayout\na\ta.nwb\tb\n", encoding="utf-8-sig")
    assert [row.session for row in config.load_sessions(path)] == ["a"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('session\tnwb\tlayout\na\t"x.nwb\tb\nc\td\te\n', "quotes in pairs"),
        ("session\tnwb\tnwb\tlayout\na\tb\tc\td\n", "columns ['nwb'] more than once"),
        ("session\tnwb\tlayout\na\tb\x07\tc\n", "control characters"),
        ("session\tnwb\tlayout\n" + "a" * 101 + "\tb\tc\n", "at most 100 characters"),
    ],
)
def test_a_table_that_would_be_misread_is_refused(tmp_path: Path, table: str, words: str) -> None:
    path = tmp_path / "s.tsv"
    path.write_text(table)
    with pytest.raises(InputError, match=re.escape(words)):
        config.load_sessions(path)


# YAML

BILLION = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]\n" for k in range(1, 12)
)
MERGED = "m0: &m0 {a: 1, b: 2}\n" + "".join(
    f"m{k}: &m{k}\n  <<: [*m{k - 1}, *m{k - 1}]\n" for k in range(1, 40)
)
REFUSED_YAML = [
    (BILLION, "unfold to more than"),
    (MERGED, "unfold to more than"),
    ("a: &a [*a]", "unfold to more than"),
    ("[" * 3000 + "]" * 3000, "nested more than 40"),
    ("a: " * 3000, "mapping values are not allowed"),
    ("a: 1\nb: 2\na: 3", "the key 'a' stands twice"),
    ("models:\n  gpfa: {}\n  gpfa: {}", "the key 'gpfa' stands twice"),
    ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
    ("a: !!python/name:os.system", "could not determine a constructor"),
    ("a: 2001-99-99", "month must be in"),
    ("a: " + "9" * 5000, "Exceeds the limit"),
    ("? [a]\n: b", "unhashable key"),
    ("a: !!int x", "invalid literal"),
]


@pytest.mark.parametrize(("text", "words"), REFUSED_YAML, ids=range(len(REFUSED_YAML)))
def test_yaml_that_is_more_than_settings_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(yaml.YAMLError, match=re.escape(words)):
        parse_yaml(text)
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        config.load_config(path)
    one_sentence(caught.value)


def test_yaml_keeps_its_aliases_and_merges() -> None:
    text = "a: &a {x: 1, y: [2, 3]}\nb: {<<: *a, x: 4}\nc: *a"
    assert parse_yaml(text) == yaml.safe_load(text)


def test_a_mapping_that_unfolds_without_end_is_refused() -> None:
    inner: Any = ["x"] * 10
    for _ in range(12):
        inner = [inner] * 10
    endless: dict[str, Any] = {}
    endless["a"] = endless
    for content in ({"models": {"gpfa": {"params": {"a": inner}}}}, endless):
        with pytest.raises(InputError, match="more than 200000 values or 40 levels"):
            config.parse_config(content)


# Conditions

TABLE = pd.DataFrame(
    {
        "area": np.array(["M1", "PMd", "M1", None], dtype=object),
        "x": [1.0, np.nan, 3.0, 4.0],
        "n": [0, 1, 2, 3],
        "good": [True, False, True, True],
        "a b": [1, 2, 3, 4],
    }
)
CONDITIONS = [
    "area == 'M1'", "area == 'M1' & x > 2", "~(n > 1) | good", "not good", "x != x", "-x < -1",
    "area in ['M1', 'V1']", "area not in ['M1']", "area == ['M1', 'V1']", "0 < n <= 2",
    "n % 2 == 0 and x / 2 > 1", "`a b` >= 3", "index < 2", "good == True", "x * 2 + 1 > 3",
    "n // 2 == 1", "area == '`a b`'", "area != 'M1' or n == 0", "(n == 1) == good",
]  # fmt: skip


@pytest.mark.parametrize("text", CONDITIONS)
def test_conditions_mean_what_pandas_makes_of_them(text: str) -> None:
    expected = np.zeros(len(TABLE), dtype=bool)
    expected[TABLE.query(text, engine="python").index] = True
    np.testing.assert_array_equal(evaluate(text, TABLE), expected)


def test_conditions_of_text_and_missing_values() -> None:
    np.testing.assert_array_equal(evaluate("isna(x)", TABLE), [False, True, False, False])
    np.testing.assert_array_equal(evaluate("notna(area)", TABLE), [True, True, True, False])
    np.testing.assert_array_equal(
        evaluate("startswith(area, 'PM') or contains(area, '1')", TABLE), [True, True, True, False]
    )


HOSTILE = [
    "@pd.io.common.os.system('touch x')", "__import__('os').system('touch x')", "x.__class__",
    "().__class__.__bases__", "area.str.contains('M')", "n.values", "x[0] > 1", "lambda: 1",
    "[i for i in (1,)]", "f'{x}' == ''", "(y := 3) > 1", "good if good else good", "9**9**9 > n",
    "1 << 100000 > n", "'a' * 10**9 == area", "n", "good and n", "nope == 1", "area > 3", "x ==",
    "", "n == b'x'", "None == x", "(" * 300 + "n" + ")" * 300, "-" * 1900 + "n",
    "n" * (LONGEST + 1), "print(n)", "isna(n, n)", "contains(area, *n)", "n == 1; good",
    "n\0 == 1", "eval('n') == 1",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_conditions_run_no_code(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExpressionError, match=r"^(in )?which "):
        evaluate(text, TABLE)
    assert not list(tmp_path.iterdir())


WORDS = ["n", "x", "area", "good", "==", "and", "or", "not", "in", "'M1'"]


@QUICK
@given(st.text(max_size=40) | st.lists(st.sampled_from([*WORDS, *"()[],-*/`&|~.<1"])).map(" ".join))
def test_any_condition_is_evaluated_or_refused(text: str) -> None:
    try:
        found = evaluate(text, TABLE)
    except ExpressionError:
        return
    assert found.shape == (4,)
    assert found.dtype == bool


# Names, paths and the shell

NAMES = [
    "../../x", "/abs", ".", "..", "a/b", "a\\b", "a\nb", "a\0b", "", " ", "a b", ".hidden", "-rf",
    "a.partial", "a.zarr", "ｓession", "é", "a" * 101, "$(touch x)", "a;b", "{session}", "a\n",
]  # fmt: skip
KEYS = ("models", "simulations", "experiments", "decoders", "geometry", "activations", "groups")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_could_lead_out_of_the_results_are_refused(name: str) -> None:
    for key in (*KEYS, "detectors", "search"):
        with pytest.raises(InputError):
            config.parse_config({"models": {}} | {key: {name: {}}})
    with pytest.raises(ValueError, match="session"):
        config.Session(session=name, nwb="a.nwb", layout="b")
    with pytest.raises(InputError):
        config.parse_layout({**TASK_LAYOUT, "name": name})


@pytest.mark.parametrize("name", [n for n in NAMES if "\0" not in n])
def test_names_on_the_command_line_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    out = ["--out", "out"]
    commands = [
        ["ingest", "a.nwb", "--layout", "b", f"--session={name}", *out],
        ["fit", "r.zarr", f"--model={name}", "--out-fit", "fit", *out],
        ["ensemble", "a.zarr", f"--model={name}", *out],
        ["search", "--config", "c.yaml", f"--session={name}", "--model=m"],
    ]
    for command in commands:
        with pytest.raises(SystemExit) as caught:
            main(command)
        assert caught.value.code == 1
        assert "expected letters, digits, _ and -" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../secret", "/secret", "a/../../secret", "..", "a\0"])
def test_a_layout_by_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "layouts").mkdir()
    (tmp_path / "secret.yaml").write_text("password: 1")
    with pytest.raises(InputError) as caught:
        config.load_layout(name, tmp_path / "layouts")
    assert "password" not in one_sentence(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"results": "a{b}"}, {"results": "a\nb"}, {"results": ""}, {"results": "<x>"},
        {"results": "a" * 5000}, {"device": "cpu; touch x"}, {"device": "$(touch x)"},
        {"sessions": "a\0"}, {"data_root": "\x1b[2J"},
    ],
)  # fmt: skip
def test_settings_that_reach_the_shell_or_the_workflow_are_plain(changes: dict) -> None:
    with pytest.raises(InputError) as caught:
        config.parse_config({"models": {}} | changes)
    one_sentence(caught.value)


# Values that are numbers, or names whose schema allows letters, digits, _ and - only.
BARE = {
    "threads", "params.seed", "params.plugin", "params.simulator", "params.figure",
    "params.device", "params.access", "wildcards.session", "wildcards.model", "wildcards.place",
}  # fmt: skip


def test_every_rule_quotes_what_it_gives_to_the_shell() -> None:
    found = set()
    for rules in ROOT.glob("workflow/rules/*.smk"):
        for block in re.findall(r'\n    +shell:\n((?:\s+f?"[^\n]*"\n)+)', rules.read_text()):
            found |= set(re.findall(r"(?<!\{)\{([A-Za-z_.\[\]]+)\}(?!\})", block))
    assert found
    assert found <= BARE


# Parameters


LIGHT = [(kind, name) for kind in ("decoding", "manifolds") for name in registry.plugins(kind)]
ALL = [
    (kind, name)
    for kind in ("models", "decoding", "manifolds", "encoding", "waves", "simulators")
    for name in registry.plugins(kind)
]


@QUICK
@given(data=st.data())
def test_parameters_are_valid_or_told(data: st.DataObject) -> None:
    parameters(data, LIGHT)


@pytest.mark.slow
@LONG
@given(data=st.data())
def test_parameters_of_every_plugin_are_valid_or_told(data: st.DataObject) -> None:
    parameters(data, ALL)


def parameters(data: st.DataObject, plugins: list[tuple[str, str]]) -> None:
    kind, name = data.draw(st.sampled_from(plugins))
    module = registry.load(kind, name)
    fields = sorted(module.Params.model_fields)
    key = st.sampled_from(fields) if fields else TEXT
    try:
        config.parse_params(module, data.draw(st.dictionaries(key | TEXT, JUNK, max_size=3)), name)
    except DriftwaveError as error:
        one_sentence(error)


# Pages


def test_pages_show_names_as_text() -> None:
    evil = "<script>alert(1)</script>"
    rows = [Row(evil, evil, evil, "failed", evil, 1.0, 2.0)]
    assert "<script" not in as_html(rows)
    text = ("session", "model", "features", "metric", "unit", "note")
    cells = {name: evil if name in text else 0.5 for name in COLUMNS}
    page = comparison_page(pd.DataFrame([cells]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


# Processes that a file ends


def ended(code: str, *arguments: str) -> subprocess.CompletedProcess:
    program = f"import os, signal\nfrom driftwave import isolation\ndef job():\n    {code}\n"
    program += f"isolation.run(job, {['ingest', 'x.nwb', *arguments]!r})"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "libhdf5 crashed on it (SIGSEGV)"),
        ("os.abort()", "libhdf5 crashed on it (SIGABRT)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "took more memory"),
        (
            "with isolation.watched(0.2):\n        while True: pass",
            "did not come to an end of reading it",
        ),
    ],
)
def test_a_crash_in_c_is_told_in_a_sentence(tmp_path: Path, code: str, words: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"state": "started"}\n{"sta')
    done = ended(code, "--log", str(log))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: x.nwb: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["state"] == "failed"
    assert words in last["why"]


def test_a_child_ends_as_its_job_does_and_with_its_parent() -> None:
    assert ended("raise SystemExit(3)").returncode == 3
    assert ended("pass").returncode == 0
    assert ended("os.kill(os.getppid(), signal.SIGTERM); signal.pause()").returncode == (
        -signal.SIGTERM
    )
    program = (
        "import os, time\nfrom driftwave import isolation\n"
        "def job():\n    print(os.getpid(), flush=True); time.sleep(60)\n"
        "isolation.run(job, ['ingest'])"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        process.kill()
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        os.sched_yield()
        signal.sigtimedwait([], 0.05)
    pytest.fail("the child outlived its parent")


def test_watching_is_for_child_processes_only() -> None:
    with isolation.watched(1e-6):
        sum(range(200_000))


def test_layouts_bound_what_they_ask() -> None:
    with pytest.raises(InputError, match="finite number"):
        config.parse_layout({**TASK_LAYOUT, "bin_width": float("inf")})
    assert isinstance(config.parse_layout(TASK_LAYOUT), Layout)


# Stores


class Hostile:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("place", ["filters", "compressor", "object"])
def test_a_zarr_store_that_holds_pickles_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    codec = {"id": "pickle", "protocol": 5}
    array = {
        "zarr_format": 2, "shape": [2], "chunks": [2], "order": "C",
        "dtype": "|O" if place == "object" else "<f8", "fill_value": 0,
        "filters": None if place == "compressor" else [codec],
        "compressor": codec if place == "compressor" else None,
    }  # fmt: skip
    folder = tmp_path / "evil.zarr" / "a"
    folder.mkdir(parents=True)
    (folder.parent / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zarray").write_text(json.dumps(array))
    (folder / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["time"]}')
    (folder / "0").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError) as caught:
        open_dataset(folder.parent).load()
    one_sentence(caught.value)
    with pytest.raises(InputError) as caught:
        read_modules(xr.DataTree(), folder.parent)
    one_sentence(caught.value)
    assert not (tmp_path / "ran").exists()
