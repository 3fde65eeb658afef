"""The page of scripts/compare.py in a real browser: the divider, the pictures, the keys; in the dark and on a phone."""

import json
import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from flat_results import BRIGHTER, GREY, write_result
from taylorseer_guider.commands import compare

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with its driver: apt-get install chromium chromium-driver"),
]
NAME = "<b>cat<b>_x4"


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "force-color-profile=srgb"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a page of two pictures; of the first there are two runs."""
    folder = tmp_path_factory.mktemp("results")
    write_result(folder, name=NAME)
    write_result(folder, name=NAME, job="euler6-taylorseer-c2-s1", calls=2, run=BRIGHTER["run"] + 5, full=False)
    write_result(folder, name="dog_x4")
    assert compare.main([str(folder), "--out", str(folder / "report.html")]) == 0
    return (folder / "report.html").as_uri()


@pytest.fixture
def page(browser, report):
    """``page(width=..., scheme=..., touch=...)`` opens the report anew; in the end the browser has complained of nothing."""

    def open_page(width=1280, height=900, scheme="light", touch=False):
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get(report)
        return browser

    yield open_page
    assert browser.get_log("browser") == []


def element(page, name):
    return page.find_element(By.ID, name)


def text_of(page, name):
    return element(page, name).text


def style(page, name, key):
    return page.execute_script("return getComputedStyle(document.getElementById(arguments[0]))[arguments[1]]", name, key)


def press(page, *keys):
    page.switch_to.active_element.send_keys(*keys)


def clipped(page):
    """How much of the right picture is hidden, in per cent."""
    path = style(page, "front", "clipPath")
    assert path.startswith("inset(0px 0px 0px ") and path.endswith("%)")
    return float(path.removeprefix("inset(0px 0px 0px ").removesuffix("%)"))


def drag(page, start, end):
    """The mouse, from one place of the stage to another, in fractions of its width."""
    width = element(page, "stage").size["width"]
    actions = webdriver.ActionChains(page)
    actions.move_to_element_with_offset(element(page, "stage"), int((start - 0.5) * width), 0).click_and_hold()
    actions.move_by_offset(int((end - start) * width), 0).release().perform()


def seen(page, x, y=0.5):
    """The grey that the stage shows at a place of it, in fractions of its size."""
    image = np.asarray(Image.open(BytesIO(element(page, "stage").screenshot_as_png)).convert("RGB"))
    pixel = image[int(y * (image.shape[0] - 1)), int(x * (image.shape[1] - 1))]
    assert np.ptp(pixel) <= 1
    return int(pixel[1])


def close(levels):
    return pytest.approx(levels, abs=1)


# The divider.


def test_the_divider_follows_the_mouse_and_clips_the_right_picture(page):
    page = page()
    assert clipped(page) == 50
    drag(page, 0.5, 0.25)
    assert clipped(page) == pytest.approx(25, abs=1)
    assert seen(page, 0.15) == close(GREY + BRIGHTER["bicubic"]) and seen(page, 0.35) == close(GREY + BRIGHTER["run"])
    drag(page, 0.25, 0.9)
    assert clipped(page) == pytest.approx(90, abs=1)
    assert seen(page, 0.35) == close(GREY + BRIGHTER["bicubic"])


def test_the_divider_follows_a_finger(page):
    page = page(width=360, height=740, touch=True)
    box = page.execute_script("const {x, y, width, height} = stage.getBoundingClientRect(); return [x, y, width, height]")
    at = lambda part: [{"x": box[0] + part * box[2], "y": box[1] + box[3] / 2}]  # noqa: E731
    for kind, points in (("touchStart", at(0.5)), ("touchMove", at(0.6)), ("touchMove", at(0.75)), ("touchEnd", [])):
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert clipped(page) == pytest.approx(75, abs=2)


def test_arrow_keys_move_the_divider_from_anywhere_but_a_choice(page):
    page = page()
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert clipped(page) == 54
    element(page, "slider").send_keys(Keys.ARROW_LEFT)
    assert clipped(page) == 52
    element(page, "slider").send_keys(Keys.END)
    assert clipped(page) == 100
    element(page, "choose-left").send_keys(Keys.ARROW_LEFT)
    assert clipped(page) == 100


def test_the_divider_and_the_choices_say_to_a_screen_reader_what_they_are(page):
    page = page()
    assert element(page, "slider").accessible_name == "Divider between the two pictures"
    assert element(page, "slider").get_attribute("aria-valuetext") == "bicubic 50 %, 3 calls 50 %"
    named = {element(page, name).accessible_name for name in ("choose-left", "choose-right", "swap", "difference", "louder")}
    assert named == {"Left", "Right", "Swap left and right", "Difference", "Amplified"}
    assert [element(page, side).get_attribute("alt") for side in ("left", "right")] == ["bicubic", "3 calls"]
    assert all(each.accessible_name for each in page.find_elements(By.CSS_SELECTOR, "input, select, button"))


def test_focus_is_seen(page):
    page = page()
    press(page, Keys.TAB)  # the pictures come first
    page.execute_script("slider.focus()")
    press(page, Keys.ARROW_LEFT)
    assert style(page, "stage", "outlineWidth") == "3px"
    press(page, Keys.TAB)
    assert page.switch_to.active_element.get_attribute("id") == "choose-left"
    assert style(page, "choose-left", "outlineWidth") == "3px" and style(page, "choose-left", "outlineStyle") == "solid"


# Which pictures.


def test_letters_and_digits_choose_the_right_picture_and_with_shift_the_left(page):
    page = page()
    for key, label in (
        ("l", "low resolution, 12 × 8"),
        ("f", "full run, 6 calls"),
        ("o", "original"),
        ("2", "3 calls"),
        ("b", "bicubic"),
    ):
        press(page, key)
        assert text_of(page, "right-tag") == label
    press(page, Keys.SHIFT + "O")
    assert (text_of(page, "left-tag"), text_of(page, "right-tag")) == ("original", "bicubic")
    assert seen(page, 0.25) == close(GREY) and seen(page, 0.75) == close(GREY + BRIGHTER["bicubic"])
    press(page, "x")
    assert (text_of(page, "left-tag"), text_of(page, "right-tag")) == ("bicubic", "original")


def test_choices_and_rows_of_the_table_choose_pictures(page):
    page = page()
    element(page, "choose-left").send_keys("original")
    assert text_of(page, "left-tag") == "original"
    rows = page.find_elements(By.CSS_SELECTOR, "#figures tbody tr")
    assert [row.find_element(By.TAG_NAME, "th").text.split("\n")[:2] for row in rows] == [
        ["b", "bicubic"], ["f", "full run, 6 calls"], ["1", "2 calls"], ["2", "3 calls"],
    ]  # fmt: skip
    rows[3].find_element(By.TAG_NAME, "button").click()
    assert text_of(page, "right-tag") == "3 calls"
    assert text_of(page, "caption").startswith("3 calls instead of 6, 2.0× as fast, ")


def test_other_pictures_are_opened_and_a_name_is_shown_as_it_is(page):
    page = page()
    assert text_of(page, "name") == f"{NAME}, seed 0"
    assert len(page.find_elements(By.CSS_SELECTOR, "#strips .strip")) == 2
    page.find_elements(By.CSS_SELECTOR, "#groups button")[1].click()
    assert text_of(page, "name") == "dog_x4, seed 0" and len(page.find_elements(By.CSS_SELECTOR, "#strips .strip")) == 1
    press(page, "n")
    assert text_of(page, "name") == f"{NAME}, seed 0"
    buttons = page.find_elements(By.CSS_SELECTOR, "#groups button")
    assert [button.get_attribute("aria-current") for button in buttons] == ["true", "false"]
    press(page, "p")
    assert text_of(page, "name") == "dog_x4, seed 0"


def test_the_difference_is_that_of_the_two_times_what_it_says(page):
    page = page()
    press(page, "f", Keys.SHIFT + "O", Keys.NULL, "d")
    assert text_of(page, "left-tag") == "|original − full run, 6 calls| × 8"
    assert seen(page, 0.3) == close(8 * BRIGHTER["full_run"]) and seen(page, 0.7) == close(8 * BRIGHTER["full_run"])
    element(page, "louder").send_keys("× 16")
    assert seen(page, 0.5) == close(16 * BRIGHTER["full_run"])
    press(page, Keys.TAB, "o")
    assert seen(page, 0.5) == 0
    element(page, "difference").click()
    assert text_of(page, "left-tag") == "original" and seen(page, 0.3) == close(GREY)


def test_zoom_keeps_what_is_under_the_pointer_where_it_is(page):
    page = page(height=1200)  # all of the stage is on the screen
    press(page, "z", "z")
    webdriver.ActionChains(page).move_to_element_with_offset(element(page, "stage"), 0, 0).perform()
    assert style(page, "right", "transform").startswith("matrix(4, 0, 0, 4") and text_of(page, "zoom") == "Zoom 4×"
    width, height = element(page, "stage").size["width"], element(page, "stage").size["height"]
    origin = [float(each.removesuffix("px")) for each in style(page, "right", "transformOrigin").split()]
    assert origin == pytest.approx([width / 2, height / 2], abs=2)
    press(page, Keys.SHIFT + Keys.ARROW_LEFT)
    assert float(style(page, "right", "transformOrigin").split("px")[0]) == pytest.approx(0.4 * width, abs=2)
    assert clipped(page) == 50


# The strip.


def test_the_strip_shows_calls_and_forecasts_as_high_as_they_are_off_and_reads_each_out(page):
    page = page()
    flat, measured = page.find_elements(By.CSS_SELECTOR, "#strips .strip")
    bars = measured.find_elements(By.CSS_SELECTOR, ".visits i")
    assert ["call" in bar.get_attribute("class") for bar in bars] == [True, False] * 3
    heights = [bar.size["height"] for bar in bars]
    assert np.argsort(heights).tolist() == [0, 2, 4, 1, 3, 5]
    assert len({bar.size["height"] for bar in flat.find_elements(By.CSS_SELECTOR, ".visits i")}) == 1
    pick, reading = (measured.find_element(By.CSS_SELECTOR, each) for each in ("input", ".reading"))
    assert reading.text.startswith("Visit 6 of 6, σ 1.67: forecast, order 1; 5 % off the full run's output")
    pick.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert reading.text.startswith("Visit 4 of 6, σ 2.5: forecast") and clipped(page) == 50
    assert pick.get_attribute("aria-valuetext") == reading.text
    webdriver.ActionChains(page).move_to_element(bars[2]).perform()
    assert reading.text.startswith("Visit 3 of 6, σ 3.33: called; 0.4 % off")
    bars[1].location_once_scrolled_into_view  # noqa: B018
    webdriver.ActionChains(page).move_to_element(bars[1]).click().perform()
    assert reading.text.startswith("Visit 2 of 6, ")
    pick.send_keys(Keys.ARROW_RIGHT)
    assert reading.text.startswith("Visit 3 of 6, ")


# Where it is read.


def test_it_is_dark_where_the_reader_wants_it_dark(page):
    shades = {}
    for scheme in ("light", "dark"):
        opened = page(scheme=scheme)
        colours = [opened.execute_script(f"return getComputedStyle(document.body).{key}") for key in ("backgroundColor", "color")]
        shades[scheme] = [sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3 for colour in colours]
    assert shades["light"][0] > 230 and shades["light"][1] < 60
    assert shades["dark"][0] < 40 and shades["dark"][1] > 200


@pytest.mark.parametrize("width", [320, 360, 768, 1025, 1100, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    page = page(width=width, height=740)
    right = "return [document.documentElement.scrollWidth, ...['table', '.controls', '#strips'].map("
    right += "(each) => document.querySelector(each).getBoundingClientRect().right)]"
    assert max(page.execute_script(right)) <= width
    page.execute_script("scrollTo(9999, 0)")
    assert page.execute_script("return scrollX") == 0


def test_nothing_is_asked_of_a_network(page, report):
    opened = page()
    opened.get_log("performance")
    opened.get(report)
    for key in "lfbo12dzxn":
        press(opened, key)
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert asked and {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file")] == [report]
