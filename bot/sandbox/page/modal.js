// The modal in front of the person: renders the view, keeps what is typed, sends it, shows what comes back.

import { renderBlocks } from "./blocks.js";
import { el, icon } from "./dom.js";
import { Drafts, dispatches } from "./drafts.js";
import { glyphs, plain } from "./text.js";

const FOCUSABLE = "a[href], button:not(:disabled), input:not(:disabled), textarea:not(:disabled), [tabindex='0']";

// `post(action, body)` sends; `names` and `conversations(ids)` look things up; `confirmed(element)` asks "are you sure".
// `background` is inert while a modal is open; `beside` is not: its Paste buttons fill the modal.
export class ModalView {
  constructor(overlay, { post, lookUp, confirmed, background, beside, onFocusField, onHide }) {
    Object.assign(this, { overlay, post, lookUp, confirmed, background, beside, onFocusField, onHide });
    this.drafts = new Drafts();
    this.dispatching = Promise.resolve();
    for (const place of [overlay, beside]) place.addEventListener("keydown", (event) => this.view && this.onKey(event));
    overlay.addEventListener("focusin", (event) => {
      if (event.target.dataset.element === "plain_text_input") this.lastText = event.target;
      this.onFocusField();
    });
  }

  show(view) {
    if (!view) return this.hide();
    const isNew = this.view?.id !== view.id;
    if (isNew) this.drafts.clear();
    const isChanged = isNew || this.view.hash !== view.hash;
    this.view = view;
    if (isChanged) this.render(isNew);
    this.refresh();
  }

  hide() {
    if (!this.view) return;
    this.view = this.lastText = null;
    this.overlay.hidden = true;
    this.overlay.replaceChildren();
    for (const part of this.background) part.inert = false;
    this.returnTo?.isConnected && this.returnTo.focus();
    this.onHide();
  }

  render(isNew) {
    const { view } = this;
    if (this.overlay.hidden) this.returnTo = document.activeElement;
    const keep = isNew ? null : this.focusedKey();
    const blocks = renderBlocks(view.blocks, {
      names: this.lookUp.names(),
      value: (block, one) => this.drafts.value(view, block, one),
      chosen: (block, one) => this.drafts.chosen(view, block, one, this.lookUp.conversations),
      change: (block, one, value, option, how) => this.change(block, one, value, option, how),
      enter: (block, one) => (dispatches(block) ? this.dispatch(block, one) : this.submit()),
      press: (block, one) => this.press(one),
      search: (block, one, query) => this.search(block, query),
      conversations: (block) => this.lookUp.conversations(view.conversations[block.block_id] ?? []),
    });
    this.notice = el("p", { class: "notice", role: "alert", testid: "modal-notice", hidden: true });
    this.submitButton = view.submit && el("button", { type: "button", class: "button primary", testid: "modal-submit", onclick: () => this.submit() },
      el("span", { class: "spinner", "aria-hidden": "true" }), el("span", {}, plain(view.submit.text)));
    const back = view.close && el("button", { type: "button", class: "button", testid: "modal-cancel", onclick: () => this.close(false) }, plain(view.close.text));
    this.body = el("div", { class: "modal-body" }, this.notice, blocks);
    this.card = el("section", { class: "modal", role: "dialog", "aria-labelledby": "modal-title", testid: "modal", tabindex: "-1" },
      el("header", {},
        view.is_stacked && el("button", { type: "button", class: "quiet", "aria-label": "Back", onclick: () => this.close(false) }, icon("back")),
        el("h2", { id: "modal-title" }, glyphs(plain(view.title.text))),
        el("button", { type: "button", class: "quiet", "aria-label": "Close", testid: "modal-close", onclick: () => this.close(true) }, icon("close"))),
      this.body,
      (back || this.submitButton) && el("footer", {}, back, this.submitButton));
    this.overlay.replaceChildren(this.card);
    this.overlay.hidden = false;
    for (const part of this.background) part.inert = true;
    this.focus(keep);
  }

