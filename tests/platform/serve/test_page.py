"""The page at `/`: in a browser, and what it must not do."""

import io
import json
import re
import shutil
import subprocess
import time

import ase
import ase.io
import numpy as np
import pytest

from dftune import Model
from dftune.platform.serve.front import Shown, front
from dftune.platform.serve.front_script import READ
from dftune.platform.serve.proxy import AnswerAlways, Replicas
from dftune.platform.serve.settings import EndpointSettings, digest
from dftune.platform.serve.shelf import Shelf
from dftune.platform.serve.web import web_app
from dftune.tests.places import ROOT
from dftune.tests.platform.serve.asgi import ask, listening
from dftune.tests.platform.serve.chromium import chromium
from dftune.tests.trainables.test_structure_texts import as_pymatgen

TOKEN = "correct-horse-battery-staple"
L10 = ase.io.read(ROOT / "examples" / "alloys" / "CuAu_L10.xyz")


def endpoint(model, **changes):
    """The application of a model."""
    return web_app(Shelf.of(model), EndpointSettings(model="here", **{"without_token": True, **changes}))


def test_a_browser_gets_a_page_that_loads_nothing_from_elsewhere(model):
    app = endpoint(model, token_sha256=digest(TOKEN))
    answer = ask(app, "/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    script = ask(app, "/front.js")
    text = answer.content.decode()
    assert "script-src 'self'; connect-src 'self'" in answer.headers["content-security-policy"]
    assert script.headers["content-type"].startswith("text/javascript")
    for content in (text, script.content.decode()):
        assert not re.search(r"https?://|src=(?!front\.js)|@import|url\(", content)
    assert "<option>model</option>" in text
    assert "<label>Token" in text
    without = endpoint(model)
    assert b"<label hidden>Token" in ask(without, "/", headers={"accept": "text/html"}).content


def test_the_page_cannot_be_left_by_what_a_model_says():
    text = front({"<b>": Shown({"a": "</script><script>"}, True, ["<b>"])}, "</script><b>", with_token=False)
    assert "<b>" not in text
    assert text.count("<script") == 2


FORMS = [
    ("cif", "cif"),
    ("vasp", "poscar"),
    ("extxyz", "xyz"),
    ("json", "json"),
    ("todict", "json"),
    ("pymatgen", "json"),
]


def text_of(atoms, form: str) -> str:
    """A structure as somebody may paste it."""
    if form == "todict":
        return json.dumps({name: np.asarray(value).tolist() for name, value in atoms.todict().items()})
    if form == "pymatgen":
        return json.dumps(as_pymatgen(atoms))
    sink = io.BytesIO() if form == "cif" else io.StringIO()
    ase.io.write(sink, atoms, format=form)
    return sink.getvalue().decode() if form == "cif" else sink.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("form, kind", FORMS)
def test_the_script_of_the_page_reads_the_structures_that_the_endpoint_reads(form, kind, tmp_path):
    """By node, which comes with npm."""
    node = shutil.which("node")
    assert node, "no node is installed: apt-get install nodejs"
    atoms = ase.Atoms("Al2", [[0, 0, 0], [2.1, 0.2, 2.0]], cell=[[4, 0, 0], [0.3, 4.2, 0], [0, 1, 5]], pbc=True)
    text = text_of(atoms, form)
    reads = READ.replace('const about = JSON.parse($("about").textContent);', "")
    says = "console.log(JSON.stringify([kindOf(text), atomsOf(text, kindOf(text))]))"
    asked = f"{reads}\nconst text = {json.dumps(text)}; {says}"
    found, drawn = json.loads(subprocess.run([node, "-e", asked], capture_output=True, text=True, check=True).stdout)
    assert found == kind
    read = ase.Atoms(["Al"] * len(drawn["symbols"]), drawn["positions"], cell=drawn["cell"], pbc=True)
    np.testing.assert_allclose(read.get_distance(0, 1, mic=True), atoms.get_distance(0, 1, mic=True), atol=1e-4)
    np.testing.assert_allclose(read.cell.cellpar(), atoms.cell.cellpar(), atol=1e-4)


@pytest.fixture(scope="module")
def tab():
    with chromium() as found:
        yield found


@pytest.mark.slow
def test_a_browser_predicts_and_draws(model, tab):
    with listening(AnswerAlways(endpoint(model), lambda: Replicas.RUN)) as url:
        tab.open(f"{url}/#example")
        tab.until(DONE)
    shown = tab.run("document.documentElement.outerHTML")
    assert '<p id="said" role="status" aria-live="polite" class="">done: free energy -' in shown
    assert "the Fermi level is" in shown
    assert 'aria-label="1 atom in its cell: Al"' in shown
    assert re.search(r"plane 1 of \d+", shown)
    assert '<th class="" scope="row">free energy</th>' in shown
    assert "<li" in shown, "it warns: the example has another cell than the training"


DROP = """(() => { const moved = new DataTransfer(); moved.items.add(new File([%s], "dropped"));
  for (const type of ["dragover", "drop"])
    document.getElementById("text").dispatchEvent(
      new DragEvent(type, {dataTransfer: moved, bubbles: true, cancelable: true})); })()"""
DONE = "document.getElementById('said').textContent.startsWith('done')"


@pytest.mark.slow
@pytest.mark.parametrize("form", [name for name, _ in FORMS])
def test_a_dropped_file_is_predicted_and_everything_can_be_downloaded(form, model, tab, tmp_path):
    atoms = ase.Atoms("Al", cell=[4.1, 4.0, 4.2], pbc=True)
    text = text_of(atoms, form)
    with listening(AnswerAlways(endpoint(model), lambda: Replicas.RUN)) as url:
        tab.open(f"{url}/?{form}")
        tab.download_to(tmp_path)
        tab.run(DROP % json.dumps(text))
        tab.until(f"{DONE} && document.getElementById('scale').textContent")
        assert tab.run("[$('slice').width, $('slice').height]") == [480, 468], "as 4.1 Å to 4.0 Å"
        for name in ("json", "csv", "npy"):
            tab.run(f"document.querySelector('[data-save={name}]').click()")
        files = [tmp_path / name for name in ("prediction.json", "dos.csv", "density.npy")]
        deadline = time.monotonic() + 60
        while not all(file.exists() and file.stat().st_size for file in files):
            assert time.monotonic() < deadline, [*tmp_path.iterdir()]
            time.sleep(0.05)
    expected = model.predict(atoms)
    assert json.loads(files[0].read_text())["free_energy"] == pytest.approx(expected.free_energy, abs=1e-4)
    table = np.loadtxt(files[1], delimiter=",", skiprows=1)
    np.testing.assert_allclose(table, np.stack([expected.energy, expected.dos], axis=1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.load(files[2]), expected.density, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_page_says_where_the_token_goes(model, tab):
    with listening(AnswerAlways(endpoint(model, token_sha256=digest(TOKEN)), lambda: Replicas.RUN)) as url:
        tab.open(url)
        tab.run(DROP % json.dumps(json.dumps({"structure": model.surrogate.example()["structure"]})))
        tab.until("$('said').textContent === \"Write the endpoint's token into the field Token\"")
        tab.run("$('token').value = 'correct-horse-battery'; predict()")
        tab.until("$('said').textContent === 'The token is another one'")
        tab.run(f"$('token').value = '{TOKEN}'; predict()")
        tab.until(DONE)


@pytest.mark.slow
def test_the_page_asks_each_model_only_what_it_can_be_asked(model, alloy, tab, tmp_path):
    model.save(tmp_path / "al4")
    settings = EndpointSettings(models={"al4": str(tmp_path / "al4"), "CuAu": str(alloy)}, without_token=True)
    shown = "['temperature', 'forces'].map(name => document.getElementById(name).checkVisibility())"
    with listening(AnswerAlways(web_app(Shelf(settings), settings), lambda: Replicas.RUN)) as url:
        tab.open(url)
        assert tab.run(shown) == [True, True]
        tab.run("document.getElementById('forces').click()")
        tab.run("{ const m = document.getElementById('model'); m.value = 'CuAu'; m.onchange() }")
        assert tab.run(shown) == [False, False]
        for text in ("CuAu" * 4, ", ".join(["Cu", "Au"] * 16), "01" * 16):
            tab.run("document.getElementById('said').textContent = 'predicting'")  # not what it said of the last one
            tab.run(DROP % json.dumps(text))
            said = tab.until("(t => t.startsWith('pred') ? '' : t)(document.getElementById('said').textContent)")
            assert said.startswith("done: formation energy ") == (text != "CuAu" * 4)
        table = tab.run("document.getElementById('energies').innerText")
        assert re.search(r"formation energy\s+-?[\d.]+\s+mRy/atom", table), "no spread without training"
        assert "neighbour shell" in tab.run("document.getElementById('warnings').innerText")
        buttons = "[...document.querySelectorAll('[data-save]')].map(one => one.checkVisibility())"
        assert tab.run(buttons) == [True, True, False, False]
        expected = Model.open(alloy).predict("01" * 16).to_dict()
        said = tab.run("document.getElementById('atoms').getAttribute('aria-label')")
        assert said.startswith("32 atoms in their cell: Cu, Au; coloured by charge [e] from -")
        tab.run("{ const a = document.getElementById('atom'); a.value = 2; a.dispatchEvent(new Event('input')) }")
        charge = f"{expected['charge'][1]:.4f}"
        assert tab.run("document.getElementById('ofatom').innerText") == f"Au charge {charge} e"
        assert charge in tab.run("document.querySelector('tr.chosen').innerText")
        tab.download_to(tmp_path)
        tab.run("document.querySelector('[data-save=atoms]').click()")
        deadline = time.monotonic() + 60
        while not (tmp_path / "atoms.csv").exists() or not (tmp_path / "atoms.csv").stat().st_size:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    head, *rows = [line.split(",") for line in (tmp_path / "atoms.csv").read_text().splitlines()]
    assert head[:6] == ["atom", "element", "x [Å]", "y [Å]", "z [Å]", "charge [e]"]
    np.testing.assert_allclose([float(row[5]) for row in rows], expected["charge"], atol=1e-5)
    atoms = ase.Atoms([row[1] for row in rows], np.array([row[2:5] for row in rows], float), cell=L10.cell, pbc=True)
    assert Model.open(alloy).predict(atoms).to_dict()["charge"] == pytest.approx(expected["charge"], abs=1e-5)


CONTRAST = """(() => {
  const all = [...document.querySelectorAll("*")].filter(one => one.checkVisibility());
  const parse = color => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = (top, low, share = 1) => [0, 1, 2].map(i => low[i] + top[3] * share * (top[i] - low[i]));
  const light = color => color.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0);
  const probe = document.createElement("p");
  probe.style.background = "Canvas"; document.body.append(probe);
  const canvas = parse(getComputedStyle(probe).backgroundColor).slice(0, 3);
  probe.remove();
  const found = [];
  function look(one, text, color, share) {
    let below = canvas;
    const above = [];
    for (let at = one; at; at = at.parentElement) above.unshift(at);
    for (const at of above) {
      below = over(parse(getComputedStyle(at).backgroundColor), below, share);
      share *= Number(getComputedStyle(at).opacity);
    }
    const [a, b] = [light(over(parse(color), below, share)), light(below)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.trim().slice(0, 40)]);
  }
  for (const one of all) {
    const style = getComputedStyle(one);
    if (["SCRIPT", "STYLE", "OPTION"].includes(one.tagName)) continue;
    if (["SELECT", "TEXTAREA"].includes(one.tagName) || ["file", "number"].includes(one.type))
      look(one, one.id, style.color, 1);
    if (one.placeholder) {
      const hint = getComputedStyle(one, "::placeholder");
      look(one, one.placeholder, hint.color, Number(hint.opacity));
    }
    const own = [...one.childNodes].filter(n => n.nodeType === 3 && n.textContent.trim());
    if (own.length) look(one, own[0].textContent, one instanceof SVGElement ? style.fill : style.color, 1);
  }
  for (let t = 0; t <= 1; t += 0.01)  // the names of atoms, black on all shades
    for (const low of [0, -1]) {
      const [r, g, b] = parse(shadesOf([low, 1]).share(t));
      found.push([(light([r, g, b]) + 0.05) / 0.05, `shade ${t}`]);
    }
  return found.sort((a, b) => a[0] - b[0]);
})()"""
REACHED = """[...document.querySelectorAll("a, button, input, select, textarea, [tabindex]")]
  .filter(one => one.checkVisibility()).map(one => one.id || one.textContent)"""
FOCUSED = "(one => one.id || one.textContent)(document.activeElement)"


@pytest.mark.slow
def test_the_page_is_used_by_the_keyboard_and_read_aloud(model, tab, tmp_path):
    """Keys alone do everything, in the order of the page; all has a name, results and errors are announced."""

    def to(name: str) -> None:
        for _ in range(30):
            tab.press("Tab")
            if tab.run(FOCUSED) == name:
                return
        raise AssertionError(f"the keyboard does not reach {name}")

    with listening(AnswerAlways(endpoint(model), lambda: Replicas.RUN)) as url:
        tab.open(f"{url}/?keyboard")
        tab.download_to(tmp_path)
        to("forces")
        tab.press(" ")
        to("example")
        tab.press("Enter")
        tab.until(f"{DONE} && document.getElementById('scale').textContent")
        expected = tab.run(REACHED)
        tab.run("document.querySelector('a').focus()")
        order = [tab.run(FOCUSED)]
        for _ in expected[1:]:
            tab.press("Tab")
            order.append(tab.run(FOCUSED))
        assert order == expected, "focus goes as the page is read"
        assert {"atoms", "colour", "atom", "peratom", "height", "dos.csv"} <= {*order}

        told = tab.read_aloud()
        named = ("image", "img", "application", "region", "group")
        assert [one for one in told if (one[2] or one[0] in named) and not one[1] and one[0] != "RootWebArea"] == []
        roles = [role for role, _, _ in told]
        assert {"status", "alert", "listitem", "rowheader", "columnheader", "application", "slider"} <= {*roles}
        said = tab.run("document.getElementById('said').textContent")
        energy = tab.run("state.answer.free_energy.toFixed(4)")
        assert said == f"done: free energy {energy} eV, its error is unknown, 1 warning", "the cell is another one"
        table = tab.run("$('energies').innerText")
        assert re.search(rf"free energy\s+{energy}\s+unknown\s+eV", table), table
        assert "±" not in tab.run("document.body.innerText"), "an error of a structure unlike the training"
        for name in ("light", "dark"):
            tab.scheme(name)
            worst = tab.run(CONTRAST)
            assert len(worst) > 250, "texts of the page, and 202 shades"
            assert worst[0][0] >= 4.5, (name, worst[:8])

        to("atoms")
        for key in ("ArrowRight", "+"):
            before = tab.run("$('atoms').toDataURL()")
            tab.press(key)
            assert tab.run("$('atoms').toDataURL()") != before
        to("atom")
        tab.press("1")
        assert tab.run("$('ofatom').textContent").startswith("Al force ")
        to("height")
        tab.press("ArrowRight")
        assert tab.run("$('height').getAttribute('aria-valuetext')").startswith("plane 2 of ")
        files = [tmp_path / name for name in ("prediction.json", "atoms.csv", "dos.csv", "density.npy")]
        for file in files:
            to(file.name)
            tab.press("Enter")
        deadline = time.monotonic() + 60
        while not all(file.exists() for file in files):
            assert time.monotonic() < deadline, [*tmp_path.iterdir()]
            time.sleep(0.05)
        tab.run("$('text').value = 'no structure'; $('text').focus()")
        to("Predict")
        tab.press("Enter")
        tab.until("$('said').className === 'wrong'")
        assert "POSCAR" in tab.run("$('said').textContent")
        assert not tab.run("$('result').checkVisibility()")
