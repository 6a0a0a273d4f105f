"""The HTML page: what stands in it, what cannot get into it, and how a browser shows it."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from synthetic import HOSTILE, config_of, planted, predictions_of, write_run
from test_rankings import write_ranking

from ilm_lightning import dashboard
from ilm_lightning.reporting.charts import Line, forest, line_chart, ticks

FULL, FROZEN, RANDOM, MLP, ELM = "ilm_qformer_full", "ilm_qformer", "ilm_qformer_random", "ilm_mlp", "elm"
HISTORY = "step,seconds,name,value\n" + "".join(f"{s},{s / 10},val/loss,{3 - s / 200}\n" for s in (100, 200, 300))


def samples(row: str) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["step", "example", "task", "prompt", "target", "text", "sc"])
    for step in (100, 200):
        for example in ("a", "b", "c", "d"):
            text = f"{row} at {step},\n{HOSTILE}"
            writer.writerow(
                [step, f"summary:{example}", "summary", "Tell {item}.", f"wanted {example}", text, f"5{step}"]
            )
    return stream.getvalue()


def sweep(root: Path) -> Path:
    planted(root, {(FROZEN, "combined"): 55.0, (MLP, "combined"): 50.0, (FULL, "semantic"): 58.0}, seeds=(0, 1, 2))
    for q in (1, 2, 4, 16, 32):
        config = config_of(RANDOM, adapter__num_queries=q)
        write_run(root / f"q{q}", config, predictions_of(52.0, 0))
    for folder in root.iterdir():
        (folder / "history-tune.csv").write_text(HISTORY)
        (folder / "samples-tune.csv").write_text(samples(folder.name))
    return root


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with hostile text wherever a run could bring it in."""
    # a name that no phone holds on one line
    root = sweep(tmp_path_factory.mktemp("runs-" + 70 * "x"))
    frame = predictions_of(56.0, 5).with_columns(
        generated=pl.lit(f"{HOSTILE}\nsecond line"), target=pl.col("target"), prompt=pl.lit(HOSTILE)
    )
    facts = {"command": f"train api_key=topsecret99 {HOSTILE}", "peak_memory_gib": 4.93, "seconds": {"tune": 754.0},
             "compute": {"flops": 3e15}, "hardware": {"processor": HOSTILE, "cores": 2}}  # fmt: skip
    write_run(root / '<b>bold & "x"', config_of("ilm_qformer_lora"), frame, run=facts)
    write_run(root / "dead", config_of(MLP, seed=7), predictions_of(1.0, 0), state=f"failed {HOSTILE}")
    path = root.parent / "page.html"
    assert dashboard.main([str(root), "--html", str(path), "--title", f"T {HOSTILE}", "--resamples", "500"]) == 0
    return path


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def elements(page: Path) -> Elements:
    found = Elements()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def test_the_page_asks_for_nothing_outside_itself(page: Path) -> None:
    found = elements(page)
    assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & set(found.tags)
    assert all(value.startswith("#") for _, name, value in found.attributes if name in ("href", "src", "action"))
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(", text)


def test_hostile_text_is_text(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script>alert(1)</script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "second line" in text
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold &amp; &quot;x&quot;" in text
    assert "topsecret99" not in text
    assert "api_key=***" in text


def test_the_page_holds_all_that_was_promised(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for part in (
        "Table 2: language tasks", "Table 3: language tasks", "Figure 3: SC (all-MiniLM-L6-v2)", "SC per task",
        "tune: val/loss", "target (the teacher)", "4.9 GiB", "13 min", "3.00 PFLOP", "unfinished run",
        "5. Phase 1 helps",
        "82.34", 'class="chip undecided"', "Own vectors against their controls", "prefers-color-scheme: dark",
    ):  # fmt: skip
        assert part in text, part
    assert len(re.findall(r"<strong>\d\d\.\d\d</strong>", text)) >= 6


def test_texts_are_followed_over_training(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    part = text[text.index("Texts over training") :]
    assert len(re.findall("<summary>summary · [abcd]</summary>", part)) == 3  # of four examples
    assert "step 100 · SC 5100" in part
    assert part.index(" at 100,\n&lt;script&gt;") < part.index(" at 200,\n&lt;script&gt;")


def test_damaged_samples_are_passed_over(tmp_path: Path) -> None:
    root = planted(tmp_path / "runs", {(FROZEN, "combined"): 55.0}, seeds=(0,))
    (next(root.iterdir()) / "samples-tune.csv").write_text("step,example\nx,1\n")
    assert dashboard.main([str(root), "--html", str(tmp_path / "p.html"), "--resamples", "100"]) == 0
    assert "Texts over training" not in (tmp_path / "p.html").read_text()


def test_every_element_is_closed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for tag in ("table", "tr", "td", "th", "div", "details", "ul", "li", "figure", "svg", "span", "p", "main", "body"):
        assert len(re.findall(rf"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag
    assert text.count("<h2 id=") == len(set(re.findall(r'<h2 id="([^"]+)"', text)))
    for target in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{target}"' in text


def test_titles_come_from_the_run_folder(tmp_path: Path) -> None:
    root = planted(tmp_path / "runs", {(FROZEN, "combined"): 55.0}, seeds=(0,))
    items = next(root.iterdir()) / "items"
    items.mkdir()
    names = [f"Film {i}" for i in range(40)]
    pl.DataFrame({"index": range(40), "title": names, "year": [1990] * 40}).write_parquet(items / "items.parquet")
    assert dashboard.main([str(root), "--html", str(tmp_path / "p.html"), "--resamples", "200"]) == 0
    assert re.search(r"summary · Film \d+ \(1990\)", (tmp_path / "p.html").read_text())


@pytest.mark.parametrize("known", [True, False])
def test_titles_stand_over_the_texts_of_training_too(known: bool, tmp_path: Path) -> None:
    root = planted(tmp_path / "runs", {(FROZEN, "combined"): 55.0}, seeds=(0,))
    folder = next(root.iterdir())
    (folder / "samples-tune.csv").write_text(
        "step,example,task,prompt,target,text,sc\n100,summary:7,summary,Sum up {item}.,A film.,A boat.,50.0\n"
    )
    if known:
        (folder / "items").mkdir()
        pl.DataFrame({"index": [7], "title": ["Heat"], "year": [1995]}).write_parquet(folder / "items/items.parquet")
    assert dashboard.main([str(root), "--html", str(tmp_path / "p.html"), "--resamples", "200"]) == 0
    told = "Heat (1995)" if known else "item 7"
    assert f"<summary>summary · {told}</summary>" in (tmp_path / "p.html").read_text()


def test_predictions_without_texts_still_give_a_page(tmp_path: Path) -> None:
    root = planted(tmp_path / "runs", {(FROZEN, "combined"): 55.0}, seeds=(0,))
    file = next(root.iterdir()) / "predictions.parquet"
    pl.read_parquet(file).drop("generated").write_parquet(file)
    assert dashboard.main([str(root), "--html", str(tmp_path / "p.html"), "--resamples", "200"]) == 0
    assert "predictions are not there" in (tmp_path / "p.html").read_text()


def test_runs_without_predictions_still_give_a_page(tmp_path: Path) -> None:
    root = planted(tmp_path / "runs", {(FROZEN, "combined"): 55.0}, seeds=(0,))
    (next(root.iterdir()) / "predictions.parquet").unlink()
    assert dashboard.main([str(root), "--html", str(tmp_path / "p.html")]) == 0
    text = (tmp_path / "p.html").read_text()
    assert "predictions are not there" in text
    assert "left no training history" in text


def test_recommendation_stands_on_the_page(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = write_ranking(tmp_path / "runs", "ilm", 0.5, seed)
        (folder / "history-tune.csv").write_text(HISTORY)
        with (folder / "samples-tune.csv").open("w", newline="") as stream:
            rows = [(step, "u1", "sequential", HOSTILE, "i9", "i1 i9 i2", rank) for step, rank in ((100, 0), (200, 2))]
            csv.writer(stream).writerows([("step", "example", "task", "prompt", "target", "list", "rank"), *rows])
    write_ranking(tmp_path / "runs", "rand", 0.1)
    path = tmp_path / "p.html"
    assert dashboard.main([str(tmp_path / "runs"), "--html", str(path), "--resamples", "200"]) == 0
    text = path.read_text()
    for part in (
        "Table 6, Beauty: sequential recommendation", "Table 4, Beauty: phase-1 losses", "Table 5: counts",
        "<em>ILM-Qformer-pretrained</em>", "Protocols of Beauty", "language model &#x27;tiny&#x27;, not",
        "tune: val/loss", "step 100 · target not in the list", "step 200 · target in place 2", 'href="#rankings"',
    ):  # fmt: skip
        assert part in text, part
    assert len(re.findall(r"<td><strong>\.\d{4}</strong> <span class=muted>± ", text)) >= 4
    assert "<script>alert(1)</script>" not in text
    test_every_element_is_closed(path)


def test_a_result_of_an_older_form_has_its_place(tmp_path: Path) -> None:
    root = planted(tmp_path / "runs", {(FROZEN, "combined"): 55.0, (MLP, "combined"): 50.0}, seeds=(0,))
    for folder, told in zip(
        sorted(root.iterdir()), ({"hardware": "2 cores", "seconds": {"tune": "long"}}, 3), strict=True
    ):
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps(metrics | {"run": told}))
    assert dashboard.main([str(root), "--html", str(tmp_path / "p.html"), "--resamples", "200"]) == 0
    assert "<td>2 cores</td>" in (tmp_path / "p.html").read_text()


def test_the_projects_own_results_make_a_page(tmp_path: Path) -> None:
    experiments = Path(__file__).resolve().parents[2] / "experiments"
    assert dashboard.main([str(experiments), "--html", str(tmp_path / "p.html"), "--resamples", "200"]) == 0
    text = (tmp_path / "p.html").read_text()
    assert "Table 6, ML1M" in text
    assert "ILM-QFormer-vg-LoRA" in text


def test_no_run_and_no_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert dashboard.main([str(tmp_path / "none"), "--html", str(tmp_path / "p.html")]) == 1
    assert "no such folder" in caplog.text
    (tmp_path / "p.html").write_text("an earlier page")
    assert dashboard.main([str(tmp_path), "--html", str(tmp_path / "p.html")]) == 1
    assert "holds no run" in caplog.text
    assert (tmp_path / "p.html").read_text() == "an earlier page"


def test_a_page_that_cannot_be_written_is_refused_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert dashboard.main([str(tmp_path), "--html", str(tmp_path)]) == 1
    assert "is a folder: name the page's file" in caplog.text
    assert dashboard.main([str(tmp_path), "--html", "/proc/x/page.html"]) == 1
    assert "--html=/proc/x cannot be written" in caplog.text
    assert "no finished run" not in caplog.text


def test_charts_by_hand() -> None:
    assert ticks(54.2, 61.8) == [54.0, 56.0, 58.0, 60.0, 62.0]
    assert ticks(3.0, 3.0)[0] < 3.0 < ticks(3.0, 3.0)[-1]
    chart = line_chart("a<b", "", [Line("one", 0, [0, 1], [1.0, float("nan")], [0.5, None])], "x")
    assert "a&lt;b" in chart
    assert chart.count("<circle") == 1
    assert "nan" not in chart
    # a learning rate: every tick has a number of its own
    small = re.findall(r">([^<>]+)</text>", line_chart("lr", "", [Line("one", 0, [0, 1], [0.0, 1e-4])], "x"))
    assert small[:6] == ["0", "2e-5", "4e-5", "6e-5", "8e-5", "0.0001"]
    assert line_chart("empty", "", [Line("none", 0, [1], [float("inf")])], "x") == ""
    assert "left:75.0%" in forest(1.0, 0.5, 1.5, 2.0)


@pytest.mark.slow
def test_a_browser_shows_it_wide_and_narrow_light_and_dark(page: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("needs a chromium browser on the path")
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        grounds = {}
        for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
            context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
            view = context.new_page()
            asked, said = [], []
            view.on("request", lambda request, asked=asked: asked.append(request.url))
            view.on("console", lambda message, said=said: said.append(message.text))
            view.on("pageerror", lambda error, said=said: said.append(str(error)))
            view.goto(page.as_uri())
            assert asked == [page.as_uri()]
            assert said == []
            wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert view.evaluate(wider) == 0, (width, scheme)
            small = "[...document.querySelectorAll('p, td, th, dd, li')].filter(e => e.offsetParent && " \
                "parseFloat(getComputedStyle(e).fontSize) < 11).length"  # fmt: skip
            assert view.evaluate(small) == 0
            grounds[width, scheme] = view.evaluate("getComputedStyle(document.body).backgroundColor")
            curve = view.locator("svg polyline.line").first.bounding_box()
            assert curve is not None
            assert curve["width"] > 100
            view.locator("#dark").check(force=True)
            assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 29)"
            context.close()
        browser.close()
    assert grounds[1280, "light"] != grounds[1280, "dark"]
    assert grounds[1280, "dark"] == grounds[390, "dark"]
