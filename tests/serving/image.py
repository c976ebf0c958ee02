"""A bento's Dockerfile, step by step without a daemon: what needs the base image is left out, the rest is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

#: Steps that are the base image's own: its user, its packages of Debian, its uv.
OF_THE_BASE = ("if command -v groupadd", "apt-get update", "command -v uv")
#: Folders of the image; each becomes one below the image's root here.
FOLDERS = ("/app", "/home/bentoml")
#: Makes what is mounted writable nowhere but in one folder, and goes on as the image's user, without any right.
READ_ONLY = """
mount -t tmpfs tmpfs "$1" && mount -o remount,bind,ro / || exit 99
shift; exec unshare --user --map-user=1034 --map-group=1034 "$@"
"""


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions and their arguments, without comments, continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    split = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name, rest) for name, rest in split]


@dataclass
class Image:
    """What a bento's Dockerfile makes, in a folder.

    bento : the bento, which is the build's context.
    root : stands for the image's root.
    python : what stands for the base image's Python.
    variables : what ARG and ENV set. left_out, ended : the RUN steps that were not run, and what those printed that were.
    """

    bento: Path
    root: Path
    python: str
    variables: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    folder: Path = Path()
    user: str = "root"
    entry_point: list[str] = field(default_factory=list)

    def build(self) -> None:
        """Does every step; raises AssertionError with what it printed where one fails."""
        (self.root / "home/bentoml").mkdir(parents=True)
        self.variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        for name, rest in instructions((self.bento / "env/docker/Dockerfile").read_text()):
            getattr(self, f"_{name.lower()}", self._pass)(rest)

    def environment(self) -> dict[str, str]:
        """The variables of a process in the image, and nothing of this process's."""
        return dict(self.variables)

    def _pass(self, rest: str) -> None:
        """FROM is the base image's, EXPOSE says something to people."""

    def _here(self, text: str) -> str:
        """A text with the image's folders as they lie here."""
        return re.sub(rf"(?<![\w/.])({'|'.join(FOLDERS)})(?=[/:\s\"]|$)", lambda found: f"{self.root}{found[1]}", text)

    def _env(self, rest: str) -> None:
        name, _, value = rest.partition("=")
        value = Template(value).substitute(self.variables).strip("'\"")
        self.variables[name] = value if str(self.root) in value else self._here(value)

    _arg = _env

    def _workdir(self, rest: str) -> None:
        self.folder = Path(Template(rest).substitute(self.variables))

    def _copy(self, rest: str) -> None:
        *_, source, target = rest.split()
        shutil.copytree(self.bento / source, self.folder / target, dirs_exist_ok=True)

    def _run(self, rest: str) -> None:
        if rest.startswith(OF_THE_BASE):
            self.left_out.append(rest)
            return
        command = self._here(rest).replace("bentoml:bentoml", f"{os.getuid()}:{os.getgid()}")
        command = re.sub(r"--python \S+", f"--python {shlex.quote(self.python)}", command)
        ended = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder if self.folder.is_dir() else self.root,
            env={**_registry(), **self.variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
        self.ended.append(ended.stdout + ended.stderr)

    def _user(self, rest: str) -> None:
        self.user = rest

    def _entrypoint(self, rest: str) -> None:
        self.entry_point = [self._here(part) for part in json.loads(rest)]
        script = Path(self.entry_point[0])
        script.write_text(self._here(script.read_text()))


def read_only(scratch: Path) -> list[str]:
    """What begins a command that may write to `scratch` alone, as the user 1034 without rights.

    Where this machine lets nobody make a namespace, nothing: then the command runs as whoever runs this.
    """
    wanted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh", str(scratch)]
    tried = subprocess.run([*wanted, "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    return wanted if tried is not None and tried.returncode == 0 else []


def base_python() -> str:
    """A Python of the image's version, or this one."""
    found = subprocess.run(
        [str(Path(sys.executable).with_name("uv")), "python", "find", "--no-python-downloads", "--system", "3.12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() if found.returncode == 0 else sys.executable


def _registry() -> dict[str, str]:
    """Of this process's environment: where uv keeps and finds packages, and how it trusts their host."""
    kept = ("HOME", "XDG_", "UV_", "PIP_", "SSL_", "REQUESTS_", "HTTP", "http", "NO_PROXY", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.startswith(kept)}
