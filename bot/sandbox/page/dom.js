// Builds elements. Text enters the page only through text nodes.

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "testid") element.dataset.testid = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Shows these elements in a place. Those that are there already stay untouched: a live region reads out only what is
// new, and what has the focus keeps it.
export function arrange(place, wanted) {
  for (const child of [...place.children]) if (!wanted.includes(child)) child.remove();
  wanted.forEach((element, index) => {
    if (place.children[index] !== element) place.insertBefore(element, place.children[index] ?? null);
  });
}

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  lock: "M5 7V5a3 3 0 0 1 6 0v2M3.5 7h9v6.5h-9z",
  hash: "M6.5 2.5 5 13.5M11 2.5 9.5 13.5M3 6h10.5M2.5 10h10.5",
  shared: "M6 10 10 6M5 7 3.5 8.5a2.8 2.8 0 0 0 4 4L9 11M7 5l1.5-1.5a2.8 2.8 0 0 1 4 4L11 9",
  archive: "M2.5 3h11v3h-11zM3.5 6v7h9V6M6.5 9h3",
  close: "M4 4l8 8M12 4l-8 8",
  send: "M2.5 13.5 14 8 2.5 2.5l1.6 5.5zM4 8h5",
  menu: "M2.5 4h11M2.5 8h11M2.5 12h11",
  eye: "M1.5 8s2.4-4.5 6.5-4.5S14.5 8 14.5 8 12.1 12.5 8 12.5 1.5 8 1.5 8zM8 6.2a1.8 1.8 0 1 1 0 3.6 1.8 1.8 0 0 1 0-3.6z",
  down: "M4 6l4 4 4-4",
  back: "M9.5 3.5 5 8l4.5 4.5",
  home: "M2.5 7.5 8 3l5.5 4.5M4 6.5v6.5h8V6.5M6.8 13V9.5h2.4V13",
  chat: "M2.5 3.5h11v7.5H7L4 13.5V11H2.5z",
  flask: "M6 2h4M6.8 2v4.2L3.2 12.6c-.4.8.1 1.4.9 1.4h7.8c.8 0 1.3-.6.9-1.4L9.2 6.2V2M5 10h6",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  svg.append(path);
  return svg;
}

const GLYPHS = {
  check: "M4.6 8.3 7 10.7l4.6-5", cross: "M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4", stop: "M4.5 8h7", info: "M8 7.4v4M8 4.6v.2",
  warning: "M8 4.8v4M8 11.2v.2", alarm: "M8 4.8v4M8 11.2v.2", hourglass: "M8 4.5V8l2.4 1.6", turn: "M11.2 6.4A3.6 3.6 0 1 0 11.6 9M11.6 4.4v2.2H9.4",
  padlock: "M6.2 7.4V6.2a1.8 1.8 0 0 1 3.6 0v1.2M5.2 7.4h5.6v4H5.2z", question: "M6.3 6.3A1.8 1.8 0 1 1 8.4 8c-.4.2-.4.5-.4 1M8 11.2v.2",
  key: "M9.9 4.4a1.9 1.9 0 1 1 0 3.8 1.9 1.9 0 0 1 0-3.8zM8.5 7.6l-3.7 3.7M6 10.1l1.2 1.2", circle: "", black: "", green: "", yellow: "", orange: "",
  red: "", blue: "", mag: "M7.2 4.8a2.4 2.4 0 1 1 0 4.8 2.4 2.4 0 0 1 0-4.8zM9 9l2.4 2.4", house: "M4.4 8 8 4.7 11.6 8M5.6 7.4v3.8h4.8V7.4",
  left: "M11.4 8H4.8M7.6 5.2 4.8 8l2.8 2.8", right: "M4.6 8h6.6M8.4 5.2 11.2 8l-2.8 2.8",
  hand: "M5.6 8.6V5.9M7.2 8V4.6M8.8 8V4.6M10.4 8.6V5.4M5.6 8.6a2.4 3 0 0 0 4.8 0",
};

// A drawn emoji; its character stays in the text, for readers and for copying.
export function glyph(name, character) {
  const svg = document.createElementNS(SVG, "svg");
  const disc = document.createElementNS(SVG, "circle");
  for (const [key, value] of Object.entries({ cx: 8, cy: 8, r: 7.2 })) disc.setAttribute(key, value);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", GLYPHS[name]);
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.append(disc, path);
  return el("span", { class: `glyph glyph-${name}` }, svg, el("span", { class: "unseen" }, character));
}

export function slug(text) {
  return text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
}
