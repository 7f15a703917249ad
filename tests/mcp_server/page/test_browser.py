"""The page in a real browser: keyboard, schemes, widths, hostile text, news, and an owner that comes back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import Page, served

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH: install the system's chromium package"),
]
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
LIMIT = 30_000
"""Milliseconds a browser on a busy machine has for one thing."""
EVIL = "<img src=x onerror=window.owned=1>"
CONTRAST = """
() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = rgb(getComputedStyle(one).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.checkVisibility())
    .filter((one) => [...one.childNodes].some((part) => part.nodeType === 3 && part.data.trim()))
    .filter((one) => !(one instanceof SVGElement) && !one.closest(".unseen, .skip, option"))
    .map((one) => {
      const pair = [light(rgb(getComputedStyle(one).color)), light(ground(one))].sort((a, b) => b - a);
      return [(pair[0] + 0.05) / (pair[1] + 0.05), one.className, one.textContent.slice(0, 40)];
    })
    .filter(([ratio]) => ratio < 4.5);
}
"""
NAMELESS = """
() => [...document.querySelectorAll("button, input, select, [role=img], dialog, [tabindex]")]
  .filter((one) => !one.labels?.length && !one.textContent.trim())
  .filter((one) => !one.getAttribute("aria-label") && !one.getAttribute("aria-labelledby"))
  .map((one) => one.outerHTML)
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright.expect.set_options(timeout=LIMIT)
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "bees.md").write_text("# Bees\n\nA swarm follows its queen.\n" + "\nMore.\n" * 60, encoding="utf-8")
    (folder / f"{EVIL}.md").write_text(f"# {EVIL}\n\n<script>window.owned=1</script> swarm {EVIL}\n", encoding="utf-8")
    (folder / f"broken {EVIL}.docx").write_bytes(b"PK\x03\x04 this is no archive")
    return folder


@pytest.fixture
def page(tmp_path: Path, notes: Path) -> Iterator[Page]:
    with served(tmp_path) as page:
        page.add(notes)
        page.index()
        yield page


