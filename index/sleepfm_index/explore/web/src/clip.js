// The clip: its signals as strips with units, to zoom, pan, and mark stretches in.

import uPlot from "uplot";
import { latest, table } from "./api.js";
import { blank, debounce, h, s, segments } from "./dom.js";
import { stageColour, token } from "./palette.js";
import { icon, saveMenu } from "./save.js";
import { clipAt, emit, on, shared } from "./shared.js";
import { set, state, watch } from "./state.js";
import { clock, length, round, timeOf, unit } from "./words.js";

const SPANS = [10, 30, 60, 120, 300, 600];
const BAS = /^(C|O|E|F)\d/;
const GUTTER = 76;

let parts = {};
let lanes = []; // { slot, plot, scale, gain }
let strips = new Map(); // slot to strip
let scales = new Map(); // slot to the height of a lane, in its unit; kept through a night
let scaledFor = null;
let wideAsked = 0; // the width that strips were asked for
const gains = new Map();
const asked = latest();
let early = null; // { key, answer }: strips asked for before the clip's columns are here

export function clipPane() {
  parts.title = h("div.where");
  parts.spans = h("div.tools");
  parts.lanes = h("div.lanes", { tabindex: "0", role: "group", "aria-label": "Signals. Arrow keys move by a clip, plus and minus zoom." });
  parts.foot = h("div.foot");
  parts.stretch = h("div.stretch", { hidden: true });
  const move = (way, text, name) =>
    h("button.icon", { type: "button", "aria-label": text, title: text, onclick: () => pan(way / 2) }, icon(name));
  const pane = h(
    "section.pane.clip",
    { id: "clip", "aria-labelledby": "clip-title" },
    h(
      "header",
      null,
      h("h2", { id: "clip-title" }, "Clip"),
      parts.title,
      h("div.right", null, move(-1, "Pan left (,)", "left"), move(1, "Pan right (.)", "right"), saveMenu("clip", drawing)),
      parts.spans,
    ),
    parts.lanes,
    parts.stretch,
    parts.foot,
  );
  on("clip-asked", () => {
    if (state.from !== null) return;
    const question = window_of(null);
    early = { key: JSON.stringify(question), answer: ask(question) };
    early.answer.catch(() => {}); // said by whoever takes it
  });
  on("clip", () => {
    title();
    load();
  });
  on("file", () => {
    title();
    load();
  });
  on("night", () => {
    for (const lane of lanes) lane.plot.redraw(false, true);
  });
  on("clip-error", (error) => {
    parts.title.replaceChildren();
    scaledFor = null;
    away("No clip", error.message, h("button", { type: "button", onclick: shared.another }, "Show another clip"));
  });
  on("theme", () => build(true));
  watch(["span", "from"], () => {
    zooms();
    load();
  });
  watch(["since", "until"], stretch);
  parts.lanes.addEventListener("wheel", wheel, { passive: false });
  new ResizeObserver(
    debounce(() => {
      const wide = inner();
      for (const lane of lanes) if (lane.plot.width !== wide) lane.plot.setSize({ width: wide, height: lane.height });
      if (wideAsked && wideAsked !== wide) load();
    }, 80),
  ).observe(parts.lanes);
  zooms();
  return pane;
}

const inner = () => Math.max(120, parts.lanes.clientWidth - (parts.lanes.clientWidth < 520 ? 56 : GUTTER));
const start = () => state.from ?? shared.file?.at ?? shared.row?.start_s ?? 0;

function zooms() {
  const options = SPANS.map((span) => [span, length(span)]);
  if (!SPANS.includes(state.span)) options.push([state.span, length(state.span)]);
  parts.spans.replaceChildren(segments("Length of the strips", options, state.span, zoom));
}

/** Show so many seconds, around the middle of what is shown. */
export function zoom(span) {
  const clip = shared.night?.clip_seconds ?? 30;
  if (span === clip) return set({ span, from: null });
  const middle = start() + state.span / 2;
  return set({ span, from: Math.max(0, middle - span / 2) });
}

export function zoomStep(step) {
  const at = SPANS.findIndex((span) => span >= state.span);
  const next = SPANS[Math.max(0, Math.min(SPANS.length - 1, (at < 0 ? SPANS.length : at) + step))];
  if (next !== state.span) zoom(next);
}

export function pan(share) {
  const end = shared.night?.duration_s ?? shared.file?.duration_s ?? Infinity;
  const from = Math.max(0, Math.min(end - state.span / 2, start() + share * state.span));
  set({ from: Math.round(from * 100) / 100 }, { step: false });
}

