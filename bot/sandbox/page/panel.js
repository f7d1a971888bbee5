// The side panel: what Cloudflare's slots hold, the account's tokens, what can go wrong, and tokens to paste or to copy.

import { arrange, el, icon, slug } from "./dom.js";

const LONG = 8;

// `tokenField()` returns where a token would be pasted, or null; `press(what)` sends what was pressed; `close()` hides it.
export class Panel {
  constructor(place, { tokenField, press, close }) {
    Object.assign(this, { place, tokenField, press });
    this.parts = {
      slots: new Part("Cloudflare’s slots", "slots", slot, { isLive: true }),
      account: new Part("API tokens of the account", "account", (one) => accountToken(one, press), { isLive: true }),
      switches: new Part("Let a rotation fail", "switches", (one) => troubleSwitch(one, press), { isOpen: false }),
      tokens: new Part("Tokens to try", "tokens", (one) => token(one, tokenField)),
    };
    place.replaceChildren(
      el("header", {}, el("h2", {}, "Sandbox"), el("button", { type: "button", class: "quiet", "aria-label": "Hide the sandbox panel", onclick: close }, icon("close"))),
      el("p", { class: "panel-note" }, "Everything here is made up and stays on this machine."),
      ...Object.values(this.parts).map((part) => part.place));
    setInterval(() => tick(place), 1000);
  }

