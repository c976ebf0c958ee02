"""What a body or a part of it may be wrapped in: nothing. What is declared as packed is refused by name, never misread."""

from __future__ import annotations

from starlette.datastructures import Headers

from serving.problems import Problem

#: Codings that leave the bytes as they are.
PLAIN = ("", "identity")
#: Transfer encodings of a part of a form that do (RFC 7578 §4.7 has the others out of use).
PLAIN_PARTS = ("", "7bit", "8bit", "binary")


def check_body(headers: Headers) -> None:
    """Raises Problem `wrong-type` where the body is declared as packed; the answer says what is taken (RFC 9110 §12.5.3)."""
    _check("Content-Encoding", headers, PLAIN)


def check_part(field: str, headers: Headers) -> None:
    """The same for a file in a form, which has headers of its own."""
    _check("Content-Encoding", headers, PLAIN, f"{field}: ")
    _check("Content-Transfer-Encoding", headers, PLAIN_PARTS, f"{field}: ")


def _check(name: str, headers: Headers, plain: tuple[str, ...], where: str = "") -> None:
    given = ", ".join(headers.getlist(name)).strip()
    if any(coding.strip().lower() not in plain for coding in given.split(",")):
        detail = f"{where}{name}: is {given}; send the file as it is, without this header."
        raise Problem("wrong-type", detail, {"Accept-Encoding": "identity"})