function wheel(event) {
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    if (Math.abs(event.deltaY) > 4) zoomSoon(event.deltaY > 0 ? 1 : -1);
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
    event.preventDefault();
    pan((event.deltaX || event.deltaY) / 600);
  }
}
const zoomSoon = debounce(zoomStep, 40);

function title() {
  const { row, file } = shared;
  if (file) {
    parts.title.replaceChildren(
      h("strong", null, file.name),
      h("span.quiet", null, `your file, at +${clock(file.at)}`),
      h("button.quiet", { type: "button", onclick: () => shared.leaveFile() }, "Back to the store"),
    );
    return;
  }
  parts.title.replaceChildren(
    h("span.chip", { style: { "--c": stageColour(row.stage) } }, row.stage),
    h("strong", null, row.recording_id),
    h("span.quiet", null, `${timeOf(row)} · clip ${row.clip_id}`),
  );
}

/** Whether the strips on the page show some of what is asked for; else they are not drawn again before others arrive. */
function covers(from) {
  const { row, file } = shared;
  const has = scaledFor === (file ? file.key : row.recording_id) && [...strips.values()].some(({ from_s: first, step_s: step, low }) => from < first + step * low.length && from + state.span > first);
  parts.lanes.classList.toggle("waiting", !has);
  return has;
}

const ask = (question) => asked((signal) => table("/strips", question, signal));

/** What to ask for: half of what is shown on each side as well. A clip's own signals need no more than its id. */
function window_of(file) {
  const margin = state.span / 2;
  wideAsked = inner();
  const width = Math.min(4000, Math.round(wideAsked * 2 * Math.min(2, devicePixelRatio)));
  if (!file && state.from === null) return { clips: state.clip, before: margin, seconds: state.span + 2 * margin, width };
  const left = Math.max(0, start() - margin);
  const of = file ? { file: file.key } : { recording: shared.row.recording_id };
  return { ...of, from_s: left, seconds: start() - left + state.span + margin, width };
}

const load = async () => {
  const { row, file } = shared;
  if (!row && !file) return;
  const from = start();
  const question = window_of(file);
  const answer = early?.key === JSON.stringify(question) ? early.answer : ask(question);
  early = null;
  if (covers(from)) window_(from);
  const wait = setTimeout(() => parts.lanes.classList.add("loading"), 250);
  try {
    const found = await answer;
    if (!found) return undefined;
    const gone = Object.values(found.about.away ?? {});
    if (gone.length)
      return away("The recording is not on this machine", `Map, night and neighbours work without it. What the store says: ${gone[0]}.`);
    strips = new Map(found.rows.toArray().map((strip) => [strip.slot, strip]));
    if (!strips.size) return away("No signals", "None of the recording's channels fills a slot here.");
    const all = [...strips.values()];
    if (all.every((strip) => !strip.low.length))
      return away("The file ends before this clip", "It is shorter than it was when the store was built: restore it, or build it anew. Map, night and neighbours work without it.");
    if (!all.some((strip) => strip.low.some(Number.isFinite))) return away("No signals", "The recording has a gap here.");
    const key = file ? file.key : row.recording_id;
    if (scaledFor !== key) {
      scaledFor = key;
      scales = spans();
    }
    build();
    window_(from);
    parts.lanes.classList.remove("waiting");
    await undefined; // uPlot draws in a microtask
    parts.lanes.dataset.clip = file ? "file" : String(row.clip_id);
    parts.lanes.dataset.drawn = String(performance.now());
    emit("strips");
  } catch (error) {
    away("The signals cannot be read", error.status ? `${error.message}. Map, night and neighbours work without them.` : error.message);
  } finally {
    clearTimeout(wait);
    parts.lanes.classList.remove("loading");
  }
  return undefined;
};

function away(text, more, action) {
  parts.lanes.classList.remove("waiting");
  for (const lane of lanes) lane.plot.destroy();
  lanes = [];
  strips = new Map();
  parts.lanes.replaceChildren(blank(text, more, action));
  parts.foot.replaceChildren();
  emit("strips");
}

