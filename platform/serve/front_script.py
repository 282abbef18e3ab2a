"""The script of the page at `/`: it reads a structure, asks the endpoint, and draws the answer."""

from .front_atoms import ATOMS

READ = r"""
"use strict";
const $ = id => document.getElementById(id);
const about = JSON.parse($("about").textContent);
const model = () => about[$("model").value];
const KINDS = {json: "application/json", sites: "application/json", cif: "chemical/x-cif",
  xyz: "chemical/x-xyz", poscar: "chemical/x-poscar"};

// Of which format a text is.
function kindOf(text) {
  if (/^\s*[{\[]/.test(text)) return "json";
  if (/^\s*([01]+|([A-Z][a-z]?[\s,]+)+[A-Z][a-z]?)\s*$/.test(text)) return "sites";
  if (/^\s*(#[^\n]*\n\s*)*data_/i.test(text)) return "cif";
  return /^\s*\d+\s*\n/.test(text) ? "xyz" : "poscar";
}

const numbers = words => words.map(Number);
const times = (v, cell) => [0, 1, 2].map(i => v[0] * cell[0][i] + v[1] * cell[1][i] + v[2] * cell[2][i]);

// Cell, positions and symbols of a text, to be drawn; null where that is not known.
function atomsOf(text, kind) {
  try {
    const found = {json: ofJson, xyz: ofXyz, poscar: ofPoscar, cif: ofCif, sites: ofSites}[kind](text);
    const whole = found.cell.flat().concat(found.positions.flat()).every(Number.isFinite);
    return whole && found.cell.length === 3 && found.positions.length <= 2000 ? found : null;
  } catch (error) { return null; }
}
// The structures of a file that ASE writes, or of a list.
const rowsOf = file => Array.isArray(file) ? file : file.ids.map(id => file[id]);
// JSON as the body of a request: what is none is a structure, or a file of several.
const asked = given => given.structure !== undefined || given.structures !== undefined ? given
  : given.nextid && given.ids.length > 1 ? {structures: given} : {structure: given};
function ofJson(text) {
  const body = asked(JSON.parse(text)), rows = body.structures || body.structure;
  const s = Array.isArray(rows) || rows.nextid ? rowsOf(rows)[0] : rows;
  if (typeof s === "string") return ofSites(s);
  if (s.lattice) return {cell: s.lattice.matrix, positions: s.sites.map(a => times(a.abc, s.lattice.matrix)),
    symbols: s.sites.map(a => a.species[0].element)};
  const plain = given => {
    const v = given && given.array || given;  // a cell holds one
    if (!v || !v.__ndarray__) return v;
    const [shape, , flat] = v.__ndarray__;
    return shape.length === 1 ? flat : Array.from({length: shape[0]}, (_, i) => flat.slice(3 * i, 3 * i + 3));
  };
  const cell = plain(s.cell), scaled = plain(s.scaled_positions);
  return {cell, positions: scaled ? scaled.map(p => times(p, cell)) : plain(s.positions),
    symbols: (s.symbols || plain(s.numbers)).map(String)};
}
function ofSites(text) {
  const {cell, positions, symbols} = model().sites, trimmed = text.trim();
  const found = /^[01]+$/.test(trimmed) ? [...trimmed].map(digit => symbols[digit]) : trimmed.split(/[\s,]+/);
  return found.length === positions.length ? {cell, positions, symbols: found} : null;
}
function ofXyz(text) {
  const lines = text.trim().split("\n"), n = Number(lines[0]);
  const flat = numbers(/Lattice\s*=\s*"([^"]*)"/.exec(lines[1])[1].trim().split(/\s+/));
  const fields = (/Properties\s*=\s*"?([^\s"]+)/.exec(lines[1]) || [0, "species:S:1:pos:R:3"])[1].split(":");
  const at = {};
  for (let i = 0, column = 0; i < fields.length; column += Number(fields[i + 2]), i += 3) at[fields[i]] = column;
  const rows = lines.slice(2, 2 + n).map(line => line.trim().split(/\s+/));
  return {cell: [flat.slice(0, 3), flat.slice(3, 6), flat.slice(6, 9)],
    positions: rows.map(r => numbers(r.slice(at.pos, at.pos + 3))), symbols: rows.map(r => r[at.species])};
}
function ofPoscar(text) {
  const lines = text.split("\n").map(line => line.trim().split(/\s+/));
  let scale = Number(lines[1][0]);
  const raw = lines.slice(2, 5).map(numbers), counts = numbers(lines[6]);
  const [a, b, c] = raw, volume = Math.abs(a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
    + a[2] * (b[0] * c[1] - b[1] * c[0]));
  if (scale < 0) scale = Math.cbrt(-scale / volume);
  const cell = raw.map(v => v.map(x => scale * x));
  const first = /^s/i.test(lines[7][0]) ? 9 : 8, cartesian = /^[ck]/i.test(lines[first - 1][0]);
  const symbols = counts.flatMap((n, i) => Array(n).fill(lines[5][i]));
  const positions = symbols.map((_, i) => numbers(lines[first + i].slice(0, 3)));
  return {cell, positions: positions.map(p => cartesian ? p.map(x => scale * x) : times(p, cell)), symbols};
}
function ofCif(text) {
  const value = name => parseFloat(new RegExp(`_cell_${name}\\s+(\\S+)`, "i").exec(text)[1]);
  const [a, b, c] = ["length_a", "length_b", "length_c"].map(value);
  const [al, be, ga] = ["angle_alpha", "angle_beta", "angle_gamma"].map(n => value(n) * Math.PI / 180);
  const x = (Math.cos(al) - Math.cos(be) * Math.cos(ga)) / Math.sin(ga), y = Math.cos(be);
  const cell = [[a, 0, 0], [b * Math.cos(ga), b * Math.sin(ga), 0],
    [c * y, c * x, c * Math.sqrt(Math.max(0, 1 - y * y - x * x))]];
  const lines = text.split("\n").map(line => line.trim());
  const names = [], rows = [];
  for (let i = lines.findIndex(line => /^_atom_site_/i.test(line)); i < lines.length; i++) {
    if (/^_atom_site_/i.test(lines[i])) names.push(lines[i].toLowerCase());
    else if (!lines[i] || /^(loop_|_|#|data_)/i.test(lines[i])) break;
    else rows.push(lines[i].split(/\s+/));
  }
  const place = ["x", "y", "z"].map(i => names.indexOf(`_atom_site_fract_${i}`));
  const symbol = Math.max(names.indexOf("_atom_site_type_symbol"), 0);
  return {cell, positions: rows.map(r => times(place.map(p => parseFloat(r[p])), cell)),
    symbols: rows.map(r => (/[A-Z][a-z]?/.exec(r[symbol]) || ["X"])[0])};
}
"""

