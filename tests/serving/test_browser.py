"""The page in a real Chromium: by mouse, keyboard and screen reader, on a phone, in light and dark, and when refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.browser import CHROMIUM, Browser, Tab, running_browser
from tests.serving.pictures import digit, png

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")

AUDIT = Path(__file__).with_name("audit.js").read_text(encoding="utf-8")
REFUSAL = "document.getElementById('refusal').textContent"
STATUS = "document.getElementById('status').textContent"
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def tab(browser: Browser, service: httpx.Client) -> Iterator[Tab]:
    """The page of the real service, loaded, with the audit's functions."""
    tab = Tab(browser)
    open_audited(tab, f"{address(service)}/")
    yield tab
    tab.close()


def address(service: httpx.Client) -> str:
    return str(service.base_url).rstrip("/")


def open_audited(tab: Tab, page: str) -> None:
    tab.open(page)
    tab.evaluate(f"globalThis.audit = (() => {{ {AUDIT}; return audit; }})(); 0")


def audit(tab: Tab, name: str) -> Any:
    return tab.evaluate(f"audit.{name}()")


def choose_sample(tab: Tab, number: int = 3) -> None:
    tab.evaluate(f"document.querySelectorAll('[data-sample]')[{number}].click()")


def show_everything(tab: Tab) -> None:
    """Opens what is folded and waits for an answer."""
    tab.evaluate("for (const item of document.querySelectorAll('details')) item.open = true")
    choose_sample(tab)
    tab.wait(STATUS)


def nodes(tab: Tab) -> dict[str, dict[str, Any]]:
    """What a screen reader is told, by id."""
    found = tab.call("Accessibility.getFullAXTree")["nodes"]
    return {node["nodeId"]: node for node in found if not node["ignored"] or node.get("childIds")}


def role(node: dict[str, Any]) -> str:
    return node["role"]["value"] if "role" in node else ""


def name(node: dict[str, Any]) -> str:
    return node.get("name", {}).get("value", "").strip()


