"""What every schema of configuration files starts from."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_\-]*$"
# File systems allow 255 bytes, of which temporary names and endings take their part.
LONGEST_NAME = 100
LONGEST_PATH = 4000
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=LONGEST_NAME)]


def _plain_path(path: str) -> str:
    if not path.strip() or len(path) > LONGEST_PATH:
        raise ValueError(f"a path must have 1 to {LONGEST_PATH} characters")
    if not path.isprintable():
        raise ValueError("a path must not hold control characters")
    return path


def _path_without_wildcards(path: str) -> str:
    if set("{}<>") & set(path):
        raise ValueError("a path must not hold {, }, < or >, which name wildcards of the workflow")
    return _plain_path(path)


PathText = Annotated[str, AfterValidator(_plain_path)]
WorkflowPath = Annotated[str, AfterValidator(_path_without_wildcards)]


class Strict(BaseModel):
    """A mapping whose every key is known; its numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
