// Renders Block Kit. What a press or a choice means is up to the handlers: `press`, `change`, `search`, `enter`.

import { combobox } from "./combobox.js";
import { el } from "./dom.js";
import { glyphs, plain, textObject } from "./text.js";

export function renderBlocks(blocks, context) {
  return blocks.map((block) => {
    const render = BLOCKS[block.type];
    return el("div", { class: `block block-${block.type}`, testid: `block-${block.block_id}`, "data-block": block.block_id },
      render ? render(block, context) : `(${block.type})`);
  });
}

const BLOCKS = {
  header: (block) => el("h3", {}, glyphs(plain(block.text.text))),
  divider: () => el("hr"),
  section(block, context) {
    const body = el("div", { class: "section-body" },
      block.text && el("div", { class: "text" }, textObject(block.text, context.names)),
      block.fields && el("div", { class: "fields" }, block.fields.map((one) => el("div", { class: "text" }, textObject(one, context.names)))));
    return [body, block.accessory && el("div", { class: "accessory" }, element(block.accessory, block, context))];
  },
  context: (block, context) => block.elements.map((one) => el("span", { class: "text" }, textObject(one, context.names))),
  actions: (block, context) => block.elements.map((one) => element(one, block, context)),
  input(block, context) {
    const id = `field-${context.idPrefix ?? ""}${block.block_id}`;
    const label = el("label", { for: id }, glyphs(plain(block.label.text)),
      block.optional && el("span", { class: "optional" }, " (optional)"));
    const field = element(block.element, block, context);
    const control = field.matches("input, textarea") ? field : field.querySelector("input");
    if (control) control.id = id;
    return [label, field, el("p", { class: "field-error", testid: "field-error", role: "alert", hidden: true }),
      block.hint && el("p", { class: "hint" }, glyphs(plain(block.hint.text)))];
  },
};

function element(one, block, context) {
  return ELEMENTS[one.type](one, block, context);
}

const ELEMENTS = {
  button(one, block, context) {
    const press = () => context.press(block, one);
    if (one.url && /^https?:/i.test(one.url)) {
      return el("a", { class: `button ${one.style ?? ""}`, href: one.url, target: "_blank", rel: "noreferrer noopener",
        testid: `action-${one.action_id}`, "data-action": one.action_id, "data-value": one.value, onclick: press }, glyphs(plain(one.text.text)));
    }
    return el("button", { type: "button", class: `button ${one.style ?? ""}`, testid: `action-${one.action_id}`,
      "data-action": one.action_id, "data-value": one.value, "aria-label": one.accessibility_label, onclick: press }, glyphs(plain(one.text.text)));
  },

  plain_text_input(one, block, context) {
    const shared = {
      placeholder: one.placeholder && plain(one.placeholder.text), autocomplete: "off", autocapitalize: "off",
      spellcheck: "false", "data-element": one.type, "data-action": one.action_id,
      oninput: () => context.change(block, one, field.value, null, "typed"),
      onkeydown: (event) => {
        if (event.key === "Enter" && !event.isComposing && (!one.multiline || event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          context.enter(block, one);
        }
      },
    };
    const value = context.value(block, one) ?? "";
    const field = one.multiline ? el("textarea", { ...shared, rows: "4" }) : el("input", { ...shared, type: "text" });
    field.value = value;
    return field;
  },

  external_select: (one, block, context) => choice(one, block, context, async (query) => {
    const shortest = one.min_query_length ?? 3;
    if (query.length < shortest) return { options: [], note: `Type at least ${shortest} character${shortest === 1 ? "" : "s"}` };
    return context.search(block, one, query);
  }),

  static_select: (one, block, context) => choice(one, block, context, async (query) => matching(optionsOf(one), query)),

  conversations_select: (one, block, context) =>
    choice(one, block, context, async (query) => matching(context.conversations(block), query.replace(/^[#@]/, ""))),

  checkboxes(one, block, context) {
    const picked = new Set(context.value(block, one) ?? []);
    const change = (value, isOn) => {
      if (isOn) picked.add(value);
      else picked.delete(value);
      context.change(block, one, [...picked], null, "chosen");
    };
    return el("div", { class: "checkboxes", role: "group" }, one.options.map((option) =>
      el("label", { class: "checkbox" },
        el("input", { type: "checkbox", value: option.value, checked: picked.has(option.value),
          onchange: (event) => change(option.value, event.target.checked) }),
        el("span", {}, textObject(option.text, context.names),
          option.description && el("span", { class: "option-description" }, textObject(option.description, context.names))))));
  },
};

function choice(one, block, context, search) {
  return combobox({
    chosen: context.chosen(block, one),
    placeholder: one.placeholder ? plain(one.placeholder.text) : "Choose an option",
    label: block.label?.text ?? one.placeholder?.text,
    isDisabled: context.isSearchless && one.type === "external_select",
    search,
    choose: (option) => context.change(block, one, option?.value ?? "", option, "chosen"),
  });
}

export function optionsOf(one) {
  const all = [...(one.options ?? []), ...(one.option_groups ?? []).flatMap((group) => group.options)];
  return all.map(shownOption);
}

export function shownOption(option) {
  return { text: plain(option.text.text), value: option.value, description: option.description && plain(option.description.text) };
}

function matching(options, query) {
  const wanted = query.trim().toLowerCase();
  return { options: options.filter((option) => option.text.toLowerCase().includes(wanted)) };
}
