"""The page of a run: what it says is what the run found, and a real browser shows it."""

import base64
import io
import itertools
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hw.boards import BOARDS, Board
from sim.samples.networks import random_input
from sw import html_report, ticket
from sw.data import idx
from sw.errors import SpikeTicketError
from sw.html_report import facts, pictures
from sw.html_report.page import collect, render
from sw.ladder import measure
from sw.report import interval
from sw.run_inference import run
from tests import small_runs

PARTS = ("inputs", "accuracy", "spikes", "cycles", "use", "ladder", "memory", "link", "made")
COMMAND = "spiketicket run --report run.html"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(values, checked) of a plain run and of one with a patch gate, by name."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BOARDS, "sim", Board("sim", "a small board", "tiny", "XC7A35T"))
        path, data, *_ = small_runs.save(folder)
        found["plain"] = run(str(path), str(data), traced=3, progress=False)
        network, _ = small_runs.gated_network("count", True)
        rng = np.random.default_rng(0)
        np.savez(folder / "g.npz", y_test=np.zeros(3, np.int64),
                 x_test=np.stack([random_input(rng, network) for _ in range(3)])
                 << (8 - network.input.bits))       # pictures of 8 bits
        ticket.save(folder / "g.safetensors", network)
        found["gated"] = run(str(folder / "g.safetensors"), str(folder / "g.npz"), traced=2,
                             progress=False)
    return found


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """Written pages by name."""
    folder = tmp_path_factory.mktemp("pages")
    for name, (values, checked) in runs.items():
        html_report.write(str(folder / f"{name}.html"), values, checked, COMMAND, progress=False)
    assert not list(folder.glob("*.part"))
    return {name: folder / f"{name}.html" for name in runs}


def test_the_page_needs_nothing_else(pages):
    for page in pages.values():
        text = page.read_text()
        assert len(text) < 3_000_000 and "http:" not in text and "https:" not in text
        for target in re.findall(r'(?:src|href)="([^"]*)"', text):
            assert target.startswith(("data:", "#")), target
        assert f'<code id="command">{COMMAND}</code>' in text
        assert [f'<section id="{part}">' in text for part in PARTS] == [True] * len(PARTS)


def test_the_verdict_is_the_runs(runs, pages):
    assert "Bit for bit as the integer reference" in pages["plain"].read_text()
    values, checked = runs["plain"]
    text = render(collect(replace(values, spike_mismatches=3), checked, COMMAND))
    assert "Differs from the integer reference" in text and "3 different" in text
    assert 'class="verdict bad"' in text


def test_names_from_files_are_escaped(runs):
    values, checked = runs["plain"]
    text = render(collect(replace(values, network="<script>alert(1)</script>"), checked, "<b>"))
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text and "&lt;b&gt;" in text


def test_cycles_by_cause_are_those_that_the_board_counted(runs):
    for values, checked in runs.values():
        found = facts.by_cause(checked, images=2)
        assert found["agree"] and found["images"] == 2
        assert sum(row["width"] for row in found["layers"]) == pytest.approx(1)
        for row in found["layers"]:
            assert sum(row["causes"].values()) == pytest.approx(row["cycles"])
        spent = checked.result.counters[:2, :, 0].sum() / 2
        steps = facts.cycles.STEP_OVERHEAD * len(checked.image.layers)
        assert found["total"] == pytest.approx(spent + steps)
        slots = facts.used_slots(checked)
        used = sum(row["useful"] * row["cycles"] for row in slots)
        updates = checked.result.counters[:, :, 3].sum() / len(checked.result.logits)
        assert used * checked.image.config.slots == pytest.approx(updates)
        assert values.counters_per_image["updates"] == pytest.approx(updates)


def test_a_model_that_disagrees_is_said(runs):
    values, checked = runs["plain"]
    counters = checked.result.counters
    counters[1, 0, 0] += 1
    try:
        page = collect(values, checked, COMMAND)
        assert not page["causes"]["agree"]
        assert "not\n    those that the board counted" in render(page)
    finally:
        counters[1, 0, 0] -= 1


