// Elements. Whatever a peer chose (paths, names, errors) enters the page as text, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element; functions among the attributes are event listeners, null and false leave one out. */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element, likewise. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Change a text, and do nothing where it is the same: what a user selected stays selected. */
export function put(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

const rows = new WeakMap();

/**
 * Keep the children of `parent` in step with `items`: each key has one element, which is updated in place and so keeps
 * focus and whatever is open in it. `make(item)` returns {node, update}.
 */
export function sync(parent, items, keyOf, make) {
  const known = rows.get(parent) ?? new Map();
  const kept = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (kept.has(key)) continue;
    const row = known.get(key) ?? make(item);
    row.update?.(item);
    kept.set(key, row);
    if (row.node === place) place = place.nextSibling;
    else parent.insertBefore(row.node, place);
  }
  for (const [key, row] of known) if (!kept.has(key)) row.node.remove();
  rows.set(parent, kept);
}

const MARKS = { ok: "\u2713", warn: "!", bad: "\u2715", idle: "\u2013" };

/** A state as a mark, a colour and a word; `set` changes it. */
export function badge() {
  const mark = el("span", { class: "mark", "aria-hidden": "true" });
  const word = el("span");
  const node = el("span", { class: "badge" }, mark, word);
  const set = (level, text) => {
    if (node.dataset.level !== level) node.dataset.level = level;
    put(mark, MARKS[level]);
    put(word, text);
    if (node.title !== text) node.title = text;
  };
  return { node, set };
}

/** A row of page buttons under a long list: call `show` with how many rows there are; it returns the slice to show. */
export function pager(size, onChange) {
  let page = 0;
  let pages = 1;
  const turn = (step) => () => {
    page += step;
    onChange();
  };
  const back = el("button", { type: "button", click: turn(-1) }, "Previous");
  const on = el("button", { type: "button", click: turn(1) }, "Next");
  const where = el("span", { role: "status" });
  const node = el("div", { class: "pager" }, back, where, on);
  const show = (count) => {
    pages = Math.max(1, Math.ceil(count / size));
    page = Math.min(Math.max(page, 0), pages - 1);
    back.disabled = page === 0;
    on.disabled = page === pages - 1;
    node.hidden = pages === 1;
    put(where, `Page ${page + 1} of ${pages}`);
    return [page * size, (page + 1) * size];
  };
  const restart = () => {
    page = 0;
  };
  return { node, show, restart };
}
