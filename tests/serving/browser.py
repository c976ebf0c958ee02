"""A real headless Chromium, driven over the DevTools protocol through a pipe: no port and no package beside it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",  # which root and most containers cannot have; only our own page is loaded
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
#: The protocol's ends must be descriptors 3 and 4; a shell cannot be asked, since some know one digit only.
LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
#: Seconds that a slow machine may need for anything.
PATIENCE = 60.0
#: Key → windowsVirtualKeyCode and text, as the protocol wants them.
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}


class BrowserError(Exception):
    """The browser refused a command, threw, or gave no answer in time."""


class Browser:
    """The protocol: commands with their results, and the events that came meanwhile."""

    def __init__(self, commands: int, answers: int) -> None:
        self.events: list[dict[str, Any]] = []
        self._commands, self._answers, self._buffer, self._number = commands, answers, b"", 0

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """A command's result; events that come first are kept. Raises BrowserError where it is refused."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._send(message if session is None else {**message, "sessionId": session})
        while True:
            answer = self._receive()
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise BrowserError(f"{method}: {answer['error']['message']}")
            else:
                return answer["result"]

    def _send(self, message: dict[str, Any]) -> None:
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._commands, content) :]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._answers], [], [], PATIENCE)[0]:
                raise BrowserError(f"no answer within {PATIENCE:g} s")
            content = os.read(self._answers, 1 << 20)
            if not content:
                raise BrowserError("the browser ended")
            self._buffer += content
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


class Tab:
    """One page in a context of its own; `events` are those of this tab."""

    def __init__(self, browser: Browser, width: int = 1280, height: int = 900) -> None:
        self._browser = browser
        self.context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=self.context)["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility", "DOM"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def events(self, method: str) -> list[dict[str, Any]]:
        """The parameters of every event of one kind so far."""
        ours = (event for event in self._browser.events if event.get("sessionId") == self._session)
        return [event["params"] for event in ours if event["method"] == method]

    def resize(self, width: int, height: int = 900) -> None:
        """Sets the size of the view in CSS pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, **features: str) -> None:
        """Emulates media features, `prefers_color_scheme="dark"`; those not named are as the browser has them."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def open(self, address: str) -> None:
        """Loads a page and waits until its modules ran."""
        self.call("Page.navigate", url=address)
        self.wait(f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value, as JSON can hold it, of an expression; a promise is awaited. Raises BrowserError where it throws."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"{expression[:200]}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, expression: str) -> Any:
        """The first true value of an expression; raises BrowserError where there is none in time."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found := self.evaluate(expression):
                return found
            time.sleep(0.02)
        raise BrowserError(f"did not come true within {PATIENCE:g} s: {expression}")

    def expect(self, method: str) -> dict[str, Any]:
        """The parameters of the first event of a kind, which may yet have to come."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found := self.events(method):
                return found[0]
            self.evaluate("0")  # reads what came meanwhile
            time.sleep(0.02)
        raise BrowserError(f"{method}: did not happen within {PATIENCE:g} s")

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        code, text = KEYS[key]
        named = {"key": key, "code": key if key != " " else "Space", "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def drop(self, file: Path, selector: str) -> None:
        """Drags a file of this machine onto the middle of an element."""
        where = self.evaluate(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"
        )
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, data=data, **where)

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self.context)


@contextmanager
def running_browser(profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile folder, which ends with the block."""
    assert CHROMIUM is not None
    incoming, commands = os.pipe()
    answers, outgoing = os.pipe()
    command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(incoming), str(outgoing), *command],
        pass_fds=(incoming, outgoing),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(incoming)
    os.close(outgoing)
    try:
        yield Browser(commands, answers)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(commands)
        os.close(answers)
