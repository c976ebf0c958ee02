"""What every room raises for people: one clear sentence, no traceback."""

import re

#: Controls, and what turns the direction of writing: in a name out of a stranger's file they would rewrite the line, or the
#: log, that a sentence is shown in. Half a surrogate pair has no encoding at all.
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class HallmarkError(Exception):
    """Something that a person can put right; the message says what, where, and what would be right.

    As text it has no control characters but its own line breaks: others are escaped as in Python.
    """

    def __str__(self) -> str:
        return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), super().__str__())
