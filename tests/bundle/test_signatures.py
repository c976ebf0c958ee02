"""DSSE envelopes and Ed25519 keys."""

import base64
import json
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bundle.digests import canonical_json, sha256_bytes
from bundle.signatures import (
    PAYLOAD_TYPE,
    SignatureError,
    generate_key,
    key_id,
    pre_authentication_encoding,
    read_envelope,
    read_public_key,
    read_public_keys,
    sign,
    verify_envelope,
)
from serving.model.trust import Signer, TrustPolicy

STATEMENT = canonical_json({"predicate": "ünïcode, so that bytes and characters differ"})
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """Paths of key.pem and key.pub."""
    generate_key(tmp_path / "keys")
    return tmp_path / "keys" / "key.pem", tmp_path / "keys" / "key.pub"


def changed(envelope: bytes, **fields: Any) -> bytes:
    """The envelope in canonical form with other fields."""
    return canonical_json({**json.loads(envelope), **fields})


def test_pre_authentication_encoding_is_the_specifications_example() -> None:
    """protocol.md of DSSE, test vectors."""
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_are_counted_in_bytes() -> None:
    assert pre_authentication_encoding("é", "ü".encode()) == "DSSEv1 2 é 2 ü".encode()


def test_a_signature_verifies_with_the_key_alone(keys: tuple[Path, Path]) -> None:
    """Without Hallmark: the envelope's fields, the PAE written out, and the public key are enough."""
    document = json.loads(sign(STATEMENT, keys[0]))
    payload = base64.b64decode(document["payload"])
    signed = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    public: Any = serialization.load_pem_public_key(keys[1].read_bytes())
    public.verify(base64.b64decode(document["signatures"][0]["sig"]), signed)
    assert payload == STATEMENT
    assert set(document) == {"payload", "payloadType", "signatures"}


def test_the_trusted_key_is_named(keys: tuple[Path, Path]) -> None:
    """Its name is the SHA-256 of the DER that key.pub holds in base64; RFC 8410 gives the first twelve bytes."""
    der = base64.b64decode(b"".join(keys[1].read_bytes().splitlines()[1:-1]))
    assert der.startswith(bytes.fromhex("302a300506032b6570032100"))
    assert len(der) == 44
    assert verify_envelope(sign(STATEMENT, keys[0]), STATEMENT, [keys[1]]) == sha256_bytes(der)


def test_the_same_key_signs_the_same_bytes(keys: tuple[Path, Path]) -> None:
    assert sign(STATEMENT, keys[0]) == sign(STATEMENT, keys[0])


def test_private_key_is_its_owners_and_never_overwritten(keys: tuple[Path, Path]) -> None:
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600
    before = keys[0].read_bytes()
    with pytest.raises(SignatureError, match=r"key.pem: is there already"):
        generate_key(keys[0].parent)
    keys[0].unlink()
    with pytest.raises(SignatureError, match=r"key.pub: is there already"):
        generate_key(keys[0].parent)
    assert b"PRIVATE KEY" in before
    assert not keys[0].exists()


