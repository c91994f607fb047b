"""The page at / in a real browser: what a person sees and can do, by mouse, by keyboard, on a phone, with hostile ids.

Skipped where Debian's chromium and chromium-driver are not there. Screenshots go to the folder CATALOGRAPH_SCREENSHOTS
names, when it is set.
"""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from serving import process
from shops import make_shop

from catalograph import Recommender
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring.report import render
from catalograph.service.keys import add_key

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="the page: chromium and chromium-driver are not installed"),
]
MARK = "<img src=x onerror=document.title='owned'>"
USER, ITEM = "javascript:document.title='owned'", "i04'\\) RETURN 1 //\"<b>"
HOSTILE = {  # cells of the shop's files
    "Mugs number 0": f"Mugs {MARK}",
    "Lamps number 1": "Lamps </script><script>document.title='owned'</script>",
    "i04": ITEM,
    "u05": USER,
}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A service with keys over a shop with hostile ids and titles; yields its address, a key and its model."""
    folder = tmp_path_factory.mktemp("page")
    toml = make_shop(folder / "shop")
    for file in toml.parent.glob("*.csv"):
        text = file.read_text("utf-8")
        for here, there in HOSTILE.items():
            quoted = there.replace('"', '""')
            text = text.replace(f"{here},", f'"{quoted}",')
        file.write_text(text, "utf-8")
    rebuild(open_workshop(toml, out=folder / "build", device="cpu"))
    secret = add_key(folder / "keys", "page", ["read"])
    with process(toml, "--out", folder / "build", "--keys", folder / "keys") as (_, address, _):
        yield address, secret, Recommender.load(folder / "build")


@pytest.fixture(scope="module")
def browser():
    """One Chromium, headless."""
    from selenium import webdriver  # noqa: PLC0415

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """The page as a person uses it."""

    def __init__(self, driver, address, key, width=1400):
        self.driver = driver
        driver.set_window_size(width, 1000)
        driver.get(address)
        self.until(lambda: self.one("#door").is_displayed())
        self.write("#key", key)
        self.press("#door button")
        self.until(lambda: not self.one("#door").is_displayed())

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def texts(self, selector):
        script = "return [...document.querySelectorAll(arguments[0])].map(element => element.textContent)"
        return self.driver.execute_script(script, selector)  # at one moment: the page goes on meanwhile

    def until(self, holds):
        from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415

        return WebDriverWait(self.driver, 20).until(lambda _: holds())

    def write(self, selector, text):
        self.one(selector).clear()
        self.one(selector).send_keys(text)

    def press(self, selector):
        self.one(selector).click()

    def show(self, user):
        self.write("#user", user)
        self.press("#customer button")
        self.until(lambda: self.texts("#list .name"))

    def shot(self, name):
        if folder := os.environ.get("CATALOGRAPH_SCREENSHOTS"):
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.fixture
def page(browser, address):
    browser.get_log("browser")
    return Page(browser, *address[:2])


def without_complaints(browser):
    """No script failed and the content security policy had nothing to stop, but for what we asked without a key."""
    told = [line["message"] for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
    return [message for message in told if " 401 " not in message]


def test_a_customer_is_shown_with_what_they_have_what_we_recommend_and_why(page, address, browser):
    model = address[2]
    page.show("u06")
    assert len(page.texts("#had .name")) == len(model.history("u06"))
    best = model.recommend(["u06"], 10)[0]
    assert [text.split(" (")[-1].rstrip(")") for text in page.texts("#list .name")] == [r.item for r in best]
    for button in page.driver.find_elements("css selector", "#list button"):
        button.click()
        page.until(lambda: "Choose" not in page.one("#reasons").text and page.texts("#reasons h3"))
        if page.texts("#reasons svg.way"):
            break
    assert page.driver.find_elements("css selector", "#reasons svg rect.for")
    assert page.texts("#reasons pre")[0].startswith("MATCH (a:")
    nodes = page.driver.find_elements("css selector", "#reasons svg.way circle")
    assert len(nodes) >= 2
    page.shot("wide")
    assert without_complaints(browser) == []


def test_the_copied_cypher_is_that_of_the_reason(page, address, browser):
    model = address[2]
    page.show("u06")
    browser.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    best = [listed.item for listed in model.recommend(["u06"], 10)[0]]
    place = next(place for place, item in enumerate(best) if model.explain("u06", item, most=5).paths)
    why = model.explain("u06", best[place], most=5)
    browser.find_elements("css selector", "#list button")[place].click()
    page.until(lambda: page.texts("#reasons .copy"))
    copied = []
    for button in browser.find_elements("css selector", "#reasons .copy")[:2]:
        button.click()
        page.until(lambda button=button: button.text == "Copied")
        copied.append(browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])"))
    assert copied[0] == why.paths[0].cypher
    assert json.loads(copied[1]) == why.paths[0].parameters


@pytest.mark.parametrize("width", [1400, 360])
def test_the_report_is_readable_wide_and_narrow(browser, address, tmp_path, width):
    metric = "ndcg@10"
    ablation = [
        {"graph": "real", metric: 0.2, "difference": 0, "ci95": [0, 0]},
        {"graph": MARK, metric: 0.1, "difference": 0.1, "ci95": [0.05, 0.2], "segments": {}},
    ]
    document = address[2].bundle.metrics | {"ablation": ablation, "gnn": "They pay"}
    names = ("catalograph", MARK)
    document["rows"] = [row | {"name": name} for row in document["rows"] for name in names]
    document["segments"] = [part | {metric: dict.fromkeys(names, 0.1)} for part in document["segments"]]
    (tmp_path / "report.html").write_text(render(document), encoding="utf-8")
    browser.get_log("browser")
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get((tmp_path / "report.html").as_uri())
    sides = "return [document.documentElement.scrollWidth, window.innerWidth]"
    wide, window = browser.execute_script(sides)
    drawn = "return [...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect().height)"
    heights = browser.execute_script(drawn)
    if folder := os.environ.get("CATALOGRAPH_SCREENSHOTS"):
        height = browser.execute_script("return document.documentElement.scrollHeight")
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen | {"height": height})
        browser.save_screenshot(str(Path(folder) / f"report-{width}.png"))
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (wide <= window, window) == (True, width)
    assert len(heights) == 3
    assert min(heights) > 30
    assert browser.title.startswith("planted")
    assert without_complaints(browser) == []


def test_hostile_ids_and_titles_are_text(page, browser):
    page.show(USER)
    page.write("#text", "mugs onerror")
    page.press("#search button")
    page.until(lambda: page.texts("#found .name"))
    assert page.texts("#found .name") == [f"Mugs {MARK} (i00)"]
    page.press("#found button")
    assert page.one("#history").get_attribute("value") == "i00"
    page.write("#text", "mugs number 4")
    page.press("#search button")
    page.until(lambda: f"Mugs number 4 ({ITEM})" in page.texts("#found .name"))
    page.write("#history", f"i01\n{ITEM}")
    page.press("#pasted button")
    page.until(lambda: len(page.texts("#had .name")) == 2)
    assert page.texts("#had .name")[1] == f"Mugs number 4 ({ITEM})"
    page.press("#list button")
    page.until(lambda: page.texts("#reasons h3"))
    page.shot("hostile")
    assert browser.title == "Catalograph"
    assert not browser.find_elements("css selector", "main img, main script, main b")
    assert without_complaints(browser) == []


def test_the_keyboard_is_enough(page, browser):
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415

    def active():
        return browser.switch_to.active_element

    page.one("#user").send_keys("u06", Keys.ENTER)
    page.until(lambda: page.texts("#list .name"))
    seen = set()
    for _ in range(60):
        active().send_keys(Keys.TAB)
        seen.add(active().get_attribute("id"))
        if browser.execute_script("return document.activeElement.closest('#list') !== null"):
            break
    assert {"history", "text", "where"} <= seen
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    active().send_keys(Keys.ENTER)
    page.until(lambda: page.texts("#reasons h3"))
    assert active().get_attribute("id") == "why"
    assert page.one('#list button[aria-pressed="true"]')


def test_a_narrow_screen_needs_no_scrolling_sideways(browser, address):
    narrow = Page(browser, *address[:2], width=390)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    narrow.show("u06")
    narrow.press("#list button")
    narrow.until(lambda: narrow.texts("#reasons h3"))
    wide, window = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    narrow.shot("narrow")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert (wide <= window, window) == (True, 360)


def test_what_goes_wrong_is_told_and_the_page_goes_on(page):
    page.write("#user", "nobody")
    page.press("#customer button")
    page.until(lambda: "no user 'nobody'" in page.one("#told").text)
    page.show("u06")
    assert page.one("#told").text == ""
    page.write("#where", "prise < 3")
    page.press("#filter button")
    page.until(lambda: "did you mean 'price'" in page.one("#told").text)
    page.write("#where", "price < 2")
    page.press("#filter button")
    page.until(lambda: page.one("#told").text == "" and len(page.texts("#list .name")) <= 2)


def test_reasons_are_of_the_list_on_the_page(page, browser, address):
    def items(user):
        return [r.item for r in address[2].recommend([user], 10)[0]]

    def shown():
        return [text.split(" (")[-1].rstrip(")") for text in page.texts("#list .name")]

    def hold(path):
        """Let what the page asks there wait until it is let go."""
        browser.execute_script(
            "const [path, real] = [arguments[0], window.fetch]; window.asked = [];"
            "window.fetch = async (to, asking) => { window.asked.push([to, asking.body]);"
            "if (to === path) await new Promise(go => { window.letGo = () => { window.fetch = real; go(); }; });"
            "return real(to, asking); }; window.letGo = null;",
            path,
        )

    page.show("u06")
    hold("/recommend")
    page.show("u07")
    page.until(lambda: browser.execute_script("return window.letGo !== null"))
    page.press("#list button")
    page.until(lambda: page.texts("#reasons h3"))
    (body,) = browser.execute_script("return window.asked.filter(([to]) => to === '/explain').map(([, body]) => body)")
    assert json.loads(body) == {"user": "u06", "item": items("u06")[0]}
    browser.execute_script("window.letGo()")
    page.until(lambda: shown() == items("u07"))  # it was not dropped for the reasons of the other
    hold("/explain")
    page.press("#list button")
    page.until(lambda: browser.execute_script("return window.letGo !== null"))
    page.show("u06")
    page.until(lambda: shown() == items("u06"))
    browser.execute_script("window.letGo()")
    time.sleep(0.5)
    assert page.texts("#reasons p") == ["Choose a recommended item."]


def test_a_list_for_nobody_is_said_to_be_what_most_people_take(page):
    page.press("#pasted button")
    page.until(lambda: page.texts("#list .name"))
    page.press("#list button")
    assert "what most people take" in page.one("#reasons").text
    assert page.one("#told").text == ""


def test_everything_comes_from_the_service_itself(page, browser, address):
    page.show("u06")
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert asked
    assert all(url.startswith((address[0], "data:")) for url in asked), asked
    blocked = browser.execute_async_script(
        "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), e => done(e.name))"
    )
    assert blocked == "TypeError"
    assert any("Content Security Policy" in line["message"] for line in browser.get_log("browser"))
