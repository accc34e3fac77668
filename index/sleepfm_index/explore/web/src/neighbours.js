// The neighbours: the clips whose vectors are nearest, a column for each target.

import { download, latest, get, table } from "./api.js";
import { blank, h, s, soon, toast } from "./dom.js";
import { stageColour, token } from "./palette.js";
import { saveMenu } from "./save.js";
import { emit, on, shared } from "./shared.js";
import { set, state, watch } from "./state.js";
import { lanes, modalities, targets, timeOf, titled } from "./words.js";

let parts = {};
let strips = new Map(); // `${clip} ${slot}` to strip
let early = null; // the clip whose neighbours were asked for before its columns are here
const asked = latest();
const drew = latest();

export function neighboursPane() {
  parts.head = h("div.tools");
  parts.examples = h("div.examples");
  parts.columns = h("div.columns");
  parts.note = h("p.note");
  const pane = h(
    "section.pane.neighbours",
    { id: "neighbours", "aria-labelledby": "neighbours-title" },
    h("header", null, h("h2", { id: "neighbours-title" }, "Neighbours"), parts.head, h("div.right", null, tableMenu(), saveMenu("neighbours", drawing))),
    parts.examples,
    parts.columns,
    parts.note,
  );
  on("clip-asked", (id) => {
    if (state.since !== null && state.until !== null) return; // a stretch is of the clip's recording
    early = id;
    load();
  });
  on("clip", (row) => {
    if (early !== row.clip_id) load();
    early = null;
  });
  on("file", load);
  on("clip-error", () => {
    early = null;
    asked(() => {});
    shared.hits = {};
    parts.note.textContent = "";
    whole("No clip", "Neighbours are those of a clip; choose one.");
    emit("hits");
  });
  on("theme", render);
  watch(["ask", "k", "exclude", "spread", "exact", "where", "like", "unlike", "since", "until"], () => {
    tools();
    load();
  });
  return pane;
}