def test_another_key_is_refused_and_named(keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = generate_key(tmp_path / "other")
    with pytest.raises(SignatureError, match=f"signed by key {other}, which is not among the trusted keys"):
        verify_envelope(sign(STATEMENT, tmp_path / "other" / "key.pem"), STATEMENT, [keys[1]])


def test_a_signature_that_borrows_a_trusted_keys_name_is_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    generate_key(tmp_path / "other")
    forged = json.loads(sign(STATEMENT, tmp_path / "other" / "key.pem"))["signatures"][0]
    forged["keyid"] = key_id(read_public_key(keys[1]))
    envelope = changed(sign(STATEMENT, keys[0]), signatures=[forged])
    with pytest.raises(SignatureError, match=f"not by the key it names, {forged['keyid']}"):
        verify_envelope(envelope, STATEMENT, [keys[1]])


def test_any_of_several_trusted_keys_will_do(keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = generate_key(tmp_path / "other")
    envelope = sign(STATEMENT, tmp_path / "other" / "key.pem")
    assert verify_envelope(envelope, STATEMENT, [keys[1], tmp_path / "other" / "key.pub"]) == other


def test_two_signers_are_read_where_both_are_trusted(keys: tuple[Path, Path], tmp_path: Path) -> None:
    generate_key(tmp_path / "other")
    envelopes = [json.loads(sign(STATEMENT, path)) for path in (keys[0], tmp_path / "other" / "key.pem")]
    both = sorted((item["signatures"][0] for item in envelopes), key=lambda item: item["keyid"])
    envelope = canonical_json({**envelopes[0], "signatures": both})
    assert verify_envelope(envelope, STATEMENT, [keys[1], tmp_path / "other" / "key.pub"]) == both[0]["keyid"]
    with pytest.raises(SignatureError, match="not among the trusted keys"):
        verify_envelope(envelope, STATEMENT, [keys[1]])
    reversed_order = canonical_json({**envelopes[0], "signatures": both[::-1]})
    with pytest.raises(SignatureError, match="each once and in order"):
        read_envelope(reversed_order, STATEMENT)


def test_an_envelope_about_another_attestation_is_refused(keys: tuple[Path, Path]) -> None:
    with pytest.raises(SignatureError, match=r"made for another attestation.json"):
        verify_envelope(sign(STATEMENT, keys[0]), STATEMENT + b"\n", [keys[1]])


def test_two_keys_in_one_file_are_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    """The parser would read the first, and nobody would learn that the second is not trusted."""
    generate_key(tmp_path / "other")
    both = tmp_path / "both.pub"
    both.write_bytes(keys[1].read_bytes() + (tmp_path / "other" / "key.pub").read_bytes())
    signing = tmp_path / "both.pem"
    signing.write_bytes(keys[0].read_bytes() + (tmp_path / "other" / "key.pem").read_bytes())
    sentence = "holds 2 keys; a file holds one, so put each into a file of its own"
    for attempt in (
        lambda: read_public_key(both),
        lambda: verify_envelope(sign(STATEMENT, keys[0]), STATEMENT, [both]),
        lambda: TrustPolicy.read([both]),
        lambda: sign(STATEMENT, signing),
    ):
        with pytest.raises(SignatureError, match=sentence):
            attempt()


def test_a_folder_of_keys_is_taken_wherever_keys_are(keys: tuple[Path, Path], tmp_path: Path) -> None:
    other, envelope = generate_key(tmp_path / "folder"), sign(STATEMENT, keys[0])
    (tmp_path / "folder" / "alice.pub").write_bytes(keys[1].read_bytes())
    named = verify_envelope(envelope, STATEMENT, [tmp_path / "folder"])
    assert named == key_id(read_public_key(keys[1])) and set(read_public_keys([tmp_path / "folder"])) == {named, other}
    (tmp_path / "empty").mkdir()
    for read in (read_public_keys, TrustPolicy.read):
        with pytest.raises(SignatureError, match=r"empty: holds no \*\.pub file; `hallmark keygen` makes key\.pub"):
            read([tmp_path / "empty"])


@pytest.mark.parametrize("field", ["payload", "sig"])
def test_slack_bits_of_base64_are_refused(keys: tuple[Path, Path], field: str) -> None:
    """The last digit before the padding has bits that a decoder drops: another digit decodes to the same bytes."""
    statement = STATEMENT + b" " * ((1 - len(STATEMENT)) % 3)  # its base64 ends in two paddings
    envelope = sign(statement, keys[0])
    document = json.loads(envelope)
    holder = document if field == "payload" else document["signatures"][0]
    text = holder[field].rstrip("=")
    twin = text[:-1] + ALPHABET[ALPHABET.index(text[-1]) ^ 1]
    holder[field] = twin + holder[field][len(text) :]
    mutated = canonical_json(document)
    assert mutated != envelope
    assert base64.b64decode(holder[field]) == base64.b64decode(text + "==")
    with pytest.raises(SignatureError, match="not in canonical form"):
        verify_envelope(mutated, statement, [keys[1]])


def test_every_flipped_bit_is_refused(keys: tuple[Path, Path]) -> None:
    envelope = sign(STATEMENT, keys[0])
    for position in range(len(envelope)):
        mutated = bytearray(envelope)
        mutated[position] ^= 1 << (position % 8)
        with pytest.raises(SignatureError):
            verify_envelope(bytes(mutated), STATEMENT, [keys[1]])


def test_only_one_spelling_is_an_envelope(keys: tuple[Path, Path]) -> None:
    envelope = sign(STATEMENT, keys[0])
    document = json.loads(envelope)
    signature = document["signatures"][0]
    spellings = [
        envelope + b"\n",
        json.dumps(document).encode(),
        envelope.replace(b'"payloadType"', b'"payloadType": "x",\n  "payloadType"', 1),
        changed(envelope, note="unknown field"),
        changed(envelope, signatures=[{**signature, "cert": "unknown field"}]),
        changed(envelope, signatures=[]),
        changed(envelope, signatures=[signature, signature]),
        changed(envelope, signatures={"0": signature}),
        changed(envelope, signatures=[{"sig": signature["sig"]}]),
        changed(envelope, signatures=[{**signature, "sig": 7}]),
        changed(envelope, signatures=[{**signature, "sig": signature["sig"][4:]}]),
        changed(envelope, signatures=[{**signature, "keyid": signature["keyid"].upper()}]),
        changed(envelope, payloadType="text/plain"),
        changed(envelope, payload=None),
        b"[]",
        b"",
        b"\xff",
        b"[" * 100_000,
    ]
    for spelling in spellings:
        with pytest.raises(SignatureError, match=r"attestation.dsse.json: "):
            verify_envelope(spelling, STATEMENT, [keys[1]])


def test_the_type_is_part_of_what_is_signed(keys: tuple[Path, Path]) -> None:
    """A signature over the same bytes as another type does not count."""
    private: Any = serialization.load_pem_private_key(keys[0].read_bytes(), password=None)
    value = private.sign(pre_authentication_encoding("text/plain", STATEMENT))
    envelope = json.loads(sign(STATEMENT, keys[0]))
    envelope["signatures"][0]["sig"] = base64.b64encode(value).decode()
    assert envelope["payloadType"] == PAYLOAD_TYPE
    with pytest.raises(SignatureError, match="not by the key it names"):
        verify_envelope(canonical_json(envelope), STATEMENT, [keys[1]])


def test_files_that_are_no_such_keys_are_refused(keys: tuple[Path, Path], tmp_path: Path) -> None:
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    wrong = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "rsa.pem").write_bytes(wrong.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "rsa.pub").write_bytes(wrong.public_key().public_bytes(pem, form))
    locked = serialization.BestAvailableEncryption(b"secret")
    (tmp_path / "locked.pem").write_bytes(Ed25519PrivateKey.generate().private_bytes(pem, pkcs8, locked))
    (tmp_path / "nonsense").write_bytes(b"\x00nonsense")
    for path, sentence in [
        (tmp_path / "rsa.pem", "must be an Ed25519 private key, is of another kind"),
        (tmp_path / "locked.pem", "is encrypted with a password"),
        (tmp_path / "nonsense", "must be an Ed25519 private key in PEM"),
        (keys[1], "must be an Ed25519 private key in PEM"),
        (tmp_path / "absent", "cannot be read as a key"),
    ]:
        with pytest.raises(SignatureError, match=sentence):
            sign(STATEMENT, path)
    envelope = sign(STATEMENT, keys[0])
    for path, sentence in [
        (tmp_path / "rsa.pub", "must be an Ed25519 public key, is of another kind"),
        (tmp_path / "nonsense", "must be an Ed25519 public key in PEM"),
        (keys[0], "is a private key"),
        (tmp_path / "absent", "cannot be read as a key"),
    ]:
        with pytest.raises(SignatureError, match=sentence):
            verify_envelope(envelope, STATEMENT, [path])


def signed_bundle(statement: bytes, envelope: bytes | None) -> Any:
    """What a policy asks of a verified bundle."""
    return SimpleNamespace(path=Path("bundle"), statement_bytes=statement, envelope=envelope)


@pytest.fixture
def team(tmp_path: Path) -> dict[str, str]:
    """Three people's keys, and a folder `trusted` with the public ones of two; returns key ids by name."""
    names = {name: generate_key(tmp_path / name) for name in ("ada", "berta", "mallory")}
    (tmp_path / "trusted").mkdir()
    for name in ("ada", "berta"):
        shutil.copyfile(tmp_path / name / "key.pub", tmp_path / "trusted" / f"{name}.pub")
    return names


@pytest.mark.parametrize("given", [["trusted"], ["ada/key.pub", "berta/key.pub"], ["trusted/ada.pub", "berta"]])
def test_a_policy_is_files_or_folders_of_keys_and_names_the_signer(
    team: dict[str, str], tmp_path: Path, given: list[str]
) -> None:
    policy = TrustPolicy.read(tmp_path / path for path in given)
    assert set(policy.keys) == {team["ada"], team["berta"]}
    for name in ("ada", "berta"):
        envelope = sign(STATEMENT, tmp_path / name / "key.pem")
        assert policy.check(signed_bundle(STATEMENT, envelope)) == Signer(team[name], name)


def test_a_policy_refuses_strangers_unsigned_bundles_and_other_statements(team: dict[str, str], tmp_path: Path) -> None:
    policy = TrustPolicy.read([tmp_path / "trusted"])
    stranger = sign(STATEMENT, tmp_path / "mallory" / "key.pem")
    with pytest.raises(SignatureError, match=f"signed by key {team['mallory']}, which is not among the trusted keys"):
        policy.check(signed_bundle(STATEMENT, stranger))
    with pytest.raises(SignatureError, match=r"attestation.dsse.json: is missing from bundle"):
        policy.check(signed_bundle(STATEMENT, None))
    with pytest.raises(SignatureError, match=r"made for another attestation.json"):
        policy.check(signed_bundle(STATEMENT + b"\n", sign(STATEMENT, tmp_path / "ada" / "key.pem")))


def test_a_policy_that_trusts_nobody_or_a_private_key_is_refused(team: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "leaked").mkdir()
    shutil.copyfile(tmp_path / "ada" / "key.pem", tmp_path / "leaked" / "ada.pub")
    for given, sentence in [
        ([], "must be at least one key.pub"),
        ([tmp_path / "empty"], r"empty: holds no \*.pub file"),
        ([tmp_path / "absent"], "cannot be read as a key"),
        ([tmp_path / "leaked"], "is a private key"),
    ]:
        with pytest.raises(SignatureError, match=sentence):
            TrustPolicy.read(given)
