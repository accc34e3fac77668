// The map: every clip a point where its vector lies.

import createScatterplot from "regl-scatterplot";
import { latest, table } from "./api.js";
import { blank, h, s, segments, toast } from "./dom.js";
import { nameColours, scale, token } from "./palette.js";
import { pictureRenderer } from "./picture.js";
import { icon, saveMenu } from "./save.js";
import { emit, on, rowOf, shared } from "./shared.js";
import { set, state, watch } from "./state.js";
import { count, modalities as present, STAGES, timeOf, titled } from "./words.js";

const NAMES_SHOWN = 12;
const STEPS = 64;

let plot = null;
let picture = null; // the renderer of the plot
let parts = {};
let indexed = null; // the points of which the plot has an index
let drawn = null; // { ids, x, y, ends, total, axes, note }
let colours = null; // { kind, names, codes, palette, low, high, counts }
let alone = new Set(); // names of the legend that are shown alone
let begun = null; // { address, by, points, values }: a map that was asked for before the page was laid out
const asked = latest();
const coloured = latest();

export function mapPane() {
  parts.canvas = h("canvas", { "aria-hidden": "true" });
  parts.ring = h("div.ring", { hidden: true });
  parts.near = h("div.nears", { "aria-hidden": "true" });
  parts.under = h("div.under", { hidden: true });
  parts.tip = h("div.tip", { hidden: true, role: "status" });
  parts.message = h("div.over", { hidden: true });
  parts.note = h("p.note");
  parts.legend = h("div.legend", { role: "group", "aria-label": "Legend: show only some" });
  parts.head = h("div.tools");
  parts.lasso = h(
    "button.icon",
    {
      type: "button",
      "aria-pressed": "false",
      title: "Lasso: draw around clips (or hold Shift and drag)",
      "aria-label": "Lasso",
      onclick: () => lasso(parts.lasso.getAttribute("aria-pressed") !== "true"),
    },
    icon("lasso"),
  );
  const reset = h(
    "button.icon",
    { type: "button", title: "Show the whole map", "aria-label": "Show the whole map", onclick: () => plot?.zoomToArea?.({ x: -1.08, y: -1.08, width: 2.16, height: 2.16 }, { transition: true }) },
    icon("home"),
  );
  parts.stage = h(
    "div.stage",
    {
      tabindex: "0",
      role: "application",
      "aria-label": "Map of clips. Arrow keys go to the nearest clip in that direction.",
      onkeydown: walk,
    },
    parts.canvas,
    parts.near,
    parts.ring,
    parts.under,
    parts.tip,
    parts.message,
  );
  const pane = h(
    "section.pane.map",
    { id: "map", "aria-labelledby": "map-title" },
    h("header", null, h("h2", { id: "map-title" }, "Map"), h("div.right", null, parts.lasso, reset, saveMenu("map", drawing)), parts.head),
    parts.stage,
    parts.legend,
    parts.note,
  );
  watch(["on", "method", "where"], load);
  watch(["by"], colour);
  watch(["on", "method", "by"], tools);
  on("clip", mark);
  on("hits", mark);
  on("file", mark);
  on("labels", () => state.by.startsWith("label:") && colour());
  on("theme", () => plot && paint());
  on("refresh", load);
  new ResizeObserver(fit).observe(parts.stage);
  return pane;
}

export function tools() {
  const { about } = shared;
  const columns = about.columns.clips.filter(
    ({ name, type }) => !["clip_id", "recording_id", "raw_stage"].includes(name) && !/^slots_|map|list/.test(name + type),
  );
  const first = ["stage", "subject_id", "site"].filter((name) => columns.some((c) => c.name === name));
  const rest = columns.map((c) => c.name).filter((name) => !first.includes(name));
  const option = (value, text = value) => h("option", { value, selected: value === state.by }, text);
  const select = h(
    "select",
    { "aria-label": "Colour by", onchange: () => set({ by: select.value }) },
    first.map((name) => option(name)),
    about.labels.length && h("optgroup", { label: "Your labels" }, about.labels.map((n) => option(`label:${n}`, n))),
    about.probes.length &&
      h("optgroup", { label: "Probe" }, about.probes.flatMap((p) => probeOptions(p).map(([v, t]) => option(v, t)))),
    h("optgroup", { label: "Columns" }, ["recording_id", ...rest].map((name) => option(name))),
  );
  select.value = state.by;
  const modalities = present(about).map((m) => [m, titled(about, m), `Vectors of ${m}`]);
  parts.head.replaceChildren(
    segments("Vectors", modalities, state.on, (on_) => set({ on: on_ })),
    segments("Projection", [["pca", "PCA", "Principal axes"], ["umap", "UMAP", "UMAP; takes a minute the first time"]], state.method, (method) => set({ method })),
    h("label.by", null, h("span", null, "Colour"), select),
  );
}

