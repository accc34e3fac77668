// Labels: confirm or correct the stage or an event of a clip, as an own column with who and when.

import { post } from "./api.js";
import { h, toast } from "./dom.js";
import { stageColour } from "./palette.js";
import { beside, emit, follow, on, shared } from "./shared.js";
import { set, state } from "./state.js";
import { STAGES } from "./words.js";

const KEYS = { w: "W", r: "R", 1: "N1", 2: "N2", 3: "N3" };
const EVENTS = [
  ["a", "apnea"],
  ["h", "hypopnea"],
  ["o", "arousal"],
  ["n", "none"],
];
let parts = {};

export function labelBar() {
  parts.bar = h("section.pane.labels", { id: "labels", "aria-labelledby": "labels-title", hidden: true });
  on("clip", render);
  on("night", render);
  on("labels", render);
  on("theme", render);
  on("file", () => (parts.bar.hidden = true));
  on("clip-error", () => (parts.bar.hidden = true));
  return parts.bar;
}

const who = () => {
  try {
    return localStorage.getItem("sleepfm-who") ?? parts.own ?? "";
  } catch {
    return parts.own ?? "";
  }
};

function remember(name) {
  parts.own = name;
  try {
    localStorage.setItem("sleepfm-who", name);
  } catch {
    // A browser that keeps nothing; the name lasts as long as the page.
  }
}

async function write(column, ids, value) {
  const by = who();
  if (!by.trim()) {
    toast("Say who labels first: your initials.");
    document.querySelector("#labels input, .label-form input")?.focus();
    return false;
  }
  try {
    const done = await post("/labels", { column, clips: ids, value, by });
    if (!shared.about.labels.includes(column)) {
      shared.about.labels = [...shared.about.labels, column].sort();
      emit("columns");
    }
    if (shared.night) {
      const own = (shared.night.labels[column] ??= []);
      for (const id of ids) {
        const at = own.findIndex((mark) => mark.clip_id === id);
        if (at >= 0) own.splice(at, 1);
        if (value !== null && shared.night.clips.clip_id.includes(id)) own.push({ clip_id: id, value, by, at: done.at });
      }
    }
    if (ids.includes(state.clip)) {
      if (value === null) delete shared.row.labels[column];
      else shared.row.labels[column] = { clip_id: state.clip, value, by, at: done.at };
    }
    emit("labels");
    return true;
  } catch (error) {
    toast(error.message);
    return false;
  }
}

function render() {
  if (!shared.about?.annotate || !shared.row || shared.file) return;
  parts.bar.hidden = false;
  const { stage_checked: stage, event_checked: event } = shared.row.labels;
  const choose = (value, key, own, colour, act) =>
    h(
      "button.choice",
      { type: "button", "aria-pressed": String(own?.value === value), title: `${value} (${key.toUpperCase()})`, style: { "--c": colour }, onclick: act },
      value,
      h("kbd", null, key.toUpperCase()),
    );
  const name = h("input.who", { "aria-label": "Who labels", placeholder: "your initials", maxlength: "60", onchange: () => remember(name.value.trim()) });
  name.value = who();
  const said = (own) => (own ? h("span.quiet", null, `${own.value} by ${own.by}, ${own.at.replace("T", " ").replace("Z", " UTC")}`) : "");
  parts.bar.replaceChildren(
    h("h2", { id: "labels-title" }, "Label"),
    h(
      "div.group",
      { role: "group", "aria-label": "Stage" },
      h("button.choice", { type: "button", title: "Confirm the scorer's stage (C)", onclick: () => confirm_() }, `Confirm ${shared.row.stage}`, h("kbd", null, "C")),
      STAGES.map((s) => choose(s, Object.keys(KEYS).find((k) => KEYS[k] === s), stage, stageColour(s), () => stageIs(s))),
    ),
    h(
      "div.group",
      { role: "group", "aria-label": "Event" },
      EVENTS.map(([key, value]) => choose(value, key, event, "var(--accent)", () => eventIs(value))),
    ),
    h("div.group", null, h("button.quiet", { type: "button", title: "Take the labels of this clip back (U)", onclick: undo }, "Take back"), name, said(stage), said(event)),
  );
}

async function stageIs(value) {
  const id = state.clip;
  if (!(await write("stage_checked", [id], value))) return;
  const next = beside(1);
  if (next !== null && state.clip === id) set({ clip: next, from: null }, { step: false });
}
const confirm_ = () => stageIs(shared.row.stage);
const eventIs = (value) => write("event_checked", [state.clip], value);

async function undo() {
  for (const column of Object.keys(shared.row.labels)) await write(column, [state.clip], null);
}

/** Whether a key was one of labelling. */
export function labelKey(key) {
  if (!shared.about?.annotate || !shared.row || shared.file) return false;
  const low = key.toLowerCase();
  if (KEYS[low]) stageIs(KEYS[low]);
  else if (low === "c") confirm_();
  else if (low === "u") undo();
  else if (EVENTS.some(([k]) => k === low)) eventIs(EVENTS.find(([k]) => k === low)[1]);
  else return false;
  return true;
}

/** A label for many clips at once. */
export function labelForm(ids) {
  const column = h("input", { placeholder: "column, such as cluster", "aria-label": "Own column", pattern: "[a-z][a-z0-9_]*", required: true });
  const value = h("input", { placeholder: "label", "aria-label": "Label", required: true });
  const name = h("input", { placeholder: "your initials", "aria-label": "Who labels", required: true });
  name.value = who();
  return h(
    "form.label-form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        remember(name.value.trim());
        if (await write(column.value.trim(), ids, value.value.trim())) {
          toast(`${ids.length.toLocaleString("en")} clips labelled ${value.value.trim()} in ${column.value.trim()}.`);
          follow({ again: true });
        }
      },
    },
    h("div.row", null, column, value, name, h("button.primary", { type: "submit" }, "Label")),
  );
}
