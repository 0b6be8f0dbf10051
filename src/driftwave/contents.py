"""What a store or fit consists of: its files and their checksums, written as the last of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from driftwave.errors import InputError

# In the format of sha256sum, so that `sha256sum --check contents.sha256` can read it.
CONTENTS = "contents.sha256"
REMAKE = "Delete the whole of it and run the stage that makes it again"


def files_in(folder: str | Path) -> Iterator[str]:
    """Paths of the files in a folder, relative to it.

    Hidden files are left out: Snakemake, file managers and network file systems put theirs there.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(place).relative_to(folder)
        yield from ((relative / name).as_posix() for name in names if not name.startswith("."))


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksums(folder: str | Path) -> dict[str, str]:
    """SHA-256 of each file by its path in the folder."""
    names = sorted(name for name in files_in(folder) if name != CONTENTS)
    return {name: sha256_of(Path(folder) / name) for name in names}


def seal(folder: str | Path, known: Mapping[str, str] | None = None) -> None:
    """Write the list of a folder's files and their SHA-256 into it, as its last file.

    Parameters
    ----------
    folder : path
    known : mapping, optional
        Of :func:`checksums`, for those files that have not changed since.
    """
    known = known or {}
    names = sorted(name for name in files_in(folder) if name != CONTENTS)
    lines = [f"{known.get(name) or sha256_of(Path(folder) / name)}  {name}\n" for name in names]
    (Path(folder) / CONTENTS).write_text("".join(lines), encoding="utf-8")


def read_contents(folder: str | Path) -> dict[str, str]:
    """SHA-256 of each file by its path in the folder.

    Raises
    ------
    InputError
        If the list is missing or damaged.
    """
    path = Path(folder) / CONTENTS
    try:
        lines = path.read_bytes().decode("utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(folder, type(error).__name__) from error
    contents = {}
    for line in lines:
        checksum, separator, name = line[:64], line[64:66], line[66:-1]
        if len(line) < 68 or separator != "  " or line[-1] != "\n":
            raise _unreadable(folder, "a line that is cut or damaged")
        contents[name] = checksum
    if not contents:
        raise _unreadable(folder, "an empty list")
    return contents


def _unreadable(folder: str | Path, found: str) -> InputError:
    return InputError(
        file=folder, field=CONTENTS, found=found, expected="a list of checksums", fix=REMAKE
    )


def contents_problems(folder: str | Path, *, read: bool = True) -> list[str]:
    """How a folder differs from its list of contents; nothing if it does not.

    Parameters
    ----------
    folder : path
    read : bool
        Read every file and compare its checksum; otherwise only whether it is there.
    """
    folder = Path(folder)
    try:
        contents = read_contents(folder)
    except InputError as error:
        return [f"{error.field}: {error.found}"]
    present = {name for name in files_in(folder) if name != CONTENTS}
    problems = [f"{name}: lost" for name in sorted(contents.keys() - present)]
    problems += [f"{name}: not of it" for name in sorted(present - contents.keys())]
    if read:
        for name in sorted(contents.keys() & present):
            try:
                same = sha256_of(folder / name) == contents[name]
            except OSError as error:
                problems.append(f"{name}: unreadable ({error.strerror})")
                continue
            if not same:
                problems.append(f"{name}: other bytes than were written")
    return problems


def is_sealed(folder: str | Path) -> bool:
    """Whether a folder has a list of contents, or had one by its own record."""
    folder = Path(folder)
    records = (folder / name for name in ("provenance.json", "result.json"))
    return (folder / CONTENTS).exists() or any(
        CONTENTS.encode() in path.read_bytes() for path in records if path.is_file()
    )


def check_contents(folder: str | Path, what: str) -> None:
    """Refuse a folder that is not what was written; one that never had a list passes.

    Raises
    ------
    InputError
        Naming the first file that is lost or has changed.
    """
    problems = contents_problems(folder) if is_sealed(folder) else []
    if problems:
        name, _, found = problems[0].partition(": ")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(
            file=folder, field=name, found=found + more, expected=f"{what} as written", fix=REMAKE
        )


def check_bytes(folder: Path, contents: Mapping[str, str], name: str, content: object) -> None:
    """Refuse bytes read from a file of a store if they are not those written.

    Parameters
    ----------
    folder : Path
        The store.
    contents : mapping
        Of :func:`read_contents`.
    name : str
        Path in the store.
    content : bytes-like or None
        None where there is no such file.

    Raises
    ------
    InputError
    """
    expected = contents.get(name)
    if content is None:
        found = None if expected is None else "nothing"
    elif expected is None:
        found = "a file that is not of this store"
    else:
        same = hashlib.sha256(content).hexdigest() == expected  # type: ignore[arg-type]
        found = None if same else "other bytes than were written"
    if found:
        raise InputError(
            file=folder,
            field=name,
            found=found,
            expected=f"the content listed in {CONTENTS}",
            fix=f"{REMAKE}; if another job replaced it meanwhile, run this one again",
        )