function probeOptions(probe) {
  if (!probe.classes?.length) return [[`probe:${probe.name}`, probe.name]];
  return probe.classes.map((c) => [`probe:${probe.name}:${c}`, `${probe.name}: P(${c})`]);
}

const query = () => ({ modality: state.on, method: state.method, where: state.where });

/** Ask for the map of the address: the first one takes the server longest. */
export function begin() {
  const by = state.by;
  begun = { address: JSON.stringify(query()), by, points: table("/map", query()), values: table("/map/values", { ...query(), by }) };
  for (const answer of [begun.points, begun.values]) answer.catch(() => {}); // said by whoever takes it
}

export async function load() {
  say(blank("Drawing the map …", state.method === "umap" ? "UMAP of these clips is computed once; this can take a minute." : ""), true);
  try {
    let lost = "";
    const found = await asked(async (signal) => {
      const own = begun?.address === JSON.stringify(query()) ? begun : {};
      begun = null;
      const valuesBy = (by) => (own.by === by && own.values) || table("/map/values", { ...query(), by }, signal);
      // A link may name a column, label or probe that this server has not.
      const fall = async (error) => {
        if (error.status !== 400 || state.by === "stage") throw error;
        const stages = await valuesBy("stage");
        lost = error.message;
        return stages;
      };
      const [points, values] = await Promise.all([own.points ?? table("/map", query(), signal), valuesBy(state.by).catch(fall)]);
      return { points, values };
    });
    if (!found) return;
    if (lost) {
      toast(`${lost}; coloured by stage instead`, null, { long: true });
      set({ by: "stage" }, { step: false });
    }
    const { rows, note, about } = found.points;
    drawn = {
      ids: rows.getChild("clip_id").toArray(),
      x: rows.getChild("x").toArray(),
      y: rows.getChild("y").toArray(),
      ends: [0, 0],
      total: about.total,
      axes: about.axes,
      note,
    };
    drawn.x.forEach((x, at) => {
      if (x < drawn.x[drawn.ends[0]]) drawn.ends[0] = at;
      if (x > drawn.x[drawn.ends[1]]) drawn.ends[1] = at;
    });
    alone.clear();
    colours = read(found.values.rows.getChild("value"));
    emit("filter-ok", about.total);
    await paint();
  } catch (error) {
    emit("filter-error", error);
    drawn = null;
    parts.legend.replaceChildren();
    parts.note.textContent = "";
    say(blank("No map", error.message));
  }
}

async function colour() {
  if (!drawn) return load();
  try {
    const found = await coloured((signal) => table("/map/values", { ...query(), by: state.by }, signal));
    if (!found) return undefined;
    alone.clear();
    colours = read(found.rows.getChild("value"));
    return paint();
  } catch (error) {
    toast(error.message);
    return undefined;
  }
}

function sentence() {
  const shown = drawn.ids.length;
  const said =
    shown < drawn.total
      ? `${shown.toLocaleString("en")} of ${count(drawn.total, "clip")}, drawn at random; a filter shows all of fewer`
      : count(shown, "clip");
  return `${said} · ${drawn.axes.join(" · ")}`;
}

