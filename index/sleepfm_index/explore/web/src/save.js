// Panes as SVG and PNG, tables as CSV and Parquet.

import { save } from "./api.js";
import { h, toast } from "./dom.js";

/** The menu of a pane: one drawing, in two formats. */
export function saveMenu(name, draw) {
  const run = async (kind) => {
    menu.open = false;
    try {
      const drawing = await draw();
      if (!drawing) return toast("There is nothing to save yet.");
      const text = new XMLSerializer().serializeToString(drawing);
      if (kind === "svg") save(new Blob([text], { type: "image/svg+xml" }), `${name}.svg`);
      else save(await png(drawing, text), `${name}.png`);
    } catch (error) {
      toast(`The picture could not be saved: ${error.message}`);
    }
  };
  const menu = h(
    "details.menu",
    null,
    h("summary", { "aria-label": `Save ${name}`, title: `Save ${name} as a picture` }, icon("save")),
    h(
      "div.choices",
      null,
      h("button", { type: "button", onclick: () => run("svg") }, "SVG"),
      h("button", { type: "button", onclick: () => run("png") }, "PNG"),
    ),
  );
  return menu;
}

async function png(drawing, text) {
  const width = Number(drawing.getAttribute("width"));
  const height = Number(drawing.getAttribute("height"));
  const image = new Image();
  const url = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await new Promise((done, failed) => {
    image.onload = done;
    image.onerror = () => failed(new Error("the browser cannot draw it"));
    image.src = url;
  });
  const canvas = h("canvas", { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

const PATHS = {
  save: "M12 4v10m0 0l-4-4m4 4l4-4M5 19h14",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  close: "M6 6l12 12M18 6L6 18",
  lasso: "M12 5c4.4 0 8 2 8 4.8S16.4 15 12 15s-8-2.2-8-5.2S7.6 5 12 5zM8 14.5c-1.5 1-1.5 3.500.5 4.500",
  home: "M4 12V5h7M20 12v7h-7M4 5l6 6M20 19l-6-6",
  light: "M12 8a4 4 0 100 8 4 4 0 000-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.5M17.5 17.5L19 19M19 5l-1.5 1.5M6.5 17.5L5 19",
  link: "M10 14a4 4 0 006 0l3-3a4 4 0 00-6-6l-1 1M14 10a4 4 0 00-6 0l-3 3a4 4 0 006 6l1-1",
  file: "M12 15V4m0 0L8 8m4-4l4 4M5 14v5h14v-5",
  table: "M4 5h16v14H4zM4 10h16M10 10v9",
};

export function icon(name) {
  const template = document.createElement("template");
  template.innerHTML =
    `<svg viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor" ` +
    `stroke-width="1.7" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">` +
    `<path d="${PATHS[name]}"/></svg>`;
  return template.content.firstChild;
}