def test_confusion(runs):
    _, checked = runs["plain"]
    found = facts.confusion(checked)
    counts = np.array([row["counts"] for row in found["rows"]])
    truth, guess = checked.data.labels, checked.result.labels
    assert counts.sum() == len(truth) and found["names"] == list(small_runs.TITLES)
    assert all(counts[a, b] == ((truth == a) & (guess == b)).sum()
               for a, b in itertools.product(range(4), repeat=2))
    assert found["among"][0]["share"] == pytest.approx((truth == guess).mean())
    wrong = (truth != guess).sum()
    assert sum(one["count"] for one in found["worst"]) <= wrong
    assert all(one["truth"] != one["answer"] for one in found["worst"])


def test_the_ladder_is_that_of_the_command(runs):
    _, checked = runs["gated"]
    calls = []
    found = facts.climb(checked, lambda: calls.append(1))
    whole = measure.climb(checked.network, checked.image.config, checked.data.images)
    assert len(calls) == len(found["rungs"]) == 5
    assert {r["name"]: r["cycles"] for r in found["rungs"]} == {
        name: point.total for name, point in whole.rungs.items()}
    assert found["rungs"][0]["fewer"] == 1


def test_maps_that_live_together_do_not_overlap(runs):
    for _, checked in runs.values():
        found = facts.memory(checked)
        assert found["depth"] <= found["map_words"]
        for a, b in itertools.combinations(found["maps"], 2):
            together = a["from"] < b["to"] and b["from"] < a["to"]
            apart = a["first"] + a["words"] <= b["first"] or b["first"] + b["words"] <= a["first"]
            assert not together or apart, (a, b)
        bits = sum(row["bits"] for row in found["weights"])
        assert found["free"] == pytest.approx(1 - bits / found["weight_bits"])


def test_the_link_is_the_reports(runs):
    values, _ = runs["plain"]
    rates = facts.link(values)["rates"]
    assert [rate["baud"] for rate in rates] == [12_000_000, 3_000_000]
    assert rates[0]["frames_per_s"] == values.frames_per_s_link
    assert rates[1]["frames_per_s"] == pytest.approx(1 / rates[1]["slowest"], rel=0.01)
    shown = render(collect(values, runs["plain"][1], COMMAND))
    assert all(f">{rate['frames_per_s']:,.0f}<" in shown for rate in rates)


def pixels(url):
    data = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("shape", [(5, 7, 6), (6, 1, 9), (12, 1, 1), (1, 4, 4)])
def test_every_spike_is_a_pixel(shape):
    spikes = (np.random.default_rng(1).random(shape) < 0.3).astype(np.uint8)
    shown = (pixels(pictures.of_spikes(spikes)) == (*pictures.SPIKE, 255)).all(-1)
    assert shown.sum() == spikes.sum()
    if shape[0] == 1:
        assert np.array_equal(shown, spikes[0])
    if shape[1] == 1 < shape[2]:
        assert np.array_equal(shown, spikes[:, 0])      # rows are channels


def test_raster():
    traces = [(np.random.default_rng(i).random((4, 3, 2, 2)) < 0.4).astype(np.uint8)
              for i in range(3)]
    found = pictures.raster(traces)
    assert found["width"] == 12 and found["height"] == found["neurons"] == 12
    assert found["path"].count("M") == sum(int(t.sum()) for t in traces)
    assert found["marks"] == [4, 8]
    many = pictures.raster([np.ones((16, 200, 1, 1), np.uint8)] * 30)
    assert many["width"] == pictures.RASTER_STEPS and many["height"] == pictures.RASTER_ROWS


def test_patches_and_inputs():
    cover = pixels(pictures.of_patches((2, 3), np.array([0, 4])))
    assert cover.shape == (2, 3, 4)
    assert (cover[..., 3] == 0).reshape(-1).tolist() == [1, 0, 0, 0, 1, 0]
    grey = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert np.array_equal(pixels(pictures.of_input(grey, 8)), grey[0])
    assert np.array_equal(pixels(pictures.of_input(grey, 4)), 17 * grey[0])
    events = np.zeros((3, 2, 4, 4), np.uint8)
    events[:, 1, 0, 0], events[0, 0, 3, 3] = 2, 6
    shown = pixels(pictures.of_input(events, 4))
    assert shown[0, 0].tolist() == [255, 0, 0] and shown[3, 3].tolist() == [0, 0, 255]


