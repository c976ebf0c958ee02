"""Signatures: a DSSE v1 envelope over the exact bytes of attestation.json, with Ed25519 keys.

DSSE: github.com/secure-systems-lab/dsse, envelope.md and protocol.md, version 1.0.2. This reader is stricter than the
specification asks: the envelope is canonical to the byte, unknown fields are refused, and no signature may stand in it
that was not checked. So one envelope has one spelling, and a flipped bit is always found.

When something was signed is the signer's word, signed beside the signature (`signedAt`, `signedAtSig`): the attestation
stays the same bytes whenever it is made, and a reader of plain DSSE passes over both fields.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bundle.digests import canonical_json, sha256_bytes, write_whole
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, ENVELOPE

PAYLOAD_TYPE = "application/vnd.in-toto+json"
PRIVATE_KEY = "key.pem"
PUBLIC_KEY = "key.pub"


class SignatureError(HallmarkError):
    """A key or an envelope is refused; the message names the file and the key."""


#: The type of what the time's signature is of, the signature and then the time: neither can pass for an attestation.
TIME_TYPE = "application/vnd.hallmark.signed-at"
TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Signature:
    """One signature of an envelope: the key that it names, and 64 bytes; when it was made, by the signer's own clock.

    `time_value` is the same key's signature over this signature with its time; both are None where no time was given.
    """

    key_id: str
    value: bytes
    signed_at: str | None = None
    time_value: bytes | None = None


def generate_key(directory: str | Path) -> str:
    """Makes key.pem (PKCS8, readable by its owner only) and key.pub (SubjectPublicKeyInfo); returns the key's id.

    Raises SignatureError where one of the files is there already: a lost key cannot be made again.
    """
    directory = Path(directory)
    for path in (directory / PRIVATE_KEY, directory / PUBLIC_KEY):
        if os.path.lexists(path):
            raise _taken(path)
    private = Ed25519PrivateKey.generate()
    encoding, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    secret = private.private_bytes(encoding, pkcs8, serialization.NoEncryption())
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    _write_key(directory / PRIVATE_KEY, secret, 0o600)  # only one of those that run at once comes further than this
    try:
        _write_key(directory / PUBLIC_KEY, private.public_key().public_bytes(encoding, form), 0o644)
    except BaseException:
        (directory / PRIVATE_KEY).unlink()
        raise
    return key_id(private.public_key())


def key_id(public: Ed25519PublicKey) -> str:
    """A key's name: the SHA-256 of its DER SubjectPublicKeyInfo, as 64 hexadecimal digits."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return sha256_bytes(public.public_bytes(serialization.Encoding.DER, form))