export function tools() {
  const active = state.ask.split(",");
  const having = modalities(shared.about);
  const toggle = (m) => {
    const next = active.includes(m) ? active.filter((x) => x !== m) : [...active, m].slice(1 - having.length || -1);
    if (next.length) set({ ask: having.filter((x) => next.includes(x)).join(",") });
  };
  const options = [
    ["subject", "own subject left out"],
    ["recording", "own night left out"],
    ["none", "nothing left out"],
  ];
  const exclude = h(
    "select",
    { "aria-label": "Leave out", onchange: () => set({ exclude: exclude.value }) },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  exclude.value = state.exclude;
  const k = h("input", { type: "number", min: "1", max: "24", "aria-label": "Neighbours per column", onchange: () => set({ k: Math.max(1, Math.min(24, Number(k.value) || 5)) }) });
  k.value = state.k;
  const spread = h("input", { type: "number", min: "0", step: "30", placeholder: "any", "aria-label": "Seconds between hits of one night", onchange: () => set({ spread: Number(spread.value) || null }) });
  spread.value = state.spread ?? "";
  const exact = h("input", { type: "checkbox", onchange: () => set({ exact: exact.checked ? "1" : null }) });
  exact.checked = Boolean(state.exact);
  parts.head.replaceChildren(
    h(
      "div.segments.several",
      { role: "group", "aria-label": "Search with" },
      h("span.lead", null, "Search with"),
      having.map((m) =>
        h("button", { type: "button", "aria-pressed": String(active.includes(m)), title: `Search with ${m}; several are averaged`, onclick: () => toggle(m) }, titled(shared.about, m)),
      ),
    ),
    h(
      "details.menu.options",
      null,
      h("summary", null, "Options"),
      h(
        "div.choices.form",
        null,
        h("label", null, "Leave out", exclude),
        h("label", null, "Per column", k),
        h("label", null, "Seconds apart in one night", spread),
        h("label.check", null, exact, "Compare with every clip (exact)"),
      ),
    ),
  );
}

function tableMenu() {
  const run = async (target, format) => {
    menu.open = false;
    try {
      await download("/query", { ...question(target), k: Math.max(state.k, 100), format }, `neighbours-${target}.${format}`);
    } catch (error) {
      toast(error.message);
    }
  };
  const menu = h(
    "details.menu",
    null,
    h("summary", { title: "Save the hundred nearest as a table" }, "Table"),
    h(
      "div.choices",
      null,
      targets(shared.about).map(([target, text]) =>
        h("div.pair", null, h("span", null, text), ["csv", "parquet"].map((f) => h("button", { type: "button", onclick: () => run(target, f) }, f === "csv" ? "CSV" : "Parquet"))),
      ),
    ),
  );
  return menu;
}

function question(to) {
  const common = {
    modality: state.ask,
    to,
    k: state.k,
    exclude: state.exclude,
    min_gap: state.spread,
    exact: state.exact ? "true" : null,
    where: state.where,
  };
  if (shared.file) return { ...common, file: shared.file.key, from_s: shared.file.at };
  if (state.since !== null && state.until !== null && shared.row)
    return { ...common, recording: shared.row.recording_id, from_s: state.since, until_s: state.until, like: state.like, unlike: state.unlike };
  return { ...common, clip: state.clip, like: state.like.filter((id) => id !== state.clip), unlike: state.unlike };
}

/** One sentence instead of the columns. */
function whole(title, text) {
  parts.columns.classList.remove("loading");
  parts.columns.classList.add("whole");
  parts.columns.replaceChildren(blank(title, text));
}

/** Why a column is empty, as the note of the answer says. */
function why(note) {
  const said = /; ((?:no clip|[\d,]+ clips meet).*)$/.exec(note ?? "")?.[1];
  return said?.replace("--exclude none keeps its own", "see Options to leave out less");
}

const load = soon(async () => {
  if (!shared.row && !shared.file && early === null) return;
  examples();
  if (!parts.columns.querySelector(".card")) whole("Searching …");
  parts.columns.classList.add("loading");
  if (shared.file) parts.note.textContent = "Encoding this clip of your file; the first one also loads the encoders …";
  const wanted = targets(shared.about);
  const found = await asked((signal) =>
    Promise.all(
      wanted.map(async ([to]) => {
        try {
          return await get("/query", question(to), signal);
        } catch (error) {
          if (error.name === "AbortError") throw error;
          return { error: error.message, rows: [] };
        }
      }),
    ),
  );
  if (!found) return;
  shared.hits = Object.fromEntries(wanted.map(([to], at) => [to, found[at].rows]));
  parts.errors = Object.fromEntries(wanted.map(([to], at) => [to, found[at].error]));
  parts.none = Object.fromEntries(wanted.map(([to], at) => [to, why(found[at].note)]));
  parts.columns.classList.remove("loading");
  parts.note.textContent = found.find((f) => f.note)?.note.replace(/^.*?: /, "").replace(/^\d+ nearest/, "Nearest") ?? "";
  render();
  parts.columns.dataset.hits = String(performance.now());
  parts.columns.dataset.clip = String(state.clip);
  emit("hits");
  const ids = [...new Set(found.flatMap((f) => f.rows.map((row) => row.clip_id)))].slice(0, 100);
  if (!ids.length) return;
  try {
    const cut = await drew((signal) => table("/strips", { clips: ids, slots: modalities(shared.about).map((m) => lanes(shared.about, m).join("|")), width: 150 }, signal));
    if (!cut) return;
    strips = new Map(cut.rows.toArray().map((strip) => [`${strip.clip_id} ${strip.slot}`, strip]));
    render();
    parts.columns.dataset.drawn = String(performance.now());
  } catch {
    // The cards are whole without strips.
  }
});

function examples() {
  const chips = (ids, name, sign) =>
    ids.map((id) =>
      h(
        "button.example",
        { type: "button", "data-kind": name, title: `Remove ${id}`, onclick: () => set({ [name]: state[name].filter((x) => x !== id) }) },
        h("b", null, sign),
        ` ${id} ×`,
      ),
    );
  const any = state.like.length + state.unlike.length;
  parts.examples.hidden = !any;
  if (!any) return;
  parts.examples.replaceChildren(
    h("span.lead", null, "From this clip and"),
    ...chips(state.like, "like", "+"),
    ...chips(state.unlike, "unlike", "−"),
    h("button.quiet", { type: "button", onclick: () => set({ like: [], unlike: [] }) }, "Clear"),
  );
}

function render() {
  if (!shared.about || !Object.keys(shared.hits).length) return;
  // Strips arrive after the cards; a button that has the keyboard keeps it when its card is drawn again.
  const active = document.activeElement?.closest?.(".neighbours .card");
  const at = active && [...active.querySelectorAll("button")].indexOf(document.activeElement);
  const place = active && `.column[data-to="${active.closest(".column").dataset.to}"] .card[data-clip="${active.dataset.clip}"]`;
  const shown = targets(shared.about);
  const empty = shown.every(([to]) => !shared.hits[to]?.length);
  const reasons = new Set(shown.map(([to]) => parts.errors?.[to] ?? parts.none?.[to]));
  if (empty && reasons.size === 1) {
    const [reason] = reasons;
    if (/no \w+ signal|all modalities/.test(reason)) return whole("Nothing to search with", `${reason}; choose another modality above.`);
    return whole(parts.errors?.[shown[0][0]] ? "No answer" : "No clip fits", reason ?? "Widen the filter, or leave out less.");
  }
  parts.columns.classList.remove("whole");
  parts.columns.replaceChildren(
    ...shown.map(([to, text, hint]) => {
      const hits = shared.hits[to] ?? [];
      const error = parts.errors?.[to];
      return h(
        "div.column",
        { "data-to": to },
        h("h3", { title: hint }, text),
        error
          ? blank(/no \w+ signal|all modalities/.test(error) ? "Nothing to search" : "No answer", error)
          : hits.length
            ? h("ol", null, hits.map((hit) => card(to, hit)))
            : blank("No clip fits", parts.none?.[to] ?? "Widen the filter, or leave out less."),
      );
    }),
  );
  if (place) parts.columns.querySelector(place)?.querySelectorAll("button")[at]?.focus();
  return undefined;
}

function lane(to, hit) {
  const [first] = state.ask.split(",");
  const kind = to === "others" ? modalities(shared.about).find((m) => !state.ask.includes(m) && hit[`has_${m}`]) ?? first : to;
  for (const slot of lanes(shared.about, kind)) {
    const strip = strips.get(`${hit.clip_id} ${slot}`);
    if (strip) return strip;
  }
  return null;
}

function path(strip, width, height) {
  const all = [...strip.low, ...(strip.high ?? [])].filter(Number.isFinite).sort((a, b) => a - b);
  if (!all.length) return "";
  const [low, high] = [all[Math.floor(0.002 * all.length)], all[Math.ceil(0.998 * all.length) - 1]];
  const y = (v) => (height - 1 - ((Math.max(low, Math.min(high, v)) - low) / (high - low || 1)) * (height - 2)).toFixed(1);
  let d = "";
  let pen = false;
  for (let at = 0; at < strip.low.length; at++) {
    if (!Number.isFinite(strip.low[at])) {
      pen = false;
      continue;
    }
    const x = ((at + 0.5) * (width / strip.low.length)).toFixed(1);
    d += `${pen ? "L" : "M"}${x} ${y(strip.low[at])}`;
    if (strip.high) d += `L${x} ${y(strip.high[at])}`;
    pen = true;
  }
  return d;
}

function card(to, hit) {
  const strip = lane(to, hit);
  const [w, hi] = [150, 34];
  const picked = (name) => state[name].includes(hit.clip_id);
  const toggle = (name, other) => (event) => {
    event.stopPropagation();
    const has = picked(name);
    set({
      [name]: has ? state[name].filter((id) => id !== hit.clip_id) : [...state[name], hit.clip_id],
      [other]: state[other].filter((id) => id !== hit.clip_id),
    });
  };
  return h(
    "li.card",
    { "data-clip": hit.clip_id },
    h(
      "button.go",
      {
        type: "button",
        title: `Go to clip ${hit.clip_id}`,
        "aria-label": `Clip ${hit.clip_id}, score ${hit.score.toFixed(3)}, ${hit.recording_id}, ${hit.stage}`,
        onclick: () => set({ clip: hit.clip_id, from: null, since: null, until: null }),
      },
      h(
        "span.facts",
        null,
        h("span.chip.small", { style: { "--c": stageColour(hit.stage) } }, hit.stage),
        h("span.who", null, hit.subject_id),
        h("span.score", null, hit.score.toFixed(3)),
      ),
      strip
        ? s("svg", { viewBox: `0 0 ${w} ${hi}`, preserveAspectRatio: "none", "aria-hidden": "true" }, s("path", { d: path(strip, w, hi), fill: "none", stroke: token("signal"), "stroke-width": 1, "vector-effect": "non-scaling-stroke" }))
        : h("span.nostrip"),
      h("span.when", null, timeOf(hit), strip ? h("span.slot", null, strip.slot) : ""),
    ),
    !shared.file &&
      h(
        "span.marks",
        null,
        h("button", { type: "button", "aria-pressed": String(picked("like")), "aria-label": `More like clip ${hit.clip_id}`, title: "More like this", onclick: toggle("like", "unlike") }, "+"),
        h("button", { type: "button", "aria-pressed": String(picked("unlike")), "aria-label": `Less like clip ${hit.clip_id}`, title: "Less like this", onclick: toggle("unlike", "like") }, "−"),
      ),
  );
}

function drawing() {
  const wanted = targets(shared.about).filter(([to]) => shared.hits[to]?.length);
  if (!wanted.length) return null;
  const [w, high] = [230, 66];
  const most = Math.max(...wanted.map(([to]) => shared.hits[to].length));
  const columns = wanted.flatMap(([to, text], column) => [
    s("text", { x: 12 + w * column, y: 22, "font-size": 14, fill: token("ink") }, text),
    shared.hits[to].map((hit, at) => {
      const strip = lane(to, hit);
      return s(
        "g",
        { transform: `translate(${12 + w * column},${36 + high * at})` },
        s("rect", { width: 8, height: 8, rx: 2, y: 4, fill: stageColour(hit.stage) }),
        s("text", { x: 14, y: 12, "font-size": 11, fill: token("soft") }, `${hit.stage}  ${hit.recording_id}  ${timeOf(hit)}  ${hit.score.toFixed(3)}`),
        strip && s("path", { transform: "translate(0,18)", d: path(strip, w - 24, 34), fill: "none", stroke: token("signal"), "stroke-width": 0.9 }),
      );
    }),
  ]);
  const [width, height] = [w * wanted.length + 12, 44 + high * most];
  return s(
    "svg",
    { xmlns: "http://www.w3.org/2000/svg", width, height, "font-family": "system-ui, sans-serif" },
    s("rect", { width, height, fill: token("pane") }),
    columns,
  );
}

/** The neighbour so many places on, through all columns. */
export function step(by) {
  const cards = [...parts.columns.querySelectorAll(".go")];
  if (!cards.length) return;
  const at = cards.indexOf(document.activeElement);
  cards[Math.max(0, Math.min(cards.length - 1, at < 0 ? 0 : at + by))].focus();
}

