// Requests to the server that served the page, and to no other.

import { tableFromIPC } from "@uwdata/flechette";

const params = new URLSearchParams(location.search);
let token = params.get("token") ?? "";
let seen = null;
let moved = () => {};

export function setToken(given) {
  token = given;
  params.set("token", given);
  history.replaceState(null, "", `?${params}${location.hash}`);
}

/** Called when answers come from a later snapshot than the first. */
export function onMoved(run) {
  moved = run;
}

export function settle() {
  seen = null;
}

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function address(path, query) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value === undefined || value === null || value === "" || value === false) continue;
    url.searchParams.set(name, Array.isArray(value) ? value.join(",") : String(value));
  }
  return url;
}

async function ask(path, { query, method = "GET", body, accept = "application/json", signal } = {}) {
  const headers = { Authorization: `Bearer ${token}`, Accept: accept };
  if (body !== undefined && !(body instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(address(path, query), { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server does not answer. Is sleepfm-index explore still running?");
  }
  const snapshot = answer.headers.get("X-Store-Snapshot");
  if (snapshot !== null) {
    if (seen !== null && seen !== snapshot) moved(snapshot);
    seen = snapshot;
  }
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, said.error ?? `The server answered ${answer.status}.`);
  }
  return answer;
}

export async function get(path, query, signal) {
  return (await ask(path, { query, signal })).json();
}

export async function post(path, body, query) {
  return (await ask(path, { method: "POST", body, query })).json();
}

/** Rows as columns, by Arrow. */
export async function table(path, query, signal) {
  const accept = "application/vnd.apache.arrow.stream";
  const answer = await ask(path, { query, accept, signal });
  const read = tableFromIPC(new Uint8Array(await answer.arrayBuffer()));
  const told = read.schema.metadata ?? new Map();
  return { rows: read, note: told.get("note") ?? "", about: JSON.parse(told.get("about") ?? "{}") };
}

export async function download(path, query, name, body) {
  const method = body ? "POST" : "GET";
  const accept = "application/octet-stream";
  const answer = await ask(path, { query, method, body, accept });
  save(await answer.blob(), name);
}

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** The latest of a kind of request; earlier ones are given up. */
export function latest() {
  let running;
  return async (work) => {
    running?.abort();
    const own = (running = new AbortController());
    try {
      const found = await work(own.signal);
      return own.signal.aborted ? undefined : found;
    } catch (error) {
      if (error.name === "AbortError" || own.signal.aborted) return undefined;
      throw error;
    }
  };
}