def below(tree: dict[str, dict[str, Any]], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node and all that it holds."""
    yield node
    for child in node.get("childIds", []):
        if child in tree:
            yield from below(tree, tree[child])


def spoken(tree: dict[str, dict[str, Any]], wanted: str) -> list[str]:
    """The text of every node of a role."""
    found = (node for node in tree.values() if role(node) == wanted)
    return ["".join(name(item) for item in below(tree, node) if role(item) == "StaticText") for node in found]


def test_nothing_complains_and_nothing_is_asked_of_others(tab: Tab, service: httpx.Client) -> None:
    show_everything(tab)
    assert [entry["entry"]["text"] for entry in tab.events("Log.entryAdded")] == []
    assert tab.events("Runtime.exceptionThrown") == tab.events("Runtime.consoleAPICalled") == []
    asked = {event["request"]["url"] for event in tab.events("Network.requestWillBeSent")}
    assert f"{address(service)}/predict?explain=robustness" in asked
    assert {url for url in asked if not url.startswith((f"{address(service)}/", "data:", "blob:"))} == set()


def test_a_breach_of_the_policy_would_be_seen(tab: Tab) -> None:
    """The test before this one must be able to fail."""
    tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">x</p>')")
    assert "Content Security Policy" in tab.expect("Log.entryAdded")["entry"]["text"]


@pytest.mark.parametrize(("width", "zoom"), [(320, 100), (360, 100), (640, 200), (1280, 100)])
def test_the_page_is_never_wider_than_its_view(tab: Tab, width: int, zoom: int) -> None:
    """320 px are 1280 px at 400 %; 640 px with letters of twice the size are 1280 px at 200 % and larger text."""
    tab.resize(width)
    tab.evaluate(f"document.documentElement.style.fontSize = '{zoom}%'")
    show_everything(tab)
    assert audit(tab, "overflow") == []


def test_a_sample_is_asked_about_by_keyboard_alone(tab: Tab, service: httpx.Client) -> None:
    while tab.evaluate("document.activeElement.dataset.sample ?? ''") != "samples/3.png":
        tab.press("Tab")
    tab.press("Enter")
    said = tab.wait(STATUS)
    image = service.get("/samples/3.png").content
    answer = service.post("/predict?explain=robustness", files={"image": image}).json()
    assert said.startswith(f"The model says {answer['class']}, ")
    assert tab.evaluate("document.getElementById('class').textContent") == answer["class"]
    assert tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert said in spoken(nodes(tab), "status")


def test_what_was_measured_for_the_class_stands_beside_the_answer(tab: Tab, service: httpx.Client) -> None:
    choose_sample(tab)
    tab.wait(STATUS)
    image = service.get("/samples/3.png").content
    measured = service.post("/predict?explain=robustness", files={"image": image}).json()["robustness"]
    shown = tab.evaluate("document.getElementById('measured').innerText")
    assert measured["sentence"] in shown
    for share in [measured["clean"], *measured["threats"]]:
        assert f"{100 * share['value']:.1f}\u00a0% {share['correct']}/{share['sampleSize']}" in shown
    for threat in measured["threats"]:
        assert f"l∞ {threat['eps_255']:g}/255" in shown


def test_a_dropped_image_is_answered(tab: Tab, tmp_path: Path, service: httpx.Client) -> None:
    file = tmp_path / "digit.png"
    file.write_bytes(png(digit()))
    tab.drop(file, "#drop")
    expected = service.post("/predict", files={"image": file.read_bytes()}).json()["class"]
    assert tab.wait(STATUS).startswith(f"The model says {expected}, ")


def test_a_pasted_image_is_answered(tab: Tab) -> None:
    content = base64.b64encode(png(digit())).decode()
    tab.evaluate(
        f"""(() => {{
          const data = new DataTransfer();
          const bytes = Uint8Array.from(atob({json.dumps(content)}), (letter) => letter.charCodeAt(0));
          data.items.add(new File([bytes], "x.png", {{type: "image/png"}}));
          document.dispatchEvent(new ClipboardEvent("paste", {{clipboardData: data, bubbles: true}}));
        }})()"""
    )
    assert tab.wait(STATUS).startswith("The model says ")


def test_the_refusal_of_a_dropped_image_is_announced(tab: Tab, tmp_path: Path, service: httpx.Client) -> None:
    file = tmp_path / "large.png"
    file.write_bytes(png(digit().repeat(2, axis=0).repeat(2, axis=1)))
    tab.drop(file, "#drop")
    refused = service.post("/predict", files={"image": file.read_bytes()})
    assert (refused.status_code, tab.wait(REFUSAL)) == (422, refused.json()["detail"])
    assert refused.json()["detail"] in spoken(nodes(tab), "alert")
    assert tab.evaluate("document.getElementById('given').hidden")


@pytest.mark.parametrize(
    ("status", "headers", "body", "words"),
    [
        (401, {"Content-Type": PROBLEM}, '{"detail": "Authorization: is missing."}', "This service wants a token."),
        (429, {"Retry-After": "7"}, "<h1>slow down</h1>", "Too many questions at once. Try again in 7 s."),
        (503, {"Content-Type": PROBLEM, "Retry-After": "1"}, '{"detail": "Full."}', "Full. Try again in 1 s."),
        (503, {"Content-Type": "text/html"}, "<h1>no</h1>", "The service is busy."),
        (500, {"Content-Type": "text/plain"}, "no", "The service answered 500."),
        (200, {"Content-Type": "text/html"}, "<h1>log in</h1>", "The service could not be reached, or it broke off"),
    ],
)
def test_refusals_of_the_service_and_of_what_stands_before_it_are_words(
    tab: Tab, status: int, headers: dict[str, str], body: str, words: str
) -> None:
    """A proxy's answers are made here: the service itself is not that easily too busy."""
    tab.call("Fetch.enable", patterns=[{"urlPattern": "*/predict*"}])
    choose_sample(tab)
    paused = tab.expect("Fetch.requestPaused")
    tab.call(
        "Fetch.fulfillRequest",
        requestId=paused["requestId"],
        responseCode=status,
        responseHeaders=[{"name": key, "value": value} for key, value in headers.items()],
        body=base64.b64encode(body.encode()).decode(),
    )
    assert tab.wait(REFUSAL).startswith(words)
    tab.call("Fetch.disable")
    choose_sample(tab)
    assert tab.wait(STATUS)
    assert tab.evaluate(REFUSAL) == ""


def test_a_service_that_is_gone_is_told(tab: Tab) -> None:
    tab.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1)
    choose_sample(tab)
    assert tab.wait(REFUSAL).startswith("The service could not be reached")


