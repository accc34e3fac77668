// The night: stages, events, saturation and quality over time; it is what one scrubs along.

import { table } from "./api.js";
import { blank, debounce, h, s } from "./dom.js";
import { dark, stageColour, token } from "./palette.js";
import { icon, saveMenu } from "./save.js";
import { beside, clipAt, on, shared } from "./shared.js";
import { set, state, watch } from "./state.js";
import { clock, count, STAGES, timeOf } from "./words.js";

const LEFT = 64;
const RIGHT = 8;
const ROW = 15;
const LANES = [
  ["Breathing", (type) => /apnea|hypopnea/.test(type), "#d55e00"],
  ["Desaturation", (type) => /desaturation/.test(type), "#2c6fbb"],
  ["Arousal", (type) => /arousal/.test(type), "#7a4fb5"],
];

let parts = {};
let waiting = 0; // steps that were asked for before the night was there
let saturation = null; // { name, from, step, low, high }
let bars = null; // { night, width, dark, nodes }: the bars of the stages, for the next drawing of the night
let width = 900;

export function nightPane() {
  parts.title = h("div.where");
  parts.chart = h("div.chart");
  parts.picker = h("select.night", {
    "aria-label": "Night",
    onchange: () => set({ clip: Number(parts.picker.value), from: null }),
  });
  const move = (step, text, name) =>
    h("button.icon", { type: "button", "aria-label": text, title: text, onclick: () => go(step) }, icon(name));
  const pane = h(
    "section.pane.night",
    { id: "night", "aria-labelledby": "night-title" },
    h(
      "header",
      null,
      h("h2", { id: "night-title" }, "Night"),
      parts.picker,
      parts.title,
      h("div.right", null, move(-1, "Previous clip (←)", "left"), move(1, "Next clip (→)", "right"), saveMenu("night", () => draw(true))),
    ),
    parts.chart,
  );
  on("night", show);
  on("night-loading", () => {
    parts.chart.classList.add("loading");
    title();
  });
  on("clip", () => {
    parts.chart.classList.remove("aside");
    cursor();
    title();
  });
  on("clip-error", () => {
    waiting = 0;
    parts.chart.classList.remove("loading");
    parts.chart.replaceChildren(blank("No night", "Choose one above, or a point of the map."));
    parts.title.replaceChildren();
    parts.picker.selectedIndex = -1;
  });
  on("file", () => {
    parts.chart.classList.add("aside");
    title();
  });
  on("theme", render);
  on("labels", render);
  watch(["from", "span"], cursor);
  new ResizeObserver(
    debounce(() => {
      if (Math.abs(parts.chart.clientWidth - width) > 2) render();
    }, 60),
  ).observe(parts.chart);
  return pane;
}

/** Go so many clips on. A night that is still on its way takes the steps when it is there. */
export function go(step) {
  if (shared.file) return shared.stepFile(step);
  if (!shared.night) waiting += step;
  const id = beside(step);
  if (id !== null && id !== state.clip) set({ clip: id, from: null });
  return undefined;
}

export function listNights(nights) {
  parts.picker.replaceChildren(
    ...nights.map((n) => h("option", { value: n.first_clip_id }, `${n.recording_id}${n.subject_id !== n.recording_id ? ` · ${n.subject_id}` : ""}`)),
  );
  parts.names = new Map(nights.map((n) => [n.recording_id, n.first_clip_id]));
  if (shared.row) title();
  else parts.picker.selectedIndex = -1;
}

async function show(night) {
  saturation = null;
  render();
  title();
  const step = waiting;
  waiting = 0;
  if (step) go(step);
  if (!night.signals) return;
  try {
    const found = await table("/strips", {
      recording: night.recording_id,
      from_s: 0,
      seconds: Math.min(86400, night.duration_s),
      width: 900,
      slots: "SaO2",
    });
    const strip = found.rows.toArray()[0];
    if (!strip || shared.night !== night) return;
    saturation = { from: strip.from_s, step: strip.step_s, low: strip.low, high: strip.high ?? strip.low };
    render();
  } catch {
    // The night is whole without it; the clip's pane says why signals are away.
  }
}

