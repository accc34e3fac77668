// The picture of the map: drawn in full at rest; in motion, where drawing takes long, the last one is moved.

import { createRenderer } from "regl-scatterplot";

const LONG = 25; // ms
const REST = 100; // ms without motion, after which a moved picture is drawn in full

/** A renderer of regl-scatterplot as large as the map; by default it is as large as the window. */
export function pictureRenderer(width, height) {
  const canvas = document.createElement("canvas");
  // The renderer takes this context: the edges of points are smoothed by their shader.
  canvas.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
  const renderer = createRenderer({ canvas });
  renderer.resize(width, height);
  const draw = renderer.render;
  let where = () => null; // where two points of the map are on the screen, as [x1, y1, x2, y2]
  let redraw = () => {};
  let last = null; // where they were when the picture was drawn
  let took = 0;
  let held = false;
  let due = false;
  let timer;
  let waiting = [];

  function full(points, target, at) {
    const start = performance.now();
    draw(points, target);
    took = performance.now() - start;
    target.dataset.took = took.toFixed(1);
    last = at;
    due = false;
    for (const done of waiting.splice(0)) done();
  }

  function move(target, at) {
    const zoom = (at[2] - at[0]) / (last[2] - last[0]);
    const [x, y] = [at[0] - zoom * last[0], at[1] - zoom * last[1]];
    const context = target.getContext("2d");
    context.clearRect(0, 0, target.width, target.height);
    context.drawImage(canvas, x * devicePixelRatio, y * devicePixelRatio, zoom * canvas.width, zoom * canvas.height);
    clearTimeout(timer);
    timer = setTimeout(() => ((due = true), redraw()), REST);
  }

  renderer.render = (points, target) => {
    if (held) return;
    const at = where();
    const known = last && at && at.every(Number.isFinite);
    const moved = known && at.some((value, i) => Math.abs(value - last[i]) > 0.01);
    if (known && !moved && !due) return; // a point under the mouse, or one that was clicked: the map marks it itself
    if (moved && !due && took > LONG && last[2] !== last[0]) move(target, at);
    else full(points, target, at);
  };
  return Object.assign(renderer, {
    /** Names what says where the two points are, and what draws again. */
    of(points, again) {
      [where, redraw] = [points, again];
    },
    /** The next drawing is not as the last one, though nothing moved. */
    changed() {
      due = true;
    },
    fit(width, height) {
      last = null;
      renderer.resize(width, height);
    },
    /** Draw nothing while several things change, then all of them at once. */
    async once(change) {
      held = true;
      try {
        await change();
      } finally {
        [held, due] = [false, true];
      }
      await new Promise((done) => {
        waiting.push(done);
        redraw();
      });
    },
  });
}