  refresh() {
    const { view, card } = this;
    const isBusy = view.is_busy || Boolean(this.isSending);
    card.classList.toggle("busy", isBusy);
    card.setAttribute("aria-busy", String(isBusy));
    if (this.submitButton) this.submitButton.disabled = isBusy;
    this.notice.hidden = !view.notice;
    this.notice.textContent = view.notice ?? "";
    let first = null;
    for (const block of card.querySelectorAll(".block-input")) {
      const error = view.errors[block.dataset.block];
      const line = block.querySelector(":scope > .field-error");
      const control = block.querySelector("input, textarea");
      block.classList.toggle("wrong", Boolean(error));
      line.hidden = !error;
      line.id = `error-${block.dataset.block}`;
      line.replaceChildren(...glyphs(error ?? ""));
      control.setAttribute("aria-invalid", String(Boolean(error)));
      if (error) control.setAttribute("aria-describedby", line.id);
      else control.removeAttribute("aria-describedby");
      if (error && !first) first = control;
    }
    const problems = JSON.stringify([view.errors, view.notice, isBusy]);
    if (first && problems !== this.problems && !isBusy) first.focus();
    if (view.notice && problems !== this.problems) this.body.scrollTop = 0;
    this.problems = problems;
    this.onFocusField();
  }

  // Where a token would be pasted: the token field that had the focus last, or the only one.
  tokenField() {
    if (!this.view) return null;
    const fields = [...this.overlay.querySelectorAll("[data-element='plain_text_input']")].filter((field) =>
      /token/i.test(field.closest(".block-input")?.querySelector("label")?.textContent ?? ""));
    return fields.includes(this.lastText) ? this.lastText : fields.length === 1 ? fields[0] : null;
  }

  change(block, one, value, option, how) {
    const isChosen = how === "chosen";
    this.drafts.put(block, one, value, isChosen ? option : undefined);
    if (isChosen) {
      if (dispatches(block)) this.dispatch(block, one);
    } else if (dispatches(block) && one.dispatch_action_config?.trigger_actions_on.includes("on_character_entered")) {
      this.dispatch(block, one);
    }
  }

  dispatch(block, one) {
    // One after the other: the app is to see them in the order in which they were typed.
    this.dispatching = this.dispatching.then(() => this.send("fill", { block: block.block_id, action: one.action_id }));
  }

  async press(one) {
    if (await this.confirmed(one)) await this.send("click", { action: one.action_id, value: one.value });
  }

  async search(block, query) {
    const answer = await this.post("search", { view: this.view.id, values: this.drafts.values(), block: block.block_id, query }, true);
    if (!answer || answer.failure) return { options: [], note: "The options could not be loaded" };
    return { options: answer.options };
  }

  async submit() {
    if (!this.view.submit || this.isSending) return;
    this.isSending = true;
    this.refresh();
    await this.dispatching;
    await this.send("submit", {});
    this.isSending = false;
    if (this.view) this.refresh();
  }

  close(isWholeStack) {
    return this.send("close", { whole_stack: isWholeStack });
  }

  send(action, body) {
    return this.view ? this.post(action, { view: this.view.id, values: this.drafts.values(), ...body }) : null;
  }

  focusedKey() {
    return document.activeElement?.closest("[data-block]")?.dataset.block ?? null;
  }

  focus(blockId) {
    const within = blockId && this.card.querySelector(`[data-block="${CSS.escape(blockId)}"]`);
    const target = (within || this.body).querySelector("input, textarea");
    (target ?? this.submitButton ?? this.card).focus();
  }

  onKey(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      this.close(true);
    } else if (event.key === "Tab") {
      event.preventDefault();
      this.nextStop(event.shiftKey).focus();
    }
  }

  // Where Tab leads to: through the modal, then over the Paste buttons beside it, and around again.
  nextStop(isBackwards) {
    const all = [...this.card.querySelectorAll(FOCUSABLE), ...this.beside.querySelectorAll(".paste")];
    const stops = all.filter((one) => one.offsetParent !== null);
    const at = stops.indexOf(document.activeElement);
    if (at < 0) return isBackwards ? stops[stops.length - 1] : stops[0];
    return stops[(at + (isBackwards ? stops.length - 1 : 1)) % stops.length];
  }
}
