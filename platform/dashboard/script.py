"""What a live page runs in the browser: it asks for news, and draws what has changed."""

# A study's page.  Plotly.react keeps what the reader has zoomed or hidden, as long as uirevision stays.
STUDY = """
const at = id => document.getElementById(id), options = JSON.parse(at("options").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
let tag = "", last = null;

function theme(layout) {
  const ink = dark.matches ? "#dddddd" : "#1c1c1c", faint = dark.matches ? "#3a3a3a" : "#e6e6e6";
  const axes = Object.fromEntries(Object.keys(layout).filter(k => /^[xy]axis/.test(k)).map(
    k => [k, { ...layout[k], color: ink, gridcolor: faint, linecolor: ink, tickcolor: ink }]));
  return { ...layout, ...axes, uirevision: "kept", paper_bgcolor: "transparent", plot_bgcolor: "transparent",
    modebar: { bgcolor: "transparent", color: faint, activecolor: ink }, font: { ...layout.font, color: ink } };
}

function draw(found) {
  last = found;
  document.title = `${found.state}: ${found.name}`;
  at("state").textContent = found.state;
  at("state").className = `state ${found.state}`;
  at("words").textContent = found.words;
  at("progress").max = found.most;
  at("progress").value = found.done;
  at("progress").hidden = found.state === "ended";  // it may have ended before its most trials
  at("count").textContent = `${found.done} of at most ${found.most} trials`;
  at("overview").innerHTML = found.overview;
  const heading = at("trials").querySelector("th[aria-sort]");
  at("trials").innerHTML = found.trials;
  if (heading) {
    const again = at("trials").querySelectorAll("th")[heading.cellIndex];
    while (again && again.getAttribute("aria-sort") !== heading.getAttribute("aria-sort")) sortBy(again);
  }
  for (const section of document.querySelectorAll("section[data-figure]")) {
    const name = section.dataset.figure, reason = found.left_out[name];
    section.querySelector(".reason").textContent = reason ? `Not yet: ${reason}.` : "";
    at(name).hidden = Boolean(reason);  // before it is drawn: what is hidden has no width
    if (!reason) Plotly.react(name, found.figures[name].data, theme(found.figures[name].layout), options);
  }
}

async function look() {
  try {
    const answer = await fetch(location.pathname + "/data", { headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status === 200) { tag = answer.headers.get("ETag"); draw(await answer.json()); }
    if (answer.status >= 400) throw new Error((await answer.json()).detail);
    at("trouble").textContent = "";
  } catch (error) {
    at("trouble").textContent = `No news: ${error.message}. Trying again.`;
  }
  setTimeout(look, document.hidden ? 20000 : 4000);
}

dark.addEventListener("change", () => last && draw(last));
addEventListener("DOMContentLoaded", look);
"""

# The list of studies: its rows are made again by the server.
LIST = """
async function look() {
  const trouble = document.getElementById("trouble");
  try {
    const answer = await fetch("/list");
    if (!answer.ok) throw new Error((await answer.json()).detail);
    document.getElementById("studies").innerHTML = await answer.text();
    trouble.textContent = "";
  } catch (error) {
    trouble.textContent = `No news: ${error.message}. Trying again.`;
  }
  setTimeout(look, document.hidden ? 20000 : 4000);
}
addEventListener("DOMContentLoaded", look);
"""
