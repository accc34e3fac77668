// The page: it opens the store, lays out the panes, and listens to the keyboard.

import "uplot/dist/uPlot.min.css";
import "./explore.css";
import { get, onMoved, Refused, setToken } from "./api.js";
import { close, open, panel, refreshAll } from "./ask.js";
import { clipPane, pan, zoomStep } from "./clip.js";
import { completing } from "./complete.js";
import { blank, h, toast } from "./dom.js";
import { fileButton, ownFile } from "./file.js";
import { labelBar, labelKey } from "./label.js";
import { begin as beginMap, load as loadMap, mapPane, tools as mapTools } from "./map.js";
import { neighboursPane, step as stepNeighbour, tools as neighbourTools } from "./neighbours.js";
import { go, listNights, nightPane } from "./night.js";
import { dark } from "./palette.js";
import { icon } from "./save.js";
import { emit, follow, on, shared } from "./shared.js";
import { set, state, watch } from "./state.js";
import { count, modalities } from "./words.js";

const app = document.getElementById("app");
let filterField;
let filterNote;
let counts;

function failed(error) {
  if (error instanceof Refused && error.status === 401) {
    const field = h("input", { "aria-label": "Token", placeholder: "token", autocomplete: "off" });
    app.replaceChildren(
      h(
        "main.welcome",
        null,
        h("h1", null, "This link needs its token"),
        h("p", null, "A link to a view carries no token, and a token lasts as long as its server. Start ", h("code", null, "sleepfm-index explore"), " on a machine that has the store and paste the token that it prints; the view is kept."),
        h("form.row", { onsubmit: (event) => (event.preventDefault(), setToken(field.value.trim()), start()) }, field, h("button.primary", { type: "submit" }, "Open")),
      ),
    );
    field.focus();
    return;
  }
  app.replaceChildren(
    h("main.welcome", null, h("h1", null, "The store cannot be shown"), h("p", null, error.message), h("button.primary", { type: "button", onclick: start }, "Try again")),
  );
}

async function start() {
  app.replaceChildren(h("p.opening", { role: "status" }, "Opening the store …"));
  beginMap();
  try {
    shared.about = await get("/store");
  } catch (error) {
    failed(error);
    return;
  }
  const { about } = shared;
  document.title = `${about.name} · sleepfm-index`;
  if (!about.clips) {
    app.replaceChildren(
      h("main.welcome", null, h("h1", null, "This store holds no clips yet"), h("p", null, "Build it from a folder of recordings, then reload this page:"), h("pre", null, "sleepfm-index build nights/ --store …")),
    );
    return;
  }
  if (!about.with_modality[state.on]) set({ on: about.modalities.find((m) => about.with_modality[m]) }, { step: false });
  if (state.ask.split(",").some((m) => !about.with_modality[m])) set({ ask: state.on }, { step: false });
  app.replaceChildren(header(), h("main.panes", null, nightPane(), labelBar(), mapPane(), clipPane(), neighboursPane(), weights()), panel(), h("div.toast", { id: "toast", role: "status", hidden: true }), help());
  mapTools();
  neighbourTools();
  // The clip first: it is what the other requests would wait behind.
  if (state.clip === null) set({ clip: await firstClip() }, { step: false });
  else follow();
  // The list of nights waits a moment for the map: they share a processor.
  Promise.race([loadMap(), new Promise((done) => setTimeout(done, 1000))]).then(nights);
  if (state.panel) open();
}

function nights() {
  get("/nights").then((found) => listNights(found.rows)).catch(() => {});
}

async function firstClip() {
  const found = await get("/sql", { statement: `SELECT clip_id FROM clips WHERE ${modalities(shared.about).map((m) => `has_${m}`).join(" AND ")} AND stage NOT IN ('W', 'UNS', 'ART') ORDER BY clip_id LIMIT 1` });
  if (found.rows.length) return found.rows[0].clip_id;
  return (await get("/sql", { statement: "SELECT min(clip_id) AS clip_id FROM clips" })).rows[0].clip_id;
}

function header() {
  const { about } = shared;
  filterField = h("input", {
    id: "filter",
    placeholder: "Filter clips: stage = 'N2' AND nsrr_age > 50",
    "aria-label": "Filter clips by an SQL condition",
    onkeydown: (event) => {
      if (event.key === "Enter") set({ where: filterField.value.trim() });
      if (event.key === "Escape") {
        filterField.value = state.where;
        filterField.blur();
      }
    },
    onchange: () => set({ where: filterField.value.trim() }),
  });
  filterField.value = state.where;
  filterNote = h("span.note", { role: "status" });
  const clear = h("button.icon", { type: "button", "aria-label": "Clear the filter", title: "Clear the filter", onclick: () => ((filterField.value = ""), set({ where: "" })) }, icon("close"));
  const theme = h("button.icon", { type: "button", "aria-label": "Dark or light", title: "Dark or light", onclick: turn }, icon("light"));
  const link = h("button.icon", { type: "button", "aria-label": "Copy a link to this view, without the token", title: "Copy a link to this view, without the token", onclick: copy }, icon("link"));
  const names = () => about.columns.clips.map((c) => c.name);
  counts = h("span.counts.quiet");
  count_();
  return h(
    "header.top",
    null,
    h("a.brand", { href: "#", "aria-label": "sleepfm-index, start again", onclick: (event) => (event.preventDefault(), set({ where: "", like: [], unlike: [], since: null, until: null, span: 30, from: null })) }, h("img", { src: "icon.svg", alt: "", width: "26", height: "26" }), h("span", null, about.name)),
    counts,
    h("div.filter", { "data-on": String(Boolean(state.where)) }, completing(filterField, names), clear, filterNote),
    h("div.right", null, h("button", { type: "button", title: "Ask in SQL (S)", onclick: () => set({ panel: state.panel === "sql" ? "" : "sql" }) }, "SQL"), fileButton(), link, theme, h("button.icon", { type: "button", "aria-label": "Keyboard", title: "Keyboard (?)", onclick: () => document.getElementById("help").showModal() }, "?")),
  );
}

