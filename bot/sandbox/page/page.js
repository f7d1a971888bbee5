// The workspace: sidebar, channel or app with its tabs, composer, side panel. The server sends the whole state at every change.

import { catchBack, onTypedAddress, showAddress } from "./back.js";
import { optionsOf, renderBlocks } from "./blocks.js";
import { arrange, el, icon } from "./dom.js";
import { Follower } from "./follower.js";
import { HomeView } from "./home.js";
import { ModalView } from "./modal.js";
import { Panel, showPasteButtons } from "./panel.js";
import { plain, richText } from "./text.js";

const GROUPED_WITHIN_SECONDS = 300;
const $ = (id) => document.getElementById(id);

let state = null;
let source = null;
let [channelId, tab] = addressed();
let lastTab = "home";
let opened = null;
let isFollowing = false;
let userId = sessionStorage.getItem("user") ?? "";
const drawn = new Map();
const seen = new Map();
let rows = new Map();
const drafts = new Map();
const visited = [];
const follower = new Follower($("messages"));

const modal = new ModalView($("overlay"), {
  post,
  lookUp: { names, conversations },
  confirmed,
  background: [$("sidebar"), $("main")],
  beside: $("panel"),
  onFocusField: () => showPasteButtons(modal.tokenField() !== null),
  onHide: () => home.focusAgain(),
});

const home = new HomeView($("home"), { post, lookUp: { names, conversations }, confirmed });

const panel = new Panel($("panel"), { tokenField: () => modal.tokenField(), press: (what) => what && post("press", { press: what }), close: togglePanel });

// The address names a conversation, and the tab of the app's.
function addressed() {
  const [id, name] = location.hash.slice(1).split("/");
  return [id, name === "home" ? "home" : "messages"];
}

function connect() {
  source?.close();
  source = new EventSource(`/page/events?user=${encodeURIComponent(userId)}`);
  source.onmessage = (event) => {
    document.body.classList.remove("offline");
    state = JSON.parse(event.data);
    userId = state.you;
    if (isFollowing) channelId = state.channels.find((one) => one.is_dm).id;
    isFollowing = false;
    render();
    announceTab();
  };
  source.onerror = () => document.body.classList.add("offline");
}