function title() {
  const { row, file } = shared;
  if (file) return parts.title.replaceChildren(h("span.quiet", null, row ? `your file is on screen; this is the night of clip ${row.clip_id}` : ""));
  if (!row) return undefined;
  const first = parts.names?.get(row.recording_id);
  if (first !== undefined) parts.picker.value = String(first);
  const facts = [
    row.nsrr_age !== undefined && row.nsrr_age !== null ? `${Math.round(row.nsrr_age)} y` : null,
    row.nsrr_sex ?? null,
    row.site || null,
  ].filter(Boolean);
  return parts.title.replaceChildren(h("span.quiet", null, facts.join(" · ")));
}

function render() {
  if (!shared.night) return;
  parts.chart.classList.remove("loading");
  width = Math.max(260, parts.chart.clientWidth || 900);
  parts.chart.replaceChildren(draw(false));
  cursor();
}

const scaleX = () => {
  const { duration_s, clips, clip_seconds } = shared.night;
  const end = Math.max(duration_s ?? 0, clips.start_s.at(-1) + clip_seconds);
  const span = width - LEFT - RIGHT;
  return { end, to: (seconds) => LEFT + (seconds / end) * span, back: (x) => ((x - LEFT) / span) * end };
};

function draw(alone) {
  const { night } = shared;
  if (!night) return null;
  const { clips, clip_seconds } = night;
  const { end, to } = scaleX();
  const parts_ = [];
  const label = (text, y) => s("text.label", { x: LEFT - 10, y, "text-anchor": "end", fill: token("soft"), "font-size": 11 }, text);
  let y = 6;
  STAGES.forEach((stage, at) => {
    parts_.push(label(stage, y + ROW * at + 10));
    parts_.push(s("line", { x1: LEFT, x2: width - RIGHT, y1: y + ROW * at + 6.5, y2: y + ROW * at + 6.5, stroke: token("line"), "stroke-width": 1 }));
  });
  parts_.push(alone ? stages(night, y, to) : shownStages(night, y, to));
  y += ROW * STAGES.length + 4;
  const own = night.labels?.stage_checked ?? [];
  if (own.length) {
    parts_.push(label("Checked", y + 8));
    const where = new Map(clips.clip_id.map((id, at) => [id, at]));
    for (const mark of own) {
      const at = where.get(mark.clip_id);
      if (at === undefined) continue;
      const [x1, x2] = [to(clips.start_s[at]), to(clips.start_s[at] + clip_seconds)];
      const differs = clips.stage[at] !== mark.value;
      parts_.push(
        s("rect", { x: x1, y: y + (differs ? 0 : 3), width: Math.max(2, x2 - x1 - 0.5), height: differs ? 9 : 3, rx: 1.5, fill: stageColour(mark.value) }, s("title", null, `${mark.value} by ${mark.by}, ${mark.at}; scorer: ${clips.stage[at]}`)),
      );
    }
    y += 13;
  }
  for (const [name, fits, colour] of LANES) {
    const found = night.events.filter((event) => fits(event.type));
    if (!found.length) continue;
    parts_.push(label(name === "Desaturation" ? "Desat." : name, y + 8));
    for (const event of found) {
      const [x1, x2] = [to(event.onset_s), to(event.onset_s + event.duration_s)];
      const kind = [event.subtype, event.type].filter(Boolean).join(" ");
      parts_.push(
        s("rect", { x: x1, y: y + 1, width: Math.max(1.2, x2 - x1), height: 8, rx: 1, fill: colour, "fill-opacity": 0.85 }, s("title", null, `${kind}, ${event.duration_s.toFixed(0)} s at ${clock(event.onset_s)}`)),
      );
    }
    y += 13;
  }
  if (saturation) {
    const high = 30;
    const known = Array.from(saturation.low).filter((v) => Number.isFinite(v) && v > 0);
    const lowest = known.length ? Math.min(96, quantile(known, 0.002)) : 90;
    const floor = Math.max(0, Math.floor(lowest - 1));
    const at = (value) => y + high - ((Math.max(floor, Math.min(100, value)) - floor) / (100 - floor)) * high;
    let d = "";
    let pen = false;
    for (let i = 0; i < saturation.low.length; i++) {
      const value = saturation.low[i];
      if (!Number.isFinite(value)) pen = false;
      else {
        d += `${pen ? "L" : "M"}${to(saturation.from + i * saturation.step).toFixed(1)} ${at(value).toFixed(1)}`;
        pen = true;
      }
    }
    parts_.push(label("SpO₂", y + 12), s("text.label", { x: LEFT - 10, y: y + high, "text-anchor": "end", fill: token("faintink"), "font-size": 9.5 }, `${floor}–100 %`));
    parts_.push(s("path", { d, fill: "none", stroke: token("accent"), "stroke-width": 1.2, "stroke-linejoin": "round" }));
    y += high + 6;
  }
  const lanes = shared.about.modalities;
  const bad = lanes.some((m) => clips[`worst_${m}`]?.some((v) => v > 0.02) || clips[`has_${m}`]?.some((v) => !v));
  parts_.push(label("Quality", y + 8));
  lanes.forEach((m, lane) => {
    const top = y + lane * 4;
    let from = 0;
    const level = (at) => (clips[`has_${m}`][at] ? Math.min(1, Math.round((clips[`worst_${m}`][at] ?? 0) * 5) / 5) : 2);
    for (let at = 1; at <= clips.clip_id.length; at++) {
      if (at < clips.clip_id.length && level(at) === level(from)) continue;
      const [x1, x2] = [to(clips.start_s[from]), to(clips.start_s[at - 1] + clip_seconds)];
      const now = level(from);
      const said = now === 2 ? `no ${m} signal` : `${m}: up to ${Math.round(now * 100)} % flat, clipped or out of range`;
      parts_.push(s("rect", { x: x1, y: top, width: Math.max(0.6, x2 - x1), height: 3, fill: now === 2 ? token("line") : now > 0 ? "#c2410c" : token("good"), opacity: now === 2 ? 0.9 : now > 0 ? 0.35 + 0.65 * now : 0.55 }, s("title", null, said)));
      from = at;
    }
  });
  y += Math.max(16, lanes.length * 4 + 4);
  const every = [300, 600, 900, 1800, 3600, 7200, 14400].find((step) => (end / step) * 62 < width - LEFT) ?? 28800;
  const zero = clips.clock[0] === null ? null : clips.clock[0] - clips.start_s[0];
  const offset = zero === null ? 0 : (every - (zero % every)) % every;
  for (let seconds = offset; seconds <= end; seconds += every) {
    const x = to(seconds);
    if (x > width - 18) continue;
    parts_.unshift(s("line", { x1: x, x2: x, y1: 4, y2: y - 4, stroke: token("line"), "stroke-width": 1 }));
    parts_.push(s("text.label", { x, y: y + 9, "text-anchor": "middle", fill: token("soft"), "font-size": 10.5 }, clock((zero ?? 0) + seconds).slice(0, 5)));
  }
  const height = y + 16;
  const described = `Night ${night.recording_id}: ${count(clips.clip_id.length, "clip")}, ${count(night.events.length, "event")}${bad ? ", parts of poor quality" : ""}`;
  const common = { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "system-ui, sans-serif" };
  if (alone) return s("svg", { xmlns: "http://www.w3.org/2000/svg", ...common }, s("rect", { width, height, fill: token("pane") }), parts_);
  const plot = s(
    "svg",
    {
      ...common,
      tabindex: "0",
      role: "slider",
      "aria-label": described,
      "aria-valuemin": "0",
      "aria-valuemax": String(clips.clip_id.length - 1),
      onpointerdown: (event) => scrub(event),
      onkeydown: keys,
    },
    parts_,
    (parts.window = s("rect.window", { y: 2, height: y - 6, rx: 4 })),
    (parts.needle = s("line.needle", { y1: 0, y2: y - 2 })),
  );
  parts.svg = plot;
  return plot;
}

