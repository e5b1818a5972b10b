// The picture of this sidecar: who comes in, the app, and whom it calls.

import { badge, el, put, svg, sync } from "./dom.js";
import { count, percent, rate, seconds } from "./format.js";
import { byTrouble } from "./model.js";

const MOST_CARDS = 8; // in a column; the view of clusters has them all
const MOST_ENDPOINTS = 3; // in a card

/** One box: a name, how it is doing, its figures, and what is in it. */
function card(kind) {
  return () => {
    const state = badge();
    const name = el("strong");
    const about = el("span", { class: "about" });
    const figures = el("dl", { class: "figures" });
    const values = ["Rate", "Success", "p95"].map((term) => {
      const value = el("dd");
      figures.append(el("div", {}, el("dt", {}, term), value));
      return value;
    });
    const members = el("ul", { class: "members" });
    const more = el("p", { class: "more" });
    const node = el(
      "li",
      { class: `card ${kind}` },
      el("div", { class: "top" }, name, state.node),
      about,
      figures,
      members,
      more,
    );
    const update = (item) => {
      node.dataset.level = item.health[0];
      node.dataset.key = item.name;
      put(name, item.name);
      if (name.title !== item.name) name.title = item.name;
      put(about, item.about ?? "");
      state.set(...item.health);
      put(values[0], rate(item.figures.rate));
      put(values[1], percent(item.figures.success));
      put(values[2], seconds(item.figures.p95));
      const endpoints = item.endpoints ?? [];
      sync(members, endpoints.slice(0, MOST_ENDPOINTS), (endpoint) => endpoint.name, member);
      members.hidden = !endpoints.length;
      more.hidden = endpoints.length <= MOST_ENDPOINTS;
      put(more, more.hidden ? "" : `and ${count(endpoints.length - MOST_ENDPOINTS, "more endpoint")}`);
    };
    return { node, update };
  };
}

function member() {
  const state = badge();
  const name = el("span", { class: "name" });
  const figure = el("span", { class: "number" });
  const update = (endpoint) => {
    put(name, endpoint.name);
    if (name.title !== endpoint.name) name.title = endpoint.name;
    const [level, why] = endpoint.health;
    state.set(level, why.split(":")[0]);
    state.node.title = why;
    put(figure, rate(endpoint.figures.rate));
  };
  return { node: el("li", {}, name, state.node, figure), update };
}

function column(title, kind, empty) {
  const list = el("ul", { class: "cards" });
  const nothing = el("p", { class: "empty" }, empty);
  const rest = el("p", { class: "more" }, el("a", { href: "#clusters" }));
  const node = el("div", { class: `column ${kind}s` }, el("h3", {}, title), list, nothing, rest);
  const make = card(kind);
  const show = (items) => {
    let shown = [...items].sort(byTrouble);
    if (shown.length > MOST_CARDS) {
      const busy = (item) => item.figures.rate ?? 0;
      const level = (item) => ["bad", "warn"].indexOf(item.health[0]);
      const worst = (a, b) => (level(a) < 0) - (level(b) < 0) || level(a) - level(b) || busy(b) - busy(a);
      shown = shown.sort(worst).slice(0, MOST_CARDS).sort(byTrouble);
    }
    sync(list, shown, (item) => item.name, make);
    nothing.hidden = items.length > 0;
    rest.hidden = items.length <= MOST_CARDS;
    put(rest.firstChild, rest.hidden ? "" : `${items.length - MOST_CARDS} more, all in Clusters`);
  };
  return { node, list, show };
}

/** The picture: `show(model)` brings it up to date. */
export function picture() {
  const columns = {
    inbound: column("Inbound listeners", "listener", "No inbound listener."),
    app: column("The app", "app", "No inbound route leads to a cluster."),
    outbound: column(
      "Outbound listeners",
      "listener",
      "No outbound listener: the app's calls do not come through here.",
    ),
    called: column("Outbound clusters", "cluster", "No outbound cluster."),
  };
  const lines = svg("svg", { class: "lines", "aria-hidden": "true" });
  const node = el(
    "div",
    { class: "picture" },
    lines,
    Object.values(columns).map((each) => each.node),
  );
  let edges = [];

  const show = ({ listeners, clusters }) => {
    const of = (direction) => listeners.filter((listener) => listener.direction === direction);
    const about = (listener) => `${listener.address}, ${count(listener.connections, "connection")}`;
    const apps = [...clusters.values()].filter((cluster) => cluster.directions.has("inbound"));
    const called = [...clusters.values()].filter(
      (cluster) => !cluster.directions.has("inbound") || cluster.directions.has("outbound"),
    );
    columns.inbound.show(of("inbound").map((listener) => ({ ...listener, about: about(listener) })));
    columns.app.show(apps);
    columns.outbound.show(of("outbound").map((listener) => ({ ...listener, about: about(listener) })));
    columns.called.show(
      called.map((cluster) => ({ ...cluster, about: cluster.error ? `discovery: ${cluster.error}` : "" })),
    );
    edges = [
      ...of("inbound").flatMap((listener) =>
        [...listener.targets].map((name) => ["inbound", listener.name, "app", name]),
      ),
      ...of("outbound").flatMap((listener) => apps.map((app) => ["app", app.name, "outbound", listener.name])),
      ...of("outbound").flatMap((listener) =>
        [...listener.targets].map((name) => ["outbound", listener.name, "called", name]),
      ),
    ];
    draw();
  };

  const draw = () => {
    const origin = node.getBoundingClientRect();
    const places = {};
    for (const [name, { list }] of Object.entries(columns)) {
      places[name] = new Map([...list.children].map((child) => [child.dataset.key, child]));
      places[name].left = list.getBoundingClientRect().left;
    }
    const drawn = [];
    for (const [from, name, to, other] of edges) {
      const [start, end] = [places[from].get(name), places[to].get(other)];
      if (!start || !end) continue;
      const [a, b] = [start.getBoundingClientRect(), end.getBoundingClientRect()];
      // Columns below each other need no lines; cards beside each other would have them behind the first one.
      if (b.left <= a.right || b.left > places[to].left + 1) continue;
      const [x1, x2] = [a.right - origin.left, b.left - origin.left];
      const [y1, y2] = [
        a.top + Math.min(a.height / 2, 28) - origin.top,
        b.top + Math.min(b.height / 2, 28) - origin.top,
      ];
      const middle = (x1 + x2) / 2;
      drawn.push(
        svg("path", { d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`, "data-level": end.dataset.level }),
      );
    }
    lines.replaceChildren(...drawn);
  };
  new ResizeObserver(draw).observe(node);
  return { node, show };
}
