// A line or a text of SQL in which names of columns are completed.

import { h } from "./dom.js";

const WORDS = ["AND", "OR", "NOT", "IN", "IS NULL", "IS NOT NULL", "BETWEEN", "LIKE", "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "count(*)", "avg(", "LIMIT"];
let serial = 0;

/** Wrap a field; names() gives what can be completed. */
export function completing(field, names) {
  const id = `options-${++serial}`;
  const list = h("ul.options", { id, role: "listbox", hidden: true });
  let at = 0;
  let found = [];
  field.setAttribute("role", "combobox");
  field.setAttribute("aria-autocomplete", "list");
  field.setAttribute("aria-controls", id);
  field.setAttribute("aria-expanded", "false");
  field.setAttribute("autocomplete", "off");
  field.setAttribute("spellcheck", "false");

  const word = () => {
    const before = field.value.slice(0, field.selectionStart);
    if ((before.match(/'/g) ?? []).length % 2) return "";
    return before.match(/[A-Za-z_][A-Za-z0-9_]*$/)?.[0] ?? "";
  };
  const show = () => {
    const said = word();
    const low = said.toLowerCase();
    const all = said.length ? [...names(), ...WORDS] : [];
    found = all.filter((n) => n.toLowerCase().startsWith(low) && n !== said);
    found.push(...all.filter((n) => said.length > 1 && !found.includes(n) && n.toLowerCase().includes(low) && n !== said));
    found = found.slice(0, 8);
    at = 0;
    list.hidden = !found.length;
    field.setAttribute("aria-expanded", String(found.length > 0));
    mark();
  };
  const mark = () => {
    list.replaceChildren(
      ...found.map((name, i) =>
        h("li", { id: `${id}-${i}`, role: "option", "aria-selected": String(i === at), onmousedown: (event) => (event.preventDefault(), take(name)) }, name),
      ),
    );
    if (found.length) field.setAttribute("aria-activedescendant", `${id}-${at}`);
    else field.removeAttribute("aria-activedescendant");
  };
  const take = (name) => {
    const place = field.selectionStart;
    const from = place - word().length;
    field.setRangeText(name, from, place, "end");
    hide();
    field.focus();
  };
  const hide = () => {
    list.hidden = true;
    found = [];
    field.setAttribute("aria-expanded", "false");
  };
  field.addEventListener("input", show);
  field.addEventListener("blur", hide);
  field.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      at = (at + step + found.length) % found.length;
      mark();
    } else if (event.key === "Tab") take(found[at]);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return h("div.completing", null, field, list);
}