def key_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files of public keys that paths name: each file, and every `*.pub` of each folder.

    Raises SignatureError for a folder that has none.
    """
    return [file for path in paths for file in _key_files(Path(path))]


def _key_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        found = sorted(item for item in path.iterdir() if item.suffix == ".pub")
    except OSError as error:
        raise SignatureError(f"{path}: cannot be read as a folder of keys ({error.strerror})") from None
    if not found:
        raise SignatureError(f"{path}: holds no *.pub file; `hallmark keygen` makes {PUBLIC_KEY}")
    return found


def read_public_keys(paths: Iterable[str | Path]) -> dict[str, Ed25519PublicKey]:
    """The keys of files and folders (key_files) by their ids; raises SignatureError."""
    return {key_id(key): key for key in map(read_public_key, key_files(paths))}


def read_public_key(path: str | Path) -> Ed25519PublicKey:
    """Reads a key.pub; raises SignatureError where it is no Ed25519 public key, or holds several."""
    content = _read_key(path)
    if b"PRIVATE KEY" in content:
        raise SignatureError(f"{path}: is a private key; give the {PUBLIC_KEY} beside it, and keep this file secret")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError(f"{path}: must be an Ed25519 public key in PEM, as `hallmark keygen` makes it") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{path}: must be an Ed25519 public key, is of another kind")
    return key


def read_private_key(path: str | Path) -> Ed25519PrivateKey:
    """Reads a key.pem; raises SignatureError where it is no Ed25519 private key, or is encrypted."""
    try:
        key = serialization.load_pem_private_key(_read_key(path), password=None)
    except TypeError:
        raise SignatureError(f"{path}: is encrypted with a password; Hallmark takes an unencrypted key") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError(f"{path}: must be an Ed25519 private key in PEM, as `hallmark keygen` makes it") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path}: must be an Ed25519 private key, is of another kind")
    return key


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: "DSSEv1", the type and the payload, each with its length before it (DSSE, PAE)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(statement_bytes: bytes, private_key_path: str | Path, at: datetime | None = None) -> bytes:
    """The envelope over the bytes of attestation.json, with one signature, and the time `at` signed beside it.

    The same key gives the same bytes at the same second; the attestation itself has no time.
    """
    private = read_private_key(private_key_path)
    value = private.sign(pre_authentication_encoding(PAYLOAD_TYPE, statement_bytes))
    named, when, timed = key_id(private.public_key()), None, None
    if at is not None:
        when = at.astimezone(UTC).strftime(TIME_FORM)
        timed = private.sign(pre_authentication_encoding(TIME_TYPE, value + when.encode()))
    return _encode(statement_bytes, [Signature(named, value, when, timed)])


def signing_time(environment: Mapping[str, str] = os.environ) -> datetime:
    """Now, to the second, or what SOURCE_DATE_EPOCH says where a build must give the same bytes again."""
    given = environment.get("SOURCE_DATE_EPOCH")
    if given is None:
        return datetime.now(UTC).replace(microsecond=0)
    if not re.fullmatch("[0-9]{1,11}", given):
        raise SignatureError(f"SOURCE_DATE_EPOCH: must be whole seconds since 1970, got {given!r}")
    return datetime.fromtimestamp(int(given), UTC)


def read_envelope(envelope_bytes: bytes, statement_bytes: bytes) -> list[Signature]:
    """The signatures of an envelope, which are not checked here, only its form and that it is about this attestation.

    Raises SignatureError where it is not canonical to the byte, is about other bytes than `statement_bytes`, has no
    signature, or names its keys not once each and in order.
    """
    try:
        document = json.loads(envelope_bytes)
        kind, payload, signatures = _parse(document)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise SignatureError(f"{ENVELOPE}: is not a DSSE envelope as `hallmark sign` makes it") from None
    if kind != PAYLOAD_TYPE:
        raise SignatureError(f"{ENVELOPE}: payloadType must be {PAYLOAD_TYPE}")
    if payload != statement_bytes:
        raise SignatureError(f"{ENVELOPE}: was made for another {ATTESTATION} than the one beside it")
    names = [signature.key_id for signature in signatures]
    if not names or names != sorted(set(names)):
        raise SignatureError(f"{ENVELOPE}: must name at least one key, each once and in order")
    if not all(re.fullmatch("[0-9a-f]{64}", item.key_id) and len(item.value) == 64 for item in signatures):
        raise SignatureError(f"{ENVELOPE}: keyid must be 64 hexadecimal digits, and sig 64 bytes in base64")
    if not all(_has_time_or_none(item) for item in signatures):
        raise SignatureError(f"{ENVELOPE}: signedAt must be a UTC time as 2026-01-31T23:59:59Z, with its signature")
    # Base64 has slack bits and JSON has many spellings: only one of them is an envelope.
    if _encode(payload, signatures) != envelope_bytes:
        raise SignatureError(f"{ENVELOPE}: not in canonical form; a bit was changed, or another program wrote it")
    return signatures


def verify_envelope(envelope_bytes: bytes, statement_bytes: bytes, trusted: Iterable[str | Path]) -> str:
    """Checks an envelope against trusted keys, files or folders, and returns the id of the (first) key that signed.

    Every signature must be valid and by a trusted key: one that nobody can check would be bytes without a guard.
    Raises SignatureError that names the key, and what read_envelope raises.
    """
    return verify_with(envelope_bytes, statement_bytes, read_public_keys(trusted))


def verify_with(envelope_bytes: bytes, statement_bytes: bytes, keys: Mapping[str, Ed25519PublicKey]) -> str:
    """The same with trusted keys that were read before, by their ids (serving.model.trust reads them)."""
    signatures = read_envelope(envelope_bytes, statement_bytes)
    signed = pre_authentication_encoding(PAYLOAD_TYPE, statement_bytes)
    for signature in signatures:
        if signature.key_id not in keys:
            raise SignatureError(f"{ENVELOPE}: signed by key {signature.key_id}, which is not among the trusted keys")
        try:
            keys[signature.key_id].verify(signature.value, signed)
            _verify_time(signature, keys[signature.key_id])
        except InvalidSignature:
            raise SignatureError(f"{ENVELOPE}: the signature is not by the key it names, {signature.key_id}") from None
    return signatures[0].key_id


def _verify_time(signature: Signature, key: Ed25519PublicKey) -> None:
    if signature.signed_at is not None and signature.time_value is not None:
        timed = pre_authentication_encoding(TIME_TYPE, signature.value + signature.signed_at.encode())
        try:
            key.verify(signature.time_value, timed)
        except InvalidSignature:
            raise SignatureError(f"{ENVELOPE}: signedAt is not the time that key {signature.key_id} signed") from None


def _has_time_or_none(signature: Signature) -> bool:
    if signature.signed_at is None or signature.time_value is None:
        return signature.signed_at is None and signature.time_value is None
    try:
        same = datetime.strptime(signature.signed_at, TIME_FORM).strftime(TIME_FORM) == signature.signed_at
    except ValueError:
        return False
    return same and len(signature.time_value) == 64


def _write_key(path: Path, content: bytes, mode: int) -> None:
    try:
        write_whole(path, content, mode, new=True)
    except FileExistsError:
        raise _taken(path) from None


def _taken(path: Path) -> SignatureError:
    return SignatureError(f"{path}: is there already and is not overwritten; choose another folder")


def _read_key(path: str | Path) -> bytes:
    """A key file's bytes; of several keys the parser would read the first and say nothing of the others."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SignatureError(f"{path}: cannot be read as a key ({error.strerror})") from None
    if (count := content.count(b"-----BEGIN")) > 1:
        raise SignatureError(f"{path}: holds {count} keys; a file holds one, so put each into a file of its own")
    return content


def _encode(payload: bytes, signatures: Sequence[Signature]) -> bytes:
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [_written(item) for item in signatures],
        }
    )


def _written(signature: Signature) -> dict[str, str]:
    written = {"keyid": signature.key_id, "sig": base64.b64encode(signature.value).decode("ascii")}
    if signature.signed_at is not None and signature.time_value is not None:
        time_value = base64.b64encode(signature.time_value).decode("ascii")
        written |= {"signedAt": signature.signed_at, "signedAtSig": time_value}
    return written


def _parse(document: Any) -> tuple[str, bytes, list[Signature]]:
    """Type, payload and signatures of an envelope of unknown origin; raises ValueError, TypeError or KeyError."""
    payload = _base64(document["payload"])
    items = cast("list[dict[str, Any]]", document["signatures"])
    signatures = [
        Signature(
            str(item["keyid"]),
            _base64(item["sig"]),
            str(item["signedAt"]) if "signedAt" in item else None,
            _base64(item["signedAtSig"]) if "signedAtSig" in item else None,
        )
        for item in items
    ]
    return str(document["payloadType"]), payload, signatures


def _base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise TypeError("base64 must be text")
    return base64.b64decode(text.encode("ascii"), validate=True)
