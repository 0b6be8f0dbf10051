"""Configuration, session table and layouts: what is accepted, and what a user is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, ConfigDict, Field

from conftest import ROOT
from driftwave import config
from driftwave.errors import DriftwaveError, InputError

LAYOUT = {
    "name": "lab",
    "description": "A lab.",
    "spikes": {"source": "units"},
    "trials": {"window": [-0.2, 0.5]},
}


def layout(**changes: object) -> dict:
    content = {**LAYOUT, **changes}
    return {key: value for key, value in content.items() if value is not None}


def test_a_layout_has_defaults() -> None:
    found = config.parse_layout(layout())
    assert found.bin_width == 0.02
    assert found.trials is not None
    assert found.trials.align == "start_time"
    assert found.trials.window == (-0.2, 0.5)
    assert found.split.fractions == (0.7, 0.1, 0.2)
    assert found.groups() == {"spikes"}


def test_groups_follow_from_the_layout() -> None:
    content = layout(field={"series": "acquisition/lfp"}, truth={"rate": "a"})
    assert config.parse_layout(content).groups() == {"spikes", "field", "truth"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"trials": {"window": [0.5, 0.5]}}, "window must stop after it starts"),
        ({"trials": None}, "spikes need either trials or windows"),
        ({"windows": {"length": 1.0}}, "give either trials or windows, not both"),
        ({"spikes": None}, "a layout needs spikes, field or imaging"),
        ({"split": {"fractions": [0.5, 0.1, 0.1]}}, "fractions must be positive and sum to 1"),
        ({"split": {"fractions": [1.0, 0.0, 0.0]}}, "fractions must be positive and sum to 1"),
        ({"bin_width": 0}, "bin_width: found 0, expected input should be greater than 0"),
        ({"spikes": {"souce": "units"}}, "spikes.souce: found 'units', expected extra inputs"),
        ({"description": None}, "description: found nothing, expected field required"),
        ({"name": "a b"}, "name: found 'a b', expected string should match pattern"),
        ({"forward": -1}, "forward: found -1"),
    ],
)
def test_a_wrong_layout_is_named_by_its_key(changes: dict, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        config.parse_layout(layout(**changes), "lab.yaml")
    assert "lab.yaml" in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_misspelt_key_is_to_be_removed_or_mended() -> None:
    with pytest.raises(InputError) as caught:
        config.parse_config({"models": {}, "modles": {}}, "c.yaml")
    assert caught.value.field == "modles"
    assert caught.value.fix.startswith("Remove the key or mend its spelling")


def test_other_problems_are_counted() -> None:
    with pytest.raises(InputError, match=r"\(1 more problems follow in this file\)"):
        config.parse_config({"models": {}, "a": 1, "b": 2})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("models: [", "expected valid YAML"),
        ("- a\n", "found list, expected a mapping"),
        ("", "found NoneType, expected a mapping"),
        (b"\xff\xfe\x00", "bytes that are not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(
    tmp_path: Path, content: str | bytes, sentence: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        config.load_config(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        config.load_config(tmp_path / "c.yaml")
    with pytest.raises(InputError, match="no such file"):
        config.load_sessions(tmp_path / "s.tsv")
    with pytest.raises(InputError, match="no such file"):
        config.load_layout(str(tmp_path / "l.yaml"))


def test_a_layout_is_found_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("x: 1")
    assert config.find_layout("lab", tmp_path) == tmp_path / "lab.yaml"
    assert config.find_layout("other/lab.yml", tmp_path) == Path("other/lab.yml")
    with pytest.raises(InputError, match=r"no layout named 'lib', expected one of \['lab'\]"):
        config.find_layout("lib", tmp_path)


def sessions(tmp_path: Path, text: str) -> list[config.Session]:
    path = tmp_path / "sessions.tsv"
    path.write_text(text)
    return config.load_sessions(path)


def test_a_session_table_is_read(tmp_path: Path) -> None:
    text = (
        "# a comment\nsession\tnwb\tlayout\tmodels\tstages\n\n"
        "a\ta.nwb\tlab\tsmoothing, gpfa\t\n"
        "b\tb.nwb\tlab\n"
    )
    first, second = sessions(tmp_path, text)
    assert first.models == ["smoothing", "gpfa"]
    assert first.stages is None
    assert (second.session, second.models, second.sha256) == ("b", None, None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("session\tnwb\tlayout\na\ta.nwb\tlab\na\tb.nwb\tlab\n", "['a'] more than once"),
        ("session\tnwb\tlayout\n", "rows: found none"),
        ("session\tnwb\tlayout\na\ta.nwb\tlab\textra\n", "row 2: found 1 cells too many"),
        ("session\tnwb\tlayout\tmood\na\ta.nwb\tlab\tgood\n", "row 2.mood: found 'good'"),
        ("session\tnwb\na\ta.nwb\n", "row 2.layout: found nothing"),
        ("session\tnwb\tlayout\n../a\ta.nwb\tlab\n", "row 2.session: found '../a'"),
        ("session\tnwb\tlayout\tstages\na\ta.nwb\tlab\tfti\n", "row 2.stages.0: found 'fti'"),
    ],
)
def test_a_wrong_session_table_is_named_by_row_and_column(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        sessions(tmp_path, text)
    assert sentence in str(caught.value)


class Toy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    width: float = Field(0.1, gt=0, description="Width, s.")


def test_parameters_are_checked_by_the_plugins_own_class() -> None:
    module = SimpleNamespace(__name__="toy", Params=Toy)
    assert config.parse_params(module, {"width": "0.5"}, "toy").width == 0.5
    with pytest.raises(InputError, match=r"toy\.params\.witdh: found 0.5"):
        config.parse_params(module, {"witdh": 0.5}, "toy")
    with pytest.raises(InputError, match=r"toy\.params\.width: found -1"):
        config.parse_params(module, {"width": -1}, "toy")
    with pytest.raises(DriftwaveError, match="has no class Params"):
        config.parse_params(SimpleNamespace(__name__="toy"), {}, "toy")


def test_errors_survive_a_process_boundary() -> None:
    import pickle

    error = InputError(file="a", field="b", found=1, expected=2, fix="Do it")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a: b: found 1, expected 2; Do it."
    assert again.field == "b"


def test_everything_shipped_is_valid() -> None:
    settings = config.load_config(ROOT / "config" / "config.yaml")
    layouts = ROOT / "config" / "layouts"
    assert settings.models
    for path in layouts.glob("*.yaml"):
        assert config.load_layout(path.stem, layouts).name == path.stem
    for row in config.load_sessions(ROOT / settings.sessions):
        config.load_layout(row.layout, layouts)
