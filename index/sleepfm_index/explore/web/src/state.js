// What is looked at: all of it is in the address after #, so that back, forward and links work.

const DEFAULTS = {
  clip: null, // clip id
  from: null, // start of the strips, s from the recording's start; null: the clip's
  span: 30, // length of the strips, s
  on: "bas", // modality of the map
  method: "pca",
  by: "stage", // what colours the map
  ask: "bas", // modality to search with
  k: 5,
  exclude: "subject",
  spread: null,
  exact: null,
  where: "", // filter of map and neighbours
  like: [],
  unlike: [],
  until: null, // end of a stretch that is searched, with from_
  since: null,
  sql: "",
  panel: "", // which side panel is open: "", sql, selection
};
const NUMBERS = new Set(["clip", "from", "span", "k", "spread", "until", "since"]);
const BOUNDS = { span: [1, 3600], k: [1, 24], spread: [0, 86400], from: [0, Infinity] };
const LISTS = new Set(["like", "unlike"]);

function parse(hash) {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const found = structuredClone(DEFAULTS);
  for (const [name, text] of said) {
    if (!(name in DEFAULTS)) continue;
    if (LISTS.has(name)) found[name] = text.split(",").map(Number).filter(Number.isInteger);
    else if (NUMBERS.has(name)) found[name] = number(name, text);
    else found[name] = text;
  }
  return found;
}

/** A number of a link, within what the page can show; the usual one where it is none. */
function number(name, text) {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) return DEFAULTS[name];
  const [low, high] = BOUNDS[name] ?? [-Infinity, Infinity];
  return Math.max(low, Math.min(high, value));
}

function write(state) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    const text = Array.isArray(value) ? value.join(",") : value;
    if (text === null || text === "" || String(text) === String(DEFAULTS[name])) continue;
    said.set(name, text);
  }
  return `#${said}`;
}

const watchers = [];
export let state = parse(location.hash);

/** Run when one of some fields changed. */
export function watch(names, run) {
  watchers.push([names, run]);
}

function changeTo(next) {
  const changed = new Set(
    Object.keys(DEFAULTS).filter((name) => String(next[name]) !== String(state[name])),
  );
  state = next;
  for (const [names, run] of watchers) if (names.some((name) => changed.has(name))) run(changed);
}

/** Change what is looked at. A step that one would want to take back is a step of the history. */
export function set(change, { step = true } = {}) {
  const next = { ...state, ...change };
  const hash = write(next);
  if (hash !== (location.hash || "#")) {
    const address = `${location.pathname}${location.search}${hash}`;
    if (step) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  }
  changeTo(next);
}

addEventListener("popstate", () => changeTo(parse(location.hash)));
addEventListener("hashchange", () => changeTo(parse(location.hash)));