/** The bars on the page; a night is drawn again when its saturation arrives, and they stay. */
function shownStages(night, y, to) {
  if (bars?.night !== night || bars.width !== width || bars.dark !== dark()) bars = { night, width, dark: dark(), nodes: stages(night, y, to) };
  return bars.nodes;
}

function stages({ clips, clip_seconds }, y, to) {
  const nodes = [];
  let steps = "";
  let before = null;
  for (const run of runs(clips, clip_seconds)) {
    const row = STAGES.indexOf(run.stage);
    const [x1, x2] = [to(run.from), to(run.until)];
    if (row < 0) {
      nodes.push(s("rect", { x: x1, y, width: Math.max(0.5, x2 - x1), height: ROW * STAGES.length - 2, fill: token("line"), opacity: 0.5 }, s("title", null, `${run.stage}: not scored`)));
      before = null;
      continue;
    }
    const top = y + ROW * row;
    if (before !== null && before.until === run.from && before.row !== row) steps += `M${x1.toFixed(2)} ${y + ROW * before.row + 6}V${top + 6}`;
    const wide = Math.max(1.5, x2 - x1 - 0.5);
    nodes.push(
      s("rect", { x: x1, y: top + 1, width: wide, height: 11, rx: Math.min(3, wide / 2), fill: stageColour(run.stage) }, s("title", null, `${run.stage}, ${clock(run.from)} to ${clock(run.until)}`)),
    );
    before = { ...run, row };
  }
  return [s("path", { d: steps, fill: "none", stroke: token("faint"), "stroke-width": 1 }), ...nodes];
}