DRAW = r"""
// The DOS with the Fermi level, as SVG.
function drawDos(answer) {
  const {energy, dos, dos_std: std, fermi_level: fermi} = answer, left = 46, low = 38;
  const w = Math.min(560, $("dos").clientWidth || 560), h = Math.max(200, 0.54 * w);  // letters of one size anywhere
  const top = 1.05 * Math.max(...dos.map((d, i) => d + (std ? std[i] : 0))) || 1, last = energy.length - 1;
  const x = e => left + (w - left - 8) * (e - energy[0]) / (energy[last] - energy[0]);
  const y = d => h - low - (h - low - 8) * Math.max(d, 0) / top;
  const line = values => values.map((v, i) => `${x(energy[i]).toFixed(1)},${y(v).toFixed(1)}`).join(" ");
  const band = std ? line(dos.map((d, i) => d + std[i])) + " "
    + line(dos.map((d, i) => d - std[i])).split(" ").reverse().join(" ") : "";
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20].find(s => (energy[last] - energy[0]) / s < 8) || 50;
  const before = x(fermi) > w / 2;
  let ticks = "";
  for (let e = Math.ceil(energy[0] / step) * step; e <= energy[last]; e += step)
    ticks += `<text x="${x(e)}" y="${h - low + 18}" text-anchor="middle">${+e.toFixed(2)}</text>`;
  $("dos").innerHTML = `<svg viewBox="0 0 ${w} ${h}" role="img" aria-labelledby="dostitle" font-size="13"
    fill="currentColor">
    <title id="dostitle">Density of states over energy; the Fermi level is ${fermi.toFixed(3)} eV</title>
    <polygon points="${band}" fill="var(--blue)" opacity="0.25"/>
    <polyline points="${line(dos)}" fill="none" stroke="var(--blue)" stroke-width="2"/>
    <line x1="${x(fermi)}" x2="${x(fermi)}" y1="8" y2="${h - low}" stroke="var(--red)" stroke-dasharray="5 4"
      stroke-width="2"/>
    <text x="${x(fermi) + (before ? -6 : 6)}" y="20" text-anchor="${before ? "end" : "start"}"
      fill="var(--red)">Fermi level ${fermi.toFixed(3)} eV</text>
    <path d="M${left} 8V${h - low}H${w - 8}" fill="none" stroke="currentColor"/>${ticks}
    <text x="${(w + left) / 2}" y="${h - 4}" text-anchor="middle">energy [eV]</text>
    <text x="${left - 6}" y="18" text-anchor="end">${top.toPrecision(2)}</text>
    <text x="${left - 6}" y="${h - low}" text-anchor="end">0</text>
    <text transform="translate(14 ${h / 2}) rotate(-90)" text-anchor="middle">DOS [1/eV]</text></svg>`;
}

// A .npy file: its shape and numbers.
function npy(buffer) {
  const head = new TextDecoder("latin1").decode(buffer.slice(10, 10 + new DataView(buffer).getUint16(8, true)));
  const shape = /'shape': \(([^)]*)\)/.exec(head)[1].split(",").map(s => s.trim()).filter(Boolean).map(Number);
  const start = 10 + new DataView(buffer).getUint16(8, true);
  const type = /'descr': '<f8'/.test(head) ? Float64Array : Float32Array;
  return {shape, values: new type(buffer.slice(start))};
}

// From 0 to 1, from dark to bright, as matplotlib's viridis.
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const mapped = t => mix(VIRIDIS[Math.min(Math.floor(4 * t), 3)], VIRIDIS[Math.min(Math.floor(4 * t), 3) + 1],
  4 * t - Math.min(Math.floor(4 * t), 3));

function drawSlice() {
  const density = state.density;
  if (!density) return;
  const [nx, ny, nz] = density.shape, k = Number($("height").value), canvas = $("slice"), g = canvas.getContext("2d");
  let least = Infinity, most = -Infinity;
  for (const v of density.values) { least = Math.min(least, v); most = Math.max(most, v); }
  // A plane has the shape that its two cell vectors give it: the first to the right, the second above it.
  const [a, b] = view.atoms ? view.atoms.cell : [[1, 0, 0], [0, 1, 0]];
  const dot = (u, v) => u[0] * v[0] + u[1] * v[1] + u[2] * v[2], ax = Math.sqrt(dot(a, a)), bx = dot(a, b) / ax;
  const by = Math.sqrt(dot(b, b) - bx * bx), left = Math.min(0, bx), scale = 480 / Math.max(ax + Math.abs(bx), by);
  canvas.width = scale * (ax + Math.abs(bx)); canvas.height = scale * by; canvas.style.maxWidth = `${canvas.width}px`;
  g.setTransform(scale * ax / nx, 0, scale * bx / ny, -scale * by / ny, -scale * left, canvas.height);
  for (let i = 0; i < nx; i++) for (let j = 0; j < ny; j++) {
    g.fillStyle = mapped((density.values[(i * ny + j) * nz + k] - least) / (most - least || 1));
    g.fillRect(i, j, 1.1, 1.1);  // no seams
  }
  $("scale").textContent = `plane ${k + 1} of ${nz}, `
    + (view.atoms ? `${ax.toFixed(2)} by ${Math.sqrt(dot(b, b)).toFixed(2)} Å, ` : "not to scale, ")
    + `along the first two cell vectors; dark ${least.toPrecision(3)}, bright ${most.toPrecision(3)} electrons/Å³`;
  canvas.setAttribute("aria-label", `density of electrons, ${$("scale").textContent}`);
  $("height").setAttribute("aria-valuetext", `plane ${k + 1} of ${nz}`);
}
"""

