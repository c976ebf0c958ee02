"""The one file of a multipart form."""

from __future__ import annotations

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.encodings import check_part
from serving.problems import Problem

FORM_TYPE = "multipart/form-data"
#: Room for the boundaries and headers of a multipart body.
FORM_BYTES = 64 * 1024


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
        form = await _Parser(request.headers, request.stream(), max_files=4, max_fields=4).parse()
    except MultiPartException as error:
        raise Problem("bad-form", f"form: {error.message.rstrip('.')}.") from None
    except UnicodeError:  # a charset that is given for the fields' names can raise more than Starlette expects
        raise Problem("bad-form", "form: has field names that are not in the charset that it declares.") from None
    given = [name for name, _ in form.multi_items()]
    if given != [field]:
        listed = ", ".join(sorted(given)) or "none"
        raise Problem("bad-form", f"form: must have exactly one field, {field}, with one file; got {listed}.")
    upload = form[field]
    if not isinstance(upload, UploadFile):
        raise Problem("bad-form", f"{field}: is text; send it as a file, with a filename.")
    return upload