/** Values as codes of names, or as places between a least and a greatest. */
function read(column) {
  const values = column.toArray();
  const numeric = ArrayBuffer.isView(values) && !(values instanceof BigInt64Array);
  const n = column.length;
  const codes = new Float32Array(n);
  if (numeric || typeof firstKnown(column) === "number") {
    let [low, high] = [Infinity, -Infinity];
    let lacking = 0;
    const all = new Float64Array(n);
    for (let at = 0; at < n; at++) {
      const value = column.at(at);
      all[at] = value === null || value === undefined ? NaN : value;
      if (Number.isNaN(all[at])) lacking++;
      else [low, high] = [Math.min(low, all[at]), Math.max(high, all[at])];
    }
    const span = high - low || 1;
    for (let at = 0; at < n; at++)
      codes[at] = Number.isNaN(all[at]) ? STEPS : Math.min(STEPS - 1, Math.floor(((all[at] - low) / span) * STEPS));
    return { kind: "number", codes, low, high, lacking, values: all };
  }
  const counts = new Map();
  const texts = new Array(n);
  for (let at = 0; at < n; at++) {
    texts[at] = column.at(at) ?? "none";
    counts.set(texts[at], (counts.get(texts[at]) ?? 0) + 1);
  }
  const order = (name) => (STAGES.includes(name) ? STAGES.indexOf(name) - 100 : name === "none" ? 1e6 : 0);
  const names = [...counts.keys()].sort((a, b) => order(a) - order(b) || String(a).localeCompare(b, "en", { numeric: true }));
  const code = new Map(names.map((name, at) => [name, at]));
  for (let at = 0; at < n; at++) codes[at] = code.get(texts[at]);
  return { kind: "name", codes, names, counts, values: texts };
}

function firstKnown(column) {
  for (let at = 0; at < column.length; at++) {
    const value = column.at(at);
    if (value !== null && value !== undefined) return value;
  }
  return undefined;
}

function open() {
  if (plot) return;
  const { width, height } = parts.stage.getBoundingClientRect();
  try {
    picture = pictureRenderer(Math.max(1, width), Math.max(1, height));
    plot = createScatterplot({
      renderer: picture,
      canvas: parts.canvas,
      width: Math.max(1, width),
      height: Math.max(1, height),
      aspectRatio: 1,
      pointSize: 4,
      lassoOnLongPress: false,
      lassoInitiator: false,
      lassoMinDelay: 8,
      lassoType: "lasso",
      showReticle: false,
      deselectOnDblClick: false,
      deselectOnEscape: false,
      actionKeyMap: { lasso: ["shift"], rotate: [], merge: [], remove: [] },
      pointSizeSelected: 0,
      pointOutlineWidth: 0,
      cameraDistance: 1.08,
    });
  } catch (error) {
    throw new Error(`The map needs WebGL, which this browser does not offer (${error.message}). Nights, signals and neighbours work without.`);
  }
  picture.of(() => drawn && drawn.ends.flatMap((at) => plot.getScreenPosition(at) ?? NaN), plot.redraw);
  plot.subscribe("select", ({ points }) => {
    if (points.length === 1) {
      plot.deselect({ preventEvent: true }); // so that it can be clicked again
      set({ clip: drawn.ids[points[0]], from: null });
    } else if (points.length > 1) {
      picture.changed();
      shared.selection = points.map((at) => drawn.ids[at]);
      lasso(false);
      set({ panel: "selection" }, { step: false });
      emit("selection");
    }
  });
  plot.subscribe("view", () => {
    away();
    mark();
  });
  plot.subscribe("pointover", hover);
  plot.subscribe("pointout", away);
  plot.subscribe("lassoStart", away);
  for (const event of ["lassoStart", "lassoExtend", "lassoEnd", "deselect"]) plot.subscribe(event, picture.changed);
}

function palette() {
  if (colours.kind === "name") return nameColours(colours.names);
  return [...scale(STEPS), token("faint")];
}

