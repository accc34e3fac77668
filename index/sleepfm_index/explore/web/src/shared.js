// What the panes have in common: the store, the night and the clip that are on the page.

import { get, latest } from "./api.js";
import { toast } from "./dom.js";
import { state } from "./state.js";

export const shared = {
  about: null, // what the store holds
  night: null, // the night of the clip
  row: null, // the clip: its columns and labels
  file: null, // a file that was handed in, instead of a clip
  selection: [], // clip ids of the lasso
  hits: {}, // neighbours by target
};

const NIGHT_WAITS = 250; // ms, at most

const listeners = new Map();

export function on(what, run) {
  listeners.set(what, [...(listeners.get(what) ?? []), run]);
}

export function emit(what, value) {
  for (const run of listeners.get(what) ?? []) run(value);
  for (const done of waiting.get(what)?.splice(0) ?? []) done();
}

const waiting = new Map();
/** The next time that something happens. */
const next = (what) => new Promise((done) => waiting.set(what, [...(waiting.get(what) ?? []), done]));
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

const rows = new Map();
/** A clip's columns; kept, since a clip never changes. */
export async function rowOf(id) {
  if (!rows.has(id)) {
    if (rows.size > 500) rows.clear();
    rows.set(id, await get(`/clips/${id}`));
  }
  return rows.get(id);
}

export function forget(id) {
  rows.delete(id);
}

/** What is known of a clip without asking: from its night, or as somebody's neighbour. */
function known(id) {
  if (rows.has(id)) return rows.get(id);
  const { night, row, hits } = shared;
  const at = night?.clips.clip_id.indexOf(id) ?? -1;
  if (at >= 0 && row?.recording_id === night.recording_id) {
    const { start_s, clock, stage } = night.clips;
    return { ...row, clip_id: id, start_s: start_s[at], clock: clock[at], stage: stage[at], labels: labelsOf(id) };
  }
  const hit = Object.values(hits).flat().find((found) => found.clip_id === id);
  return hit && { ...hit, labels: {} };
}

function labelsOf(id) {
  const said = Object.entries(shared.night?.labels ?? {});
  return Object.fromEntries(said.flatMap(([name, own]) => own.filter((mark) => mark.clip_id === id).map((mark) => [name, mark])));
}

const asked = latest();
/** Bring the clip that the state names, and its night, onto the page. */
export async function follow({ again = false } = {}) {
  const id = state.clip;
  if (id === null) return;
  if (again) {
    forget(id);
    shared.night = null;
  }
  try {
    await asked(async (signal) => {
      // Signals and neighbours do not wait for the night; it waits a moment for them, since all three share a processor.
      const first = Promise.all([next("strips"), next("hits")]);
      let row = !again && known(id);
      if (!row) {
        emit("clip-asked", id); // signals and neighbours need no more than its id
        row = await rowOf(id);
      }
      if (signal.aborted) return;
      const other = shared.night?.recording_id !== row.recording_id;
      if (other) {
        shared.night = null;
        emit("night-loading", row.recording_id);
      }
      Object.assign(shared, { row, file: null });
      emit("clip", row);
      if (!other) return;
      await Promise.race([first, pause(NIGHT_WAITS)]);
      if (signal.aborted) return;
      const night = await get(`/nights/${encodeURIComponent(row.recording_id)}`, {}, signal);
      shared.night = night;
      shared.row = { ...row, labels: labelsOf(id) };
      emit("night", night);
    });
  } catch (error) {
    // A clip that is gone takes its night along; a server that is silent leaves what is seen.
    if (error.status === 400) Object.assign(shared, { row: null, night: null });
    if (shared.row) toast(error.message);
    else emit("clip-error", error);
  }
}

/** The clip so many places on in the same night; null at its ends. */
export function beside(step) {
  const clips = shared.night?.clips;
  if (!clips) return null;
  const at = clips.clip_id.indexOf(state.clip) + step;
  const bounded = Math.max(0, Math.min(clips.clip_id.length - 1, at));
  return clips.clip_id[bounded];
}

/** The clip of the night that covers a time. */
export function clipAt(seconds) {
  const { clips, clip_seconds } = shared.night;
  let best = null;
  clips.start_s.forEach((start, at) => {
    if (start <= seconds + 1e-6) best = at;
  });
  if (best === null) best = 0;
  const inside = seconds - clips.start_s[best] < clip_seconds || best === clips.clip_id.length - 1;
  return clips.clip_id[inside ? best : Math.min(best + 1, clips.clip_id.length - 1)];
}