ASK = r"""
const state = {answer: null, density: null, bytes: null};

function say(text, wrong) { $("said").textContent = text; $("said").className = wrong ? "wrong" : ""; }

async function ask(query, accept) {
  const text = $("text").value, kind = kindOf(text), wishes = {};
  const asks = name => model().asks.includes(name);
  if ($("temperature").value && asks("temperature")) wishes.temperature = Number($("temperature").value);
  if ($("forces").checked && !query && asks("forces")) wishes.forces = "mean";
  let body = text, parameters = new URLSearchParams(query);
  if (kind === "json") {
    body = JSON.stringify({...asked(JSON.parse(text)), ...wishes});
  } else if (kind === "sites") body = JSON.stringify({structure: text.trim(), ...wishes});
  else for (const name in wishes) parameters.set(name, wishes[name]);
  const headers = {"Content-Type": KINDS[kind], Accept: accept};
  if ($("token").value) headers.Authorization = "Bearer " + $("token").value;
  const path = `v1/models/${encodeURIComponent($("model").value)}/predict?${parameters}`;
  const reply = await fetch(path, {method: "POST", headers, body});
  if (reply.status === 401)
    throw new Error($("token").value ? "The token is another one" : "Write the endpoint's token into the field Token");
  if (!reply.ok) {
    const why = (await reply.json()).detail;
    throw new Error(kind === "poscar" && /POSCAR/.test(why) ? "Read as a POSCAR, as it is nothing else: " + why : why);
  }
  return reply;
}

function cell(tag, text, kind, scope) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = kind || "";
  if (scope) made.scope = scope;
  return made;
}
function showEnergies(answer) {
  const table = document.createElement("table"), errors = answer.estimated_errors || {}, spreads = answer.std || {};
  const unknown = answer.expected_errors === "unknown";  // then ± would be no error
  table.append(document.createElement("tr"));
  for (const [text, kind] of [["quantity", ""], ["value", "n"], ["error or spread", "n"], ["unit", ""]])
    table.rows[0].append(cell("th", text, kind, "col"));
  const first = Object.entries(answer).filter(([name]) => name === "free_energy");
  for (const [name, value] of [...first, ...Object.entries(answer).filter(([name]) => name !== "free_energy")]) {
    const row = document.createElement("tr"), unit = (answer.units || {})[name] || "";
    if (typeof value !== "number" || !unit || unit === "σ" || name.endsWith("_std")) continue;
    const spread = spreads[name] !== undefined ? spreads[name] : answer[name + "_std"];
    const error = errors[name] !== undefined ? unknown ? "unknown" : "± " + errors[name].toPrecision(2)
      : spread > 1e-9 ? "spread " + spread.toPrecision(2) : "";  // what all trainings share has none
    const shown = Number.isInteger(value) ? value : value.toFixed(4);
    row.append(cell("th", name.replaceAll("_", " "), "", "row"), cell("td", shown, "n"), cell("td", error, "n"),
      cell("td", unit));
    table.append(row);
  }
  if (![...table.rows].some((row, i) => i && row.cells[2].textContent))
    for (const row of table.rows) row.cells[2].remove();
  $("energies").replaceChildren(table);
  const said = answer.expected_errors ? [`Errors to expect: ${answer.expected_errors}.`] : [];
  if (table.textContent.includes("±")) said.push("± is the error that the model estimates.");
  if (table.textContent.includes("spread ")) said.push("A spread of its trainings is no error.");
  $("errors").textContent = said.join(" ");
  const warnings = answer.warnings || [], list = document.createElement("ul");
  list.append(...warnings.map(text => cell("li", text)));
  $("warnings").replaceChildren(...(warnings.length ? [list] : []));
  // What is announced: the first number with its error, where that is known, and how much there is to be wary of.
  const [, main] = table.rows, number = `${warnings.length} warning${warnings.length === 1 ? "" : "s"}`;
  const words = main ? [...main.cells].filter(one => !unknown || !/^(unknown|spread)/.test(one.textContent)) : [];
  return [words.map(one => one.textContent).filter(Boolean).join(" "), unknown ? "its error is unknown" : "",
    warnings.length ? number : ""].filter(Boolean).join(", ");
}

async function predict() {
  say("predicting …"); $("result").hidden = true;
  try {
    const reply = await (await ask("", KINDS.json)).json();
    const answer = reply.predictions ? reply.predictions[0] : reply;
    state.answer = answer; state.density = state.bytes = null;
    view.atoms = atomsOf($("text").value, kindOf($("text").value));
    for (const [id, there] of [["dosbox", answer.dos], ["slicebox", false], ["result", true]]) $(id).hidden = !there;
    const main = showEnergies(answer); showAtoms(answer);
    for (const [what, there] of [["csv", answer.dos], ["npy", model().density && !reply.predictions],
      ["atoms", view.columns.length]])
      document.querySelector(`[data-save=${what}]`).hidden = !there;
    if (answer.dos) drawDos(answer);
    if (model().density && !reply.predictions) {
      state.bytes = await (await ask("quantity=density", "application/x-npy")).arrayBuffer();
      state.density = npy(state.bytes);
      $("height").max = state.density.shape[2] - 1; $("height").value = 0; $("slicebox").hidden = false;
      drawSlice();
    }
    const others = reply.predictions ? `; the first of ${reply.predictions.length} structures is shown` : "";
    say(`done${main && ": "}${main}${others}`);
  } catch (error) { say(error.message, true); }
}

function save(name, parts) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts)); link.download = name; link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
const SAVE = {
  atoms: () => save("atoms.csv", [atomsTable()]),
  json: () => state.answer && save("prediction.json", [JSON.stringify(state.answer, null, 1)]),
  csv: () => state.answer && state.answer.dos && save("dos.csv", ["energy [eV],dos [1/eV]\n"
    + state.answer.energy.map((e, i) => `${e},${state.answer.dos[i]}`).join("\n") + "\n"]),
  npy: () => state.bytes && save("density.npy", [state.bytes]),
};
for (const button of document.querySelectorAll("[data-save]")) button.onclick = () => SAVE[button.dataset.save]();

$("form").onsubmit = event => { event.preventDefault(); predict(); };
$("example").onclick = () => { $("text").value = JSON.stringify(model().example); predict(); };
$("model").onchange = () => {
  for (const one of document.querySelectorAll("[data-asks]")) one.hidden = !model().asks.includes(one.dataset.asks);
};
$("model").onchange();
$("file").onchange = async () => {
  if (!$("file").files[0]) return;
  $("text").value = await $("file").files[0].text();
  predict();
};
$("height").oninput = drawSlice;
addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", () => document.body.classList.remove("over"));
addEventListener("drop", async event => {
  event.preventDefault(); document.body.classList.remove("over");
  const file = event.dataTransfer.files[0];
  $("text").value = file ? await file.text() : event.dataTransfer.getData("text");
  predict();
});
const turn = (x, y) => { view.turn += x; view.tilt = Math.max(-1.57, Math.min(1.57, view.tilt + y)); drawAtoms(); };
$("atoms").onpointermove = event => { if (event.buttons) turn(event.movementX / 100, event.movementY / 100); };
$("atoms").onkeydown = event => {
  const moves = {ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1]}[event.key];
  if (moves) { event.preventDefault(); turn(...moves); }
  if (event.key === "+" || event.key === "-") { view.zoom *= event.key === "+" ? 1.15 : 1 / 1.15; drawAtoms(); }
};
$("colour").onchange = drawAtoms;
$("atom").oninput = choose;
addEventListener("resize", () => { drawAtoms(); if (state.answer && state.answer.dos) drawDos(state.answer); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAtoms);
if (location.hash === "#example") $("example").click();
"""

SCRIPT = READ + ATOMS + DRAW + ASK
