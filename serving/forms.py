"""The one file of a multipart form."""

from __future__ import annotations

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.encodings import check_part
from serving.problems import Problem

FORM_TYPE = "multipart/form-data"
#: Room for the boundaries and headers of a multipart body.
FORM_BYTES = 64 * 1024
#: Charsets that clients declare and that spell a field's name alike; Python would decode by a hundred others.
CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1")


class _Parser(MultiPartParser):
    """Keeps files in memory, whose size is bounded already: an image of a client is never written to the disk."""

    spool_max_size = 0


async def read_form(request: Request, field: str, types: tuple[str, ...]) -> bytes:
    """The content of the only field, which is a file declared as one of some media types, or as none, and not as packed.

    Raises Problem `bad-form` or `wrong-type` where the form is anything else.
    """
    upload = await _upload(request, field)
    check_part(field, upload.headers)
    kind = media_type(upload.content_type)
    if kind and kind not in types:
        raise Problem("wrong-type", f"{field}: is declared as {kind}; send {', '.join(types[:-1])} or {types[-1]}.")
    return await upload.read()


def media_type(declared: str | None) -> str:
    """A Content-Type without its parameters, in small letters; empty where there is none."""
    return (declared or "").partition(";")[0].strip().lower()


async def _upload(request: Request, field: str) -> UploadFile:
    try:
        _check_charset(request)
        form = await _Parser(request.headers, request.stream(), max_files=4, max_fields=4).parse()
    except MultiPartException as error:
        raise Problem("bad-form", f"form: {error.message.rstrip('.')}.") from None
    except ValueError:  # of the standard library's reader of headers, such as for a number of thousands of digits
        raise Problem("bad-form", "form: has headers that cannot be read.") from None
    given = [name for name, _ in form.multi_items()]
    if given != [field]:
        listed = ", ".join(sorted(given)) or "none"
        raise Problem("bad-form", f"form: must have exactly one field, {field}, with one file; got {listed}.")
    upload = form[field]
    if not isinstance(upload, UploadFile):
        raise Problem("bad-form", f"{field}: is text; send it as a file, with a filename.")
    return upload


def _check_charset(request: Request) -> None:
    """Raises Problem where the fields' names are declared to be in another charset, or ValueError."""
    _, parameters = parse_options_header(request.headers["content-type"])
    charset = parameters.get(b"charset", CHARSETS[0])
    if charset.lower() not in CHARSETS:
        detail = f"form: declares the charset {charset.decode('latin-1')}; send the names of fields in UTF-8."
        raise Problem("bad-form", detail)
