"""JSON schemas of the files a user writes, for editors that complete and check YAML."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from driftwave.config import Config, Session
from driftwave.layout import Layout
from driftwave.store import write_text

SCHEMAS: dict[str, type[BaseModel]] = {"config": Config, "session": Session, "layout": Layout}


def schema_text(name: str) -> str:
    """The JSON schema of a configuration, a row of the session table or a layout."""
    schema = SCHEMAS[name].model_json_schema()
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"


def main(folder: str) -> None:
    """Write all schemas to a folder."""
    for name in SCHEMAS:
        write_text(Path(folder) / f"{name}.schema.json", schema_text(name))


if __name__ == "__main__":
    main(sys.argv[1])
