// Puts the page together: which view is shown, what is asked for it, and how old it is.

import { Poller } from "./api.js";
import { clusters } from "./clusters.js";
import { config } from "./config.js";
import { put } from "./dom.js";
import { failures, prepare } from "./failures.js";
import { Figures, Timeline } from "./figures.js";
import { clock, span } from "./format.js";
import { model } from "./model.js";
import { overview } from "./overview.js";
import { server } from "./server.js";
import { tap } from "./tap.js";

const VIEWS = ["overview", "clusters", "failures", "tap", "config", "server"];

const state = {
  figures: new Figures(),
  timeline: new Timeline(),
  clusters: null,
  listeners: null,
  config: null,
  info: null,
  failures: [],
  model: { listeners: [], clusters: new Map() },
};
const root = (name) => document.getElementById(`view-${name}`);
const again = () => show[current]?.(state);

const process = server(root("server"));
const show = {
  overview: overview(root("overview")),
  clusters: clusters(root("clusters"), again),
  failures: failures(root("failures"), again),
  config: config(root("config"), again),
  server: process.show,
};
tap(root("tap"));

let current = "overview";

function open(focus) {
  const name = location.hash.slice(1);
  current = VIEWS.includes(name) ? name : "overview";
  for (const view of VIEWS) root(view).hidden = view !== current;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = root(current).getAttribute("aria-label");
  document.title = `${title} \u00b7 meshlet`;
  if (current === "server") process.learn();
  if (focus) {
    window.scrollTo(0, 0);
    document.getElementById("main").focus({ preventScroll: true });
  }
  again();
  poller.tick();
}

// --- what is asked for ---

const on =
  (...views) =>
  () =>
    views.includes(current);
let answered = null;

const poller = new Poller((error) => {
  const node = document.getElementById("connection");
  if (error === null) answered = Date.now() / 1000;
  node.dataset.level = error === null ? "ok" : "bad";
  // Said once, not at every answer: it is a live region.
  put(node, error === null ? "Live" : `No answer${answered ? ` since ${clock(answered)}` : ""}`);
  node.title = error?.message ?? "";
});

function take(name, change = (value) => value) {
  return (value) => {
    state[name] = change(value);
    refresh();
  };
}

function refresh() {
  if (["overview", "clusters", "server"].includes(current)) state.model = model(state);
  again();
}

poller.add(
  "/traffic",
  2,
  () => true,
  (traffic) => {
    state.figures.add(traffic);
    state.timeline.add(traffic);
    refresh();
  },
);
poller.add(
  "/history",
  Infinity,
  () => true,
  (points) => {
    state.timeline.begin(points);
    again();
  },
);
poller.add("/config_dump", 30, () => current === "config" || !state.config, take("config"));
poller.add("/listeners?format=json", 6, on("overview", "server"), take("listeners"));
poller.add("/clusters?format=json", 6, on("overview", "clusters"), take("clusters"));
poller.add("/explain?limit=50&format=json", 5, on("overview", "failures"), take("failures", prepare));
poller.add(
  "/server_info",
  10,
  () => true,
  (info) => {
    // What runs has changed: the config, or all of it.
    if (state.info && (info.config_version !== state.info.config_version || info.pid !== state.info.pid))
      state.config = null;
    state.info = info;
    put(
      document.getElementById("facts"),
      [`version ${info.version}`, info.state, `up ${span(info.uptime_seconds)}`].filter(Boolean).join(" \u00b7 "),
    );
    again();
  },
);

setInterval(() => {
  if (!document.hidden) poller.tick();
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  // Nothing was asked while nobody looked.
  state.figures.restart();
  poller.hurry("/history");
  poller.tick();
});

// --- light and dark ---

const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const label = () => put(theme, isDark() ? "Light theme" : "Dark theme");
theme.addEventListener("click", () => {
  const chosen = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  localStorage.setItem("theme", chosen);
  label();
});
dark.addEventListener("change", label);
label();

window.addEventListener("hashchange", () => open(true));
open(false);
