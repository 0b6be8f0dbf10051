"""Assets of the DANDI archive, found by its own client (the optional extra ``dandi``)."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import requests
import urllib3

from driftwave.address import Address, DandiAddress, parse_dandi
from driftwave.errors import InputError
from driftwave.ingest.remote import Place
from driftwave.ingest.remote_web import PATIENCE

VARIABLE = "DRIFTWAVE_DANDI_API"
_SHA256 = "dandi:sha2-256"


def find_asset(text: str, name: Address) -> Place:
    """Download address and checksum of an asset.

    The archive is DANDI, or the one whose API the environment variable DRIFTWAVE_DANDI_API names.

    Parameters
    ----------
    text : str
        ``dandi:DANDISET[@VERSION]/PATH-or-asset-id``; without a version the latest published one,
        or the draft.
    name : Address
        How messages name the file.

    Raises
    ------
    InputError
        No client installed; no such dandiset, version or asset; a zarr asset; an archive that
        cannot be reached.
    """
    address = parse_dandi(text)
    with _client(name) as client:
        dandiset = client.get_dandiset(address.dandiset, address.version, lazy=True)
        place = address.place
        if address.is_asset_id:
            asset = dandiset.get_asset(place)
        else:
            asset = dandiset.get_asset_by_path(place)
        if asset.asset_type.name != "BLOB":
            raise _fault(
                name,
                f"an asset that is a {asset.asset_type.name.lower()}",
                "Name an asset that ends in .nwb",
            )
        return Place(asset.base_download_url, _digest(asset), _facts(address, dandiset, asset))


def _facts(address: DandiAddress, dandiset: Any, asset: Any) -> dict[str, str]:
    return {
        "source_dandiset": f"{address.dandiset}@{dandiset.version_id}",
        "source_asset": str(asset.identifier),
        "source_asset_path": str(asset.path),
    }


def _digest(asset: Any) -> str | None:
    """SHA-256 of an asset's bytes; None while the archive has yet to compute it."""
    found = asset.get_raw_metadata().get("digest", {}).get(_SHA256)
    return found.lower() if found else None


class _Unreached(Exception):
    """No answer; the client tries only those faults again that it knows."""


class _Bounded(requests.adapters.HTTPAdapter):
    """Requests with time-outs and few retries, where the client has none and twelve."""

    def __init__(self) -> None:
        retries = urllib3.Retry(
            total=PATIENCE.attempts - 1,
            backoff_factor=PATIENCE.pause,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
        )
        super().__init__(max_retries=retries)

    def send(self, request: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        """Send a request; a server that does not answer, or not well, ends in _Unreached."""
        options["timeout"] = (PATIENCE.connect, PATIENCE.silence)
        try:
            response = super().send(request, **options)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.RetryError,
        ) as error:
            raise _Unreached("no answer") from error
        if response.status_code == 429 or response.status_code >= 500:
            raise _Unreached(f"the answer HTTP {response.status_code}")
        return response


@contextlib.contextmanager
def _client(name: Address) -> Iterator[Any]:
    # The client reports its use to a server of its own unless told not to.
    os.environ.setdefault("DANDI_NO_ET", "1")
    try:
        from dandi.consts import DandiInstance, known_instances
        from dandi.dandiapi import DandiAPIClient
        from dandi.exceptions import NotFoundError
    except ImportError as error:
        raise _fault(
            name,
            "no DANDI client",
            "Install it with `pip install 'driftwave[dandi]'`, or download the file with "
            "`dandi download` elsewhere and give its path",
            "the package dandi",
        ) from error
    api = os.environ.get(VARIABLE)
    # A client that is given an instance asks no server for one.
    instance = DandiInstance("dandi", None, api) if api else known_instances["dandi"]
    with _silent(), DandiAPIClient(dandi_instance=instance) as client:
        for scheme in ("https://", "http://"):
            client.session.mount(scheme, _Bounded())
        try:
            yield client
        except NotFoundError as error:
            raise _fault(
                name,
                " ".join(str(error).split())[:300],
                "Mend the dandiset, its version or the path",
                "an asset of DANDI",
            ) from None
        except _Unreached as error:
            raise _fault(
                name,
                f"{error} from {instance.api}",
                "Check the network, then run the job again; or download the file where there is "
                "one and give its path",
                "the archive's answer",
            ) from None
        except (requests.RequestException, ValueError, KeyError, AssertionError) as error:
            raise _fault(
                name,
                f"an answer of {instance.api} that is none of DANDI's "
                f"({type(error).__name__}: {' '.join(str(error).split())[:160]})",
                f"Check {VARIABLE} and the network",
                "the archive's answer",
            ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the client's own log: what went wrong is told in one sentence."""
    loggers = [logging.getLogger(name) for name in ("dandi", "urllib3")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _fault(
    name: Address, found: str, fix: str, expected: str = "an NWB 2 file (HDF5)"
) -> InputError:
    return InputError(file=name, field="nwb", found=found, expected=expected, fix=fix)