/** Height of a lane in units: voltages of the brain share one, others have their own. */
function spans() {
  const found = new Map();
  const shared_ = [];
  for (const [slot, strip] of strips) {
    const span = extent(strip);
    if (BAS.test(slot)) shared_.push(span);
    found.set(slot, slot === "SaO2" ? 10 : round(span * 1.05));
  }
  if (shared_.length) {
    const common = round(shared_.sort((a, b) => a - b)[Math.floor(0.7 * (shared_.length - 1))] * 1.05);
    for (const slot of found.keys()) if (BAS.test(slot)) found.set(slot, common);
  }
  return found;
}

/** The known values of a strip, ascending. */
function ascending(strip) {
  const all = new Float32Array(strip.low.length + (strip.high?.length ?? 0));
  all.set(strip.low);
  if (strip.high) all.set(strip.high, strip.low.length);
  return all.filter(Number.isFinite).sort();
}

function extent(strip) {
  const known = ascending(strip);
  if (!known.length) return 1;
  const at = (share) => known[Math.floor(share * (known.length - 1))];
  return at(0.998) - at(0.002) || 1;
}

/** A lane of saturation grows downwards as far as what is shown; below 40 a probe is off. */
function deepen(strip) {
  const known = strip.low.filter((value) => value > 40);
  const need = 5 * Math.ceil((100.5 - Math.min(...known, 100)) / 5 + 0.1);
  if (need > (scales.get("SaO2") ?? 0)) scales.set("SaO2", need);
}

/** What lies in the middle of a lane: the median of the brain's voltages, else half of the range. */
function middle(strip) {
  const known = ascending(strip);
  if (!known.length) return 0;
  const at = (share) => known[Math.floor(share * (known.length - 1))];
  return BAS.test(strip.slot) ? at(0.5) : (at(0.002) + at(0.998)) / 2;
}

function series(strip) {
  const n = strip.low.length;
  const shift = strip.high ? strip.step_s / 2 : 0;
  const x = new Float64Array(n);
  for (let at = 0; at < n; at++) x[at] = strip.from_s + shift + at * strip.step_s;
  const clean = (values) => Array.from(values, (v) => (Number.isFinite(v) ? v : null));
  const low = clean(strip.low);
  return [x, low, strip.high ? clean(strip.high) : new Array(n).fill(null)];
}

function build(anew = false) {
  const slots = [...strips.keys()];
  const same = !anew && lanes.length === slots.length && lanes.every((lane, at) => lane.slot === slots[at]);
  if (!same) {
    for (const lane of lanes) lane.plot.destroy();
    parts.lanes.replaceChildren();
    lanes = slots.map((slot, at) => make(slot, at === slots.length - 1));
  }
  for (const lane of lanes) feed(lane);
}

function feed(lane) {
  const strip = strips.get(lane.slot);
  if (!strip) return;
  if (lane.slot === "SaO2") deepen(strip);
  lane.centre = lane.slot === "SaO2" ? null : middle(strip);
  lane.plot.setData(series(strip), false);
  lane.plot.setScale("x", { min: start(), max: start() + state.span });
  heights(lane);
}

function heights(lane) {
  const gain = gains.get(lane.slot) ?? 1;
  const span = (scales.get(lane.slot) ?? 1) / gain;
  const range =
    lane.slot === "SaO2" ? { min: 100.5 - span, max: 100.5 } : { min: lane.centre - span / 2, max: lane.centre + span / 2 };
  lane.plot.setScale("y", range);
  const strip = strips.get(lane.slot);
  const named = strip.unit ? unit(strip.unit) : "a.u.";
  lane.scale.textContent =
    lane.slot === "SaO2" ? `${Math.round(range.min)}–100 %` : `${Number(span.toPrecision(2)).toLocaleString("en")} ${named}`;
  lane.label.title = `${strip.channel}, ${strip.rate_hz} Hz; the lane is ${lane.scale.textContent} high`;
}

function gain(slot, factor) {
  gains.set(slot, Math.max(1 / 64, Math.min(64, (gains.get(slot) ?? 1) * factor)));
  const lane = lanes.find((l) => l.slot === slot);
  if (lane) heights(lane);
}

