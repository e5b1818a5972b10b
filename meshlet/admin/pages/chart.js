// A small line chart in SVG: drawn as often as its figures change, coloured by the style sheet.

import { el, put, svg } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT = 150;
const LEFT = 56;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 22;
const SHORTEST = 120; // seconds that a chart is wide
const GAP = 20; // seconds without a point that break a line

/** Round steps from 0 to at least `most`. */
export function ticksTo(most) {
  const rough = (most || 1) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) * power;
  const steps = Math.ceil((most || 1) / step - 1e-9);
  return Array.from({ length: steps + 1 }, (_, index) => index * step);
}

/** Steps for shares from 0 to 1: all of it, unless all that is shown lies close to 1. */
export function ticksOfShares(_, least) {
  const floor = [0.99, 0.9, 0.5].find((value) => least > value) ?? 0;
  return [0, 1, 2].map((index) => floor + ((1 - floor) * index) / 2);
}

/** `series` are {key, label}; `format` writes a value; `ticks(most, least)` gives the steps of the scale. */
export class Chart {
  #series;
  #format;
  #ticks;
  #points = [];
  #range = [0, 1];
  #width = 0;
  #hovered = null;
  #values;
  #when = el("span", { class: "when" });
  #plot = svg("g");
  #cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
  #image;
  #rows = el("tbody");
  #details;

  constructor(title, series, format, ticks = ticksTo) {
    this.#series = series;
    this.#format = format;
    this.#ticks = ticks;
    this.#values = series.map(() => el("b"));
    const legend = series.map(({ label }, index) =>
      el("li", {}, this.#sample(index), `${label} `, this.#values[index]),
    );
    this.title = title;
    this.#image = svg("svg", { role: "img", height: HEIGHT, class: "plot" }, this.#plot, this.#cursor);
    this.#image.addEventListener("pointermove", (event) => this.#hover(event));
    this.#image.addEventListener("pointerleave", () => this.#hover(null));
    const head = el(
      "tr",
      {},
      ["Time", ...series.map(({ label }) => label)].map((name) => el("th", { scope: "col" }, name)),
    );
    const table = el("table", {}, el("caption", { class: "hidden" }, title), el("thead", {}, head), this.#rows);
    this.#details = el(
      "details",
      { toggle: () => this.#tell() },
      el("summary", {}, "As a table"),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` }, table),
    );
    this.node = el(
      "figure",
      { class: "chart" },
      el("figcaption", {}, el("h3", {}, title), this.#when),
      el("ul", { class: "legend" }, legend),
      this.#image,
      this.#details,
    );
    new ResizeObserver(([entry]) => {
      this.#width = Math.floor(entry.contentRect.width);
      this.#paint();
    }).observe(this.node);
  }

  /** Show points {time, KEY: value or null} of the `span` seconds until `now`; a young sidecar has fewer. */
  draw(points, now, span) {
    this.#points = points;
    this.#range = [now - Math.min(span, Math.max(SHORTEST, now - (points[0]?.time ?? now))), now];
    this.#paint();
  }

  #sample(index) {
    const line = svg("line", { x1: 1, x2: 21, y1: 6, y2: 6, class: `line line-${index}` });
    return svg("svg", { class: "sample", width: 22, height: 12, "aria-hidden": "true" }, line);
  }

  #known(key) {
    return this.#points.map((point) => point[key]).filter((value) => value !== null && value !== undefined);
  }

  #paint() {
    if (this.#width < LEFT + RIGHT + 20) return;
    const all = this.#series.flatMap(({ key }) => this.#known(key));
    const steps = this.#ticks(Math.max(0, ...all), Math.min(1, ...all));
    const [low, high] = [steps[0], steps.at(-1)];
    const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
    const x = (time) => this.#x(time);
    this.#image.setAttribute("width", this.#width);
    this.#plot.replaceChildren(
      ...steps.flatMap((step) => [
        svg("line", { class: "grid", x1: LEFT, x2: this.#width - RIGHT, y1: y(step), y2: y(step) }),
        svg("text", { class: "tick", x: LEFT - 8, y: y(step) + 4, "text-anchor": "end" }, this.#format(step)),
      ]),
      ...this.#times(x),
      ...this.#series.map(({ key }, index) =>
        svg("path", { class: `line line-${index}`, d: this.#path(key, x, (value) => y(Math.max(value, low))) }),
      ),
    );
    this.#legend();
    this.#summarize();
    this.#tell();
  }

  #x(time) {
    const [from, to] = this.#range;
    return LEFT + ((time - from) / (to - from)) * (this.#width - LEFT - RIGHT);
  }

  #times(x) {
    const [from, to] = this.#range;
    const step = [30, 60, 120, 180].find((each) => (to - from) / each < this.#width / 75) ?? 300;
    const times = [];
    for (let time = Math.ceil(from / step) * step; time <= to; time += step) times.push(time);
    return times
      .filter((time) => x(time) > LEFT + 14 && x(time) < this.#width - RIGHT - 14)
      .map((time) =>
        svg(
          "text",
          { class: "tick", x: x(time), y: HEIGHT - 5, "text-anchor": "middle" },
          clock(time).slice(0, step < 60 ? 8 : 5),
        ),
      );
  }

  #path(key, x, y) {
    let path = "";
    let last = null;
    for (const point of this.#points) {
      const value = point[key];
      if (value === null || value === undefined) {
        last = null;
        continue;
      }
      const joined = last !== null && point.time - last < GAP;
      // A point by itself would not be seen: a line of no length with round ends is a dot.
      path += joined ? "L" : "M";
      path += `${x(point.time).toFixed(1)} ${y(value).toFixed(1)}`;
      if (!joined) path += "h0";
      last = point.time;
    }
    return path;
  }

  #hover(event) {
    this.#hovered = null;
    if (event !== null && this.#points.length) {
      const place = event.clientX - this.#image.getBoundingClientRect().left;
      const away = (point) => Math.abs(this.#x(point.time) - place);
      this.#hovered = this.#points.reduce((best, point) => (away(point) < away(best) ? point : best));
    }
    this.#legend();
  }

  #legend() {
    const point = this.#hovered ?? this.#points.at(-1);
    this.#values.forEach((node, index) => put(node, this.#format(point?.[this.#series[index].key] ?? null)));
    put(this.#when, this.#hovered ? `at ${clock(this.#hovered.time)}` : "");
    this.#cursor.setAttribute("visibility", this.#hovered ? "visible" : "hidden");
    if (this.#hovered) {
      const place = this.#x(this.#hovered.time);
      this.#cursor.setAttribute("x1", place);
      this.#cursor.setAttribute("x2", place);
    }
  }

  #summarize() {
    const parts = this.#series.map(({ key, label }) => {
      const values = this.#known(key);
      if (!values.length) return `${label}: none`;
      const now = this.#format(this.#points.at(-1)[key] ?? null);
      return `${label}: now ${now}, from ${this.#format(Math.min(...values))} to ${this.#format(Math.max(...values))}`;
    });
    this.#image.setAttribute("aria-label", `${this.title}, up to 15 minutes. ${parts.join("; ")}.`);
  }

  #tell() {
    if (!this.#details.open) return;
    this.#rows.replaceChildren(
      ...[...this.#points].reverse().map((point) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, clock(point.time)),
          this.#series.map(({ key }) => el("td", { class: "number" }, this.#format(point[key] ?? null))),
        ),
      ),
    );
  }
}