class Tab:
    """One tab of the browser on the page; remembers what it asked for and what went wrong."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(LIMIT)
        self.tab = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.tab.goto(url)

    def live(self) -> Tab:
        self.tab.wait_for_selector("#connection.good")
        self.tab.wait_for_selector("#folders .folder-path")
        return self

    def search(self, words: str) -> Tab:
        self.tab.fill("#query", words)
        self.tab.keyboard.press("Enter")
        self.tab.wait_for_selector("#hits:not([aria-busy]) li")
        return self

    def focused(self, what: str = "id") -> str:
        return str(self.tab.evaluate(f"document.activeElement.{what}"))

    def overflow(self) -> int:
        return int(self.tab.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    tabs: list[Tab] = []

    def one(url: str, **context: Any) -> Tab:
        tabs.append(Tab(browser, url, **context))
        return tabs[-1]

    yield one
    for tab in tabs:
        tab.context.close()


def test_everything_can_be_done_with_the_keyboard(page: Page, opened: Any) -> None:
    tab = opened(page.url).live()
    keys = tab.tab.keyboard
    keys.press("Tab")
    assert tab.focused("className") == "skip"
    keys.press("Enter")
    assert tab.tab.evaluate("location.hash") == "#query"
    tab.tab.evaluate("document.activeElement.blur()")
    keys.press("/")
    assert tab.focused() == "query"
    keys.type("queen of the swarm")
    keys.press("Enter")
    tab.tab.wait_for_selector("#hits:not([aria-busy]) li")
    assert tab.focused() == "query"  # who goes on typing is not disturbed
    for _ in range(4):  # mode, folder, button, first hit
        keys.press("Tab")
    assert tab.focused("className") == "hit-open"
    assert tab.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    opener = tab.focused("textContent")
    keys.press("Enter")
    tab.tab.wait_for_selector("#place[open] .row.asked")
    assert tab.tab.evaluate("document.querySelector('#place').contains(document.activeElement)")
    for _ in range(12):  # round and round: the focus stays in the dialog, or goes to the browser's own controls
        keys.press("Tab")
        assert tab.tab.evaluate("!document.activeElement.closest('main, header:not(dialog header)')")
    keys.press("Escape")
    assert not tab.tab.evaluate("document.querySelector('#place').open")
    assert tab.focused("textContent") == opener
    assert tab.errors == []


def test_a_hit_is_marked_and_opens_at_its_place(page: Page, opened: Any) -> None:
    tab = opened(page.url, permissions=["clipboard-read", "clipboard-write"]).live().search("queens")
    first = tab.tab.locator("#hits li").first
    assert first.locator("mark").all_text_contents() == ["queen"]
    first.locator("button").click()
    tab.tab.wait_for_selector("#place .row.asked")
    asked = tab.tab.locator("#place .row.asked").all_text_contents()
    assert "3A swarm follows its queen." in asked
    tab.tab.get_by_role("button", name="Copy path and line").click()
    tab.tab.get_by_role("button", name="Copied").wait_for()
    assert tab.tab.evaluate("navigator.clipboard.readText()").endswith("/notes/bees.md:1")


def test_text_and_names_of_files_stay_text(page: Page, opened: Any) -> None:
    tab = opened(page.url).live().search(f"swarm {EVIL}")
    tab.tab.get_by_role("button", name=f"{EVIL}.md").click()
    tab.tab.wait_for_selector("#place .row")
    assert "<script>window.owned=1</script>" in tab.tab.inner_text("#place-text")
    tab.tab.keyboard.press("Escape")
    tab.tab.fill("#files-text", "onerror")
    playwright.expect(tab.tab.locator("#files")).to_contain_text("onerror")
    assert tab.tab.evaluate("window.owned") is None
    assert tab.tab.locator("main img, main script, dialog img, dialog script").count() == 0
    assert tab.errors == []
    assert all(url.startswith(page.origin) for url in tab.requests), tab.requests


def test_nothing_can_be_run_that_is_not_ours(page: Page, opened: Any) -> None:
    """The policy holds even if a way to make markup of text were found."""
    tab = opened(page.url).live()
    with pytest.raises(playwright.Error, match="TrustedHTML"):
        tab.tab.evaluate("document.body.innerHTML = '<img src=x onerror=window.owned=1>'")
    with pytest.raises(playwright.Error, match="TrustedScript"):
        tab.tab.evaluate("document.body.setAttribute('onclick', 'window.owned = 1')")
    tab.tab.evaluate("""() => {
      const image = document.createElement("img");
      image.src = "http://127.0.0.1:9/elsewhere";
      document.body.append(image);
    }""")
    playwright.expect(tab.tab.locator("body > img")).to_be_attached()
    tab.search("swarm")  # time enough for an error to be told
    assert tab.tab.evaluate("window.owned") is None
    assert any("violates" in error and "elsewhere" in error for error in tab.errors)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_can_be_read(page: Page, opened: Any, scheme: str) -> None:
    tab = opened(page.url, color_scheme=scheme).live().search("swarm")
    tab.tab.wait_for_selector("#files li")
    colour = tab.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(colour.split("(")[1].split(",")[0]) > 128) == (scheme == "light")
    assert tab.tab.evaluate(CONTRAST) == []
    tab.tab.locator("#hits button").first.click()
    tab.tab.wait_for_selector("#place .row.asked")
    assert tab.tab.evaluate(CONTRAST) == []


@pytest.mark.parametrize("width", [320, 360, 800, 1600])
def test_no_width_has_to_be_scrolled_sideways(page: Page, opened: Any, width: int) -> None:
    tab = opened(page.url, viewport={"width": width, "height": 740}).live()
    assert tab.overflow() <= 0
    tab.search("swarm")
    assert tab.overflow() <= 0
    tab.tab.locator("#hits button").first.click()
    tab.tab.wait_for_selector("#place .row.asked")
    box = tab.tab.locator("#place").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert tab.overflow() <= 0


def test_every_control_has_a_name(page: Page, opened: Any) -> None:
    tab = opened(page.url).live().search("swarm")
    assert tab.tab.evaluate(NAMELESS) == []
    assert tab.tab.locator("[aria-live=polite]").count() >= 3


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", True), ("reduce", False)])
def test_nothing_moves_for_who_does_not_want_it(page: Page, opened: Any, motion: str, moves: bool) -> None:
    tab = opened(page.url, reduced_motion=motion).live()
    tab.tab.evaluate("document.querySelector('#connection').className = 'pill wait'")
    animation = tab.tab.evaluate("getComputedStyle(document.querySelector('#connection'), '::before').animationName")
    assert (animation != "none") == moves


def test_a_file_that_is_indexed_shows_without_a_reload(page: Page, notes: Path, opened: Any) -> None:
    tab = opened(page.url).live()
    assert "2 files" in tab.tab.inner_text("#folders-note")
    (notes / "bread.md").write_text("# Bread\n\nFlour, water, salt.\n", encoding="utf-8")
    page.index()
    playwright.expect(tab.tab.locator("#folders-note")).to_have_text("3 files")
    assert sum(url == f"{page.origin}/" for url in tab.requests) == 1
    tab.search("flour")
    tab.tab.wait_for_selector("#latency circle")


def test_the_address_bar_does_not_keep_the_token(page: Page, opened: Any) -> None:
    tab = opened(page.url).live()
    assert tab.tab.url == f"{page.origin}/"
    tab.tab.reload()
    tab.live()  # kept for the tab
    assert page.token not in "".join(tab.requests[1:])


@pytest.mark.parametrize("rest", ["", "#wrong"])
def test_a_page_without_the_token_says_what_to_do(page: Page, opened: Any, rest: str) -> None:
    tab = opened(f"{page.origin}/{rest}")
    tab.tab.wait_for_selector("#banner:not([hidden])")
    assert "folder-mcp ui" in tab.tab.inner_text("#banner")
    assert tab.tab.inner_text("#connection") == "No entry"


def test_the_page_says_why_the_owner_ended_and_goes_on_with_the_next(tmp_path: Path, opened: Any) -> None:
    notes = tmp_path / "n"
    notes.mkdir()
    (notes / "a.md").write_text("One.\n", encoding="utf-8")
    with served(tmp_path) as first:
        first.add(notes)
        first.index()
        tab = opened(first.url).live()
        first.portal.call(first.door.farewell, "stop")
        tab.tab.wait_for_selector("#banner:not([hidden])")
        assert "has ended (stop)" in tab.tab.inner_text("#banner")
    assert tab.tab.inner_text("#connection") == "Disconnected"
    assert "stale" in tab.tab.evaluate("document.body.className")
    (notes / "b.md").write_text("Two.\n", encoding="utf-8")
    with served(tmp_path) as second:
        second.index()
        playwright.expect(tab.tab.locator("#folders-note")).to_have_text("2 files")
        assert tab.tab.inner_text("#connection") == "Live"
        assert tab.tab.is_hidden("#banner")
        assert "stale" not in tab.tab.evaluate("document.body.className")


def test_an_index_without_folders_says_what_to_do(tmp_path: Path, opened: Any) -> None:
    with served(tmp_path) as page:
        tab = opened(page.url)
        playwright.expect(tab.tab.locator("#folders")).to_contain_text("folder-mcp folders add")
        assert "No search in the last hour" in (tab.tab.text_content("#latency") or "")
        assert tab.tab.inner_text("#files-state") == "Everything that was found is searchable."