  // Rows that have not changed stay as they are; a button that was drawn again keeps the focus.
  draw(panel) {
    const active = document.activeElement;
    const focused = this.place.contains(active) ? active.dataset.testid : null;
    const there = panel.account.filter((one) => one.status !== "deleted");
    const on = panel.switches.filter((one) => one.is_on).length;
    this.parts.slots.show(panel.slots, `${panel.slots.length}`);
    this.parts.account.show(panel.account, `${there.length}`, panel.about);
    this.parts.switches.show(panel.switches, on ? `${on} on` : "");
    this.parts.tokens.show(panel.tokens, `${panel.tokens.length}`);
    tick(this.place);
    if (focused && !this.place.contains(document.activeElement)) this.place.querySelector(`[data-testid="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

// A part that can be folded, with a list in groups; a long one of what changes while people watch scrolls by itself.
class Part {
  constructor(title, name, build, { isOpen = true, isLive = false } = {}) {
    Object.assign(this, { build, isLive });
    this.rows = new Map();
    this.count = el("span", { class: "count" });
    this.about = el("p", { class: "panel-about" });
    this.list = el("ul", { class: `rows ${name}` });
    this.place = el("details", { class: "part", testid: `part-${name}`, open: isOpen, hidden: true },
      el("summary", {}, el("h3", {}, title), this.count), this.about, this.list);
  }

  show(items, count, about = "") {
    const known = this.rows;
    this.rows = new Map();
    const row = (key, build) => {
      this.rows.set(key, known.get(key) ?? build());
      return this.rows.get(key);
    };
    arrange(this.list, items.flatMap((one, index) => [
      ...(one.group && one.group !== items[index - 1]?.group ? [row(one.group, () => el("li", { class: "group" }, one.group))] : []),
      row(JSON.stringify(one), () => this.build(one))]));
    this.list.classList.toggle("long", items.length > LONG && this.isLive);
    this.place.hidden = items.length === 0;
    this.count.textContent = count;
    this.about.textContent = about;
    this.about.hidden = !about;
  }
}

export function showPasteButtons(isPossible) {
  for (const button of document.querySelectorAll(".paste")) button.hidden = !isPossible;
}

// Says how long it is until something happens. When it is over nothing is promised: the bot may be kept from it.
function tick(place) {
  for (const one of place.querySelectorAll("[data-until]")) {
    const seconds = Math.ceil((Date.parse(one.dataset.until) - Date.now()) / 1000);
    one.textContent = seconds > 0 ? `${one.dataset.next} in ${seconds} s` : "";
  }
}

function token(one, tokenField) {
  // Two dozen buttons with one name could not be told apart by ear: each names its token, for readers only.
  const button = (verb, attributes) => el("button", { type: "button", ...attributes },
    el("span", { class: "verb" }, verb), el("span", { class: "unseen" }, ` the token “${one.label}”`));
  return el("li", { class: "token", testid: `token-${slug(one.label)}` },
    el("div", {}, el("strong", {}, one.label), el("p", {}, one.explanation), el("code", { title: one.token }, one.token)),
    el("div", { class: "token-buttons" },
      button("Paste", { class: "button small paste", hidden: true, onmousedown: (event) => event.preventDefault(), onclick: () => paste(one.token, tokenField()) }),
      button("Copy", { class: "button small", onclick: (event) => copy(event.currentTarget, one.token) })));
}

function slot(one) {
  return el("li", { testid: `panel-slot-${one.bucket}` },
    el("div", { class: "row-head" }, el("strong", {}, one.bucket),
      one.catalog_state !== "active" && state(one.catalog_state, `catalog ${one.catalog_state}`), state(one.credential_state, `credential ${one.credential_state}`)),
    one.stored && el("div", { class: "held" }, el("code", { title: one.stored }, el("span", {}, one.stored.slice(0, -8)), el("span", {}, one.stored.slice(-8))),
      one.stored_at && el("time", { datetime: one.stored_at }, `at ${new Date(one.stored_at).toLocaleTimeString()}`)));
}

function accountToken(one, press) {
  const isIdle = one.presses.length > 0 && one.status === "active" && !one.slots.length && !one.note && !one.until;
  const facts = [one.status !== "deleted" && one.expires_at && `expires ${new Date(one.expires_at).toLocaleDateString(undefined, { dateStyle: "medium" })}`, isIdle && "in no slot"];
  return el("li", { class: `account-token ${slug(one.status)}`, testid: `account-token-${one.id}`, title: one.id },
    el("div", { class: "row-head" }, el("strong", {}, one.title),
      state(one.status, one.status), one.slots.map((bucket) => state("in-slot", one.title === bucket ? "in its slot" : `in the slot of ${bucket}`)),
      one.presses.length > 0 && byHand(one, press)),
    el("div", { class: "row-facts" }, one.detail && el("code", {}, one.detail), el("span", {}, facts.filter(Boolean).join(" · ")),
      one.note && el("span", { class: "note" }, one.note),
      one.until && el("time", { class: "note", datetime: one.until, "data-until": one.until, "data-next": one.next })));
}

// What somebody could do in Cloudflare's dashboard: it takes little room, since there may be forty.
function byHand(one, press) {
  const name = [one.title, one.detail].filter(Boolean).join(" ");
  return el("select", { "aria-label": `By hand, with the token ${name}`, title: "By hand, as in the dashboard", testid: `by-hand-${one.id}`, onchange: (event) => press(event.target.value) },
    el("option", { value: "", selected: true }, "⋯"), one.presses.map(([label, value]) => el("option", { value }, label)));
}

function troubleSwitch(one, press) {
  const name = `switch-${slug(one.label)}`;
  return el("li", { class: `switch ${one.is_on ? "on" : ""}` },
    el("div", {}, el("strong", {}, one.label), el("p", {}, one.explanation)),
    el("button", { type: "button", class: "button small", role: "switch", "aria-checked": String(one.is_on), testid: name, onclick: () => press(one.press) },
      el("span", {}, one.is_on ? "On" : "Off"), el("span", { class: "unseen" }, `: ${one.label}`)));
}

function state(kind, text) {
  return el("span", { class: `state state-${slug(kind)}` }, text);
}

function paste(text, field) {
  if (!field) return;
  field.value = text;
  field.dispatchEvent(new Event("input"));
  field.focus();
  // It has kept the focus, which then scrolls to nothing: on a narrow screen the form lies above the panel.
  scrollTo(0, 0);
  field.scrollIntoView({ block: "nearest" });
}

async function copy(button, text) {
  const verb = button.querySelector(".verb");
  try {
    await navigator.clipboard.writeText(text);
    verb.textContent = "Copied";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(button.closest(".token").querySelector("code"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    verb.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { verb.textContent = "Copy"; }, 1500);
}