async function post(action, body, isQuiet = false) {
  try {
    const answer = await fetch(`/page/${action}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ user: userId, ...body }),
    });
    const content = await answer.json();
    if (content.error) toast(content.error);
    else if (content.failure && !isQuiet) toast(`The app did not answer (${content.failure})`);
    return content.error ? null : content;
  } catch {
    toast("The sandbox cannot be reached. Is it still running?");
    return null;
  }
}

function names() {
  return Object.fromEntries([...state.users, ...state.groups, ...state.channels, { id: state.app_user, name: state.app.name }].map((one) => [one.id, one.name]));
}

function conversations(ids) {
  return state.channels.filter((channel) => ids.includes(channel.id))
    .map((channel) => ({ value: channel.id, text: channel.is_dm ? `Direct message with ${channel.name}` : `#${channel.name}`, description: describe(channel) }));
}

function describe(channel) {
  const facts = [channel.is_private && "private", channel.is_shared && "shared with another company", !channel.has_app && `without ${state.app.name}`];
  return facts.filter(Boolean).join(", ") || null;
}

// Draws a part again only when what it shows has changed, so that focus, selection and scrolling survive.
function draw(part, shown, build) {
  const key = JSON.stringify(shown);
  if (drawn.get(part) === key) return;
  drawn.set(part, key);
  build();
}

function render() {
  const channel = current();
  const isHome = shownTab(channel) === "home";
  document.title = `${channel.is_dm ? "" : "#"}${channel.name}${isHome ? ", Home" : ""} · ${state.workspace} (sandbox)`;
  if (!isHome) seen.set(channel.id, channel.messages.at(-1)?.ts ?? "");
  const outline = state.channels.map(({ messages, ...rest }) => ({ ...rest, isUnread: isUnread({ messages, ...rest }) }));
  draw("sidebar", [outline, channel.id, state.you, state.users, state.app], () => drawSidebar(outline));
  const { messages, ...about } = channel;
  draw("header", [about, state.app, isHome], () => drawHeader(channel, isHome));
  draw("tabs", [channel.is_dm && state.app.has_home, shownTab(channel), isUnread(channel)], () => drawTabs(channel));
  for (const [id, isShown] of [["home", isHome], ["messages", !isHome], ["composer-place", !isHome]]) $(id).hidden = !isShown;
  home.show(state.home, state.app.name);
  draw("messages", [channel.id, messages, about.topic, state.you, isHome, state.panel.start], () => drawMessages(channel, isHome));
  draw("composer", [channel.id, channel.is_archived, state.you, state.commands], () => drawComposer(channel));
  draw("panel", state.panel, () => {
    document.body.classList.toggle("no-panel", ["slots", "account", "switches", "tokens"].every((part) => !state.panel[part].length));
    panel.draw(state.panel);
  });
  modal.show(state.view);
  showPasteButtons(modal.tokenField() !== null);
}

function current() {
  return state.channels.find((channel) => channel.id === channelId) ?? state.channels[0];
}

function isUnread(channel) {
  return (channel.messages.at(-1)?.ts ?? "") > (seen.get(channel.id) ?? "");
}

// Which tab of a conversation is shown: only the app's has two.
function shownTab(channel) {
  return channel.is_dm && state.app.has_home ? tab : "messages";
}

function select(id, wanted = "messages") {
  const place = [current().id, shownTab(current())];
  if (place[0] !== id || place[1] !== wanted) visited.push(place);
  show(id, wanted);
}

function show(id, wanted) {
  [channelId, tab] = [id, wanted];
  if (current().is_dm) lastTab = wanted;
  opened = null;
  showAddress(`#${id}${wanted === "home" ? "/home" : ""}`);
  document.body.classList.remove("menu-open");
  render();
  announceTab();
  document.querySelector("#composer-place:not([hidden]) textarea")?.focus();
}

// Takes away what lies on top, else returns to the place before; at the first place it stays.
function goBack() {
  const dialog = document.querySelector("dialog[open]");
  if (dialog) dialog.close("no");
  else if (state?.view) modal.close(false);
  else if (document.body.classList.contains("menu-open")) toggleMenu();
  else if (visited.length) show(...visited.pop());
}

// Reports that a tab of the app was opened; what becomes of it is the app's affair, as in Slack.
function announceTab() {
  const channel = current();
  const now = `${userId} ${channel.id} ${shownTab(channel)}`;
  if (opened === now) return;
  opened = now;
  if (channel.is_dm) post("open", { tab: shownTab(channel) }, true);
}

function drawSidebar(outline) {
  const chooser = el("select", { testid: "user-chooser", id: "user-chooser", onchange: (event) => becomeUser(event.target.value) },
    state.users.map((user) => el("option", { value: user.id, selected: user.id === state.you }, user.name)));
  const entry = (channel) => el("li", {},
    el("button", {
      type: "button", testid: `channel-${channel.id}`, title: describe(channel),
      onclick: () => select(channel.id, channel.is_dm && !channel.isUnread ? lastTab : "messages"),
      class: [channel.id === current().id && "selected", channel.isUnread && "unread", channel.is_archived && "archived"].filter(Boolean).join(" "),
      "aria-current": channel.id === current().id ? "page" : null,
    },
      channel.is_dm ? avatar(channel.name, true) : icon(channel.is_archived ? "archive" : channel.is_private ? "lock" : "hash"),
      el("span", { class: "name" }, channel.name),
      channel.is_shared && el("span", { class: "mark" }, icon("shared"), el("span", { class: "unseen" }, "shared with another company")),
      !channel.has_app && el("span", { class: "mark no-app" }, "no app"),
      channel.isUnread && el("span", { class: "dot" }, el("span", { class: "unseen" }, "unread"))));
  $("sidebar").replaceChildren(
    el("div", { class: "workspace" }, el("span", { class: "badge" }, state.workspace[0]),
      el("span", {}, el("strong", {}, state.workspace), el("small", {}, "Sandbox workspace")),
      el("button", { type: "button", class: "quiet menu", "aria-label": "Close the menu", onclick: toggleMenu }, icon("close"))),
    el("div", { class: "you" }, el("label", { for: "user-chooser" }, "You are"), chooser),
    el("h2", {}, "Channels"), el("ul", {}, outline.filter((one) => !one.is_dm).map(entry)),
    el("h2", {}, "Apps"), el("ul", {}, outline.filter((one) => one.is_dm).map(entry)),
    el("p", { class: `presence ${state.app.is_here ? "here" : ""}` }, el("i"), state.app.is_here ? `${state.app.name} is connected` : `${state.app.name} is not connected`));
}

function becomeUser(id) {
  isFollowing = current().is_dm; // everybody has an app conversation of their own
  userId = id;
  sessionStorage.setItem("user", id);
  seen.clear();
  drafts.clear();
  visited.length = 0;
  connect();
}

function toggleMenu() {
  document.body.classList.toggle("menu-open");
}

function togglePanel() {
  const isShut = document.body.classList.toggle("panel-shut");
  sessionStorage.setItem("panel", isShut ? "shut" : "open");
}

// The two tabs of the app's conversation, to be walked by the arrow keys.
function drawTabs(channel) {
  const place = $("tabs");
  const hadFocus = place.contains(document.activeElement);
  const shown = shownTab(channel);
  const other = shown === "home" ? "messages" : "home";
  const one = (name, label, glyph, hasNews) => el("button", {
    type: "button", role: "tab", id: `tab-${name}`, testid: `tab-${name}`, "aria-selected": String(name === shown), "aria-controls": name,
    tabindex: name === shown ? "0" : "-1", onclick: () => select(channel.id, name),
    onkeydown: (event) => {
      const wanted = { ArrowLeft: other, ArrowRight: other, Home: "home", End: "messages" }[event.key];
      if (!wanted) return;
      event.preventDefault();
      select(channel.id, wanted);
      $(`tab-${wanted}`).focus();
    },
  }, icon(glyph), label, hasNews && el("span", { class: "dot" }, el("span", { class: "unseen" }, "unread")));
  place.hidden = !(channel.is_dm && state.app.has_home);
  place.replaceChildren(el("div", { class: "tabs", role: "tablist", "aria-label": channel.name },
    one("home", "Home", "home", false), one("messages", "Messages", "chat", shown === "home" && isUnread(channel))));
  if (hadFocus) $(`tab-${shown}`).focus();
}

function drawHeader(channel, isHome) {
  const chips = [
    channel.is_private && "Private", channel.is_shared && "Shared with another company", channel.is_archived && "Archived",
    !channel.has_app && `${state.app.name} is not in this channel`,
  ];
  $("channel-header").replaceChildren(
    el("button", { type: "button", class: "quiet menu", "aria-label": "Open the menu", onclick: toggleMenu }, icon("menu")),
    el("div", { class: "title" },
      el("h1", {}, channel.is_dm ? avatar(channel.name, true) : icon(channel.is_archived ? "archive" : channel.is_private ? "lock" : "hash"), channel.name),
      el("p", {}, chips.filter(Boolean).map((chip) => el("span", { class: "chip" }, chip)),
        el("span", { class: "topic" }, isHome ? "Only you see what the app shows here" : channel.is_dm ? "Messages between you and the app" : channel.topic))),
    el("button", { type: "button", class: "button toggle-panel", testid: "panel-toggle", onclick: togglePanel }, icon("flask"), "Sandbox"));
}

function drawMessages(channel, isHidden) {
  const place = `${channel.id} ${isHidden}`;
  const known = rows;
  rows = new Map();
  const row = (shown, build) => {
    const key = JSON.stringify(shown);
    rows.set(key, known.get(key) ?? build());
    return rows.get(key);
  };
  const pressed = pressedIn($("messages"));
  follower.note();
  arrange($("messages"), [
    row([channel.id, channel.is_archived, state.panel.start], () =>
      el("li", { class: "start" }, el("h2", {}, channel.is_dm ? `You and ${channel.name}` : `This is the start of #${channel.name}`), beginning(channel))),
    ...channel.messages.map((message, index) => {
      const isGrouped = belongsTo(channel.messages[index - 1], message);
      return row([channel.id, message, isGrouped], () => drawMessage(message, isGrouped));
    })]);
  pressed?.();
  if (drawn.get("channel") === place) follower.follow();
  else follower.restart();
  drawn.set("channel", place);
}

function beginning(channel) {
  if (channel.is_archived) return [el("p", {}, "This channel is archived: it can be read, nothing can be added.")];
  const { start, also } = state.panel;
  if (!start.length || channel.is_dm) return [el("p", {}, "Type ", el("kbd", {}, "/"), " below to see the commands of the app.")];
  return [el("h3", {}, "Start here"), el("ol", { class: "steps", testid: "start-here" }, start.map((line) => el("li", {}, richText(line, names())))),
    ...also.map((line) => el("p", { testid: "also" }, richText(line, names())))];
}

// Remembers the element of a message that has the focus, and returns what gives it back once that message was replaced.
function pressedIn(list) {
  const active = document.activeElement;
  const ts = list.contains(active) && active.closest("[data-ts]")?.dataset.ts;
  if (!ts) return null;
  return () => {
    if (list.contains(document.activeElement)) return;
    const alike = [...list.querySelectorAll(`[data-ts="${ts}"] [data-action="${CSS.escape(active.dataset.action ?? "")}"]`)];
    (alike.find((one) => one.dataset.value === active.dataset.value) ?? alike[0] ?? list).focus({ preventScroll: true });
  };
}

function belongsTo(previous, message) {
  return Boolean(previous) && previous.author_id === message.author_id && previous.is_ephemeral === message.is_ephemeral
    && Number(message.ts) - Number(previous.ts) < GROUPED_WITHIN_SECONDS && !message.is_app;
}

function drawMessage(message, isGrouped) {
  const when = new Date(Number(message.ts) * 1000);
  const time = el("time", { datetime: when.toISOString(), title: when.toLocaleString() }, when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  const press = async (block, one) => {
    if (await confirmed(one)) await post("click", { message: message.ts, action: one.action_id, value: one.value });
  };
  const context = {
    names: names(), isSearchless: true, press, value: () => null, chosen: (block, one) => initial(one),
    search: async () => ({ options: [] }),
    conversations: () => conversations(state.channels.filter((one) => !one.is_archived).map((one) => one.id)),
    change: (block, one, value) => value && post("click", { message: message.ts, action: one.action_id, value: [value].flat()[0] ?? null }),
  };
  const content = message.blocks.length ? renderBlocks(message.blocks, context) : el("div", { class: "text" }, richText(message.text, names()));
  return el("li", { class: `message ${isGrouped ? "grouped" : ""} ${message.is_ephemeral ? "ephemeral" : ""}`, testid: message.is_ephemeral ? "ephemeral" : "message", "data-ts": message.ts },
    isGrouped ? el("span", { class: "gutter" }, time) : avatar(message.author, message.is_app, message.author === "System"),
    el("div", { class: "message-body" },
      message.is_ephemeral && el("p", { class: "only-you" }, icon("eye"), "Only visible to you"),
      !isGrouped && el("p", { class: "byline" }, el("strong", {}, message.author), message.is_app && el("span", { class: "app-badge" }, "APP"), time),
      content,
      message.is_edited && el("span", { class: "edited" }, "(edited)")));
}

function initial(one) {
  const option = one.initial_option;
  return option ? optionsOf({ options: [option] })[0] : null;
}

function avatar(name, isApp, isSystem = false) {
  const letters = name.split(/\s+/).map((word) => word[0]).slice(0, 2).join("");
  const hue = [...name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 6;
  return el("span", { class: `avatar ${isApp ? "app" : isSystem ? "system" : `hue-${hue}`}`, "aria-hidden": "true" }, isSystem ? "!" : letters);
}

function drawComposer(channel) {
  const place = $("composer-place");
  if (channel.is_archived) {
    place.replaceChildren(el("p", { class: "archived-note" }, icon("archive"), "This channel is archived."));
    return;
  }
  const hadFocus = place.contains(document.activeElement) || document.activeElement === document.body;
  const hints = el("ul", { class: "hints", role: "listbox", id: "hints", "aria-label": "Commands", hidden: true });
  const field = el("textarea", {
    rows: "1", testid: "composer", spellcheck: "false", "aria-label": "Message", "aria-controls": "hints",
    placeholder: channel.is_dm ? `Message ${channel.name}` : `Message #${channel.name}`,
    oninput: () => { drafts.set(channel.id, field.value); grow(); hint(); },
    onblur: () => setTimeout(() => { hints.hidden = true; }, 100),
    onfocus: () => hint(),
    onkeydown: (event) => onKey(event),
  });
  const sendButton = el("button", { type: "button", class: "send", testid: "send", "aria-label": "Send", onclick: () => send() }, icon("send"));
  field.value = drafts.get(channel.id) ?? "";
  place.replaceChildren(hints, el("div", { class: "composer" }, field, sendButton),
    el("p", { class: "composer-help" }, el("kbd", {}, "Enter"), " sends, ", el("kbd", {}, "/"), " shows commands"));
  grow();
  if (hadFocus) field.focus({ preventScroll: true });

  function grow() {
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight, 160)}px`;
    sendButton.classList.toggle("ready", Boolean(field.value.trim()));
  }

  function matching() {
    const typed = field.value.split(" ")[0];
    return field.value.startsWith("/") ? state.commands.filter((one) => (field.value.includes(" ") ? one.command === typed : one.command.startsWith(typed))) : [];
  }

  function hint() {
    const found = matching();
    hints.replaceChildren(...found.map((one, index) =>
      el("li", { role: "option", "aria-selected": String(index === 0), testid: "command-hint", onmousedown: (event) => { event.preventDefault(); complete(one); } },
        el("span", {}, el("strong", {}, one.command), " ", el("code", {}, one.usage_hint)), el("small", {}, one.description))));
    hints.hidden = found.length === 0;
  }

  function complete(command) {
    field.value = `${command.command} `;
    drafts.set(channel.id, field.value);
    grow();
    hint();
  }

  function onKey(event) {
    const [first] = matching();
    if (event.key === "Tab" && first && !field.value.includes(" ")) {
      event.preventDefault();
      complete(first);
    } else if (event.key === "Escape" && !hints.hidden) {
      hints.hidden = true;
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (first && field.value !== first.command && !field.value.includes(" ")) complete(first);
      else send();
    }
  }

  function send() {
    const text = field.value.trim();
    if (!text) return;
    field.value = "";
    drafts.delete(channel.id);
    grow();
    hint();
    post("say", { channel: channel.id, text });
  }
}

// Asks what a button's `confirm` says; resolves to whether to go on.
function confirmed(one) {
  if (!one.confirm) return Promise.resolve(true);
  const { title, text, confirm, deny, style } = one.confirm;
  return new Promise((resolve) => {
    const dialog = el("dialog", { class: "confirm", testid: "confirm", onclose: () => { dialog.remove(); resolve(dialog.returnValue === "yes"); } },
      el("h2", {}, plain(title.text)), el("div", { class: "text" }, text.type === "mrkdwn" ? richText(text.text, names()) : plain(text.text)),
      el("footer", {},
        el("button", { type: "button", class: "button", testid: "confirm-deny", onclick: () => dialog.close("no") }, plain(deny.text)),
        el("button", { type: "button", class: `button ${style ?? "primary"}`, testid: "confirm-yes", onclick: () => dialog.close("yes") }, plain(confirm.text))));
    document.body.append(dialog);
    dialog.showModal();
  });
}

let toastTimer;
function toast(text) {
  const place = $("toast");
  place.textContent = text;
  place.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { place.hidden = true; }, 5000);
}

catchBack(goBack);
onTypedAddress(() => state && select(...addressed()));
if (sessionStorage.getItem("panel") === "shut") document.body.classList.add("panel-shut");
connect();
