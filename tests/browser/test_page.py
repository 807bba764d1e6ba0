"""The report in a real browser, opened from disk: what a reader clicks works, and nothing fails on the way.

Needs chromium and chromedriver; `.ci/run` installs them and runs these tests, `make test` does not.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import type_command
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = {"wide": (1280, 900), "narrow": (400, 800)}


@pytest.fixture(scope="module")
def page(cohort_folder: Path, tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> Path:
    """The report of three controls on one fold, two of them also entered as models; and on a second size."""
    folder, card = tmp_path_factory.mktemp("browsed"), str(cohort_folder / "dataset.toml")
    words = ("run", "-m", "ridge,stain,shuffled-ridge", "-d", card, "-r", "16um,55um", "--recipe", "tiny")
    done = type_command(*words, "-o", "runs", cwd=folder, cache=own_cache)
    assert done.returncode == 0, done.stderr
    for control, name in (("ridge", "model-a"), ("stain", "model-b")):
        cells = [str(p) for p in sorted((folder / "runs").glob(f"*/16um/{control}/fold*"))]
        who = ("-d", card, "-r", "16um", "--as", name, "--by", "A. Person", "--code", "example.org")
        done = type_command("score", *cells, *who, "-o", "runs", cwd=folder, cache=own_cache)
        assert done.returncode == 0, done.stderr
    done = type_command("report", "runs", "-o", "page", cwd=folder, cache=own_cache)
    assert done.returncode == 0, done.stderr
    return folder / "page"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROMIUM", shutil.which("chromium") or "chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(os.environ.get("CHROMEDRIVER", shutil.which("chromedriver")))
    with webdriver.Chrome(options=options, service=service) as found:
        yield found


@pytest.fixture(params=list(SIZES))
def opened(
    request: pytest.FixtureRequest, driver: webdriver.Chrome, page: Path
) -> Iterator[webdriver.Chrome]:
    """The page at one width; afterwards the console has to be empty."""
    width, height = SIZES[request.param]
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    driver.get("about:blank")
    for log in ("browser", "performance"):  # of what was open before
        driver.get_log(log)
    driver.get((page / "index.html").as_uri())
    WebDriverWait(driver, 30).until(lambda d: by_id(d, "title").text and map_sources(d))
    yield driver
    assert driver.get_log("browser") == []


def by_id(driver: webdriver.Chrome, name: str) -> WebElement:
    return driver.find_element(By.ID, name)


def column(driver: webdriver.Chrome, name: str) -> list[str]:
    heads = [
        head.text.split(" ▲")[0].split(" ▼")[0]
        for head in driver.find_elements(By.CSS_SELECTOR, "#scores th")
    ]
    path = f"#scores tbody:not(.oracles) td:nth-child({heads.index(name) + 1})"
    return [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, path)]


def sort_by(driver: webdriver.Chrome, name: str) -> None:
    for head in driver.find_elements(By.CSS_SELECTOR, "#scores th button"):
        if head.text.split(" ")[0] == name:
            driver.execute_script("arguments[0].click()", head)
            return
    raise AssertionError(name)


def test_the_table_is_that_of_the_run_and_sorts_by_a_click(opened: webdriver.Chrome, page: Path) -> None:
    stored = json.loads((page.parent / "runs" / "simulated-16um.json").read_text())["rows"]
    shown = {
        row["model"]: f"{row['pcc']['value']:.3f}".replace("-", "−")
        for row in stored
        if row["kind"] != "oracle"
    }

    assert (
        dict(
            zip(
                [n.removesuffix(" ‡") for n in column(opened, "model")],
                column(opened, "pcc_gene"),
                strict=True,
            )
        )
        == shown
    )
    sort_by(opened, "MSE")
    up = [float(text) for text in column(opened, "MSE")]
    sort_by(opened, "MSE")
    down = [float(text) for text in column(opened, "MSE")]

    assert up == sorted(up)
    assert down == sorted(up, reverse=True)
    assert len(set(up)) > 1
    sorted_by = opened.find_element(By.CSS_SELECTOR, "#scores th[aria-sort]")
    assert sorted_by.get_attribute("aria-sort") == "descending"


def test_plots_hold_a_point_for_every_row_and_gene(opened: webdriver.Chrome) -> None:
    script = "return document.getElementById(arguments[0]).data.map(trace => trace.x.length)"
    counts = {name: opened.execute_script(script, name) for name in ("ranks", "cost", "genes")}

    assert counts["ranks"][0] == 5
    assert counts["cost"] == [3]  # what was entered has no cost
    genes = opened.execute_script("return window.HDSTBENCH.jobs[0].scatter.genes.length")
    assert sum(counts["genes"][1:]) == genes
    before = opened.execute_script("return document.getElementById('genes').data[1].y")
    Select(by_id(opened, "gene-slide")).select_by_index(1)
    assert opened.execute_script("return document.getElementById('genes').data[1].y") != before


def map_sources(driver: webdriver.Chrome) -> list[str]:
    images = driver.find_elements(By.CSS_SELECTOR, "#map-grid .map")
    return [str(image.get_dom_attribute("href")) for image in images]


def shown_files(driver: webdriver.Chrome, page: Path) -> list[bool]:
    return [(page / name).is_file() for name in map_sources(driver)]


def test_maps_are_switched_by_slide_gene_and_error(opened: webdriver.Chrome, page: Path) -> None:
    first = map_sources(opened)
    Select(by_id(opened, "map-gene")).select_by_index(3)
    gene = map_sources(opened)
    Select(by_id(opened, "map-slide")).select_by_index(1)
    slide = map_sources(opened)
    Select(by_id(opened, "map-show")).select_by_value("error")
    error = map_sources(opened)

    assert len(first) == 4, by_id(opened, "maps").text  # measured, two models, the better ridge
    assert len({tuple(names) for names in (first, gene, slide, error)}) == 4
    assert all(name.endswith("e.png") for name in error[1:])
    loaded = (
        "return [...document.querySelectorAll('#map-grid img')].every(i => i.complete && i.naturalWidth > 0)"
    )
    opened.execute_async_script("const done = arguments[0]; setTimeout(done, 400)")
    assert opened.execute_script(loaded)
    assert "≤ −" in by_id(opened, "map-scale").text


def transforms(driver: webdriver.Chrome) -> set[str]:
    layers = driver.find_elements(By.CSS_SELECTOR, "#map-grid .layer")
    return {str(layer.get_dom_attribute("viewBox")) for layer in layers}


def test_maps_move_together(opened: webdriver.Chrome) -> None:
    whole = transforms(opened)
    for _ in range(3):
        opened.execute_script("document.getElementById('map-in').click()")
    nearer = transforms(opened)
    opened.execute_script("document.getElementById('map-out').click()")
    further = transforms(opened)
    Select(by_id(opened, "map-part")).select_by_index(1)
    window = transforms(opened)
    frame = opened.find_element(By.CSS_SELECTOR, "#map-grid .frame")
    opened.execute_script("document.getElementById('map-in').click()")
    before = transforms(opened)
    ActionChains(opened).drag_and_drop_by_offset(frame, 20, 30).perform()
    dragged = transforms(opened)
    opened.execute_script("document.getElementById('map-reset').click()")

    shown = (whole, nearer, further, window, before, dragged)
    assert all(len(boxes) == 1 for boxes in shown)  # all maps alike
    assert len(whole | nearer | further) == 3
    assert before != dragged
    assert transforms(opened) == window
    assert "µm" in opened.find_element(By.CSS_SELECTOR, "#map-grid .bar").text


def test_another_table_is_shown_by_its_button(opened: webdriver.Chrome) -> None:
    buttons = opened.find_elements(By.CSS_SELECTOR, "#jobs button")
    assert [button.text for button in buttons] == ["simulated-16um", "simulated-55um"]
    opened.execute_script("arguments[0].click()", buttons[1])

    assert by_id(opened, "title").text.startswith("simulated-55um")
    # without a ranked model the intervals have the whole width, and no second axis whose ground hides them
    assert opened.execute_script("return document.querySelectorAll('#ranks .points path').length") > 1
    assert opened.execute_script("return document.querySelectorAll('#ranks .subplot').length") == 1
    assert [name.removesuffix(" ‡") for name in column(opened, "model")] != []
    assert "model-a" not in by_id(opened, "scores").text


def test_the_page_fits_its_width_and_nothing_is_loaded_from_elsewhere(
    opened: webdriver.Chrome, tmp_path: Path
) -> None:
    wide = opened.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]

    asked = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"]
    assert len(urls) > 5
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls)
    opened.save_screenshot(str(tmp_path / "page.png"))
    assert len(set(Image.open(tmp_path / "page.png").convert("L").getdata())) > 20