const quantile = (values, share) => values.sort((a, b) => a - b)[Math.floor(values.length * share)];

function runs(clips, seconds) {
  const found = [];
  clips.start_s.forEach((from, at) => {
    const last = found.at(-1);
    const stage = clips.stage[at];
    if (last && last.stage === stage && Math.abs(last.until - from) < 0.5) last.until = from + seconds;
    else found.push({ stage, from, until: from + seconds });
  });
  return found;
}

function scrub(event) {
  if (event.button) return;
  event.preventDefault();
  parts.svg.focus({ preventScroll: true });
  parts.svg.setPointerCapture?.(event.pointerId);
  let first = true;
  const at = (e) => {
    const box = parts.svg.getBoundingClientRect();
    const seconds = scaleX().back(((e.clientX - box.left) / box.width) * width);
    const id = clipAt(Math.max(0, seconds));
    if (shared.file && id === state.clip) shared.leaveFile();
    else if (id !== state.clip) {
      set({ clip: id, from: null }, { step: first });
      first = false;
    }
  };
  at(event);
  const up = () => {
    parts.svg.removeEventListener("pointermove", at);
    parts.svg.removeEventListener("pointerup", up);
    parts.svg.removeEventListener("pointercancel", up);
  };
  parts.svg.addEventListener("pointermove", at);
  parts.svg.addEventListener("pointerup", up);
  parts.svg.addEventListener("pointercancel", up);
}

function keys(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -1e9, End: 1e9 }[event.key];
  if (!step || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  event.stopPropagation();
  go(event.shiftKey ? 10 * step : step);
}

function cursor() {
  const { night, row } = shared;
  if (!parts.svg || !night || !row || row.recording_id !== night.recording_id) return;
  const { to } = scaleX();
  const from = state.from ?? row.start_s;
  const middle = row.start_s + night.clip_seconds / 2;
  const [x1, x2] = [to(from), to(from + state.span)];
  parts.window.setAttribute("x", x1 - 1);
  parts.window.setAttribute("width", Math.max(3, x2 - x1 + 2));
  parts.needle.setAttribute("x1", to(middle));
  parts.needle.setAttribute("x2", to(middle));
  parts.svg.setAttribute("aria-valuenow", String(night.clips.clip_id.indexOf(row.clip_id)));
  parts.svg.setAttribute("aria-valuetext", `clip ${row.clip_id}, ${timeOf(row)}, ${row.stage}`);
}
