// Elements without a framework.

const SVG = "http://www.w3.org/2000/svg";

/** Text of other people as it may be shown: control characters and marks of writing direction as \u{1b}. */
export function shown(text) {
  return text.replace(/[^\P{C}\t\n]/gu, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

const TOLD = new Set(["title", "aria-label", "placeholder"]);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object")
      for (const [key, said] of Object.entries(value)) {
        if (key.startsWith("--")) node.style.setProperty(key, said);
        else node.style[key] = said;
      }
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : TOLD.has(name) ? shown(String(value)) : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(typeof child === "string" ? shown(child) : child);
  }
  return node;
}

/** An HTML element: h("button.quiet", { onclick }, "Text"). */
export function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  return fill(node, attributes, children);
}

/** An SVG element. */
export function s(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const node = document.createElementNS(SVG, tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  return fill(node, attributes, children);
}

/** Several choices of which one holds, as radio buttons in one capsule. */
export function segments(label, options, chosen, choose) {
  return h(
    "div.segments",
    { role: "radiogroup", "aria-label": label },
    options.map(([value, text, hint]) =>
      h(
        "button",
        {
          type: "button",
          role: "radio",
          title: hint,
          "aria-checked": String(value === chosen),
          tabindex: value === chosen ? "0" : "-1",
          "data-value": value,
          onclick: () => choose(value),
          onkeydown: (event) => {
            const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
            if (!step) return;
            event.preventDefault();
            event.stopPropagation();
            const at = options.findIndex(([v]) => v === value);
            const next = options[(at + step + options.length) % options.length][0];
            const group = event.currentTarget.parentElement;
            choose(next);
            requestAnimationFrame(() => {
              const again = document.querySelector(
                `[role=radiogroup][aria-label="${label}"] [aria-checked=true]`,
              );
              (again ?? group)?.focus?.();
            });
          },
        },
        text,
      ),
    ),
  );
}

/** A line that says what is missing, and what to do. */
export function blank(title, text, action) {
  return h("div.blank", { role: "status" }, h("strong", null, title), text && h("p", null, text), action);
}

let timer;
/** Say something briefly at the foot of the page. */
export function toast(text, action, { stays = false, long = false } = {}) {
  const place = document.getElementById("toast");
  place.replaceChildren(h("span", null, text), action ?? "");
  place.hidden = false;
  clearTimeout(timer);
  if (!stays) timer = setTimeout(() => (place.hidden = true), action || long ? 12000 : 4500);
}

/** Run once after what runs at present, however often it is called until then. */
export function soon(run) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    queueMicrotask(() => {
      due = false;
      run();
    });
  };
}

export function debounce(run, ms) {
  let waiting;
  return (...given) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => run(...given), ms);
  };
}
