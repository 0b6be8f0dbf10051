"""The report as a browser shows it: every figure of the run, without a network."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from driftwave.workflow_plan import Plan
from workflow_project import Project, finished_project

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

# Shows each result in the report's own viewer and notes what the browser made of it.
SHOW_ALL = """
<script>
window.addEventListener("load", async () => {
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const seen = {};
  while (!app) await wait(20);
  for (const [path, entry] of Object.entries(results)) {
    const image = entry.mime_type.startsWith("image/");
    if (!image && entry.mime_type !== "text/html") {  // the browser would save it
      seen[path] = {caption: entry.caption, labels: entry.labels};
      continue;
    }
    app.setView({content: image ? "img" : "html", contentPath: entry.data_uri, resultPath: path});
    const shown = () => [...document.querySelectorAll(image ? "#app img" : "#app iframe")]
      .find((element) => element.src === entry.data_uri);
    const width = () => shown() ? (image ? shown().naturalWidth : shown().clientWidth) : 0;
    for (let tries = 0; tries < 100 && !width(); tries++) await wait(10);
    seen[path] = {width: width(), caption: entry.caption, labels: entry.labels};
  }
  const note = document.createElement("pre");
  note.id = "seen";
  note.textContent = JSON.stringify({
    seen, categories,
    fetched: performance.getEntriesByType("resource").map((r) => r.name)
                        .filter((name) => name.startsWith("http")),
  });
  document.body.appendChild(note);
});
</script>
"""


def open_in_browser(page: Path, scratch: Path) -> str:
    """The page's document after its scripts have run, in a browser without a network."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={scratch / 'browser'}"]
    options += ["--virtual-time-budget=120000", "--dump-dom", page.as_uri()]
    answer = subprocess.run(
        [CHROMIUM, *options], capture_output=True, text=True, check=True, timeout=180
    )
    return answer.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny workflow after a full run."""
    return finished_project(tmp_path_factory.getbasetemp() / "finished")


@pytest.fixture(scope="module")
def shown(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser shows of the finished run's report."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    scratch = tmp_path_factory.mktemp("report")
    report = (finished.folder / "results" / "report.html").read_text(encoding="utf-8")
    page = scratch / "report.html"
    head, end, tail = report.rpartition("</body>")
    page.write_text(head + SHOW_ALL + end + tail, encoding="utf-8")
    document = open_in_browser(page, scratch)
    found = re.search(r'<pre id="seen">(.*?)</pre>', document, flags=re.DOTALL)
    assert found, "the page's script did not finish"
    return json.loads(html.unescape(found[1]))


@pytest.mark.slow
def test_every_figure_and_table_of_the_run_is_shown(
    finished: Project, shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    plan = Plan.read(yaml.safe_load(Path("config/config.yaml").read_text()))
    expected = {
        path for path in plan.targets() if path.endswith((".png", ".gif", "comparison.html"))
    }
    assert len(expected) > 10
    drawn = {str(p) for p in Path("results").glob("*/figures/*.png")}
    assert drawn <= expected
    summary = {"results/summary.html", "results/summary.tsv"}
    assert set(shown["seen"]) == expected | summary
    for path in expected:
        assert shown["seen"][path]["width"] > 300, path


@pytest.mark.slow
def test_results_are_ordered_by_session_and_stage(shown: dict[str, Any]) -> None:
    assert set(shown["categories"]) == {"lorenz", "array", "Summary"}
    assert {"recording", "models", "scores", "decoding"} <= set(shown["categories"]["lorenz"])
    assert "waves" in shown["categories"]["array"]
    for path, entry in shown["seen"].items():
        assert len(re.sub(r"<[^>]+>", "", entry["caption"]).split()) > 15, path
        assert set(entry["labels"]) == {"figure", "of"}, path


@pytest.mark.slow
def test_nothing_is_fetched(shown: dict[str, Any]) -> None:
    assert shown["fetched"] == []
