"""The parts of the dashboard: what its files may hold, and modules that can be tried without the page."""

import gzip
import math
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

FOLDER = Path(__file__).resolve().parents[2] / "rpiserve" / "web" / "dashboard"
FILES = sorted(path for path in FOLDER.iterdir() if path.is_file())
MODULES = [path for path in FILES if path.suffix == ".js"]

FORMATTED = {
    0: "0",
    23.437: "23.44",
    -12345.678: "\u221212\u202f345.7",
    2026: "2026",
    0.000123: "0.000123",
    -0.0000000001: "\u22121\u00a0×\u00a010⁻¹⁰",
    1.7976931348623157e308: "1.798\u00a0×\u00a010³⁰⁸",
    math.inf: "Infinity",
    -math.inf: "\u2212Infinity",
    -5e-324: "\u22124.941\u00a0×\u00a010⁻³²⁴",
}

ODD = [[5], [0, 0, 0], [1, -1, 1], [1.7e308, -1.7e308], [1.7e308] * 3, [5e-324, 0], [1e15, 1e15 + 1], [1e-9, 2e-9]]

THINNED = """
async () => {
    const { Series } = await import("/dashboard/series.js");
    const series = new Series();
    let most = 0;
    for (let index = 0; index < 100000; index += 1) {
        series.add(index * 1000, index === 33333 ? 50 : index === 66666 ? -50 : index % 10);
        most = Math.max(most, series.buckets.length);
    }
    const times = series.buckets.map((bucket) => bucket.time);
    const ordered = times.every((time, index) => index === 0 || time > times[index - 1]);
    return { most, least: series.buckets.length, ordered, first: times[0], range: series.range() };
}
"""

GAPS = """
async () => {
    const { Series } = await import("/dashboard/series.js");
    const { SmallChart } = await import("/dashboard/chart.js");
    const series = new Series();
    series.interrupt();
    series.add(1000, 1);
    series.add(2000, 2);
    series.interrupt();
    series.interrupt();
    series.add(3000, 3);
    series.add(4000, 4);
    const chart = new SmallChart();
    chart.draw(series);
    return {
        gaps: series.buckets.map((bucket) => bucket.gap),
        lines: chart.element.querySelector(".line").getAttribute("d").match(/M/g).length,
    };
}
"""

DRAWN = """
async (values) => {
    const { Series } = await import("/dashboard/series.js");
    const { SmallChart, largeChart } = await import("/dashboard/chart.js");
    const series = new Series();
    values.forEach((value, index) => series.add(index * 1000, value));
    const small = new SmallChart();
    small.draw(series);
    const large = largeChart(series, "W", 600, 300, values.length * 1000).element;
    const paths = [small.element, large].flatMap((each) => [...each.querySelectorAll("path")]);
    const labels = [...large.querySelectorAll("text")].map((each) => each.textContent);
    return { paths: paths.map((each) => each.getAttribute("d")), labels };
}
"""


def test_size() -> None:
    """All that the page loads is at most 60 KB, compressed."""
    assert sum(len(gzip.compress(path.read_bytes())) for path in FILES) <= 60_000


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_text_becomes_markup(module: Path) -> None:
    """No module has a way to make elements, styles or code of a text."""
    source = module.read_text(encoding="utf-8")
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser", source
    )
    assert found == []
    assert "http" not in source.replace("http://www.w3.org/2000/svg", "")


def test_nothing_inline() -> None:
    """The page has no script, style or handler of its own, all of which the content security policy forbids."""
    source = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:|<script(?![^>]*\ssrc=)|data:", source) == []


def test_numbers(page: Page) -> None:
    """Numbers have as many decimals as their size deserves, a true minus sign, and powers of ten when they must."""
    script = "async (all) => all.map((await import('/dashboard/format.js')).formatNumber)"
    assert page.evaluate(script, list(FORMATTED)) == list(FORMATTED.values())


def test_series_is_bounded_and_keeps_its_peaks(page: Page) -> None:
    """However many readings come, a series stays small, in order and complete in time, and loses no extreme."""
    thinned = page.evaluate(THINNED)
    assert thinned["most"] <= 601
    assert thinned["least"] >= 300
    assert thinned["ordered"]
    assert thinned["first"] == 0
    assert thinned["range"] == {"low": -50, "high": 50}


def test_line_ends_where_readings_are_missing(page: Page) -> None:
    """An interruption leaves one gap in the line, and none before its first reading."""
    drawn = page.evaluate(GAPS)
    assert drawn == {"gaps": [False, False, True, False], "lines": 2}


def test_odd_series_are_drawn(page: Page) -> None:
    """One value, a constant, the largest and the smallest numbers: no coordinate is anything but a number."""
    for values in ODD:
        drawn = page.evaluate(DRAWN, values)
        assert drawn["paths"]
        assert not re.search("NaN|Infinity|undefined", " ".join(filter(None, drawn["paths"] + drawn["labels"]))), values
