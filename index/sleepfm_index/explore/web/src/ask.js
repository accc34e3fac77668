// The side panel: SQL with saved questions, and what the lasso holds.

import { download, get, post, settle } from "./api.js";
import { blank, h, toast } from "./dom.js";
import { completing } from "./complete.js";
import { labelForm } from "./label.js";
import { rest } from "./map.js";
import { nameColours } from "./palette.js";
import { icon } from "./save.js";
import { emit, on, shared } from "./shared.js";
import { set, state, watch } from "./state.js";
import { cell, count } from "./words.js";

const FIRST = [
  ["Stages", "SELECT stage, count(*) AS clips, count(DISTINCT subject_id) AS subjects\nFROM clips GROUP BY stage ORDER BY stage"],
  ["Nights", "SELECT recording_id, subject_id, count(*) AS clips, sum((stage = 'N3')::int) AS n3\nFROM clips GROUP BY ALL ORDER BY recording_id"],
  ["Events", "SELECT type, subtype, count(*) AS n, round(avg(duration_s), 1) AS seconds\nFROM events GROUP BY ALL ORDER BY n DESC"],
];
const ROWS = 500;

let parts = {};

export function panel() {
  parts.body = h("div.body");
  parts.tabs = h("div.tabs", { role: "tablist", "aria-label": "Ask" });
  parts.panel = h(
    "aside.panel",
    { id: "panel", "aria-label": "Ask", hidden: true },
    h("header", null, parts.tabs, h("button.icon", { type: "button", "aria-label": "Close (Esc)", title: "Close (Esc)", onclick: close }, icon("close"))),
    parts.body,
  );
  watch(["panel"], open);
  watch(["sql"], () => state.panel === "sql" && parts.text && parts.text.value !== state.sql && open());
  on("selection", () => state.panel === "selection" && open());
  on("map", () => state.panel === "selection" && open());
  return parts.panel;
}

export function close() {
  set({ panel: "" });
}

export function open() {
  const which = state.panel;
  parts.panel.hidden = !which;
  document.body.classList.toggle("with-panel", Boolean(which));
  if (!which) return;
  const tab = (name, text) =>
    h("button", { type: "button", role: "tab", "aria-selected": String(name === which), onclick: () => set({ panel: name }, { step: false }) }, text);
  parts.tabs.replaceChildren(tab("sql", "SQL"), tab("selection", "Selection"));
  parts.body.replaceChildren(which === "selection" ? selection() : sql());
  if (which === "sql") {
    parts.text.focus({ preventScroll: true });
    if (state.sql) run();
  }
}

const key = () => `sleepfm-saved-${shared.about.uuid}`;
function saved() {
  try {
    return JSON.parse(localStorage.getItem(key()) ?? "[]");
  } catch {
    return [];
  }
}
function keep(list) {
  try {
    localStorage.setItem(key(), JSON.stringify(list));
  } catch {
    toast("This browser keeps nothing; the question is in the address, which you can bookmark.");
  }
}

function sql() {
  parts.text = h("textarea", { rows: "5", "aria-label": "SQL statement", placeholder: "SELECT … FROM clips", onkeydown: (event) => (event.metaKey || event.ctrlKey) && event.key === "Enter" && (event.preventDefault(), run()) });
  parts.text.value = state.sql || FIRST[0][1];
  parts.answer = h("div.answer");
  const names = () => Object.values(shared.about.columns).flatMap((columns) => columns.map((c) => c.name)).concat("clips", "events", "recordings");
  const list = h("div.saved");
  const fill = () =>
    list.replaceChildren(
      ...FIRST.map(([name, text]) => pick(name, text)),
      ...saved().map(([name, text]) => pick(name, text, () => (keep(saved().filter(([n]) => n !== name)), fill()))),
    );
  const pick = (name, text, drop) =>
    h("span.saved-one", null, h("button.quiet", { type: "button", onclick: () => ((parts.text.value = text), run()) }, name), drop && h("button.quiet", { type: "button", "aria-label": `Forget ${name}`, onclick: drop }, "×"));
  const title = h("input", { placeholder: "Name to save it by", "aria-label": "Name to save it by" });
  const form = h(
    "form.row",
    { onsubmit: (event) => (event.preventDefault(), title.value.trim() && (keep([...saved().filter(([n]) => n !== title.value.trim()), [title.value.trim(), parts.text.value]]), (title.value = ""), fill())) },
    h("button.primary", { type: "button", onclick: run, title: "Ctrl+Enter" }, "Run"),
    title,
    h("button", { type: "submit" }, "Save"),
  );
  fill();
  return h("div", null, list, completing(parts.text, names), form, parts.answer);
}

async function run() {
  const statement = parts.text.value.trim();
  set({ sql: statement });
  parts.answer.replaceChildren(h("p.note", { role: "status" }, "Asking …"));
  try {
    const found = await get("/sql", { statement, limit: ROWS });
    parts.answer.replaceChildren(
      tableOf(found, (format) => download("/sql", { statement, limit: 10000000, format }, `answer.${format}`)),
    );
  } catch (error) {
    parts.answer.replaceChildren(blank("The store cannot answer this", error.message));
  }
}