def test_a_screen_reader_is_told_what_everything_is(tab: Tab) -> None:
    show_everything(tab)
    tree = nodes(tab)
    roles = [role(node) for node in tree.values()]
    assert [roles.count(landmark) for landmark in ("banner", "navigation", "main", "contentinfo")] == [1, 1, 1, 1]
    for kind in ("image", "link", "button", "heading", "table", "group", "region", "status", "alert"):
        assert kind in roles, kind
    controls = ("image", "img", "link", "button", "textbox", "DisclosureTriangle", "region", "navigation")
    assert [node for node in tree.values() if role(node) in controls and not name(node)] == []


def test_headings_do_not_skip_a_level(tab: Tab) -> None:
    show_everything(tab)
    levels = tab.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].filter((item) => item.checkVisibility())"
        ".map((item) => Number(item.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_table_has_headers(tab: Tab) -> None:
    show_everything(tab)
    tree = nodes(tab)
    tables = [node for node in tree.values() if role(node) == "table"]
    assert len(tables) == tab.evaluate("document.querySelectorAll('table').length")
    assert all("columnheader" in {role(item) for item in below(tree, table)} for table in tables)
    assert (
        tab.evaluate("[...document.querySelectorAll('th')].filter((item) => !item.scope).map((item) => item.outerHTML)")
        == []
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(tab: Tab, scheme: str, tmp_path: Path) -> None:
    tab.prefer(prefers_color_scheme=scheme)
    show_everything(tab)
    assert audit(tab, "contrast") == []
    assert audit(tab, "graphics") == []
    file = tmp_path / "empty.png"
    file.write_bytes(b"")
    tab.drop(file, "#drop")
    tab.wait(REFUSAL)
    assert audit(tab, "contrast") == []


def test_the_keyboard_reaches_everything_in_order_and_one_sees_where_it_is(tab: Tab) -> None:
    show_everything(tab)
    wanted = audit(tab, "focusable")
    tab.evaluate("document.activeElement.blur()")
    reached: list[dict[str, Any]] = []
    for _ in range(len(wanted) + 2):
        tab.press("Tab")
        if (found := audit(tab, "focused")) is not None:
            reached.append(found)
    visited = list(dict.fromkeys(item["name"] for item in reached))
    assert visited == wanted
    assert [item["name"] for item in reached if not item["seen"]] == []


def test_the_skip_link_leads_past_the_page_to_the_numbers(tab: Tab) -> None:
    tab.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    tab.press("Enter")
    tab.wait("location.hash === '#short'")
    tab.press("Tab")
    after = "document.getElementById('short').compareDocumentPosition(document.activeElement)"
    assert tab.evaluate(f"({after} & Node.DOCUMENT_POSITION_FOLLOWING) !== 0")


def test_targets_are_large_enough_for_a_finger(tab: Tab) -> None:
    tab.resize(360)
    show_everything(tab)
    assert audit(tab, "targets") == []


def test_nothing_moves_for_those_who_want_no_motion(tab: Tab) -> None:
    tab.prefer(prefers_reduced_motion="reduce")
    show_everything(tab)
    assert audit(tab, "motion") == []


def test_print_leaves_out_what_paper_cannot_do(tab: Tab) -> None:
    tab.prefer(prefers_color_scheme="dark")
    tab.call("Emulation.setEmulatedMedia", media="print")
    hidden = "[...document.querySelectorAll('.try, .contents, .skip')].every((item) => !item.checkVisibility())"
    assert tab.evaluate(hidden)
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("document.getElementById('short').checkVisibility()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_of_the_evidence_can_be_read_as_well(browser: Browser, service: httpx.Client, scheme: str) -> None:
    """Where it stands alone it may run nothing; the browser's tools still may ask."""
    tab = Tab(browser, width=360)
    tab.prefer(prefers_color_scheme=scheme)
    open_audited(tab, f"{address(service)}/evidence/report.html")
    assert [audit(tab, name) for name in ("contrast", "graphics", "overflow")] == [[], [], []]
    assert [entry["entry"]["text"] for entry in tab.events("Log.entryAdded")] == []
    tab.close()
