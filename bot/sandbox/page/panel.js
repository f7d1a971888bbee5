// The side panel: what Cloudflare's slots hold, and tokens to paste or to copy.

import { el, icon, slug } from "./dom.js";

// `tokenField()` returns where a token would be pasted, or null; `close()` hides the panel.
export function drawPanel(place, { tokens, slots }, { tokenField, close }) {
  place.replaceChildren(
    el("header", {}, el("h2", {}, "Sandbox"), el("button", { type: "button", class: "quiet", "aria-label": "Hide the sandbox panel", onclick: close }, icon("close"))),
    el("p", { class: "panel-note" }, "Everything here is made up and stays on this machine."),
    ...(slots.length ? [el("section", {}, el("h3", {}, "Cloudflare’s slots"),
      el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Bucket"), el("th", { scope: "col" }, "Stored now"))), el("tbody", {}, slots.map(slot))))] : []),
    ...(tokens.length ? [el("section", {}, el("h3", {}, "Tokens to try"), el("ul", { class: "tokens" }, tokens.map((one) => token(one, tokenField))))] : []));
}

export function showPasteButtons(isPossible) {
  for (const button of document.querySelectorAll(".paste")) button.hidden = !isPossible;
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
  return el("tr", { testid: `panel-slot-${one.bucket}` },
    el("td", {}, el("strong", {}, one.bucket),
      el("div", { class: "states" }, el("span", { class: `state state-${slug(one.catalog_state)}` }, `catalog ${one.catalog_state}`),
        el("span", { class: `state state-${slug(one.credential_state)}` }, `credential ${one.credential_state}`))),
    el("td", {}, one.stored ? el("code", {}, one.stored) : el("span", { class: "nothing" }, "nothing yet"),
      one.stored_at && el("time", { datetime: one.stored_at }, `at ${new Date(one.stored_at).toLocaleTimeString()}`)));
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
