// Requests as they end, from /tap: only while this is asked for, and never more than the page can hold.

import { badge, el, put } from "./dom.js";
import { clock, plain, seconds } from "./format.js";

const MOST = 200; // rows
const PAINT = 250; // milliseconds

const COLUMNS = [
  ["Time", (item) => clock(item.time)],
  ["Status", null],
  ["Method", (item) => plain(item.method)],
  ["Target", (item) => plain(item.target)],
  ["Cluster", (item) => plain(item.cluster)],
  ["Endpoint", (item) => plain(item.endpoint)],
  ["Duration", (item) => seconds(item.duration)],
  ["Request id", (item) => plain(item.request_id)],
];

/** What a tap says besides requests. */
function notice(item) {
  const known = {
    dropped: (n) => `${n} more came than could be kept`,
    paused: (s) => `nothing was seen for ${seconds(s)}`,
  };
  const [key, value] = Object.entries(item)[0] ?? ["", ""];
  return el("tr", {}, el("td", { colspan: COLUMNS.length }, known[key]?.(value) ?? `${key} ${plain(value)}`));
}

function row(item) {
  if (item.status === undefined) return notice(item);
  const state = badge();
  const failed = item.status === 0 || item.status >= 500;
  const level = failed ? "bad" : item.status >= 400 || item.flag ? "warn" : "ok";
  state.set(level, [item.status || "no response", item.flag].filter(Boolean).join(" "));
  return el(
    "tr",
    {},
    COLUMNS.map(([title, write]) =>
      el("td", { class: title === "Target" ? "long" : null }, write ? write(item) : state.node),
    ),
  );
}

export function tap(root) {
  let source = null;
  let waiting = [];
  let seen = 0;
  let timer = null;

  const field = (name, label, placeholder) => {
    const input = el("input", { id: `tap-${name}`, name, placeholder, autocomplete: "off", spellcheck: "false" });
    return [el("label", { for: `tap-${name}` }, label), input];
  };
  const fields = [
    field("method", "Method", "any"),
    field("path", "Path", "/prefix"),
    field("status", "Status", "500 or 5xx"),
  ];
  const button = el("button", { type: "submit", class: "primary" }, "Start");
  const clear = el("button", { type: "button", click: () => body.replaceChildren() }, "Clear");
  const said = el("p", { class: "found", role: "status" }, "Stopped.");
  const body = el("tbody");

  const say = () =>
    put(said, `${source ? "Watching" : "Stopped"}, ${seen} seen${seen > MOST ? `, the last ${MOST} are shown` : ""}.`);
  const paint = () => {
    timer = null;
    const rows = waiting.reverse().map(row);
    waiting = [];
    body.prepend(...rows);
    while (body.childElementCount > MOST) body.lastChild.remove();
    say();
  };
  const stop = (why) => {
    source?.close();
    source = null;
    put(button, "Start");
    say();
    if (why) put(said, why);
  };
  const start = () => {
    const query = new URLSearchParams();
    for (const [, input] of fields) if (input.value.trim()) query.set(input.name, input.value.trim());
    seen = 0;
    source = new EventSource(`/tap?${query}`);
    source.onopen = say;
    source.onmessage = (event) => {
      const item = JSON.parse(event.data);
      if (item.status !== undefined) seen += 1;
      waiting.push(item);
      if (waiting.length > MOST) waiting.shift();
      timer ??= setTimeout(paint, PAINT);
    };
    source.onerror = () => {
      // The browser tries again by itself, except where the answer was a refusal.
      if (source?.readyState === EventSource.CLOSED) refuse(`/tap?${query}`);
      else put(said, "The connection was lost, trying again.");
    };
    put(button, "Stop");
    say();
  };
  const refuse = async (path) => {
    stop("The tap was refused.");
    // An EventSource does not tell why: ask once more, as text.
    const response = await fetch(path, { cache: "no-store" }).catch(() => null);
    if (response && !response.ok) put(said, (await response.text()).slice(0, 500).trim());
    await response?.body?.cancel().catch(() => null);
  };

  root.append(
    el("h2", {}, "Live requests"),
    el(
      "form",
      {
        class: "controls",
        submit: (event) => {
          event.preventDefault();
          if (source) stop();
          else start();
        },
      },
      fields,
      button,
      clear,
      said,
    ),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of requests, newest first" },
      el(
        "table",
        {},
        el("caption", { class: "hidden" }, "Requests as they end, newest first"),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            COLUMNS.map(([title]) => el("th", { scope: "col" }, title)),
          ),
        ),
        body,
      ),
    ),
  );
}
