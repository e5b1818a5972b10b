"""The dashboard of a running meshlet in a real browser.

With MESHLET_SCREENSHOTS=1 the pictures of docs/dashboard.md are made anew; otherwise they go to a temporary folder.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from meshlet.admin.dashboard import FILES
from meshlet.telemetry.metrics import DURATION_BOUNDS
from meshlet.telemetry.traffic import quantile
from tests.support import tools
from tests.support.http1 import Client
from tests.support.processes import Meshlet, meshlet, until, write_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.system("chromium", "chromedriver")

VIEWS = ("overview", "clusters", "failures", "tap", "config", "server")
MANY = 500  # clusters
LOAD = 3.0  # seconds, on a machine that does other things as well; it is a tenth of that on an idle one
EVIL = "<img/src=x/onerror=document.title=1><script>document.title=2</script>"


# --- what is looked at ---


class App(BaseHTTPRequestHandler):
    """Answers /STATUS/... with that status."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # a response in one piece

    def do_GET(self) -> None:
        first = self.path.split("/")[1]
        self.send_response(int(first) if first.isdigit() else 200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def app() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), App) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def config_of(app: str) -> dict[str, Any]:
    return {
        "listeners": [
            {
                "name": "inbound",
                "address": "127.0.0.1:0",
                "routes": [
                    {"name": "broken", "match": {"prefix": "/broken"}, "cluster": "legacy"},
                    {"name": "all", "cluster": "app"},
                ],
            },
            {
                "name": "outbound",
                "address": "127.0.0.1:0",
                "routes": [
                    {"name": "payments", "match": {"host": "payments"}, "cluster": "payments"},
                    {"name": "ratings", "match": {"host": "ratings"}, "cluster": "ratings"},
                    {"name": "reviews", "match": {"host": "reviews"}, "cluster": "reviews"},
                ],
            },
        ],
        "clusters": [
            {"name": "app", "endpoints": [app]},
            {"name": "legacy", "endpoints": ["127.0.0.1:1"]},  # nobody listens there
            {"name": "payments", "endpoints": [app]},
            {"name": "ratings", "endpoints": [app]},
            {"name": "reviews", "endpoints": [app, app.replace("127.0.0.1", "127.0.0.2")]},
        ],
        "admin": {"address": "127.0.0.1:0"},
        "shutdown": {"grace": "0s"},
    }


@pytest.fixture(scope="module")
def proxy(app: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshlet]:
    with meshlet(tmp_path_factory.mktemp("dashboard"), config_of(app)) as process:
        yield process


@pytest.fixture(scope="module")
def crowd(app: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meshlet]:
    """A sidecar with many clusters."""
    config = config_of(app)
    names = [f"service-{number:03}" for number in range(MANY)]
    config["clusters"] += [{"name": name, "endpoints": [app, "127.0.0.1:1", "127.0.0.1:2"]} for name in names]
    config["listeners"][1]["routes"] = [{"match": {"host": name}, "cluster": name} for name in names]
    with meshlet(tmp_path_factory.mktemp("crowd"), config) as process:
        yield process


def send(
    proxy: Meshlet, path: str, *, host: str = "shop", listener: str = "inbound", fields: tuple[str, ...] = ()
) -> int:
    with Client(proxy.listeners[listener]) as client:
        return client.ask("GET", path, f"Host: {host}", *fields, "Connection: close").status


@contextmanager
def traffic(proxy: Meshlet) -> Iterator[None]:
    """Send a mixture of requests for as long as the block lasts."""
    stop = threading.Event()
    rng = random.Random(7)

    def run() -> None:
        turn = 0
        while not stop.wait(rng.uniform(0.01, 0.04)):
            turn += 1
            send(proxy, rng.choice(["/", "/items/7", "/basket", "/404/nothing" if turn % 9 == 0 else "/items"]))
            if turn % 3 == 0:
                host = rng.choice(["payments", "ratings", "reviews"])
                send(proxy, "/503/charge" if host == "payments" else "/", host=host, listener="outbound")
            if turn % 40 == 0:
                send(proxy, "/broken")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# --- who looks ---


