"""`make audit-deps`: a locked package with a known weakness is found, and no answer is never taken for none."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.supply import ROOT, locked
from tests.supply.advisories import main

RICH = dict(locked())["rich"]


def advisory(name: str, *, ecosystem: str = "PyPI", **affected: Any) -> dict[str, Any]:
    package = {"name": name, "ecosystem": ecosystem}
    return {"id": f"TEST-{name}", "summary": "made up", "affected": [{"package": package, **affected}]}


def ranges(*events: dict[str, str]) -> list[dict[str, Any]]:
    return [{"type": "ECOSYSTEM", "events": list(events)}]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def write(folder: Path, document: Any) -> str:
    path = folder / "advisories.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


def test_one_that_is_locked_is_found_and_one_that_is_not_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hit = advisory("Rich", ranges=ranges({"introduced": "0"}, {"fixed": "9999"}))
    code, said = told(capsys, write(tmp_path, [hit, advisory("a-package-of-nobody", versions=[RICH])]))
    assert code == 1 and f"rich {RICH}: TEST-Rich, fixed in 9999\n" in said
    assert re.search(r"\n\d{3} locked packages: 1 known weaknesses\n$", said)


@pytest.mark.parametrize(
    ("affected", "code"),
    [
        ({"versions": ["0.1", f"{RICH}.0", "2004d"]}, 1),  # the same version in another spelling
        ({"versions": ["0.1"]}, 0),
        ({"versions": []}, 0),
        ({"ranges": ranges({"introduced": RICH})}, 1),
        ({"ranges": ranges({"introduced": "0"}, {"fixed": RICH})}, 0),
        ({"ranges": ranges({"introduced": "0"}, {"last_affected": RICH})}, 1),
        ({"ranges": ranges({"introduced": "0"}, {"last_affected": "1.0"})}, 0),
        ({"ranges": ranges({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "2.0"}, {"fixed": "9999"})}, 1),
        ({"ranges": ranges({"introduced": "2.0"}, {"introduced": "0"}, {"last_affected": "1.0"})}, 1),  # in any order
        ({"ranges": ranges({"introduced": "9999"})}, 0),
        ({"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}, 0),
        ({"ecosystem": "npm", "versions": [RICH]}, 0),
    ],
)
def test_versions_and_ranges_are_read_as_osv_means_them(tmp_path: Path, affected: dict[str, Any], code: int) -> None:
    assert main([write(tmp_path, advisory("rich", **affected))]) == code


def test_forms_in_which_advisories_come(tmp_path: Path) -> None:
    hit = advisory("rich", versions=[RICH])
    assert main([write(tmp_path, hit)]) == main([write(tmp_path, {"vulns": [hit]})]) == 1
    assert main([write(tmp_path, {**hit, "withdrawn": "2026-01-01T00:00:00Z"})]) == 0
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("TEST-1.json", json.dumps(advisory("a-package-of-nobody", versions=["1"])))
        archive.writestr("TEST-2.json", json.dumps(hit))
    assert main([str(tmp_path / "all.zip")]) == 1


def test_a_version_for_other_machines_is_looked_at_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NumPy has two pins, for older and newer Pythons; ONNX Runtime has a lock of its own on a CPU."""
    versions = [pin for name, pin in locked() if name == "numpy"]
    hits = [advisory("numpy", versions=versions), advisory("onnxruntime", ranges=ranges({"introduced": "0"}))]
    code, said = told(capsys, write(tmp_path, hits))
    assert code == 1 and all(f"numpy {version}: " in said for version in versions) and "onnxruntime " in said


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "5",
        '{"vulns": {}}',
        '[{"affected": []}]',
        '{"id": "X", "affected": 5}',
        '{"id": "X", "affected": [{"package": "rich"}]}',
        '{"id": "X", "affected": [{"package": {"name": "rich", "ecosystem": "PyPI"}, "versions": 5}]}',
        '{"id": "X", "affected": [{"package": {"name": "rich", "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM"}]}]}',
    ],
)
def test_a_file_that_cannot_be_read_is_no_clean_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content, encoding="utf-8")
    code, said = told(capsys, str(path))
    assert code == 2 and said.startswith(f"audit-deps: {path}: ") and said.count("\n") == 1


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, str(tmp_path / "absent.json"))
    assert code == 2 and "absent.json: must be a JSON file" in said


class Database(BaseHTTPRequestHandler):
    """OSV's answer to one question: rich has a weakness, and nothing else."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        hit = advisory("rich", ranges=ranges({"introduced": "0"}, {"fixed": "9999"}))
        answer = {"vulns": [hit]} if asked["package"]["name"] == "rich" and asked["version"] == RICH else {}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is told."""


@contextmanager
def database() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Database)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def test_pip_audit_asks_a_database(capsys: pytest.CaptureFixture[str]) -> None:
    with database() as url:
        code, said = told(capsys, "--osv-url", url)
    assert code == 1 and f"rich {RICH}: TEST-rich, fixed in 9999" in said and "1 known weaknesses" in said
    code, said = told(capsys, "--osv-url", url)  # nobody listens any more
    assert code == 2 and said.startswith("audit-deps: the advisory database cannot be reached (")
    assert said.count("\n") == 1 and "ADVISORIES=file" in said and "Traceback" not in said


def test_make_says_it_with_its_exit_code(tmp_path: Path) -> None:
    path = write(tmp_path, advisory("rich", versions=[RICH]))
    command = ["make", "-o", ".venv/.installed", "audit-deps", f"ADVISORIES={path}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode != 0 and f"rich {RICH}: TEST-rich, no fix is known" in ran.stdout
