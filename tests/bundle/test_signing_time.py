"""When something was signed: the signer's word, covered by its key, outside of the bytes that are made again."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from bundle.digests import canonical_json
from bundle.signatures import (
    SignatureError,
    generate_key,
    key_id,
    read_envelope,
    read_public_key,
    sign,
    signing_time,
    verify_envelope,
)

STATEMENT = b'{"a statement": true}'
WHEN = datetime(2026, 11, 26, 8, 30, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    generate_key(folder)
    return folder


def changed(envelope: bytes, **fields: str | None) -> bytes:
    document = json.loads(envelope)
    for name, value in fields.items():
        if value is None:
            del document["signatures"][0][name]
        else:
            document["signatures"][0][name] = value
    return canonical_json(document)


def test_the_time_is_there_in_utc_and_covered(keys: Path) -> None:
    local = WHEN.astimezone(timezone(timedelta(hours=-5)))
    envelope = sign(STATEMENT, keys / "key.pem", local)
    assert read_envelope(envelope, STATEMENT)[0].signed_at == "2026-11-26T08:30:05Z"
    assert verify_envelope(envelope, STATEMENT, [keys]) == key_id(read_public_key(keys / "key.pub"))
    assert envelope == sign(STATEMENT, keys / "key.pem", WHEN)


def test_without_a_time_the_envelope_is_as_it_was(keys: Path) -> None:
    envelope = sign(STATEMENT, keys / "key.pem")
    assert json.loads(envelope)["signatures"][0].keys() == {"keyid", "sig"}
    stripped = changed(sign(STATEMENT, keys / "key.pem", WHEN), signedAt=None, signedAtSig=None)
    assert stripped == envelope and verify_envelope(stripped, STATEMENT, [keys])


def test_another_time_is_refused(keys: Path) -> None:
    envelope = sign(STATEMENT, keys / "key.pem", WHEN)
    for other in ("2026-11-26T08:30:06Z", "2020-01-01T00:00:00Z"):
        with pytest.raises(SignatureError, match="signedAt is not the time that key"):
            verify_envelope(changed(envelope, signedAt=other), STATEMENT, [keys])


def test_the_time_of_another_signature_is_refused(keys: Path) -> None:
    other = json.loads(sign(b"another", keys / "key.pem", WHEN))["signatures"][0]
    envelope = changed(sign(STATEMENT, keys / "key.pem", WHEN), signedAtSig=other["signedAtSig"])
    with pytest.raises(SignatureError, match="signedAt"):
        verify_envelope(envelope, STATEMENT, [keys])


@pytest.mark.parametrize(
    "fields",
    [
        {"signedAt": None},
        {"signedAtSig": None},
        {"signedAt": "yesterday"},
        {"signedAt": "2026-11-26T08:30:05+00:00"},
        {"signedAt": "2026-13-26T08:30:05Z"},
        {"signedAt": "2026-1-2T08:30:05Z"},
        {"signedAtSig": base64.b64encode(bytes(63)).decode()},
        {"signedAtSig": "no base64"},
    ],
)
def test_half_a_time_and_other_spellings_are_refused(fields: dict[str, str | None], keys: Path) -> None:
    with pytest.raises(SignatureError):
        read_envelope(changed(sign(STATEMENT, keys / "key.pem", WHEN), **fields), STATEMENT)


def test_the_clock_may_be_set_for_builds_that_are_made_again() -> None:
    assert signing_time({"SOURCE_DATE_EPOCH": "1000000000"}) == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    now = signing_time({})
    assert now.microsecond == 0 and abs(datetime.now(UTC) - now) < timedelta(minutes=1)
    with pytest.raises(SignatureError, match="SOURCE_DATE_EPOCH"):
        signing_time({"SOURCE_DATE_EPOCH": "today"})