def test_bad_names(tmp_path, runs):
    with pytest.raises(SpikeTicketError, match=r"must end in \.html"):
        html_report.check_name(str(tmp_path / "run.pdf"))
    with pytest.raises(SpikeTicketError, match="there is no folder"):
        html_report.check_name(str(tmp_path / "no" / "run.html"))
    (tmp_path / "run.html").mkdir()
    with pytest.raises(SpikeTicketError, match="cannot be written"):
        html_report.write(str(tmp_path / "run.html"), *runs["plain"], progress=False)
    assert not list(tmp_path.glob("*.part"))


# In a browser


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium: of Debian's package, or $CHROMIUM."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: "
                              "pip install 'spiketicket[browser]'")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    with api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


CUT = """width => [...document.querySelectorAll('nav *, .confusion *, header *, h2, h3')].filter(
    e => e.getClientRects().length && e.getBoundingClientRect().right > width + 0.5).map(
    e => e.outerHTML.slice(0, 80))"""
"""What of navigation, matrix and titles sticks out of the window."""


def test_ten_classes_with_their_names_fit_a_telephone(browser, runs, tmp_path):
    values, checked = runs["plain"]
    facts_of = collect(values, checked, COMMAND)
    names = [*idx.FASHION_LABELS]
    facts_of["confusion"] |= {"names": names, "rows": [
        {"name": name, "counts": [123] * 10, "total": 1230, "right": 123, "shares": [0.1] * 10}
        for name in names]}
    (tmp_path / "ten.html").write_text(render(facts_of))
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((tmp_path / "ten.html").as_uri())
    assert page.evaluate(CUT, 390) == []
    shown = page.locator("#accuracy").inner_text()
    assert all(name in " ".join(shown.split()) for name in names)
    page.close()


def test_an_accuracy_has_its_interval(runs, pages):
    """Wilson's interval for the images of the run, on page and table, and wider for fewer."""
    values, checked = runs["plain"]
    low, high = values.accuracy_interval
    assert low < values.accuracy < high and values.images == 12
    text = " ".join(pages["plain"].read_text().split())
    assert f"of 12 images; {100 * low:.1f} % to {100 * high:.1f} % with 95 % confidence" in text
    assert interval(0.9, 60) == pytest.approx((0.799, 0.953), abs=0.001)
    assert interval(0.9, 6000)[0] > 0.89 and interval(1.0, 10)[1] == 1.0
    assert list(checked.names) == facts.confusion(checked)["names"] == list(small_runs.TITLES)


@pytest.mark.parametrize("name", ["plain", "gated"])
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(browser, pages, name, width):
    """It renders without errors and requests; every figure and picture takes room; nothing is wider
    than the window; light and dark differ."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light")
    page = context.new_page()
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    assert "Bit for bit" in page.locator("#verdict").inner_text()
    for part in PARTS:
        figures = page.locator(f"#{part} figure:visible")
        assert part == "made" or figures.count() > 0, part
    sizes = page.evaluate(
        "[...document.querySelectorAll('main figure')].filter(e => !e.closest('details:not([open])'"
        ")).map(e => [e.offsetWidth, e.offsetHeight])")
    assert len(sizes) > 15 and all(w > 20 and h > 15 for w, h in sizes), sizes
    assert page.evaluate("[...document.images].every(e => e.complete && e.naturalWidth > 0)")
    assert page.evaluate("document.images.length") > 10
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT, width) == []
    assert page.locator(".cover").count() == (3 if name == "gated" else 0)

    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("#theme").click()
    assert page.evaluate(background) != light
    widest = page.evaluate("[...document.querySelectorAll('#cycles .stack i')].map("
                           "e => e.offsetWidth).reduce((best, w, i, all) => "
                           "w > all[best] ? i : best, 0)")
    page.locator("#cycles .stack i").nth(widest).hover()
    assert "cycles" in page.locator("#tip").inner_text()
    page.locator("#cycles .legend button").first.click()
    assert page.locator("#cycles .lit").count() > 0
    if name == "gated":
        page.locator("[data-toggle=whole]").click()
        assert page.locator(".cover:visible").count() == 0
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert page.evaluate(background) != light
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    context.close()
