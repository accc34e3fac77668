// A recording of one's own, dropped on the page: the server encodes it, and its clips are searched.

import { post } from "./api.js";
import { h, toast } from "./dom.js";
import { emit, shared } from "./shared.js";
import { set, state } from "./state.js";

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
  toast(`Reading ${file.name} …`);
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
    toast(error.message);
  }
}

/** A slider along the file, in the place of the night. */
function strip() {
  const { file } = shared;
  const slider = h("input", { type: "range", min: "0", max: String(file.clips - 1), step: "1", "aria-label": "Clip of the file" });
  slider.value = String(Math.floor(file.clips / 2));
  slider.addEventListener("change", () => {
    file.at = file.start[Number(slider.value)];
    if (state.from !== null) set({ from: null }, { step: false });
    emit("file");
  });
  document.querySelector(".pane.clip .foot")?.before(h("div.file-slider", null, slider));
  const gone = new MutationObserver(() => {
    if (!shared.file) {
      document.querySelector(".file-slider")?.remove();
      gone.disconnect();
    }
  });
  gone.observe(document.querySelector(".pane.clip header"), { childList: true, subtree: true });
}
