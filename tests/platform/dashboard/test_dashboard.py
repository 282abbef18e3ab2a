"""The live pages of studies: they show the ledger as it is, to nobody else, and nothing from elsewhere."""

import base64
import re
import shutil
import subprocess
import threading
import time
from contextlib import closing

import pytest
from click.testing import CliRunner

from dftune.platform.cli.main import cli
from dftune.platform.dashboard.app import web_app
from dftune.platform.dashboard.server import LOOPBACK, listening, show
from dftune.platform.figures.draw import FIGURES
from dftune.platform.ledger.ledger import Ledger
from dftune.platform.serve.settings import EndpointError, digest
from dftune.tests.platform.figures.test_trials import SPEC, TRIALS, recorded
from dftune.tests.platform.serve.asgi import ask

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("studies"), TRIALS)


@pytest.fixture(scope="module")
def app(study):
    return web_app(study.folder.parent, None, token_sha256=None, hosts=frozenset({"here"}))


def test_a_study_is_shown_as_its_ledger_has_it(app):
    found = ask(app, "/studies/synthetic/data").json()
    assert (found["name"], found["state"]) == ("synthetic", "stopped")
    assert found["words"].startswith("nobody runs it")
    assert (found["done"], found["most"]) == (
        sum(t.state not in ("running", "pruned") for t in TRIALS),
        SPEC.trials,
    )
    assert set(found["figures"]) | set(found["left_out"]) == set(FIGURES)
    best = min((t for t in TRIALS if t.value is not None), key=lambda t: t.value)
    points = next(trace for trace in found["figures"]["history"]["data"] if trace["name"] == "finished")
    assert f"trial {best.number}<" in "".join(points["hovertext"])
    assert f"width = {best.config['width']}" in found["overview"]
    assert found["trials"].count("<tr") == 1 + len(TRIALS)


def test_a_page_has_a_place_for_each_figure_and_takes_nothing_from_elsewhere(app):
    answer = ask(app, "/studies/synthetic")
    page = answer.content.decode()
    assert all(f'<div id="{name}"' in page for name in FIGURES)
    assert re.findall(r'(?:src|href)="(?!data:)([^"]*)"', page) == ["/", "/scripts/plotly.js", "/scripts/study.js"]
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert not re.search(r"\son\w+=", page), "what the policy forbids in a page"
    assert ask(app, "/scripts/study.js").headers["content-type"].startswith("text/javascript")
    assert ask(app, "/scripts/../app.py").status == 404


def test_news_is_sent_once(study, tmp_path):
    shutil.copytree(study.folder, tmp_path / "synthetic")
    app = web_app(tmp_path, None, token_sha256=None, hosts=frozenset({"here"}))
    first = ask(app, "/studies/synthetic/data")
    known = {"if-none-match": first.headers["etag"]}
    again = ask(app, "/studies/synthetic/data", headers=known)
    assert (again.status, again.content) == (304, b"")
    with closing(Ledger.open(tmp_path / "synthetic" / "ledger.db", "synthetic")) as ledger:
        ledger.told(TRIALS[-1].number, 1e-6, {"epoch": 10, "seconds": 1.0, SPEC.metric: 1e-6}, None)
    time.sleep(2.1)  # a study is looked at every two seconds
    after = ask(app, "/studies/synthetic/data", headers=known)
    assert after.status == 200
    assert f"trial {TRIALS[-1].number}: " in after.json()["overview"]


def test_the_list_has_every_study_and_says_what_is_wrong_with_one(study, tmp_path):
    shutil.copytree(study.folder, tmp_path / "synthetic")
    (tmp_path / "<b>torn").mkdir()
    (tmp_path / "<b>torn" / "ledger.db").write_bytes(b"SQLite format 3\0 and no more")
    listed = ask(web_app(tmp_path, None, token_sha256=None, hosts=frozenset({"here"})), "/list").content.decode()
    assert '<a href="/studies/synthetic">' in listed
    assert "unreadable" in listed
    assert "<b>" not in listed


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e%2fsynthetic"])
def test_what_is_no_study_is_said(app, name):
    answer = ask(app, f"/studies/{name}/data")
    assert answer.status == 404
    assert answer.json()["detail"]


def test_only_the_printed_address_is_answered_where_there_is_no_token(app):
    assert ask(app, "/", headers={"host": "here:8080"}).status == 200
    for host in ("evil.example", "", "[", "here.evil.example:80"):
        assert ask(app, "/list", headers={"host": host}).status == 421


def test_a_token_is_taken_as_a_password_and_as_a_bearer(study):
    app = web_app(study.folder.parent, None, token_sha256=digest(TOKEN), hosts=LOOPBACK)
    refused = ask(app, "/studies/synthetic/data")
    assert refused.status == 401
    assert refused.headers["www-authenticate"].startswith("Basic ")
    assert b"figures" not in refused.content
    password = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    for good in (f"Basic {password}", f"Bearer {TOKEN}"):
        assert ask(app, "/list", headers={"authorization": good, "host": "any.example"}).status == 200
    for bad in ("Basic !", "Basic aGk=", f"Digest {TOKEN}", "Bearer ", f"Bearer {TOKEN}x", "Bearer é"):
        assert ask(app, "/list", headers={"authorization": bad}).status == 401


def test_others_reach_the_pages_with_a_token_only(study):
    with listening("127.0.0.1", 0) as found, pytest.raises(EndpointError, match="needs a token"):
        show(found, "0.0.0.0", study.folder.parent)


def test_a_port_that_is_taken_is_said(study):
    with listening("127.0.0.1", 0) as found:
        port = found.getsockname()[1]
        result = CliRunner().invoke(
            cli, ["study", "watch", "--web", "--port", str(port), "--studies", str(study.folder.parent)]
        )
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: cannot listen on 127.0.0.1:{port} (Address already in use)")


def test_without_a_name_only_pages_can_be_watched():
    assert "Missing argument 'NAME'" in CliRunner().invoke(cli, ["study", "watch"]).stderr


@pytest.mark.slow
def test_a_browser_draws_every_figure(study):
    """In Chromium, without a window (`apt-get install chromium`)."""
    browser = shutil.which("chromium")
    assert browser, "no chromium is installed: apt-get install chromium"
    with listening("127.0.0.1", 0) as found:
        threading.Thread(target=show, args=(found, "127.0.0.1", study.folder.parent), daemon=True).start()
        url = f"http://127.0.0.1:{found.getsockname()[1]}/studies/synthetic"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=6000", "--dump-dom"]
        ran = subprocess.run([browser, *options, url], capture_output=True, text=True, timeout=120, check=True)
    assert "<title>stopped: synthetic</title>" in ran.stdout
    assert ran.stdout.count('class="main-svg"') >= len(FIGURES)
    assert '<p id="trouble" role="status"></p>' in ran.stdout
