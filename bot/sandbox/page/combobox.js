// A field to choose one option by typing: a text box with a list under it, usable by keyboard alone.

import { el, icon } from "./dom.js";
import { glyphs } from "./text.js";

const KEYSTROKE_PAUSE = 150;
let count = 0;

// `search(query)` resolves to {options: [{text, value, description}], note}; `choose(option)` is told the choice.
export function combobox({ chosen, placeholder, search, choose, label, isDisabled = false }) {
  const listId = `options-${++count}`;
  let current = chosen;
  let options = [];
  let active = -1;
  let timer;
  let asked = 0;

  const input = el("input", {
    type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", placeholder, "aria-label": label,
    "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": listId, value: current?.text ?? "",
    disabled: isDisabled,
  });
  const list = el("ul", { role: "listbox", id: listId, class: "options", hidden: true });
  const root = el("div", { class: "combobox" }, input, el("span", { class: "chevron" }, icon("down")), list);

  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => list.hidden && look(current && input.value === current.text ? "" : input.value, 0));
  input.addEventListener("input", () => look(input.value, KEYSTROKE_PAUSE));
  input.addEventListener("blur", () => setTimeout(settle));
  input.addEventListener("keydown", onKey);
  list.addEventListener("mousedown", (event) => event.preventDefault());

  function onKey(event) {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) look(current && input.value === current.text ? "" : input.value, 0);
      else if (options.length) mark((active + (event.key === "ArrowDown" ? 1 : -1) + options.length) % options.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (!list.hidden && options[active]) take(options[active]);
    } else if (event.key === "Escape" && !list.hidden) {
      event.stopPropagation();
      hide();
    }
  }

  function look(query, pause) {
    clearTimeout(timer);
    const mine = ++asked;
    timer = setTimeout(async () => {
      if (options.length === 0) show([], "Searching…");
      const { options: found, note } = await search(query);
      if (mine === asked && document.activeElement === input) show(found, note ?? (found.length ? null : "No matches"));
    }, pause);
  }

  function show(found, note) {
    options = found;
    list.replaceChildren(
      ...found.map((option, index) =>
        el("li", {
          role: "option", id: `${listId}-${index}`, testid: "option", "data-value": option.value,
          "aria-selected": String(option.value === current?.value), onclick: () => take(option),
        }, el("span", { class: "option-text" }, glyphs(option.text)), option.description && el("span", { class: "option-description" }, glyphs(option.description))),
      ),
      ...(note ? [el("li", { class: "note", role: "presentation" }, note)] : []),
    );
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(found.length ? Math.max(0, found.findIndex((option) => option.value === current?.value)) : -1);
    place();
  }

  function place() {
    const box = input.getBoundingClientRect();
    const below = innerHeight - box.bottom - 12;
    const isAbove = below < 160 && box.top > below;
    list.style.left = `${box.left}px`;
    list.style.width = `${box.width}px`;
    list.style.maxHeight = `${Math.min(280, isAbove ? box.top - 12 : below)}px`;
    list.style.top = isAbove ? "" : `${box.bottom + 4}px`;
    list.style.bottom = isAbove ? `${innerHeight - box.top + 4}px` : "";
  }

  function mark(index) {
    list.children[active]?.classList.remove("active");
    active = index;
    const item = options[index] && list.children[index];
    item?.classList.add("active");
    item?.scrollIntoView({ block: "nearest" });
    if (item) input.setAttribute("aria-activedescendant", item.id);
    else input.removeAttribute("aria-activedescendant");
  }

  function take(option) {
    current = option;
    input.value = option.text;
    hide();
    choose(option);
  }

  function settle() {
    if (document.activeElement === input) return;
    hide();
    if (!input.value && current) {
      current = null;
      choose(null);
    }
    input.value = current?.text ?? "";
  }

  function hide() {
    clearTimeout(timer);
    asked += 1;
    options = [];
    active = -1;
    list.replaceChildren();
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  return root;
}
