"""Standard output and error that take every character: what their encoding lacks is written in plain ones.

Redirected output has the system's encoding, on Windows cp1252 for one, which holds no ∞ and no −.

Usage reports of the libraries underneath: all are off. Every room's __init__ says so before it imports anything else.

Each of them reads its variable when it is imported or first used, so one that is set later changes nothing. A variable
that is set already, by whoever runs this, stays as it is.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import unicodedata

PLAIN = {
    **{"∞": "inf", "−": "-", "–": "-", "—": "-", "×": "x", "·": "*", "±": "+/-", "‖": "||", "…": "...", "√": "sqrt"},
    **{"≥": ">=", "≤": "<=", "≠": "!=", "≈": "~", "→": "->", "←": "<-", "█": "#", "░": ".", "⚑": "!", "•": "*"},
    **{"‘": "'", "’": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " ", "⁻": "-", "\N{COMBINING TILDE}": "~"},
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
}
GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")


def plain_streams() -> None:
    """Has standard output and error write what spelled() says where their encoding lacks a character; nothing raises.

    Every command calls it first.
    """
    codecs.register_error("spelled", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")


def spelled(char: str) -> str:
    """One character in ASCII: `>=` for ≥, `epsilon` for ε, `2` for ², `e` for é; else Python's escape, such as `\\u72ac`."""
    if char in PLAIN:
        return PLAIN[char]
    if greek := GREEK.fullmatch(unicodedata.name(char, "")):
        return greek[2].capitalize() if greek[1] == "CAPITAL" else greek[2].lower()
    parts = unicodedata.normalize("NFKD", char)
    bare = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    # An accent may go; a sign's stroke is its meaning.
    if bare.isascii() and bare.isalnum() and unicodedata.category(char)[0] in "LN":
        return bare
    return char.encode("ascii", "backslashreplace").decode("ascii")


def plain(value: object) -> str:
    """Text that cannot steer a terminal: what is not printable is shown as an escape. Bundles may come from anybody."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(spelled, error.object[error.start : error.end])), error.end


OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: an id of the device, the model's names and hashes, errors
    "BENTOML_DO_NOT_TRACK": "True",  # BentoML: commands, the machine, how long a service runs
    "DVC_NO_ANALYTICS": "1",  # DVC: commands; .dvc/config has its look for a newer version off as well
}


def turn_off() -> None:
    """Sets the variables, for this process and those that it starts."""
    for variable, value in OFF.items():
        os.environ[variable] = os.environ.get(variable) or value