function make(slot, last) {
  const many = strips.size;
  const height = Math.max(34, Math.min(120, Math.floor(450 / many))) + (last ? 22 : 0);
  const scale = h("small");
  const label = h("div.name", null, h("b", null, slot), scale);
  const step = (factor, sign, text) =>
    h("button", { type: "button", "aria-label": `${text} of ${slot}`, title: text, onclick: () => gain(slot, factor) }, sign);
  const box = h("div.plot");
  const row = h(
    "div.lane",
    { "data-slot": slot, style: { height: `${height}px` } },
    h("div.gutter", null, label, h("div.gain", null, step(Math.SQRT2, "+", "More gain"), step(Math.SQRT1_2, "−", "Less gain"))),
    box,
  );
  parts.lanes.append(row);
  const ink = token("signal");
  const plot = new uPlot(
    {
      width: inner(),
      height,
      padding: [0, 0, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: "strips" },
        y: false,
        points: { show: false },
        drag: { x: true, y: false, setScale: false },
        focus: { prox: -1 },
      },
      select: { show: true },
      scales: { x: { time: false, auto: false }, y: { auto: false } },
      series: [
        {},
        { stroke: ink, width: 0.8, points: { show: false } },
        { stroke: ink, width: 0.8, points: { show: false } },
      ],
      bands: [{ series: [2, 1], fill: ink }],
      axes: [
        {
          show: last,
          size: 22,
          gap: 2,
          stroke: token("soft"),
          font: "11px system-ui, sans-serif",
          grid: { show: false },
          ticks: { show: false },
          space: 70,
          values: (u, ticks) => {
            const edge = (26 / u.width) * state.span;
            const inside = (at) => at > u.scales.x.min + edge && at < u.scales.x.max - edge;
            return ticks.map((at) => (inside(at) ? timeLabel(at) : ""));
          },
        },
        { show: false },
      ],
      hooks: {
        drawClear: [(u) => shade(u, slot)],
        setSelect: [(u) => chosen(u)],
      },
    },
    [[0], [null], [null]],
    box,
  );
  plot.over.addEventListener("dblclick", () => set({ since: null, until: null }, { step: false }));
  return { slot, plot, scale, label, height, centre: 0 };
}

function timeLabel(seconds) {
  const clocks = shared.file ? null : shared.night?.clips.clock[0];
  if (clocks === null || clocks === undefined) return `+${clock(seconds)}`;
  return clock(clocks - shared.night.clips.start_s[0] + seconds);
}

