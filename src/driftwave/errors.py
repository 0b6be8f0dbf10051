"""What a user is told when an input cannot be used: one sentence, with how to mend it."""

from __future__ import annotations

from pathlib import Path


class DriftwaveError(Exception):
    """A fault the user can mend; the command line prints it without a traceback."""


class InputError(DriftwaveError):
    """A file or setting that cannot be used.

    Parameters
    ----------
    file : str or Path
        The file (or configuration) at fault.
    field : str
        The part of it: a path inside the NWB file, a layout key, a column.
    found, expected : str
        What is there and what should be.
    fix : str
        What to do about it, as an imperative sentence without a full stop.
    """

    def __init__(
        self, *, file: str | Path, field: str, found: object, expected: object, fix: str
    ) -> None:
        self.file = _printable(file)
        self.field = _printable(field)
        self.found = _printable(found)
        self.expected = _printable(expected)
        self.fix = _printable(fix)
        super().__init__(
            f"{self.file}: {field}: found {self.found}, expected {self.expected}; {fix}."
        )

    def __reduce__(self) -> tuple:
        # Exceptions with keyword-only arguments do not survive pickling between dask workers.
        arguments = {
            "file": self.file,
            "field": self.field,
            "found": self.found,
            "expected": self.expected,
            "fix": self.fix,
        }
        return _rebuild_input_error, (arguments,)


def _printable(value: object) -> str:
    """Text without what would break a line, a terminal or an encoding: names come from files."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def _rebuild_input_error(arguments: dict[str, str]) -> InputError:
    return InputError(**arguments)
