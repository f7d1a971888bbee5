// What a person typed or chose in a view and the server does not know yet, over what it does know.

import { shownOption } from "./blocks.js";

export class Drafts {
  constructor() {
    this.typed = new Map();
    this.options = new Map();
  }

  clear() {
    this.typed.clear();
    this.options.clear();
  }

  put(block, one, value, option) {
    this.typed.set(key(block, one), value);
    if (option !== undefined) this.options.set(key(block, one), option);
  }

  value(view, block, one) {
    const draft = this.typed.get(key(block, one));
    if (draft !== undefined) return draft;
    const state = view.values[block.block_id]?.[one.action_id] ?? {};
    if (state.selected_options) return state.selected_options.map((option) => option.value);
    return state.value ?? state.selected_conversation ?? state.selected_option?.value ?? null;
  }

  // `conversations(ids)` describes conversations as options.
  chosen(view, block, one, conversations) {
    const kept = this.options.get(key(block, one));
    if (kept !== undefined) return kept;
    const state = view.values[block.block_id]?.[one.action_id] ?? {};
    if (state.selected_option) return shownOption(state.selected_option);
    return state.selected_conversation ? conversations([state.selected_conversation])[0] : null;
  }

  values() {
    const values = {};
    for (const [name, value] of this.typed) {
      const [blockId, actionId] = name.split("\n");
      (values[blockId] ??= {})[actionId] = value;
    }
    return values;
  }
}

// Whether a choice in this field is told to the app at once.
export function dispatches(block) {
  return block.type !== "input" || Boolean(block.dispatch_action);
}

function key(block, one) {
  return `${block.block_id}\n${one.action_id}\n${one.type}`;
}
