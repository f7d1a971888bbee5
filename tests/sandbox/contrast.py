"""The contrast of every text on a page, as WCAG 2.2 computes it, measured in the browser with all styles applied."""

from playwright.async_api import Page

LEAST = 4.5

_FIND_FAINT = """least => {
  const rgba = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const above = element => (element ? [element, ...above(element.parentElement)] : []);
  const backdrop = element => above(element).map(e => rgba(getComputedStyle(e).backgroundColor))
    .reduceRight((under, one) => over(one, under), [255, 255, 255, 1]);
  const light = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map(c => c / 255).map(c => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const faint = [];
  const judge = (element, style, text) => {
    const opacity = above(element).reduce((all, e) => all * Number(getComputedStyle(e).opacity), Number(style.opacity)
      / Number(getComputedStyle(element).opacity));
    const under = backdrop(element), [r, g, b, a] = rgba(style.color);
    const [low, high] = [light(under), light(over([r, g, b, a * opacity], under))].sort((one, other) => one - other);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < least) faint.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className}: ${text.slice(0, 40)}`);
  };
  const isSeen = element => !element.closest("[inert], .unseen, option")
    && element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  for (const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walker.nextNode();) {
    const { data, parentElement: element } = walker.currentNode;
    if (data.trim() && isSeen(element)) judge(element, getComputedStyle(element), data.trim());
  }
  for (const field of document.querySelectorAll("input, textarea, select")) {
    if (!isSeen(field)) continue;
    if (field.placeholder && !field.value) judge(field, getComputedStyle(field, "::placeholder"), field.placeholder);
    else if (field.value) judge(field, getComputedStyle(field), field.value);
  }
  return faint;
}"""


async def find_faint(page: Page) -> list[str]:
    """Return the texts with too little contrast to their background, each with its ratio."""
    faint: list[str] = await page.evaluate(_FIND_FAINT, LEAST)
    return faint
