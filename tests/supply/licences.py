"""`python -m tests.supply.licences`: docs/licences.md, from the metadata of what is installed; 1 where one is refused."""

from __future__ import annotations

import sys
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from boolean.boolean import AND, OR
from license_expression import ExpressionError, Licensing

from bundle.command_line import run_command
from bundle.digests import write_whole
from tests.supply import LOCKS, ROOT, locked

PAGE = ROOT / "docs" / "licences.md"
#: Permissive ones, and those whose copyleft ends at the file or the library.
ALLOWED = frozenset(
    (
        *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD", "BSD-2-Clause", "BSD-3-Clause"),
        *(
            "BSD-3-Clause-Clear",
            "BSL-1.0",
            "CC0-1.0",
            "EPL-1.0",
            "EPL-2.0",
            "ISC",
            "MIT",
            "MIT-0",
            "MIT-CMU",
            "MPL-2.0",
        ),
        *("PSF-2.0", "ZPL-2.1", "Zlib"),
    )
)
#: Other words for them, in fields of before SPDX and in classifiers. BSD alone does not say how many clauses.
SPDX = {
    **dict.fromkeys(["apache", "apache 2.0", "apache license", "apache license 2.0"], "Apache-2.0"),
    **dict.fromkeys(["apache license, version 2.0", "apache software license"], "Apache-2.0"),
    **dict.fromkeys(["bsd license"], "BSD"),
    **dict.fromkeys(["3-clause bsd license", "new bsd"], "BSD-3-Clause"),
    **dict.fromkeys(["isc license", "isc license (iscl)"], "ISC"),
    **dict.fromkeys(["mit license"], "MIT"),
    **dict.fromkeys(["mozilla public license 2.0 (mpl 2.0)"], "MPL-2.0"),
    **dict.fromkeys(["psf", "psfl", "python software foundation license"], "PSF-2.0"),
    **dict.fromkeys(["gplv2 | eplv1"], "GPL-2.0-only OR EPL-1.0"),
    **dict.fromkeys(["gplv2 with linking exception"], "GPL-2.0-only WITH linking-exception"),
    **dict.fromkeys(["nvidia proprietary software"], "LicenseRef-NVIDIA-Proprietary"),
}
#: torch's and ONNX Runtime's CUDA.
NVIDIA = (
    *("nvidia-cublas", "nvidia-cuda-cupti", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cudnn-cu13"),
    *("nvidia-cufft", "nvidia-cufile", "nvidia-curand", "nvidia-cusolver", "nvidia-cusparse", "nvidia-cusparselt-cu13"),
    *("nvidia-nccl-cu13", "nvidia-nvjitlink", "nvidia-nvshmem-cu13"),
)
#: What is taken although its licence is not among those above, package by package, and why.
EXCEPTIONS = {
    **dict.fromkeys(NVIDIA, "CUDA: not open source; may be passed on as NVIDIA's licence agreement says"),
    "cuda-toolkit": "the list of CUDA's packages, without a file of its own; its metadata names no licence",
    "pygit2": "GPL-2.0 with an exception for whatever links to it; DVC uses it",
}
#: Of other systems than Linux: what the metadata of these says, since they are not installed where this is made.
ELSEWHERE = {"onnxruntime": "MIT", "pywin32": "PSF-2.0"}
UNKNOWN = "not stated"


def licence(name: str) -> str:
    """A package's licence as an SPDX expression, or in its own words where it has none; UNKNOWN where it says nothing."""
    try:
        described = metadata(name)
    except PackageNotFoundError:
        return ELSEWHERE.get(name, UNKNOWN)
    return described.get("License-Expression") or _spdx(_field(described)) or _classified(described) or UNKNOWN


def _field(described: Any) -> str:
    """The old field `License`, unless it holds a whole text or a word for nothing."""
    text = (described.get("License") or "").strip()
    return "" if "\n" in text or text == "UNKNOWN" else text


def _classified(described: Any) -> str:
    """The classifiers: where there are several, all of them, since they do not say that one may choose."""
    lines = [line.split(" :: ") for line in described.get_all("Classifier") or () if line.startswith("License :: ")]
    return " AND ".join(sorted({_spdx(parts[-1]) for parts in lines if parts[-1] != "OSI Approved"}))


def _spdx(text: str) -> str:
    return SPDX.get(text.lower(), text)


def allowed(expression: str) -> bool:
    """Whether one may take it: all of what AND joins, and one of what OR joins, is among ALLOWED."""
    try:
        return _allowed(Licensing().parse(expression))
    except ExpressionError:
        return False


def _allowed(parsed: Any) -> bool:
    if isinstance(parsed, AND | OR):
        return (all if isinstance(parsed, AND) else any)(map(_allowed, parsed.args))
    return parsed is not None and parsed.render() in ALLOWED


def page(licences: dict[str, str]) -> str:
    """The table, by licence; names only, so that a new version alone changes nothing."""
    said = [
        "# Licences",
        "",
        f"Of every package in {', '.join(LOCKS)},",
        "as its metadata says it. `make licences` writes this page; which licences and packages may stand in it,",
        "[tests/supply/licences.py](../tests/supply/licences.py) says. A wheel of Hallmark contains none of them.",
        "",
        *_table("licence", "packages", licences),
        "",
        *_table("taken all the same", "packages", EXCEPTIONS),
        "",
    ]
    return "\n".join(said)


def _table(left: str, right: str, values: dict[str, str]) -> list[str]:
    """Names by their values: one row a value."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, value in sorted(values.items()):
        names[value].append(name)
    rows = [f"| {value} | {', '.join(names[value])} |" for value in sorted(names, key=str.lower)]
    return [f"| {left} | {right} |", "|---|---|", *rows]


def main() -> int:
    licences = {name: licence(name) for name, _ in locked()}
    write_whole(PAGE, page(licences).encode())
    refused = [name for name, found in licences.items() if not allowed(found) and name not in EXCEPTIONS]
    for name in refused:
        print(f"{name}: its licence, {licences[name]}, is not among those that may be taken", file=sys.stderr)
    print(f"{len(licences)} packages: {PAGE.relative_to(ROOT)}")
    return 1 if refused else 0


def _command() -> None:
    """Writes docs/licences.md; exit 1 where a licence may not be taken."""
    sys.exit(main())


if __name__ == "__main__":
    run_command(_command)
