"""The app in a browser, as people use it: `make test-app`. Nothing but the app itself can be reached meanwhile."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

import clips
from faces import GRACE, astronaut, encoded, scenery
from sameface.app.server import App
from sameface.app.sessions import Limits

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: the page is NOT tested")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
DEAD_END = "127.0.0.1:9"
"""nobody listens there"""


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    served = App("127.0.0.1", 0, Limits(photos=4, megabytes=20, seconds=5.0))
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield served
    served.shutdown()
    served.end()
    thread.join()


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "eileen.png").write_bytes(encoded(astronaut()))
    (folder / "tea.png").write_bytes(encoded(scenery()))
    (folder / "diary.jpg").write_bytes(b"Dear diary, today")
    moving = [np.roll(astronaut(), 2 * k, axis=1) for k in range(12)]
    clips.written(folder / "clip.mp4", moving)
    wide = cv2.copyMakeBorder(astronaut(), 110, 110, 200, 200, cv2.BORDER_REPLICATE)[:480, :640]
    clips.written(folder / "camera.mjpeg", [wide] * 5, codec="mjpeg", container="mjpeg", pixels="yuvj420p")
    return {path.name: str(path) for path in folder.iterdir()} | {"grace.jpg": str(GRACE)}


@pytest.fixture(scope="module")
def chromium(files, tmp_path_factory) -> Iterator:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("there is no chromium with chromedriver: the page is NOT tested")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new", "no-sandbox", "disable-dev-shm-usage", "use-angle=swiftshader", "enable-unsafe-swiftshader",
        "window-size=1280,1000", f"proxy-server={DEAD_END}", "proxy-bypass-list=127.0.0.1", "disable-extensions",
        "use-fake-device-for-media-stream", "use-fake-ui-for-media-stream", "force-prefers-reduced-motion",
        f"use-file-for-fake-video-capture={files['camera.mjpeg']}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    downloads = tmp_path_factory.mktemp("downloads")
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    driver.downloads = downloads
    yield driver
    driver.quit()


class Page:
    """The app's page, for one test."""

    def __init__(self, driver, app: App):
        self.driver, self.app = driver, app
        driver.switch_to.default_content()
        driver.get(app.address)

    def one(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def choose(self, kind: str, side: str, *paths: str) -> None:
        self.one(f"#files-{kind}-{side}").send_keys("\n".join(paths))

    def answered(self, kind: str) -> None:
        """Wait for the answer, and for its page."""
        until(lambda: self.one(f"#panel-{kind} .answer").is_displayed())
        frame = self.one(f"#panel-{kind} iframe")
        until(lambda: frame.size["height"] > 1000 or "px" in frame.get_attribute("style"))

    def seen(self, kind: str) -> np.ndarray:
        """The mesh as it is drawn now, from inside the answer's page; which stays chosen."""
        self.driver.switch_to.default_content()
        self.driver.switch_to.frame(self.one(f"#panel-{kind} iframe"))
        canvas = self.one("canvas")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        time.sleep(0.6)
        return cv2.imdecode(np.frombuffer(canvas.screenshot_as_png, np.uint8), cv2.IMREAD_COLOR).astype(int)

    @property
    def focus(self):
        return self.driver.switch_to.active_element

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, wanted: Callable, most: int = 80) -> None:
        """Press Tab until something is in focus."""
        for _ in range(most):
            self.press(Keys.TAB)
            if wanted(self.focus):
                return
        pytest.fail("Tab never comes there")

    def sideways(self) -> int:
        """px by which the page is wider than the window."""
        return self.driver.execute_script("return document.documentElement.scrollWidth - innerWidth")


def until(happened: Callable, seconds: float = 90.0):
    end = time.monotonic() + seconds
    while not (result := happened()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)
    return result


