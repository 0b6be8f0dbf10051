"""Small text files and YAML from elsewhere: bounded, without code, duplicate keys told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from driftwave.errors import InputError

LARGEST = 10_000_000
MOST_PARTS = 200_000
DEEPEST = 40


class TooMuchError(yaml.YAMLError):
    """A document that is larger, unfolded, than any setting needs to be."""


def read_text(path: str | Path, *, expected: str, missing: str) -> str:
    """Text of a small file.

    Parameters
    ----------
    path : path
    expected : str
        What the file should be, for messages.
    missing : str
        What to do where there is no such file.

    Raises
    ------
    InputError
        No such file, a folder, larger than 10 MB, no permission, or no UTF-8 text.
    """

    def fault(found: str, fix: str) -> InputError:
        return InputError(file=plain(path), field="file", found=found, expected=expected, fix=fix)

    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise fault("no such file", missing) from None
    except (OSError, ValueError) as error:
        raise fault(f"what cannot be read ({plain(error)})", missing) from error
    if len(content) > LARGEST:
        raise fault(f"more than {LARGEST // 1_000_000} MB", "Check that this is the right file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fault(
            f"bytes that are not UTF-8 text ({plain(error)})", "Save it as UTF-8"
        ) from error


def plain(value: object, longest: int = 300) -> str:
    """Text of a value on one line of printable characters and bounded length."""
    text = " ".join(str(value).split())
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


class _Loader(yaml.SafeLoader):
    """Plain values only; refuses what unfolds without end and keys that stand twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise TooMuchError(f"it is nested more than {DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _unfolded(node, {})
        return node


def _unfolded(node: yaml.Node, known: dict[int, float]) -> float:
    """Number of nodes with every alias written out."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = float("inf")  # met again below itself, it would unfold for ever
    parts: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        parts = list(node.value)
    number = 1 + sum(_unfolded(part, known) for part in parts)
    if number > MOST_PARTS:
        raise TooMuchError(f"its aliases unfold to more than {MOST_PARTS} values")
    known[id(node)] = number
    return number


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                line = key.start_mark.line + 1
                raise TooMuchError(f"the key {key.value[:60]!r} stands twice, again in line {line}")
            seen.add(key.value)


def parse_yaml(text: str) -> Any:
    """Value of a YAML (or JSON) document of plain values.

    Raises
    ------
    yaml.YAMLError
        Syntax, tags of objects, a key that stands twice, or more nesting or values, aliases
        written out, than settings have.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (ValueError, RecursionError, OverflowError, AttributeError, TypeError) as error:
        # Dates and numbers that look like ones but are none, and tags on the wrong kind of node.
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


def read_yaml(path: str | Path) -> Mapping[str, Any]:
    """The mapping in a YAML file.

    Raises
    ------
    InputError
        As of :func:`read_text`, and for content that is no mapping of plain values.
    """
    text = read_text(path, expected="a YAML file", missing="Mend the path")
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(
            file=path,
            field="file",
            found=plain(re.sub(r'\s*in "<unicode string>",', "", str(error))),
            expected="valid YAML",
            fix="Mend the syntax at that line",
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(
            file=path,
            field="top level",
            found=type(content).__name__,
            expected="a mapping of keys",
            fix="Write it as `key: value` lines",
        )
    return content


def check_extent(content: Any, file: str | Path) -> None:
    """Refuse settings that unfold to more than any need, as handed over by another reader.

    Raises
    ------
    InputError
    """
    number, open_parts = 0, [(content, 0)]
    while open_parts:
        part, depth = open_parts.pop()
        number += 1
        if number > MOST_PARTS or depth > DEEPEST:
            raise InputError(
                file=plain(file),
                field="top level",
                found=f"more than {MOST_PARTS} values or {DEEPEST} levels",
                expected="settings",
                fix="Check that this is the right file, and its aliases",
            )
        if isinstance(part, Mapping):
            open_parts += [(inner, depth + 1) for inner in part.values()]
        elif isinstance(part, list | tuple | set):
            open_parts += [(inner, depth + 1) for inner in part]
