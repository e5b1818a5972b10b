// The process, its listeners, and the level of its log.

import { getText, post } from "./api.js";
import { badge, el, put, sync } from "./dom.js";
import { plain, span } from "./format.js";

const LEVELS = ["debug", "info", "warning", "error"];
const KNOWN = ["name", "address", "direction", "protocol", "state", "connections"];

function listenerRow() {
  const state = badge();
  const cells = KNOWN.map((key) => el(key === "name" ? "th" : "td", key === "name" ? { scope: "row" } : {}));
  cells[4].append(state.node);
  const update = (listener) => {
    KNOWN.forEach((key, index) => {
      if (key !== "state") put(cells[index], plain(listener[key]));
    });
    state.set(listener.state === "accepting" ? "ok" : "warn", plain(listener.state));
  };
  return { node: el("tr", {}, cells), update };
}

function factRow() {
  const [term, value] = [el("dt"), el("dd")];
  const update = ([key, given]) => {
    put(term, key.replaceAll("_", " ").replace(" seconds", ""));
    put(value, key.endsWith("_seconds") ? span(given) : plain(given));
  };
  return { node: el("div", {}, term, value), update };
}

export function server(root) {
  const facts = el("dl", { class: "facts panel" });
  const rows = el("tbody");
  const level = el(
    "select",
    { id: "level" },
    LEVELS.map((name) => el("option", { value: name }, name)),
  );
  const said = el("p", { class: "found", role: "status" });
  const endpoints = el("ul", { class: "endpoints" });
  const list = async () => {
    // To whoever does not ask for a page, `/` tells what there is: METHOD PATH WHAT.
    const lines = (await getText("/").catch(() => "")).split("\n");
    const found = lines.map((line) => /^(\w+) +(\/\S*) +(.*)$/.exec(line)).filter(Boolean);
    endpoints.replaceChildren(
      ...found.map(([, method, path, what]) =>
        el("li", {}, method === "GET" ? el("a", { href: path }, path) : `${method} ${path}`, ` ${what}`),
      ),
    );
  };
  const learn = async () => {
    if (!endpoints.childElementCount) await list();
    const text = await getText("/logging").catch(() => "");
    const found = /level: (\w+)/.exec(text)?.[1];
    if (found && document.activeElement !== level) level.value = found;
  };
  level.addEventListener("change", async () => {
    try {
      put(
        said,
        (await post(`/logging?level=${encodeURIComponent(level.value)}`)).replace("level:", "The level is now"),
      );
    } catch (error) {
      put(said, `Not changed: ${error.message}`);
      await learn();
    }
  });
  root.append(
    el("h2", {}, "Server"),
    facts,
    el("h2", {}, "Log"),
    el("div", { class: "controls" }, el("label", { for: "level" }, "Least level written"), level, said),
    el("h2", {}, "Listeners"),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of listeners" },
      el(
        "table",
        {},
        el("caption", { class: "hidden" }, "Listeners"),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            KNOWN.map((title) => el("th", { scope: "col" }, title)),
          ),
        ),
        rows,
      ),
    ),
    el("h2", {}, "Endpoints of this port"),
    endpoints,
  );
  const show = ({ info, model }) => {
    sync(facts, Object.entries(info ?? {}), ([key]) => key, factRow);
    sync(rows, model.listeners, (listener) => `${listener.name} ${listener.address}`, listenerRow);
  };
  return { show, learn };
}
