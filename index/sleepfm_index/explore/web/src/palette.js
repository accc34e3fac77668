// Colours that readers without red or green tell apart; stages differ in lightness as well: their
// L* is 58, 54, 43, 34, 21 on white (W, N1, N2, R, N3) and 84, 75, 64, 56, 47 on black.

import { on } from "./shared.js";

const LIGHT = {
  W: "#c57b00", R: "#9e1644", N1: "#2f8fa6", N2: "#2866b4", N3: "#1d2c6b", UNS: "#8a9299", ART: "#8a9299",
};
const DARK = {
  W: "#ffc861", R: "#e2507c", N1: "#6cc4d2", N2: "#559df0", N3: "#5d64d8", UNS: "#7b858d", ART: "#7b858d",
};
const LIGHT_NAMES = ["#2c6fbb", "#c57b00", "#b3204d", "#1f8a70", "#7a4fb5", "#1d2c6b", "#8a6d3b", "#4aa3b8", "#5c6670", "#d3593b"];
const DARK_NAMES = ["#559df0", "#ffc861", "#f0648c", "#4fd1a5", "#b79bf2", "#7fd6e2", "#d8b37a", "#8f96f0", "#a9b4bd", "#ff9a7a"];
// Cividis, which is the same to colour-blind readers (Nuñez et al. 2018), at eight places.
const CIVIDIS = ["#00224e", "#233e6c", "#434e6c", "#5f606e", "#7c7b78", "#a09877", "#c9b861", "#fee838"];

// A picture asks for colours thousands of times, and the browser takes its time to tell them.
const tokens = new Map();
let isDark = null;
on("theme", () => {
  tokens.clear();
  isDark = null;
});

export function dark() {
  if (isDark === null) {
    const said = document.documentElement.dataset.theme;
    isDark = said ? said === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  return isDark;
}

export function stageColour(stage) {
  const colours = dark() ? DARK : LIGHT;
  return colours[stage] ?? colours.UNS;
}

export function nameColours(names) {
  const own = dark() ? DARK_NAMES : LIGHT_NAMES;
  const stages = names.length > 0 && names.every((name) => name in LIGHT);
  return names.map((name, at) => (stages ? stageColour(name) : own[at % own.length]));
}

function mix(one, two, share) {
  const part = (at) => {
    const [a, b] = [one, two].map((c) => parseInt(c.slice(at, at + 2), 16));
    return Math.round(a + (b - a) * share).toString(16).padStart(2, "0");
  };
  return `#${part(1)}${part(3)}${part(5)}`;
}

/** So many colours from low to high. */
export function scale(n) {
  const stops = CIVIDIS;
  return Array.from({ length: n }, (_, at) => {
    const place = (at / (n - 1)) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(place));
    return mix(stops[low], stops[low + 1], place - low);
  });
}

/** A colour of the style sheet, for what is not drawn by it. */
export function token(name) {
  if (!tokens.has(name)) tokens.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return tokens.get(name);
}