/** Behind the signal: the clip, borders of clips, scored events. */
function shade(u, slot) {
  const { ctx, bbox } = u;
  const to = (seconds) => u.valToPos(seconds, "x", true);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const seconds = shared.night?.clip_seconds ?? 30;
  const row = shared.row;
  if (row && !shared.file && state.span > seconds) {
    ctx.fillStyle = token("wash");
    ctx.fillRect(to(row.start_s), bbox.top, to(row.start_s + seconds) - to(row.start_s), bbox.height);
  }
  const grid = state.span <= 60 ? 1 : state.span <= 120 ? 10 : 30;
  const first = Math.ceil(u.scales.x.min / grid) * grid;
  for (let at = first; at <= u.scales.x.max; at += grid) {
    const border = row && !shared.file && Math.abs(((at - row.start_s) % seconds) / seconds) < 1e-6;
    ctx.strokeStyle = border ? token("faint") : token("line");
    ctx.globalAlpha = border ? 1 : 0.6;
    ctx.lineWidth = 1;
    ctx.beginPath();
    ctx.moveTo(Math.round(to(at)) + 0.5, bbox.top);
    ctx.lineTo(Math.round(to(at)) + 0.5, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
  if (!shared.file) {
    for (const event of shared.night?.events ?? []) {
      if (!belongs(event, slot)) continue;
      const [x1, x2] = [to(event.onset_s), to(event.onset_s + event.duration_s)];
      if (x2 < bbox.left || x1 > bbox.left + bbox.width) continue;
      ctx.fillStyle = token("event");
      ctx.fillRect(x1, bbox.top, x2 - x1, bbox.height);
      if (["C4-M1", "C3-M2", "CHEST", "SaO2"].includes(slot) && firstOf(slot)) {
        ctx.fillStyle = token("eventink");
        ctx.font = `${10.5 * devicePixelRatio}px system-ui, sans-serif`;
        ctx.textBaseline = "top";
        ctx.fillText([event.subtype, event.type].filter(Boolean).join(" "), Math.max(x1, bbox.left) + 4, bbox.top + 2);
      }
    }
  }
  if (state.since !== null && state.until !== null && inStretch()) {
    const [x1, x2] = [to(state.since), to(state.until)];
    ctx.fillStyle = token("select");
    ctx.fillRect(x1, bbox.top, x2 - x1, bbox.height);
  }
  ctx.restore();
}

const firstOf = (slot) => (BAS.test(slot) ? [...strips.keys()].find((name) => BAS.test(name)) === slot : true);
const inStretch = () => !shared.file && shared.row;

function belongs(event, slot) {
  if (/arousal/.test(event.type)) return BAS.test(slot);
  if (/desaturation/.test(event.type)) return slot === "SaO2";
  if (/apnea|hypopnea/.test(event.type)) return slot === "CHEST" || slot === "ABD";
  return false;
}

function chosen(u) {
  if (u.select.width < 6) return;
  const [a, b] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
  for (const lane of lanes) lane.plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  if (shared.file) return;
  set({ since: Math.round(Math.max(0, a) * 10) / 10, until: Math.round(b * 10) / 10 });
}

function stretch() {
  const active = state.since !== null && state.until !== null;
  parts.stretch.hidden = !active;
  for (const lane of lanes) lane.plot.redraw(false, false);
  if (!active) return;
  const seconds = state.until - state.since;
  parts.stretch.replaceChildren(
    h("span", null, `Stretch of ${length(Math.max(0.1, seconds))}`),
    h("span.quiet", null, "The neighbours are those of all clips that it touches."),
    h("button", { type: "button", onclick: () => set({ from: state.since, span: Math.max(1, seconds) }) }, "Zoom in"),
    h("button", { type: "button", onclick: () => set({ since: null, until: null }) }, "Clear"),
  );
}

function window_(from) {
  for (const lane of lanes) lane.plot.setScale("x", { min: from, max: from + state.span });
  const all = [...strips.values()];
  const thinned = all.some((strip) => strip.high);
  parts.foot.replaceChildren(
    h("span.note", null, all.length ? `${thinned ? "Least and greatest of each pixel" : "Every sample"}, unfiltered${shared.file ? "" : ". Drag to mark a stretch"}` : ""),
  );
  if (state.from !== null && shared.night && !shared.file) {
    const here = clipAt(from + state.span / 2);
    if (here !== state.clip && Math.abs(from + state.span / 2 - (shared.row.start_s + 15)) > state.span / 2 + 15)
      parts.foot.append(h("button.quiet", { type: "button", onclick: () => set({ clip: here, from: null }) }, `Go to clip ${here}`));
  }
}

/** The strips as a drawing of their own. */
function drawing() {
  if (!strips.size) return null;
  const [wide, high, left] = [960, 64, 90];
  const from = start();
  const to = (seconds) => left + ((seconds - from) / state.span) * (wide - left - 10);
  const rows = [...strips.values()].map((strip, at) => {
    const lane = lanes.find((l) => l.slot === strip.slot);
    const { min, max } = lane.plot.scales.y;
    const y = (value) => (36 + high * (at + 1) - ((value - min) / (max - min)) * high).toFixed(1);
    const [x, low, top] = series(strip);
    let d = "";
    let pen = false;
    for (let i = 0; i < x.length; i++) {
      if (x[i] < from || x[i] > from + state.span || low[i] === null) {
        pen = false;
        continue;
      }
      const place = to(x[i]).toFixed(1);
      d += `${pen ? "L" : "M"}${place} ${y(low[i])}`;
      if (strip.high && top[i] !== null) d += `L${place} ${y(top[i])}`;
      pen = true;
    }
    return [
      s("text", { x: 8, y: 36 + high * at + 30, "font-size": 13, fill: token("ink") }, strip.slot),
      s("text", { x: 8, y: 36 + high * at + 46, "font-size": 11, fill: token("soft") }, lane.scale.textContent),
      s("path", { d, fill: "none", stroke: token("signal"), "stroke-width": 0.9, "stroke-linejoin": "round" }),
    ];
  });
  const height = 36 + high * strips.size + 26;
  const { row, file } = shared;
  const named = file ? file.name : `${row.recording_id}, ${timeOf(row)}, ${row.stage}`;
  return s(
    "svg",
    { xmlns: "http://www.w3.org/2000/svg", width: wide, height, "font-family": "system-ui, sans-serif" },
    s("rect", { width: wide, height, fill: token("pane") }),
    s("text", { x: 8, y: 20, "font-size": 14, fill: token("ink") }, named),
    s("clipPath", { id: "in" }, s("rect", { x: left, y: 30, width: wide - left - 10, height })),
    rows,
    s("text", { x: left, y: height - 8, "font-size": 11, fill: token("soft") }, `${timeLabel(from)}, ${length(state.span)}, unfiltered`),
  );
}