async function paint() {
  const own = palette();
  const n = drawn.ids.length;
  const background = token("map");
  // What is below the map gives it its height: then it is drawn once.
  legend(own);
  parts.note.textContent = sentence();
  open();
  const style = {
    backgroundColor: background,
    pointColor: own.length === 1 ? [own[0], own[0]] : own,
    colorBy: "valueA",
    pointColorActive: token("ink"),
    pointColorHover: token("ink"),
    lassoColor: token("accent"),
    pointSize: n < 2000 ? 6 : n < 20000 ? 4 : n < 80000 ? 2.5 : 1.6,
    opacity: n < 20000 ? 0.88 : 0.6,
  };
  await picture.once(async () => {
    fit();
    plot.deselect({ preventEvent: true });
    const spatialIndex = indexed === drawn ? plot.get("spatialIndex") : undefined;
    await Promise.all([plot.set(style), plot.draw({ x: drawn.x, y: drawn.y, z: colours.codes }, { zDataType: "categorical", spatialIndex })]);
    indexed = drawn;
    if (alone.size) await filter();
  });
  say(null);
  mark();
  parts.stage.dataset.drawn = String(n);
  emit("map", drawn);
}

function legend(own) {
  if (colours.kind === "number") {
    const steps = scale(24).map((c, at) => h("i", { style: { background: c, flex: "1" }, key: at }));
    parts.legend.replaceChildren(
      h(
        "div.ramp",
        null,
        h("span", null, Number.isFinite(colours.low) ? short(colours.low) : "–"),
        h("div.bar", { role: "img", "aria-label": `from ${short(colours.low)} to ${short(colours.high)}` }, steps),
        h("span", null, Number.isFinite(colours.high) ? short(colours.high) : "–"),
        colours.lacking > 0 && h("span.quiet", null, `${count(colours.lacking, "clip")} without`),
      ),
    );
    return;
  }
  const shown = colours.names.slice(0, NAMES_SHOWN);
  const more = colours.names.length - shown.length;
  parts.legend.replaceChildren(
    ...shown.map((name, at) =>
      h(
        "button.key",
        {
          type: "button",
          "aria-pressed": String(alone.has(name)),
          title: `Show only ${name}`,
          onclick: () => {
            if (!alone.delete(name)) alone.add(name);
            picture.once(filter);
            legend(own);
          },
        },
        h("i", { style: { background: own[at] } }),
        h("span", null, name),
        h("small", null, colours.counts.get(name).toLocaleString("en")),
      ),
    ),
    more > 0 ? h("span.quiet", null, `and ${more.toLocaleString("en")} more; colours repeat`) : "",
  );
}

const short = (value) => (Number.isFinite(value) ? Number(value.toPrecision(3)).toLocaleString("en") : "–");

async function filter() {
  const kept = [];
  if (alone.size) colours.values.forEach((name, at) => alone.has(name) && kept.push(at));
  await (alone.size ? plot.filter(kept, { preventEvent: true }) : plot.unfilter({ preventEvent: true }));
}

function say(content, keep = false) {
  parts.message.hidden = !content;
  parts.message.classList.toggle("loading", keep);
  parts.message.replaceChildren(content ?? "");
}

function lasso(active) {
  parts.lasso.setAttribute("aria-pressed", String(active));
  plot?.set({ mouseMode: active ? "lasso" : "panZoom" });
  parts.stage.classList.toggle("lassoing", active);
}

/** The point of a clip: ids are ascending. */
function pointOf(id) {
  let [low, high] = [0, drawn.ids.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (drawn.ids[middle] < id) low = middle + 1;
    else high = middle;
  }
  return drawn.ids[low] === id ? low : undefined;
}

/** Where a point is on the page; null outside of what is seen. */
function seen(at) {
  if (at === undefined || !plot?.get("isPointsDrawn")) return null;
  const found = plot.getScreenPosition(at);
  if (!found) return null;
  const [x, y] = found;
  return x < 0 || y < 0 || x > plot.get("width") || y > plot.get("height") ? null : [x, y];
}

/** Puts a mark on a point; it runs in every frame of a motion, so it reads no layout. */
function put(node, at) {
  node.hidden = !at;
  if (at) node.style.transform = `translate(${at[0]}px, ${at[1]}px)`;
}

function mark() {
  if (!drawn || !plot) return;
  put(parts.ring, shared.file || !shared.row ? null : seen(pointOf(state.clip)));
  const near = [...new Set(Object.values(shared.hits).flatMap((hits) => hits.map((hit) => hit.clip_id)))];
  while (parts.near.childElementCount > near.length) parts.near.lastChild.remove();
  while (parts.near.childElementCount < near.length) parts.near.append(h("i"));
  near.forEach((id, at) => put(parts.near.children[at], seen(pointOf(id))));
}

