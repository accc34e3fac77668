// A recording of one's own, dropped on the page: the server encodes it, and its clips are searched.

import { post } from "./api.js";
import { h, toast } from "./dom.js";
import { icon } from "./save.js";
import { emit, shared } from "./shared.js";
import { set, state } from "./state.js";

/** The way in without a mouse that drags. */
export function fileButton() {
  const text = "Search from a recording of your own";
  const field = h("input", { type: "file", hidden: true, "aria-label": text, onchange: () => (field.files[0] && take(field.files[0]), (field.value = "")) });
  return [field, h("button.icon", { type: "button", "aria-label": text, title: `${text} (or drop it on the page)`, onclick: () => field.click() }, icon("file"))];
}

export function ownFile(app) {
  const veil = h("div.veil", { hidden: true }, h("p", null, "Drop a recording to search from it"));
  document.body.append(veil);
  let depth = 0;
  const files = (event) => event.dataTransfer?.types?.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth++;
    veil.hidden = false;
  });
  addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) veil.hidden = true;
  });
  addEventListener("dragover", (event) => files(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
  return app;
}

async function take(file) {
  toast(`Reading ${file.name} …`, null, { stays: true });
  try {
    const found = await post("/files", file, { name: file.name });
    const at = found.start_s[Math.floor(found.clips / 2)];
    shared.file = { key: found.file, name: file.name, at, ...found, start: found.start_s };
    set({ from: null, since: null, until: null, like: [], unlike: [] }, { step: false });
    emit("file");
    strip();
    const warned = found.warnings.length ? ` ${found.warnings[0]}.` : "";
    toast(`${file.name}: ${found.clips.toLocaleString("en")} clips.${warned}`);
  } catch (error) {
    // The server keeps nothing of the name but its ending.
    toast(error.message.replace(/\brecording(\.\w+)+/, file.name), null, { long: true });
  }
}

/** A slider along the file. */
function strip() {
  document.querySelector(".file-slider")?.remove();
  const { file } = shared;
  const slider = h("input", { type: "range", min: "0", max: String(file.clips - 1), step: "1", "aria-label": "Clip of the file" });
  slider.value = String(Math.floor(file.clips / 2));
  slider.addEventListener("change", () => {
    file.at = file.start[Number(slider.value)];
    if (state.from !== null) set({ from: null }, { step: false });
    emit("file");
  });
  document.querySelector(".pane.clip .foot")?.before(h("div.file-slider", null, slider));
  shared.stepFile = (step) => {
    slider.value = String(Number(slider.value) + step);
    slider.dispatchEvent(new Event("change"));
  };
  const gone = new MutationObserver(() => {
    if (!shared.file) {
      document.querySelector(".file-slider")?.remove();
      gone.disconnect();
    }
  });
  gone.observe(document.querySelector(".pane.clip header"), { childList: true, subtree: true });
}