function count_() {
  const { about } = shared;
  const { there, looked_for: looked, known } = about.recordings_at_hand;
  const away = !known || !there ? " · recordings away" : there < looked ? ` · ${count(looked - there, "recording")} away` : "";
  counts.title = `weights ${about.weights.name}`;
  counts.textContent = `${count(about.clips, "clip")} · ${count(about.recordings, "night")} · ${count(about.subjects, "subject")}${away}`;
}

/** Whose vectors these are, said where they are shown. */
function weights() {
  const { name, note, trained } = shared.about.weights;
  const said = note ? `: ${note.replace(/[`]/g, "")}` : "";
  return h("footer.note", null, `Vectors by the weights ${name}${said}`, trained ? "" : " (untrained)");
}

function turn() {
  document.documentElement.dataset.theme = dark() ? "light" : "dark";
  try {
    localStorage.setItem("sleepfm-theme", document.documentElement.dataset.theme);
  } catch {
    // Lasts as long as the page.
  }
  emit("theme");
}

async function copy() {
  const link = `${location.origin}${location.pathname}${location.hash}`;
  try {
    await navigator.clipboard.writeText(link);
    toast("Copied, without the token. A colleague who has the store opens it beside their own server.");
  } catch {
    toast(link);
  }
}

function help() {
  const rows = [
    ["← →", "previous and next clip; with Shift, ten"],
    ["+ −", "zoom the strips out and in"],
    [", .", "pan the strips"],
    ["J K", "next and previous neighbour; Enter goes there"],
    ["/", "filter"],
    ["S", "SQL"],
    ["G", "to the map; its arrow keys walk from clip to clip"],
    ["D", "dark or light"],
    ["Esc", "close what is open"],
  ];
  if (shared.about.annotate)
    rows.push(["W R 1 2 3", "label the stage, and go on"], ["C", "confirm the scorer's stage"], ["A H O N", "label an apnea, hypopnea, arousal, none"], ["U", "take the labels back"]);
  return h(
    "dialog",
    { id: "help", "aria-labelledby": "help-title" },
    h("h2", { id: "help-title" }, "Keyboard"),
    h("dl", null, rows.map(([keys, text]) => [h("dt", null, keys.split(" ").map((k) => h("kbd", null, k))), h("dd", null, text)])),
    h("p.note", null, "Drop a recording anywhere on the page, or choose one with the button beside SQL, to search from it. It is encoded by this server and stays on its machine."),
    h("form", { method: "dialog" }, h("button.primary", null, "Close")),
  );
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || !shared.about) return;
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key === "Escape" && !typing) {
    for (const menu of document.querySelectorAll("details[open]")) menu.open = false;
    if (state.panel) close();
    else if (state.since !== null) set({ since: null, until: null });
    return;
  }
  if (typing) return;
  const act = {
    ArrowLeft: () => go(event.shiftKey ? -10 : -1),
    ArrowRight: () => go(event.shiftKey ? 10 : 1),
    "+": () => zoomStep(-1),
    "=": () => zoomStep(-1),
    "-": () => zoomStep(1),
    ",": () => pan(-0.5),
    ".": () => pan(0.5),
    j: () => stepNeighbour(1),
    k: () => stepNeighbour(-1),
    "/": () => filterField.focus(),
    s: () => set({ panel: "sql" }),
    g: () => document.querySelector(".stage")?.focus(),
    d: turn,
    "?": () => document.getElementById("help").showModal(),
  }[event.key];
  if (act) act();
  else if (!labelKey(event.key)) return;
  event.preventDefault();
});

addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

watch(["clip"], () => {
  if (shared.file) shared.file = null;
  follow();
});
watch(["where"], () => {
  if (filterField && document.activeElement !== filterField) filterField.value = state.where;
});
on("filter-ok", (total) => {
  if (!filterField) return;
  filterField.removeAttribute("aria-invalid");
  filterField.closest(".filter").dataset.on = String(Boolean(state.where));
  filterNote.textContent = state.where ? count(total, "clip") : "";
});
on("filter-error", (error) => {
  if (!filterField || !state.where) return;
  filterField.setAttribute("aria-invalid", "true");
  filterField.closest(".filter").dataset.on = "true";
  filterNote.textContent = error.message;
});
on("columns", mapTools);
on("refresh", async () => {
  try {
    shared.about = await get("/store");
  } catch (error) {
    return toast(error.message);
  }
  if (!shared.about.clips) return start();
  count_();
  nights();
  mapTools();
  neighbourTools();
  shared.night = null;
  return follow({ again: true });
});
onMoved(() => toast("The store has moved on.", h("button", { type: "button", onclick: () => ((document.getElementById("toast").hidden = true), refreshAll()) }, "Show it as it is now")));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => emit("theme"));
shared.another = async () => set({ clip: await firstClip(), from: null });
shared.leaveFile = () => {
  shared.file = null;
  follow();
};
try {
  const said = localStorage.getItem("sleepfm-theme");
  if (said) document.documentElement.dataset.theme = said;
} catch {
  // The system's theme, then.
}
ownFile(app);
start();
