// Renders Slack's text: plain_text and mrkdwn, with mentions, links, dates and a few emoji. Never builds HTML from text.

import { el, glyph } from "./dom.js";

const EMOJI = {
  white_check_mark: "✅", heavy_check_mark: "✔️", ballot_box_with_check: "☑️", x: "❌", warning: "⚠️", no_entry: "⛔",
  no_entry_sign: "🚫", hourglass_flowing_sand: "⏳", hourglass: "⌛", lock: "🔒", closed_lock_with_key: "🔐", key: "🔑",
  tada: "🎉", rocket: "🚀", eyes: "👀", information_source: "ℹ️", arrows_counterclockwise: "🔄", bulb: "💡",
  large_green_circle: "🟢", large_yellow_circle: "🟡", red_circle: "🔴", large_blue_circle: "🔵", white_circle: "⚪",
  black_circle: "⚫", rotating_light: "🚨", bell: "🔔", robot_face: "🤖", shield: "🛡️", wave: "👋", question: "❓",
  grey_question: "❔", exclamation: "❗", stopwatch: "⏱️", double_vertical_bar: "⏸️", fast_forward: "⏩", smile: "😄",
  thumbsup: "👍", "+1": "👍", thumbsdown: "👎", "-1": "👎", memo: "📝", mag: "🔍", package: "📦", wastebasket: "🗑️",
  house: "🏠", arrow_left: "⬅️", arrow_right: "➡️", raised_hand: "✋",
  octagonal_sign: "🛑", large_orange_circle: "🟠",
};
const INLINE = new RegExp(
  [
    "(?<code>`[^`\\n]+`)",
    "(?<angle><[^<>\\n]+>)",
    "(?<bold>(?<![\\w*])\\*(?=\\S)[^*\\n]*[^\\s*]\\*(?![\\w*]))",
    "(?<italic>(?<![\\w_])_(?=\\S)[^_\\n]*[^\\s_]_(?![\\w_]))",
    "(?<strike>(?<![\\w~])~(?=\\S)[^~\\n]*[^\\s~]~(?![\\w~]))",
    "(?<emoji>:[a-z0-9_+-]+:)",
  ].join("|"),
);

const DRAWN = {
  "✅": "check", "✔": "check", "☑": "check", "❌": "cross", "⚠": "warning", "⛔": "stop", "🚫": "stop", "⏳": "hourglass",
  "⌛": "hourglass", "🔒": "padlock", "🔐": "padlock", "🔑": "key", "🔄": "turn", "ℹ": "info", "⚪": "circle", "⚫": "black",
  "🟢": "green", "🟡": "yellow", "🔴": "red", "🔵": "blue", "🚨": "alarm", "❓": "question", "❔": "question",
  "🔍": "mag", "🏠": "house", "⬅": "left", "➡": "right", "✋": "hand",
  "🛑": "stop", "🟠": "orange",
};
const DRAWN_PATTERN = new RegExp(`(${Object.keys(DRAWN).join("|")})\\uFE0F?`, "u");

// Draws the emoji that bots use for states, so that they look alike with and without an emoji font.
export function glyphs(text) {
  const found = DRAWN_PATTERN.exec(text);
  if (!found) return text ? [text] : [];
  const after = text.slice(found.index + found[0].length);
  return [...(found.index ? [text.slice(0, found.index)] : []), glyph(DRAWN[found[1]], found[0]), ...glyphs(after)];
}

export function plain(text, withEmoji = true) {
  return withEmoji ? text.replace(/:([a-z0-9_+-]+):/g, (whole, name) => EMOJI[name] ?? whole) : text;
}

export function richText(text, names) {
  const parts = [];
  for (const [index, piece] of text.split(/```\n?([\s\S]*?)\n?```/).entries()) {
    if (index % 2) parts.push(el("pre", {}, decoded(piece)));
    else parts.push(...quotesAndLines(piece, names));
  }
  return parts;
}

// Renders a text object of Block Kit.
export function textObject(object, names) {
  return object.type === "mrkdwn" ? richText(object.text, names) : lines(plain(object.text, object.emoji !== false));
}

function quotesAndLines(text, names) {
  const parts = [];
  let quote = [];
  const endQuote = () => {
    if (quote.length) parts.push(el("blockquote", {}, withBreaks(quote, names)));
    quote = [];
  };
  let open = [];
  const endLines = () => {
    if (open.length) parts.push(...withBreaks(open, names));
    open = [];
  };
  for (const line of text.replace(/^\n|\n$/g, "").split("\n")) {
    const quoted = /^(?:&gt;|>) ?(.*)$/.exec(line);
    if (quoted) {
      endLines();
      quote.push(quoted[1]);
    } else {
      endQuote();
      open.push(line);
    }
  }
  endQuote();
  endLines();
  return parts;
}

function withBreaks(rows, names) {
  return rows.flatMap((row, index) => (index ? [el("br"), ...inline(row, names)] : inline(row, names)));
}

function lines(text) {
  return text.split("\n").flatMap((line, index) => (index ? [el("br"), ...glyphs(line)] : glyphs(line)));
}

function inline(text, names) {
  const found = INLINE.exec(text);
  if (!found) return glyphs(decoded(text));
  const before = text.slice(0, found.index);
  const after = text.slice(found.index + found[0].length);
  return [...glyphs(decoded(before)), ...[styled(found, names)].flat(), ...inline(after, names)];
}

function styled(found, names) {
  const whole = found[0];
  const inner = whole.slice(1, -1);
  const { code, angle, bold, italic, strike } = found.groups;
  if (code) return el("code", {}, decoded(inner));
  if (angle) return reference(inner, names);
  if (bold) return el("strong", {}, inline(inner, names));
  if (italic) return el("em", {}, inline(inner, names));
  if (strike) return el("s", {}, inline(inner, names));
  return EMOJI[inner] ? glyphs(EMOJI[inner]) : whole;
}

function reference(inner, names) {
  const [target, label] = splitOnce(inner, "|");
  if (target.startsWith("@")) return el("span", { class: "mention" }, `@${names[target.slice(1)] ?? label ?? target.slice(1)}`);
  if (target.startsWith("#")) return el("span", { class: "mention" }, `#${names[target.slice(1)] ?? label ?? target.slice(1)}`);
  if (target.startsWith("!subteam^")) return el("span", { class: "mention" }, `@${names[target.slice(9)] ?? label ?? "group"}`);
  if (target.startsWith("!date^")) return date(target, label);
  if (target.startsWith("!")) return el("span", { class: "mention" }, `@${label ?? target.slice(1)}`);
  if (/^(https?:|mailto:)/i.test(target)) {
    return el("a", { href: decoded(target), target: "_blank", rel: "noreferrer noopener" }, decoded(label ?? target));
  }
  return decoded(`<${inner}>`);
}

function date(target, label) {
  const [, seconds, format] = target.split("^");
  const when = new Date(Number(seconds) * 1000);
  if (Number.isNaN(when.getTime())) return decoded(label ?? target);
  const styles = {
    date_num: { year: "numeric", month: "2-digit", day: "2-digit" },
    date: { dateStyle: "long" }, date_short: { dateStyle: "medium" }, date_long: { dateStyle: "full" },
    time: { timeStyle: "short" }, time_secs: { timeStyle: "medium" },
  };
  const shown = format.replace(/\{(\w+)\}/g, (whole, name) => {
    const style = styles[name.replace("_pretty", "")];
    return style ? new Intl.DateTimeFormat(undefined, style).format(when) : whole;
  });
  return el("time", { datetime: when.toISOString(), title: when.toLocaleString() }, shown);
}

function splitOnce(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function decoded(text) {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}