class Browser:
    """A browser and the page in it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.origin = ""
        self.origins: set[str] = set()
        self.asked: set[str] = set()  # URLs
        self.complaints()
        self.requests()
        self.asked.clear()

    def open(self, proxy: Meshlet, view: str = "overview") -> None:
        """Load the page anew and wait for its first figures."""
        self.origin = f"http://{proxy.admin}"
        self.origins.add(self.origin)
        self.driver.get("about:blank")
        self.driver.get(f"{self.origin}/#{view}")
        until(lambda: self.text("#connection") == "Live")

    def go(self, view: str) -> None:
        self.find(f"nav a[href='#{view}']").click()

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        """Click on what may be about to appear."""
        until(lambda: self.all(selector))
        self.find(selector).click()

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """All text, as the document has it; "" where there is no such element."""
        return str(self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.js(
            "return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)", selector
        )
        return found

    def js(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the console has to say: errors, and what the policy has blocked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> set[str]:
        """The URLs that have been asked for since the test began."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]  # type: ignore[no-untyped-call]
        urls = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        # The browser's own pages, such as the one that it begins with, load from within it.
        self.asked |= {url for url in urls if not url.startswith(("about:", "chrome:", "data:"))}
        return self.asked

    def media(self, **features: str) -> None:
        found = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": found})

    def size(self, width: int, height: int) -> None:
        """Give the page so much room; a window cannot be as narrow as a phone."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = tools.require("chromium")
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *("--window-size=1400,1000", f"--user-data-dir={profile}", "--disable-background-networking"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=tools.require("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(driver: webdriver.Chrome) -> Iterator[Browser]:
    browser = Browser(driver)
    browser.media(prefers_color_scheme="light")
    browser.size(1400, 1000)
    yield browser
    for origin in browser.origins:
        driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "local_storage"})
    if browser.origins:
        browser.driver.get("about:blank")
        # Nothing that this page does is worth a word of the console, and nothing leaves the port.
        assert browser.complaints() == []
        assert {"/".join(url.split("/")[:3]) for url in browser.requests()} == browser.origins


# --- it is there ---


def test_it_loads_fast_and_asks_nobody_else(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy)
    assert browser.driver.title == "Overview \N{MIDDLE DOT} meshlet"
    timing = browser.js("const [entry] = performance.getEntriesByType('navigation'); return entry.loadEventEnd")
    size = browser.js(
        "return performance.getEntriesByType('resource').filter((entry) => entry.name.includes('/dashboard/'))"
        ".reduce((sum, entry) => sum + entry.transferSize, 0)"
    )
    print(f"\nloaded in {timing:.0f} ms, {size / 1000:.0f} kB")  # noqa: T201
    assert timing < LOAD * 1000
    assert size < 200_000
    asked = browser.requests()
    assert {f"{browser.origin}/dashboard/{name}" for name in FILES} <= asked
    assert all(url.startswith(f"{browser.origin}/") for url in asked)


def test_every_view_opens(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy)
    for view in VIEWS:
        browser.go(view)
        assert [section for section in VIEWS if browser.find(f"#view-{section}").is_displayed()] == [view]
        assert browser.find("nav a[aria-current='page']").get_attribute("href") == f"{browser.origin}/#{view}"


def test_what_is_healthy_and_what_is_not(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy)
    with traffic(proxy):
        payments = ".clusters .card[data-key='payments']"
        until(lambda: browser.js("return document.querySelector(arguments[0])?.dataset.level", payments) == "bad", 20)
        assert "failing" in browser.text(f"{payments} .top")
        mark = browser.js("return getComputedStyle(document.querySelector(arguments[0])).color", f"{payments} .badge")
        assert mark == "rgb(179, 32, 42)"
        assert browser.text(".app.card[data-key='app'] .top").endswith("available")
        until(lambda: browser.text(".tile[aria-label='Inbound'] dd") not in {"", "0/s", "\N{EN DASH}"})
        assert browser.js("return document.querySelectorAll('.lines path').length") >= 3
        until(
            lambda: any("nothing listens on 127.0.0.1:1" in text for text in browser.texts("#view-overview .hint")), 20
        )
        # A chart tells in words what it draws.
        charts = "return [...document.querySelectorAll('#view-overview .plot')].map((node) => node.ariaLabel)"
        until(lambda: all(": none" not in label for label in browser.js(charts)), 30)
        assert "requests: now" in browser.js(charts)[0]
        assert browser.js("return document.querySelectorAll('.plot path.line-0')[0].getAttribute('d')").startswith("M")


def test_a_failure_is_explained(browser: Browser, proxy: Meshlet) -> None:
    assert send(proxy, "/broken/7", fields=("x-request-id: look-me-up",)) == 503
    browser.open(proxy, "failures")
    browser.find("#failure-filter").send_keys("look-me-up")
    until(lambda: len(browser.all("#view-failures details")) == 1)
    browser.click("#view-failures summary")
    inside = until(lambda: browser.text("#view-failures .inside"))
    for expected in ("UF", "is the app up, and on this port?", "docs/flags.md#uf", "look-me-up", "connection refused"):
        assert expected in inside
    assert browser.texts("#view-failures .inside tbody td")[0] == "127.0.0.1:1"


def test_what_is_read_does_not_move_while_more_comes(browser: Browser, proxy: Meshlet) -> None:
    send(proxy, "/broken/first")
    browser.open(proxy, "failures")
    browser.click("#view-failures summary")
    before = browser.texts("#view-failures .request")
    assert before[0] == "GET /broken/first"
    send(proxy, "/broken/second")
    until(lambda: browser.text("#view-failures .found") == "Held while one is open.", 15)
    assert browser.texts("#view-failures .request") == before
    browser.click("#view-failures summary")
    until(lambda: browser.texts("#view-failures .request")[0] == "GET /broken/second", 15)


def test_many_clusters(browser: Browser, crowd: Meshlet) -> None:
    browser.open(crowd)
    until(lambda: browser.texts(".clusters .card strong"))
    assert len(browser.all(".clusters .card")) == 8
    assert "more, all in Clusters" in browser.text(".clusters .more a")
    browser.go("clusters")
    total = MANY + 5
    until(lambda: browser.text("#view-clusters .found") == f"{total} clusters")
    assert len(browser.all("#view-clusters tbody tr")) == 100
    assert browser.js("return document.querySelectorAll('*').length") < 6000
    browser.click("#view-clusters .pager button:last-child")
    assert browser.text("#view-clusters .pager span").startswith("Page 2 of ")
    browser.find("#cluster-filter").send_keys("service-499")
    until(lambda: browser.text("#view-clusters .found") == f"1 of {total} clusters")
    assert browser.texts("#view-clusters tbody th")[0] == "service-499"
    assert len(browser.all("#view-clusters tbody tr")) == 4
    # One look at it all must not be felt.
    spent = browser.js(
        "const now = performance.now();"
        "document.querySelector('#cluster-filter').value = '';"
        "document.querySelector('#cluster-filter').dispatchEvent(new Event('input'));"
        "return performance.now() - now"
    )
    print(f"\n{total} clusters drawn in {spent:.0f} ms")  # noqa: T201
    assert spent < 1000


def test_the_tap_shows_requests(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy, "tap")
    rows = "#view-tap tbody tr"
    browser.find("#tap-path").send_keys("/items")
    browser.find("#tap-status").send_keys("2xx")
    browser.click("#view-tap button.primary")
    until(lambda: browser.text("#view-tap .found").startswith("Watching"))

    def seen() -> bool:
        send(proxy, "/items/7")
        send(proxy, "/other")
        return bool(browser.all(rows))

    until(seen)
    assert set(browser.texts(f"{rows} td.long")) == {"/items/7"}
    browser.click("#view-tap button.primary")
    assert browser.text("#view-tap .found").startswith("Stopped")
    browser.click("#view-tap button[type='button']")
    assert not browser.all(rows)


def test_the_tap_says_why_it_refuses(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy, "tap")
    browser.find("#tap-status").send_keys("soon", Keys.ENTER)
    until(lambda: "expected" in browser.text("#view-tap .found"))
    assert browser.text("#view-tap button.primary") == "Start"
    assert any("400" in line for line in browser.complaints())  # the browser's own, about the answer


def test_what_strangers_choose_stays_text(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy, "tap")
    browser.click("#view-tap button.primary")
    until(lambda: browser.text("#view-tap .found").startswith("Watching"))

    def seen() -> bool:
        send(proxy, f"/broken/{EVIL}", fields=(f"x-request-id: {EVIL}", f"x-forwarded-for: {EVIL}"))
        return bool(browser.all("#view-tap tbody tr"))

    until(seen)
    assert any(EVIL in text for text in browser.texts("#view-tap tbody td"))
    browser.go("failures")
    until(lambda: any(EVIL in text for text in browser.texts("#view-failures .request")), 15)
    browser.click("#view-failures summary")
    browser.go("overview")
    until(lambda: any(EVIL in text for text in browser.texts("#view-overview .request")), 15)
    assert not browser.all("main img, main script, [onerror]")
    assert browser.driver.title == "Overview \N{MIDDLE DOT} meshlet"


def test_the_browser_would_not_even_let_us(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy)
    html = "try { document.body.insertAdjacentHTML('beforeend', arguments[0]) } catch (error) { return error.name }"
    assert browser.js(html, EVIL) == "TypeError"
    inline = "try { document.body.setAttribute('onclick', arguments[0]) } catch (error) { return error.name }"
    assert browser.js(inline, "document.title = 3") == "TypeError"
    other = "return fetch('http://127.0.0.1:1/').then(() => 'sent', (error) => error.name)"
    assert browser.js(other) == "TypeError"
    blocked = browser.complaints()
    assert len(blocked) >= 3
    assert all("Content Security Policy" in line or "Trusted" in line for line in blocked)


def test_the_log_level(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy, "server")
    level = Select(browser.find("#level"))
    until(lambda: level.first_selected_option.text == "info")
    level.select_by_value("debug")
    until(lambda: "debug" in browser.text("#view-server .found"))
    assert proxy.get("/logging").text == "level: debug\n"
    level.select_by_value("info")
    until(lambda: proxy.get("/logging").text == "level: info\n")


def test_server_listeners_and_endpoints(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy, "server")
    until(lambda: browser.texts("#view-server tbody tr"))
    row = browser.texts("#view-server tbody tr:first-child > *")
    assert row[:3] == ["inbound", proxy.listeners["inbound"], "inbound"]
    assert str(proxy.pid) in browser.text("#view-server dl")
    until(lambda: "/stats/prometheus" in browser.texts("#view-server .endpoints a"))
    assert "POST /quitquitquit" in browser.text("#view-server .endpoints")


def test_the_config_and_how_its_reload_went(browser: Browser, app: str, tmp_path: Path) -> None:
    config = config_of(app)
    with meshlet(tmp_path, config) as process:
        browser.open(process, "config")
        until(lambda: "meshlet.yaml" in browser.text("#view-config dl"))
        assert "none yet" in browser.text("#view-config dl")
        browser.click("#view-config .tree > details summary")
        browser.click("#view-config .part .part summary")
        shown = json.loads(until(lambda: browser.text("#view-config pre")))
        assert shown["name"] == "inbound"
        assert "timeout" in json.dumps(shown["routes"])
        assert "hedge" not in json.dumps(shown["routes"])  # not set
        browser.click("#view-config input[type='checkbox']")
        browser.click("#view-config .tree > details summary")
        browser.click("#view-config .part .part summary")
        until(lambda: "hedge" in browser.text("#view-config pre"))
        write_config(tmp_path / "meshlet.yaml", config | {"clusters": [{"name": "app", "endpoints": ["nonsense"]}]})
        process.signal(signal.SIGHUP)
        until(lambda: (process.get("/config_dump").json()["last_reload"] or {}).get("result") == "rejected")
        browser.open(process, "config")
        until(lambda: "rejected" in browser.text("#view-config dl"))
        assert "nonsense" in browser.text("#view-config .reasons")


def test_it_says_when_nobody_answers(browser: Browser, app: str, tmp_path: Path) -> None:
    with meshlet(tmp_path, config_of(app)) as process:
        browser.open(process)
    until(lambda: browser.text("#connection").startswith("No answer since"), 15)
    browser.driver.get("about:blank")
    assert all("ERR_CONNECTION_REFUSED" in line or "ERR_EMPTY_RESPONSE" in line for line in browser.complaints())


def test_figures_agree_with_python(browser: Browser, proxy: Meshlet) -> None:
    browser.open(proxy)
    rng = random.Random(11)
    cases = [[rng.choice([0, 0, 1, 5, 1000]) for _ in range(len(DURATION_BOUNDS) + 1)] for _ in range(200)]
    shares = [0.0, 0.5, 0.95, 0.99, 1.0]
    found = browser.js(
        "const [bounds, cases, shares] = arguments; return import('/dashboard/figures.js').then(({quantile}) =>"
        "cases.map((counts) => shares.map((share) => quantile(bounds, counts, share))))",
        DURATION_BOUNDS,
        cases,
        shares,
    )
    for counts, values in zip(cases, found, strict=True):
        for share, value in zip(shares, values, strict=True):
            assert value == pytest.approx(quantile(DURATION_BOUNDS, tuple(counts), share))


# --- for everybody ---


def test_the_keyboard_reaches_everything(browser: Browser, proxy: Meshlet) -> None:
    send(proxy, "/broken")
    browser.open(proxy)
    until(lambda: browser.all("#view-overview .failure"))
    reached = []
    for _ in range(30):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        name, outline = browser.js(
            "const node = document.activeElement;"
            "const shown = node.matches('.segments input') ? node.nextElementSibling : node;"
            "return [node.textContent.trim() || node.value || node.ariaLabel, getComputedStyle(shown).outlineStyle]"
        )
        reached.append(name)
        assert outline != "none", f"nobody sees that {name!r} has the focus"
        if name == "All failures":
            break
    for expected in (
        "Skip to the content",
        "Dark theme",
        "Overview",
        "Server",
        "inbound",
        "As a table",
        "All failures",
    ):
        assert expected in reached
    browser.find("nav a[href='#failures']").send_keys(Keys.ENTER)
    until(lambda: browser.find("#view-failures").is_displayed())
    assert browser.js("return document.activeElement.id") == "main"
    until(lambda: browser.all("#view-failures summary"))
    browser.find("#view-failures summary").send_keys(Keys.ENTER)
    until(lambda: browser.all("#view-failures details[open] .inside"))


def test_dark_and_light(browser: Browser, proxy: Meshlet) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    browser.open(proxy)
    assert (browser.js(background), browser.text("#theme")) == ("rgb(244, 246, 248)", "Dark theme")
    browser.media(prefers_color_scheme="dark")
    until(lambda: browser.text("#theme") == "Light theme")
    assert browser.js(background) == "rgb(15, 20, 26)"
    browser.click("#theme")
    assert (browser.js(background), browser.text("#theme")) == ("rgb(244, 246, 248)", "Dark theme")
    browser.open(proxy)
    assert browser.js(background) == "rgb(244, 246, 248)"  # it was chosen


# Each pair of text and background, wherever text is: WCAG 2.2, 1.4.3, with the formula of its relative luminance.
CONTRAST = """
const parse = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
const luminance = (color) => parse(color).slice(0, 3)
  .map((part) => part / 255)
  .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if ((parse(color)[3] ?? 1) > 0) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || !node.checkVisibility() || node.disabled) continue;
  const style = getComputedStyle(node);
  const text = node instanceof SVGElement ? style.fill : style.color;
  const [a, b] = [luminance(text), luminance(behind(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) found.push(`${node.tagName} ${node.className} ${node.textContent.slice(0, 30)}: ${ratio}`);
}
return found;
"""

BASICS = """
const found = [];
const say = (what, node) => found.push(`${what}: ${node.outerHTML.slice(0, 120)}`);
const all = (selector) => [...document.querySelectorAll(selector)];
if (!document.documentElement.lang) found.push("no language");
for (const name of ["header", "nav", "main", "h1"]) if (all(name).length !== 1) found.push(`not one ${name}`);
const ids = all("[id]").map((node) => node.id);
if (new Set(ids).size !== ids.length) found.push("an id twice");
for (const node of all("img")) if (!node.hasAttribute("alt")) say("no alt", node);
for (const node of all("input, select")) if (!node.labels.length) say("no label", node);
for (const node of all("button, a, summary")) {
  if (node.checkVisibility() && !(node.textContent.trim() || node.ariaLabel)) say("no name", node);
}
for (const node of all("table")) {
  if (!node.caption) say("no caption", node);
  if (!node.querySelector("thead th[scope=col]")) say("no heads", node);
}
for (const node of all("main section, [role=region]")) if (!node.ariaLabel) say("no name", node);
for (const node of all("main svg")) {
  if (!(node.ariaHidden === "true" || (node.getAttribute("role") === "img" && node.ariaLabel))) say("no text", node);
}
for (const node of all("[tabindex]")) if (node.tabIndex > 0) say("order by hand", node);
for (const node of all("*")) {
  if (node.scrollWidth > node.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(node).overflowX)
      && node.checkVisibility() && node.tabIndex < 0 && !node.querySelector("a, button")) say("no way to scroll", node);
}
const levels = all("h1, h2, h3, h4").filter((node) => node.checkVisibility()).map((node) => Number(node.tagName[1]));
levels.forEach((level, index) => { if (level > (levels[index - 1] ?? 0) + 1) found.push(`h${level} is too deep`); });
return found;
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read_and_found_by_everybody(browser: Browser, proxy: Meshlet, theme: str) -> None:
    browser.media(prefers_color_scheme=theme)
    send(proxy, "/broken")
    browser.open(proxy)
    for view in VIEWS:
        browser.go(view)
        if view in ("overview", "failures"):
            until(lambda view=view: browser.all(f"#view-{view} .failure summary"))  # type: ignore[misc]
            browser.click(f"#view-{view} .failure summary")
        if view == "config":
            browser.click("#view-config summary")
        if view == "clusters":
            until(lambda: browser.all("#view-clusters tbody tr"))
        assert browser.js(CONTRAST) == [], view
        assert browser.js(BASICS) == [], view