function tableOf(found, save) {
  const names = found.columns.map((c) => c.name);
  const numeric = new Set(found.columns.filter((c) => /int|float|double|decimal/.test(c.type)).map((c) => c.name));
  const clip = names.includes("clip_id");
  const go = (row) => set({ clip: row.clip_id, from: null });
  return h(
    "div",
    null,
    h("div.row.between", null, h("span.note", null, found.note), h("span", null, ["csv", "parquet"].map((f) => h("button.quiet", { type: "button", onclick: () => save(f).catch((e) => toast(e.message)) }, f === "csv" ? "CSV" : "Parquet")))),
    found.rows.length
      ? h(
          "div.scroll",
          { tabindex: "0", role: "region", "aria-label": "Answer" },
          h(
            "table",
            null,
            h("thead", null, h("tr", null, names.map((n) => h(numeric.has(n) ? "th.number" : "th", { scope: "col" }, n)))),
            h(
              "tbody",
              null,
              found.rows.slice(0, ROWS).map((row) =>
                h(
                  clip ? "tr.go" : "tr",
                  clip ? { tabindex: "0", onclick: () => go(row), onkeydown: (e) => e.key === "Enter" && go(row) } : null,
                  names.map((n) => h(numeric.has(n) ? "td.number" : "td", null, cell(row[n]))),
                ),
              ),
            ),
          ),
        )
      : blank("No rows", "The statement is fine, and nothing fits it."),
  );
}

function selection() {
  const ids = shared.selection;
  if (!ids.length)
    return blank("Nothing selected", "Choose the lasso of the map, or hold Shift, and draw around clips.");
  const columns = ["recording_id", "subject_id", "start_s", "stage"];
  const listed = h("div.answer");
  post("/clips", { clips: ids.slice(0, 200), columns })
    .then((found) => {
      found.note = ids.length > 200 ? `the first 200 of ${ids.length.toLocaleString("en")} clips` : count(ids.length, "clip");
      listed.replaceChildren(tableOf(found, (format) => download("/clips", { format }, `selection.${format}`, { clips: ids })));
    })
    .catch((error) => listed.replaceChildren(blank("No table", error.message)));
  return h(
    "div",
    null,
    h("p.big", null, count(ids.length, "clip")),
    h(
      "div.row",
      null,
      h("button", { type: "button", onclick: () => set({ like: ids.filter((id) => id !== state.clip).slice(0, 200), unlike: [] }) }, "Search from these"),
      h("button", { type: "button", onclick: () => ((shared.selection = []), open()) }, "Clear"),
    ),
    histogram(new Set(ids)),
    shared.about.annotate
      ? labelForm(ids)
      : h("p.note", null, "To label them, start the server with --allow-annotate."),
    listed,
  );
}

/** Shares of the colouring's values in the selection, against the rest of the map. */
function histogram(chosen) {
  const { drawn, colours } = rest();
  if (!drawn) return "";
  let bins;
  let of;
  if (colours.kind === "name") {
    bins = colours.names.slice(0, 12);
    of = (at) => bins.indexOf(colours.values[at]);
  } else {
    const steps = 10;
    const span = colours.high - colours.low || 1;
    bins = Array.from({ length: steps }, (_, i) => Number((colours.low + (span * i) / steps).toPrecision(3)).toLocaleString("en"));
    of = (at) => (Number.isNaN(colours.values[at]) ? -1 : Math.min(steps - 1, Math.floor(((colours.values[at] - colours.low) / span) * steps)));
  }
  const inside = new Array(bins.length).fill(0);
  const outside = new Array(bins.length).fill(0);
  drawn.ids.forEach((id, at) => {
    const bin = of(at);
    if (bin >= 0) (chosen.has(id) ? inside : outside)[bin]++;
  });
  const [a, b] = [inside, outside].map((list) => Math.max(1, list.reduce((x, y) => x + y, 0)));
  const most = Math.max(...bins.map((_, i) => Math.max(inside[i] / a, outside[i] / b)), 1e-9);
  const own = colours.kind === "name" ? nameColours(colours.names) : null;
  const by = state.by.replace(/^\w+:/, "");
  return h(
    "figure.histogram",
    null,
    h("figcaption", null, `${by}: selection against the rest`),
    bins.map((name, i) => {
      const [x, y] = [inside[i] / a, outside[i] / b];
      return h(
        "div.bin",
        { title: `${name}: ${(100 * x).toFixed(1)} % of the selection, ${(100 * y).toFixed(1)} % of the rest` },
        h("span.label", null, name),
        h("span.bars", null, h("i", { style: { width: `${(100 * x) / most}%`, background: own?.[i] ?? "var(--accent)" } }), h("i.rest", { style: { width: `${(100 * y) / most}%` } })),
        h("span.value", null, `${Math.round(100 * x)} %`, h("small", null, ` / ${Math.round(100 * y)} %`)),
      );
    }),
  );
}

export function refreshAll() {
  settle();
  emit("refresh");
}
