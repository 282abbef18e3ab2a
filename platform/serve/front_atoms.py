"""What the page does with atoms: draws them, coloured by what is predicted of each, and puts them into a table."""

ATOMS = r"""
const NAMES = ("X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
  + "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba").split(" ");
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#f0e442"];
const MOST_ROWS = 300;
const ink = () => getComputedStyle(document.body).color;
const nameOf = symbol => /^\d+$/.test(symbol) ? NAMES[Number(symbol)] || symbol : symbol;
const view = {atoms: null, whole: false, columns: [], turn: 0.5, tilt: 0.35, zoom: 1, chosen: 0};

// What is predicted of each atom, as columns of a table.
function columnsOf(answer) {
  const found = [];
  for (const name of ["charge", "moment", "forces"]) {
    const values = answer[name], spread = answer[name + "_std"];
    const unit = ((answer.units || {})[name] || "").replace("mu_B", "μ_B");
    if (!Array.isArray(values)) continue;
    if (Array.isArray(values[0])) {
      found.push({label: "force", unit, values: values.map(v => Math.hypot(...v)), drawn: true});
      ["x", "y", "z"].forEach((axis, i) => found.push({label: "force " + axis, unit, values: values.map(v => v[i])}));
      continue;
    }
    found.push({label: name, unit, values, drawn: true});
    if (spread) found.push({label: name + " spread", unit, values: spread, aside: true});
  }
  return found;
}
const symbolOf = i => view.whole ? nameOf(view.atoms.symbols[i]) : "";
const withUnit = column => `${column.label} [${column.unit}]`;
const cells = i => [i + 1, symbolOf(i), ...view.columns.map(column => column.values[i].toFixed(4))];

function atomsTable() {
  const place = i => view.whole ? view.atoms.positions[i] : ["", "", ""];
  const head = ["atom", "element", "x [Å]", "y [Å]", "z [Å]", ...view.columns.map(withUnit)];
  const rows = view.columns[0].values.map((_, i) =>
    [i + 1, symbolOf(i), ...place(i), ...view.columns.map(column => column.values[i])]);
  return [head, ...rows].map(row => row.join(",") + "\n").join("");
}

function showAtoms(answer) {
  view.columns = columnsOf(answer); view.chosen = 0;
  const drawable = view.atoms ? view.atoms.symbols.length : 0;
  const n = view.columns.length ? view.columns[0].values.length : answer.n_atoms || drawable;
  view.whole = view.atoms !== null && drawable === n;
  $("undrawn").textContent = view.atoms && !view.whole ? `Of ${n} atoms those are drawn that stand in the text.` : "";
  const before = $("colour").value;
  const drawn = view.whole ? view.columns.filter(column => column.drawn).map(column => column.label) : [];
  $("colour").replaceChildren(...["element", ...drawn].map(text => cell("option", text)));
  $("colour").value = drawn.includes(before) ? before : drawn[0] || "element";
  $("view").hidden = !view.atoms; $("atombox").hidden = !view.columns.length;
  $("atom").value = ""; $("atom").max = n;
  for (const one of [$("atom").parentNode, $("ofatom")]) one.hidden = !view.columns.length;
  if (view.columns.length) {
    const table = document.createElement("table"), head = document.createElement("tr");
    table.append(cell("caption", n > MOST_ROWS ? `the first ${MOST_ROWS} of ${n} atoms; atoms.csv has all` : ""));
    for (const text of ["atom", "element", ...view.columns.map(withUnit)]) head.append(cell("th", text, "n", "col"));
    table.createTHead().append(head);
    const body = table.createTBody();
    for (let i = 0; i < Math.min(n, MOST_ROWS); i++) {
      const row = body.insertRow();
      for (const value of cells(i)) row.append(cell("td", value, "n"));
      row.onclick = () => { $("atom").value = i + 1; choose(); };
    }
    $("peratom").replaceChildren(table);
  }
  choose();
}

// One atom, by its number: said, ringed in the picture, and marked in the table.
function choose() {
  const n = view.columns.length ? view.columns[0].values.length : 0, number = Number($("atom").value);
  view.chosen = number >= 1 && number <= n ? Math.floor(number) : 0;
  const i = view.chosen - 1;
  $("ofatom").textContent = view.chosen ? `${symbolOf(i)} ` + view.columns.filter(column => !column.aside)
    .map(column => `${column.label} ${column.values[i].toFixed(4)} ${column.unit}`).join(", ") : "";
  for (const row of $("peratom").querySelectorAll("tbody tr")) row.classList.toggle("chosen", row.rowIndex === i + 1);
  drawAtoms();
}

// Numbers as colours: from pale to blue; or from blue over pale to orange if there are both signs.
const mix = (a, b, t) => `rgb(${a.map((v, i) => Math.round(v + t * (b[i] - v)))})`;
const BLUE = [44, 123, 182], PALE = [238, 238, 238], ORANGE = [214, 96, 30];
function shadesOf(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) { low = Math.min(low, v); high = Math.max(high, v); }
  const both = low < 0 && high > 0;
  if (both) { high = Math.max(-low, high); low = -high; }
  const share = t => !both ? mix(PALE, BLUE, t) : t < 0.5 ? mix(BLUE, PALE, 2 * t) : mix(PALE, ORANGE, 2 * t - 1);
  return {low, high, share, of: v => share((v - low) / (high - low || 1))};
}

// The atoms, turned by two angles.
function drawAtoms() {
  const {atoms, turn, tilt} = view, canvas = $("atoms"), g = canvas.getContext("2d");
  const letter = 13 * canvas.width / (canvas.clientWidth || canvas.width);  // of one size on the screen
  g.clearRect(0, 0, canvas.width, canvas.height);
  if (!atoms) return;
  const corners = [0, 1, 2, 3, 4, 5, 6, 7].map(n => times([n & 1, n >> 1 & 1, n >> 2 & 1], atoms.cell));
  const middle = times([0.5, 0.5, 0.5], atoms.cell);
  const turned = p => {
    const [x, y, z] = p.map((v, i) => v - middle[i]);
    const u = x * Math.cos(turn) - y * Math.sin(turn), w = x * Math.sin(turn) + y * Math.cos(turn);
    return [u, z * Math.cos(tilt) - w * Math.sin(tilt), z * Math.sin(tilt) + w * Math.cos(tilt)];
  };
  const reach = Math.max(...corners.map(p => Math.hypot(...p.map((v, i) => v - middle[i]))));
  const scale = 0.42 * view.zoom * canvas.height / reach;
  const at = ([x, y]) => [canvas.width / 2 + scale * x, canvas.height / 2 - scale * y];
  g.strokeStyle = ink(); g.lineWidth = 1.5; g.globalAlpha = 0.6; g.beginPath();
  for (let n = 0; n < 8; n++) for (const bit of [1, 2, 4]) if (!(n & bit)) {
    g.moveTo(...at(turned(corners[n]))); g.lineTo(...at(turned(corners[n | bit])));
  }
  g.stroke(); g.globalAlpha = 1;
  const kinds = [...new Set(atoms.symbols)], n = atoms.symbols.length;
  const column = view.columns.find(one => one.drawn && one.label === $("colour").value);
  const shades = column && shadesOf(column.values);
  const placed = atoms.positions.map((p, i) => [turned(p), i]).sort((a, b) => b[0][2] - a[0][2]);
  const r = Math.max(3, 0.55 * scale);
  g.textAlign = "center"; g.textBaseline = "middle"; g.font = `600 ${Math.min(0.8 * r, 18)}px system-ui`;
  for (const [p, i] of placed) {
    const [x, y] = at(p), kind = kinds.indexOf(atoms.symbols[i]);
    const shade = g.createRadialGradient(x - r / 3, y - r / 3, r / 8, x, y, r);
    if (!column) shade.addColorStop(0, "#fff");
    shade.addColorStop(column ? 0.6 : 0.35, column ? shades.of(column.values[i]) : COLOURS[kind % COLOURS.length]);
    shade.addColorStop(1, column ? "#888" : "#222");
    g.fillStyle = shade; g.beginPath(); g.arc(x, y, r, 0, 7); g.fill();
    if (column && n <= 200 && r > 8) { g.fillStyle = "#000"; g.fillText(nameOf(atoms.symbols[i]), x, y); }
    if (i === view.chosen - 1) { g.strokeStyle = ink(); g.lineWidth = 4; g.stroke(); }
  }
  g.textAlign = "left"; g.textBaseline = "alphabetic"; g.font = `${letter}px system-ui`;
  const counts = kinds.map(kind => atoms.symbols.filter(symbol => symbol === kind).length);
  kinds.forEach((kind, i) => {
    g.fillStyle = column ? ink() : COLOURS[i % COLOURS.length];
    const below = (1.4 + 1.3 * i) * letter;
    if (!column) g.fillText("●", 12, below);
    g.fillStyle = ink(); g.fillText(`${nameOf(kind)} ${counts[i]}`, column ? 12 : 12 + 1.1 * letter, below);
  });
  let said = `${n} atom${n === 1 ? " in its" : "s in their"} cell: ${kinds.map(nameOf).join(", ")}`;
  if (column) {
    const left = 12, wide = 8 * letter, low = canvas.height - 2.8 * letter;
    const bar = g.createLinearGradient(left, 0, left + wide, 0);
    for (const t of [0, 0.5, 1]) bar.addColorStop(t, shades.share(t));
    g.fillStyle = bar; g.fillRect(left, low, wide, 14);
    g.fillStyle = ink();
    g.fillText(withUnit(column), left, low - 0.5 * letter);
    g.fillText(shades.low.toFixed(3), left, low + 14 + letter);
    g.textAlign = "right"; g.fillText(shades.high.toFixed(3), left + wide, low + 14 + letter);
    said += `; coloured by ${withUnit(column)} from ${shades.low.toFixed(3)} to ${shades.high.toFixed(3)}`;
  }
  canvas.setAttribute("aria-label", said);
}
"""