@pytest.mark.parametrize("width", [360, 800])
def test_narrow_windows_need_no_sideways_scrolling(browser: Browser, proxy: Meshlet, width: int) -> None:
    send(proxy, f"/broken/{'long' * 100}")
    browser.size(width, 800)
    browser.open(proxy)
    for view in VIEWS:
        browser.go(view)
        if view in ("overview", "failures"):
            until(lambda view=view: browser.all(f"#view-{view} .failure"))  # type: ignore[misc]
        assert browser.js("return document.documentElement.scrollWidth") <= width, view


# --- pictures ---


def test_pictures(browser: Browser, proxy: Meshlet, tmp_path: Path) -> None:
    folder = tmp_path
    seconds = 15.0
    if os.environ.get("MESHLET_SCREENSHOTS") == "1":
        folder = Path(__file__).parents[2] / "docs" / "images"
        folder.mkdir(exist_ok=True)
        seconds = 150.0  # a chart with something in it

    def take(name: str, width: int, most: int = 1600) -> None:
        height = min(most, int(browser.js("return document.documentElement.scrollHeight")))
        browser.size(width, height)
        browser.js("return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert browser.driver.save_screenshot(str(folder / f"dashboard-{name}.png"))
        browser.size(width, 1000)

    browser.size(1280, 1000)
    browser.open(proxy)
    points = "return document.querySelector('.plot path.line-0')?.getAttribute('d').split('L').length"
    with traffic(proxy):
        until(lambda: (browser.js(points) or 0) >= seconds / 6, seconds + 60)
        take("overview", 1280)
        browser.click("#theme")
        take("overview-dark", 1280)
        browser.click("#theme")
        browser.go("failures")
        browser.find("#failure-filter").send_keys("/broken")
        browser.click("#view-failures summary")
        take("failure", 1280, 560)
        browser.go("clusters")
        until(lambda: browser.all("#view-clusters tbody tr"))
        take("clusters", 1280, 700)
        browser.go("tap")
        browser.click("#view-tap button.primary")
        until(lambda: len(browser.all("#view-tap tbody tr")) > 12)
        take("tap", 1280, 560)
    assert len(list(folder.glob("dashboard-*.png"))) >= 5