/** The pointer is over no clip. */
function away() {
  parts.tip.hidden = parts.under.hidden = true;
}

async function hover(at) {
  const id = drawn.ids[at];
  const where = seen(at);
  if (!where) return;
  put(parts.under, where);
  put(parts.tip, where);
  parts.tip.dataset.side = where[0] > plot.get("width") / 2 ? "left" : "right";
  parts.tip.replaceChildren(h("strong", null, `clip ${id}`));
  parts.tip.dataset.clip = id;
  try {
    const row = await rowOf(id);
    if (parts.tip.hidden || parts.tip.dataset.clip !== String(id)) return;
    const value = colours.values[at];
    const own = state.by === "stage" ? "" : ` · ${state.by.replace(/^\w+:/, "")} ${typeof value === "number" ? short(value) : value}`;
    parts.tip.replaceChildren(h("strong", null, `${row.recording_id}`), h("span", null, `${timeOf(row)} · ${row.stage}${own}`));
  } catch {
    away();
  }
}

function walk(event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (!way || event.metaKey || event.ctrlKey || !drawn) return;
  event.preventDefault();
  event.stopPropagation();
  const from = pointOf(state.clip) ?? 0;
  let best = null;
  let least = Infinity;
  for (let at = 0; at < drawn.ids.length; at++) {
    const [dx, dy] = [drawn.x[at] - drawn.x[from], drawn.y[at] - drawn.y[from]];
    const along = dx * way[0] + dy * way[1];
    const across = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
    if (along <= 1e-5 || across > along) continue;
    const far = along + 2 * across;
    if (far < least) [best, least] = [at, far];
  }
  if (best !== null) set({ clip: drawn.ids[best], from: null });
}

function fit() {
  const { width, height } = parts.stage.getBoundingClientRect();
  if (!plot || !width || !height || (plot.get("width") === width && plot.get("height") === height)) return;
  picture.fit(width, height);
  plot.set({ width, height });
  requestAnimationFrame(mark);
}

export function rest() {
  return { drawn, colours };
}

/** The map as a drawing of its own. */
function drawing() {
  if (!drawn) return null;
  const size = 720;
  const own = palette();
  const kept = alone.size ? (at) => alone.has(colours.values[at]) : () => true;
  const most = 50000;
  const step = Math.ceil(drawn.ids.length / most);
  const groups = new Map();
  for (let at = 0; at < drawn.ids.length; at += step) {
    if (!kept(at)) continue;
    const x = ((drawn.x[at] + 1.05) / 2.1) * size;
    const y = ((1.05 - drawn.y[at]) / 2.1) * size;
    const code = colours.codes[at];
    groups.set(code, `${groups.get(code) ?? ""}M${x.toFixed(1)} ${y.toFixed(1)}h0`);
  }
  const paths = [...groups].map(([code, d]) =>
    s("path", { d, stroke: own[code], "stroke-width": drawn.ids.length < 2000 ? 5 : 2.5, "stroke-linecap": "round", "stroke-opacity": 0.85 }),
  );
  const keys =
    colours.kind === "name"
      ? colours.names.slice(0, NAMES_SHOWN).map((name, at) =>
          s("g", { transform: `translate(${size + 12},${24 + 22 * at})` }, s("circle", { r: 5, fill: own[at] }), s("text", { x: 12, y: 4, "font-size": 13, fill: token("ink") }, name)),
        )
      : [s("text", { x: size + 8, y: 24, "font-size": 13, fill: token("ink") }, `${state.by}: ${short(colours.low)} to ${short(colours.high)}`)];
  return s(
    "svg",
    { xmlns: "http://www.w3.org/2000/svg", width: size + 200, height: size + 30, "font-family": "system-ui, sans-serif" },
    s("rect", { width: size + 200, height: size + 30, fill: token("pane") }),
    paths,
    keys,
    s("text", { x: 8, y: size + 18, "font-size": 12, fill: token("soft") }, sentence()),
  );
}

