// The first view: the sidecar at a glance, the last 15 minutes, and what failed last.

import { Chart, ticksOfShares } from "./chart.js";
import { el, put, sync } from "./dom.js";
import { failureRow, isRead } from "./failures.js";
import { TCP, Timeline, trafficHealth } from "./figures.js";
import { amount, percent, rate, seconds } from "./format.js";
import { picture } from "./picture.js";

const FAILURES = 5;

function tile(direction, title) {
  const terms = {
    Requests: (figures) => rate(figures.rate),
    Success: (figures) => percent(figures.success),
    p50: (figures) => seconds(figures.p50),
    p95: (figures) => seconds(figures.p95),
    p99: (figures) => seconds(figures.p99),
    Retries: (figures) => rate(figures.retryRate),
    Active: (figures) => amount(figures.active),
  };
  const values = Object.keys(terms).map(() => el("dd"));
  const list = Object.keys(terms).map((term, index) => el("div", {}, el("dt", {}, term), values[index]));
  const node = el("section", { class: "panel tile", "aria-label": title }, el("h3", {}, title), el("dl", {}, list));
  const show = (figures) => {
    const routes = figures.routes.filter((route) => route.direction === direction && route.route !== TCP);
    const own = figures.describe(routes.map((route) => route.delta));
    Object.values(terms).forEach((write, index) => put(values[index], write(own)));
    const { success } = own;
    node.dataset.level = success === null ? "idle" : (trafficHealth(own)?.[0] ?? "ok");
  };
  return { node, show };
}

export function overview(root) {
  const tiles = [tile("inbound", "Inbound"), tile("outbound", "Outbound")];
  const drawing = picture();
  const charts = [
    new Chart(
      "Requests per second",
      [
        { key: "requests", label: "requests" },
        { key: "failures", label: "failures" },
      ],
      rate,
    ),
    new Chart("Success rate", [{ key: "success", label: "success" }], percent, ticksOfShares),
    new Chart(
      "Latency",
      ["p50", "p95", "p99"].map((key) => ({ key, label: key })),
      seconds,
    ),
  ];
  let direction = "inbound";
  let latest = null;
  const choice = (value, label) => {
    const input = el("input", {
      type: "radio",
      name: "direction",
      value,
      checked: value === direction,
      change: () => {
        direction = value;
        if (latest) chart(latest);
      },
    });
    return el("label", {}, input, el("span", {}, label));
  };
  const choices = el(
    "fieldset",
    { class: "segments" },
    el("legend", { class: "hidden" }, "Direction that the charts are about"),
    choice("inbound", "Inbound"),
    choice("outbound", "Outbound"),
  );
  const failures = el("ul", { class: "failures" });
  const none = el("p", { class: "empty" }, "None lately.");
  root.append(
    el("h2", { class: "hidden" }, "Overview"),
    el(
      "div",
      { class: "tiles" },
      tiles.map((each) => each.node),
    ),
    el("section", { class: "panel", "aria-label": "This sidecar" }, el("h2", {}, "This sidecar"), drawing.node),
    el(
      "section",
      { class: "panel", "aria-label": "The last 15 minutes" },
      el("div", { class: "heading" }, el("h2", {}, "The last 15 minutes"), choices),
      el(
        "div",
        { class: "charts" },
        charts.map((each) => each.node),
      ),
    ),
    el(
      "section",
      { class: "panel", "aria-label": "Last failures" },
      el("div", { class: "heading" }, el("h2", {}, "Last failures"), el("a", { href: "#failures" }, "All failures")),
      failures,
      none,
    ),
  );

  const chart = (state) => {
    const points = state.timeline.series(direction);
    const now = Math.max(state.figures.time, points.at(-1)?.time ?? 0) || Date.now() / 1000;
    for (const each of charts) each.draw(points, now, Timeline.SPAN);
  };
  return (state) => {
    latest = state;
    for (const each of tiles) each.show(state.figures);
    drawing.show(state.model);
    chart(state);
    if (!isRead(failures)) sync(failures, state.failures.slice(0, FAILURES), (failure) => failure.key, failureRow);
    none.hidden = state.failures.length > 0;
  };
}
