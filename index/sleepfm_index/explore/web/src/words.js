// How things are written.

const SHORT = { bas: "Brain", ecg: "ECG", resp: "Breathing" };
const LONG = { bas: "EEG and EOG (bas)", ecg: "Electrocardiogram (ecg)", resp: "Belts and saturation (resp)" };
// Which channels stand for a modality in a small strip, the first that was recorded.
const SHOWN = { bas: ["C4-M1", "C3-M2", "O2-M1"], resp: ["CHEST", "ABD"] };

/** The modalities of a store that some clip has, in the order of its contract. */
export function modalities(about) {
  return about.modalities.filter((m) => about.with_modality[m] > 0);
}

/** How a modality is called on a button. */
export function titled(about, m) {
  return SHORT[m] ?? about.modality[m].title;
}

/** What can be searched in, as [name, title, hint]. */
export function targets(about) {
  const own = modalities(about);
  const each = own.map((m) => [m, titled(about, m), LONG[m] ?? `${titled(about, m)} (${m})`]);
  return own.length > 2 ? [...each, ["others", "Others", "The mean of the other modalities (others)"]] : each;
}

/** The slots that show a modality, best first. */
export function lanes(about, m) {
  const { slots } = about.modality[m];
  return [...new Set([...(SHOWN[m] ?? []).filter((slot) => slots.includes(slot)), ...slots])];
}

export const STAGES = ["W", "R", "N1", "N2", "N3"];

const two = (n) => String(n).padStart(2, "0");

/** Seconds as h:mm:ss. */
export function clock(seconds) {
  const whole = Math.floor(((seconds % 86400) + 86400) % 86400);
  return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

/** A clip's time of day, or its offset where the recording knows no clock. */
export function timeOf(row) {
  return row.clock === null || row.clock === undefined ? `+${clock(row.start_s)}` : clock(row.clock);
}

export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

export function length(seconds) {
  return seconds < 60 ? `${+seconds.toFixed(1)} s` : `${+(seconds / 60).toFixed(1)} min`;
}

export function unit(text) {
  return text.replace(/^u(?=V)/, "µ");
}

/** A value in a table. */
export function cell(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return value.toPrecision(4).replace(/\.?0+$/, "");
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

export function round(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-12)));
  return [1, 2, 5, 10].find((f) => f * power >= value * 0.999) * power;
}