def is_a_face(picture: np.ndarray) -> bool:
    """Something large in the middle, and not all of one colour, on a background."""
    height, width = picture.shape[:2]
    middle = picture[height // 3 : 2 * height // 3, 2 * width // 5 : 3 * width // 5]
    return middle.std() > 8 and np.abs(middle.mean((0, 1)) - picture[:20, :20].mean((0, 1))).max() > 15


@pytest.fixture
def page(chromium, app) -> Page:
    return Page(chromium, app)


def test_drop_photos_see_the_face_move_it_and_take_it_home(page):
    page.choose("face", "one", *(PHOTOS := [GRACE.as_posix()]))
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#panel-face .chosen li")) == len(PHOTOS)
    page.one("#panel-face .go").click()
    page.answered("face")
    assert "depth is a guess" in page.one("#panel-face .answer ul").text
    front = page.seen("face")
    assert is_a_face(front)
    canvas = page.one("canvas")
    canvas.click()
    page.press(Keys.ARROW_LEFT * 6)
    assert np.abs(page.seen("face") - front).mean() > 2
    page.driver.execute_script("document.querySelector('#presets button').click()")
    slider = page.one("#groups input")
    before = page.seen("face")
    slider.send_keys(Keys.END)
    assert np.abs(page.seen("face") - before).mean() > 0.05
    page.driver.switch_to.default_content()
    page.one("#panel-face a[download='face.glb']").click()
    glb = page.driver.downloads / "face.glb"
    until(glb.is_file)
    scene = trimesh.load(glb)
    assert sum(len(mesh.vertices) for mesh in scene.geometry.values()) > 6975


def test_nothing_was_asked_of_anybody_else(page):
    """All that the test before asked for, and what the browser complained of."""
    asked = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    urls = [one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"]
    ours = (page.app.address, "data:", "blob:")
    assert any(url.endswith("report.html") for url in urls)
    assert [url for url in urls if not url.startswith(ours)] == []
    assert [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_two_people(page, files):
    page.one("#tab-verify").click()
    assert not page.one("#panel-verify .go").is_enabled()
    page.choose("verify", "first", files["eileen.png"])
    page.choose("verify", "second", files["grace.jpg"])
    page.one("#panel-verify .go").click()
    page.answered("verify")
    assert "mm apart" in page.one("#panel-verify .answer p").text
    first = page.seen("verify")
    assert is_a_face(first)
    page.driver.find_elements(By.CSS_SELECTOR, "#presets button")[1].click()
    assert np.abs(page.seen("verify") - first).mean() > 0.1


def test_a_video_plays(page, files):
    page.one("#tab-video").click()
    page.choose("video", "one", files["clip.mp4"])
    page.one("#panel-video .go").click()
    page.answered("video")
    assert is_a_face(page.seen("video"))
    page.one("#film button").click()
    until(lambda: page.one("#film output").text not in ("", "0.0 s"))
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#film polyline")) >= 1


def test_the_camera(page):
    page.one("#panel-face .row button:not(.go)").click()
    until(lambda: page.one("#camera-take").is_enabled())
    until(lambda: page.driver.execute_script("return document.querySelector('#camera-video').videoWidth"))
    page.one("#camera-take").click()
    until(lambda: page.one("#camera-said").text == "1 photo taken")
    page.one("#camera-close").click()
    assert not page.one("#camera").is_displayed()
    page.one("#panel-face .go").click()
    page.answered("face")


@pytest.mark.parametrize(("name", "words"), [("diary.jpg", "holds text"), ("tea.png", "no face")])
def test_a_bad_file_shows_a_message(page, files, name, words):
    page.choose("face", "one", files[name])
    page.one("#panel-face .go").click()
    told = until(lambda: page.one("#panel-face [role=alert]").text)
    assert told.startswith("That did not work: ")
    assert words in told
    assert "Traceback" not in told
    assert page.one("#panel-face .go").is_enabled()
    assert not page.one("#panel-face .answer").is_displayed()


def test_too_many_photos_are_said_at_once(page, files):
    page.choose("face", "one", *[files["eileen.png"], files["grace.jpg"], files["tea.png"]])
    page.choose("face", "one", *[files["eileen.png"], files["grace.jpg"]])
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#panel-face .chosen li")) == 4
    assert "At most 4 photos" in page.one("#panel-face fieldset [role=status]").text


def test_with_the_keyboard_only(page, files):
    page.tab_to(lambda one: one.get_attribute("id") == "tab-face")
    page.press(Keys.ARROW_RIGHT)
    assert page.one("#panel-verify").is_displayed()
    page.press(Keys.HOME)
    assert page.focus.get_attribute("id") == "tab-face"
    page.tab_to(lambda one: one.get_attribute("id") == "files-face-one")
    page.choose("face", "one", files["eileen.png"], files["tea.png"])  # as the dialog of the system would
    page.tab_to(lambda one: one.get_attribute("aria-label") == "remove tea.png")
    page.press(Keys.ENTER)
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "#panel-face .chosen li")) == 1
    page.tab_to(lambda one: one.text == "Make the face")
    page.press(Keys.ENTER)
    page.answered("face")
    assert page.focus.get_attribute("class") == "answer"  # a screen reader says the headline
    page.tab_to(lambda one: one.get_attribute("download") == "result.json")
    page.press(Keys.ENTER)
    until((page.driver.downloads / "result.json").is_file)
    page.tab_to(lambda one: one.tag_name == "iframe" or one.tag_name == "canvas")


def test_on_a_phone_of_400_px(page, files):
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        for kind in ("verify", "video", "face"):
            page.one(f"#tab-{kind}").click()
            assert page.sideways() <= 0, kind
        page.choose("face", "one", files["grace.jpg"])
        page.one("#panel-face .go").click()
        page.answered("face")
        assert page.sideways() <= 0
        assert is_a_face(page.seen("face"))
        assert page.sideways() <= 0
    finally:
        page.driver.switch_to.default_content()
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_files_go_when_the_page_is_closed(page, files):
    until(lambda: not list(page.app.sessions.root.iterdir()))  # those of the tests before are gone
    page.choose("face", "one", files["eileen.png"])
    page.one("#panel-face .go").click()
    page.answered("face")
    assert list(Path(page.app.sessions.root).iterdir())
    page.driver.get("about:blank")
    until(lambda: not list(page.app.sessions.root.iterdir()))
