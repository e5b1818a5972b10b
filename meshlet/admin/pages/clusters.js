// All clusters and endpoints with their state and figures: filtered, sorted, a page at a time.

import { badge, el, pager, put, sync } from "./dom.js";
import { amount, count, percent, plain, rate, seconds } from "./format.js";
import { byTrouble } from "./model.js";

const PAGE = 100; // rows

const ORDERS = {
  trouble: ["Trouble first", byTrouble],
  name: ["Name", (a, b) => a.name.localeCompare(b.name)],
  rate: ["Rate", (a, b) => (b.figures.rate ?? -1) - (a.figures.rate ?? -1) || byTrouble(a, b)],
  failures: ["Failures", (a, b) => b.figures.failures - a.figures.failures || byTrouble(a, b)],
  p95: ["p95", (a, b) => (b.figures.p95 ?? -1) - (a.figures.p95 ?? -1) || byTrouble(a, b)],
};

const COLUMNS = [
  ["Rate", (item) => rate(item.figures.rate)],
  ["Success", (item) => percent(item.figures.success)],
  ["p50", (item) => seconds(item.figures.p50)],
  ["p95", (item) => seconds(item.figures.p95)],
  ["p99", (item) => seconds(item.figures.p99)],
  ["Active", (item) => amount(item.figures.active)],
  ["Connections", (item) => plain(item.connections)],
  ["Waiting", (item) => plain(item.pending)],
  ["Connect failures", (item) => plain(item.connect_failures_total)],
];

function row({ cluster, endpoint }) {
  const state = badge();
  const name = el("th", { scope: "row", class: endpoint ? "endpoint" : "cluster" });
  const about = el("td", { class: "about" });
  const cells = COLUMNS.map(() => el("td", { class: "number" }));
  const node = el("tr", { class: endpoint ? null : "group" }, name, el("td", {}, state.node), about, cells);
  const update = ({ cluster, endpoint }) => {
    const item = endpoint ?? cluster;
    put(name, item.name);
    state.set(...item.health);
    put(about, endpoint ? place(endpoint) : [cluster.balancer, cluster.error].filter(Boolean).join(", "));
    COLUMNS.forEach(([, write], index) => put(cells[index], write(item)));
  };
  return { node, update };
}

function place(endpoint) {
  const { weight, priority, zone } = endpoint;
  const facts = [weight > 1 && `weight ${weight}`, priority > 0 && `priority ${priority}`, zone && `zone ${zone}`];
  return facts.filter(Boolean).join(", ");
}

export function clusters(root, again) {
  const filter = el("input", {
    type: "search",
    id: "cluster-filter",
    placeholder: "name, address or state",
    input: () => restart(),
  });
  const trouble = el("input", { type: "checkbox", change: () => restart() });
  const order = el("select", { id: "cluster-order", change: () => restart() });
  for (const [value, [label]] of Object.entries(ORDERS)) order.append(el("option", { value }, label));
  const body = el("tbody");
  const found = el("p", { class: "found", role: "status" });
  const pages = pager(PAGE, again);
  const head = ["Name", "State", "About", ...COLUMNS.map(([title]) => title)];
  const restart = () => {
    pages.restart();
    again();
  };
  root.append(
    el("h2", {}, "Clusters and endpoints"),
    el(
      "form",
      { class: "controls", role: "search", submit: (event) => event.preventDefault() },
      el("label", { for: "cluster-filter" }, "Filter"),
      filter,
      el("label", { for: "cluster-order" }, "Sort by"),
      order,
      el("label", { class: "check" }, trouble, "Only what needs a look"),
      found,
    ),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of clusters and endpoints" },
      el(
        "table",
        {},
        el("caption", { class: "hidden" }, "Clusters and their endpoints; figures are about the last 10 seconds"),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            head.map((title, index) => el("th", { scope: "col", class: index > 2 ? "number" : null }, title)),
          ),
        ),
        body,
      ),
    ),
    pages.node,
  );

  const matches = (words, ...texts) => {
    const text = texts.join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  return ({ model }) => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fine = (item) => trouble.checked && item.health[0] === "ok";
    const rows = [];
    let shown = 0;
    for (const cluster of [...model.clusters.values()].sort(ORDERS[order.value][1])) {
      const whole = matches(words, cluster.name, ...cluster.health, cluster.error ?? "");
      const endpoints = cluster.endpoints.filter(
        (endpoint) => !fine(endpoint) && (whole || matches(words, cluster.name, endpoint.name, ...endpoint.health)),
      );
      if (!endpoints.length && (!whole || fine(cluster))) continue;
      shown += 1;
      rows.push(
        { key: cluster.name, cluster },
        ...endpoints.map((endpoint) => ({ key: `${cluster.name} ${endpoint.name}`, cluster, endpoint })),
      );
    }
    sync(body, rows.slice(...pages.show(rows.length)), (item) => item.key, row);
    put(
      found,
      shown === model.clusters.size ? count(shown, "cluster") : `${shown} of ${count(model.clusters.size, "cluster")}`,
    );
  };
}
