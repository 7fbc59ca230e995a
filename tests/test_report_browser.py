"""Pages in a real browser: nothing sticks out on a phone or in print, pictures load, and nothing is fetched."""

import base64
import html
import json
import re
import shutil
import subprocess

import pytest
import report_cases

from ase_mlcalc.report import write_report, write_study_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
WIDTHS = (360, 1200)
PAPER = 695
"""CSS pixels between the margins of A4."""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: install the package chromium to test pages in it"
)

MEASURE = """<script>
const refused = [];
document.addEventListener("securitypolicyviolation", event => refused.push(event.blockedURI));
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(
    each => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !each.closest(".scroll"));
  parent.postMessage({
    name: NAME,
    width: innerWidth,
    content: document.documentElement.scrollWidth,
    wide: wide.map(each => each.tagName + "." + each.className),
    scrolled: [...document.querySelectorAll(".scroll")].filter(each => each.scrollWidth > each.clientWidth + 1).length,
    images: document.images.length,
    broken: [...document.images].filter(each => !each.complete || each.naturalWidth < 50).length,
    fetched: performance.getEntriesByType("resource").map(each => each.name).filter(name => !name.startsWith("data:")),
    refused: refused,
    smallest: Math.min(...[...document.querySelectorAll("p, td, figcaption, dd")].filter(each => each.offsetParent).map(
      each => parseFloat(getComputedStyle(each).fontSize))),
    text: document.body.innerText.length,
  }, "*");
});
</script>"""

WRAPPER = """<!DOCTYPE html><title>waiting</title><body><script>
const found = {};
addEventListener("message", event => {
  found[event.data.name] = event.data;
  if (Object.keys(found).length === document.querySelectorAll("iframe").length) {
    document.body.innerHTML = "";
    const text = document.createElement("pre");
    text.id = "found";
    text.textContent = JSON.stringify(found);
    document.body.append(text);
  }
});
</script>"""


def chromium(folder, *words):
    """Run the browser with a profile of its own and return what it writes."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def probe(page, name, *, printed=False):
    """A copy of a page that says how it looks; as it is printed, if asked for."""
    text = page.read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert f'content="{policy}"' in text
    text = text.replace(policy, f"{policy}; script-src 'unsafe-inline'")
    if printed:
        assert text.count("@media print") == 1
        text = text.replace("@media print", "@media all").replace("@media screen", "@media print")
    text = text.replace("<head>", "<head>" + MEASURE.replace("NAME", json.dumps(name)))
    return f"data:text/html;base64,{_base64(text)}"


def _base64(text):
    return base64.b64encode(text.encode()).decode()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    report_cases.good_run(folder / "good")
    report_cases.write_failure(folder / "failed", seed=1)
    (folder / "study").mkdir()
    report_cases.study(folder / "study")
    return {
        "good": write_report(folder / "good"),
        "failed": write_report(folder / "failed"),
        "study": write_study_report(folder / "study"),
    }


@pytest.fixture(scope="module")
def looks(pages, tmp_path_factory):
    """What a browser says of each page at each width, in one go."""
    folder = tmp_path_factory.mktemp("browser")
    frames = []
    for name, page in pages.items():
        frames += [(f"{name} {width}", width, probe(page, f"{name} {width}")) for width in WIDTHS]
        frames.append((f"{name} printed", PAPER, probe(page, f"{name} printed", printed=True)))
    inner = "".join(f'<iframe width="{width}" height="800" src="{source}"></iframe>' for _, width, source in frames)
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER + inner, encoding="utf-8")
    dumped = chromium(folder, "--virtual-time-budget=20000", "--dump-dom", wrapper.as_uri())
    found = re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)
    assert found, dumped[-500:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("name", ["good", "failed", "study"])
@pytest.mark.parametrize("how", [*map(str, WIDTHS), "printed"])
def test_nothing_sticks_out_and_everything_is_there(pages, looks, name, how):
    look = looks[f"{name} {how}"]
    assert abs(look["width"] - (PAPER if how == "printed" else int(how))) <= 4  # the border of the frame
    assert look["content"] <= look["width"]
    assert look["wide"] == []
    assert look["images"] == pages[name].read_text(encoding="utf-8").count("<img ") >= 3
    assert look["broken"] == 0
    assert look["text"] > 500
    if how != "1200":  # cards on a phone; in print nothing can be scrolled
        assert look["scrolled"] == 0
    assert look["smallest"] >= (10 if how == "printed" else 12)


@pytest.mark.parametrize("name", ["good", "failed", "study"])
def test_nothing_is_fetched(pages, looks, name):
    for width in WIDTHS:
        assert looks[f"{name} {width}"]["fetched"] == []
        assert looks[f"{name} {width}"]["refused"] == []
    assert pages[name].stat().st_size < 3_000_000


def test_probe_sees_what_is_wrong(pages, tmp_path):
    """The same page with a picture from elsewhere and a line that does not break."""
    bad = tmp_path / "bad.html"
    text = pages["failed"].read_text(encoding="utf-8")
    extra = '<img src="https://example.org/a.png"><div style="width: 2000px">wide</div>'
    bad.write_text(text.replace("<main>", f"<main>{extra}"), encoding="utf-8")
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(WRAPPER + f'<iframe width="360" src="{probe(bad, "bad")}"></iframe>', encoding="utf-8")
    dumped = chromium(tmp_path, "--virtual-time-budget=20000", "--dump-dom", wrapper.as_uri())
    look = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', dumped, re.DOTALL)[1]))["bad"]
    assert look["content"] > 1900
    assert "DIV." in look["wide"]
    assert look["broken"] == 1
    assert any("example.org" in address for address in look["refused"])


def test_study_prints(pages, tmp_path):
    chromium(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", "--no-pdf-header-footer", pages["study"].as_uri())
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 4
