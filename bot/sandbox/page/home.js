// The app's Home tab: renders what was published, sends presses and choices, keeps the place when it changes.

import { renderBlocks } from "./blocks.js";
import { el } from "./dom.js";
import { Drafts, dispatches } from "./drafts.js";

const FOCUSABLE = "a[href], button, input, textarea";

// `post(action, body)` sends; `names` and `conversations(ids)` look things up; `confirmed(element)` asks "are you sure".
export class HomeView {
  constructor(place, { post, lookUp, confirmed }) {
    Object.assign(this, { place, post, lookUp, confirmed });
    this.drafts = new Drafts();
    this.dispatching = Promise.resolve();
  }

  // Draws it again only when it is another view, or another person's, so that focus and scrolling survive.
  show(view, appName) {
    const key = view ? `${view.id} ${view.hash}` : `nothing by ${appName}`;
    if (key === this.key) return;
    const isNew = this.view?.id !== view?.id;
    if (isNew) this.drafts.clear();
    Object.assign(this, { key, view });
    const focused = this.focused();
    const body = view ? renderBlocks(view.blocks, this.context()) : this.placeholder(appName);
    this.place.replaceChildren(el("div", { class: "home-body" }, body));
    if (isNew) this.place.scrollTop = 0;
    this.restore(focused);
  }

  placeholder(appName) {
    return el("div", { class: "home-placeholder", testid: "home-placeholder" },
      el("h2", {}, "Nothing here yet"), el("p", {}, `${appName} has not published anything on this tab.`));
  }

  context() {
    const { view, drafts, lookUp } = this;
    return {
      names: lookUp.names(), isSearchless: true, idPrefix: "home-",
      value: (block, one) => drafts.value(view, block, one),
      chosen: (block, one) => drafts.chosen(view, block, one, lookUp.conversations),
      change: (block, one, value, option, how) => this.change(block, one, value, option, how),
      enter: (block, one) => dispatches(block) && this.dispatch(block, one),
      press: (block, one) => this.press(one),
      search: async () => ({ options: [] }),
      conversations: (block) => lookUp.conversations(view.conversations[block.block_id] ?? []),
    };
  }

  change(block, one, value, option, how) {
    const isChosen = how === "chosen";
    this.drafts.put(block, one, value, isChosen ? option : undefined);
    const isCharacter = one.dispatch_action_config?.trigger_actions_on.includes("on_character_entered");
    if (dispatches(block) && (isChosen || isCharacter)) this.dispatch(block, one);
  }

  dispatch(block, one) {
    // One after the other: the app is to see them in the order in which they were typed.
    this.dispatching = this.dispatching.then(() => this.send("fill", { block: block.block_id, action: one.action_id }));
  }

  async press(one) {
    this.pressed = this.focused();
    const goesOn = await this.confirmed(one);
    this.focusAgain();
    if (goesOn) await this.send("click", { action: one.action_id, value: one.value });
  }

  send(action, body) {
    return this.view ? this.post(action, { home: this.view.id, values: this.drafts.values(), ...body }) : null;
  }

  // Where the focus is. The ids of blocks may be others after a change, so an element is known by its action and place.
  focused() {
    const active = document.activeElement;
    if (!this.place.contains(active) || active === this.place) return null;
    const { action, value } = active.dataset;
    const mark = { block: active.closest("[data-block]")?.dataset.block, action, value, start: active.selectionStart, end: active.selectionEnd };
    return { ...mark, index: this.alike(mark).indexOf(active) };
  }

  alike({ block, action }) {
    return [...this.place.querySelectorAll(FOCUSABLE)].filter((one) =>
      (action ? one.dataset.action === action : one.closest("[data-block]")?.dataset.block === block));
  }

  // Takes the focus that is nowhere, when what covered the tab went away and the pressed button was drawn again meanwhile.
  focusAgain() {
    if (document.activeElement === document.body && !this.place.hidden) this.restore(this.pressed);
  }

  restore(mark) {
    if (!mark) return;
    const alike = this.alike(mark);
    const target = alike.find((one) => one.dataset.value === mark.value) ?? alike[Math.min(mark.index, alike.length - 1)] ?? this.place;
    target.focus({ preventScroll: true });
    if (typeof mark.start === "number" && target.matches("input[type='text'], textarea")) target.setSelectionRange(mark.start, mark.end);
  }
}
