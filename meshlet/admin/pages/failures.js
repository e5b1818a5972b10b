// The last failed and slow requests, each with what is known about why.

import { badge, el, put, sync } from "./dom.js";
import { clock, count, moment, plain, seconds } from "./format.js";

const list = (value) => (Array.isArray(value) ? value : []);

/** Give explanations what rows need besides: a key, and a level. */
export function prepare(dumps) {
  return list(dumps).map((dump) => ({
    ...dump,
    key: JSON.stringify([dump.time, dump.request_id, dump.duration]),
    level: dump.status === 0 || dump.status >= 500 ? "bad" : dump.flag || dump.status >= 400 ? "warn" : "idle",
  }));
}

/** One of them: a line that opens. What is inside is made when it is opened for the first time. */
export function failureRow(failure) {
  const state = badge();
  state.set(failure.level, [failure.status || "no response", failure.flag].filter(Boolean).join(" "));
  const hint = list(failure.reasons).find((reason) => reason.hint);
  const details = el(
    "details",
    { class: "failure" },
    el(
      "summary",
      {},
      el("time", { title: moment(failure.time) }, clock(failure.time)),
      state.node,
      el("span", { class: "request" }, el("b", {}, plain(failure.method)), " ", plain(failure.target)),
      el("span", { class: "hint", title: hint?.hint }, hint?.hint ?? plain(failure.error)),
      el("span", { class: "where" }, plain(failure.cluster)),
      el("span", { class: "number" }, seconds(failure.duration)),
    ),
  );
  details.addEventListener("toggle", () => details.append(inside(failure)), { once: true });
  return { node: el("li", {}, details) };
}

function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "dl",
    { class: "facts" },
    known.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, plain(value)))),
  );
}

function inside(failure) {
  return el(
    "div",
    { class: "inside" },
    list(failure.reasons).map((reason) =>
      el(
        "div",
        {},
        el("p", {}, reason.flag && el("b", {}, `${reason.flag} `), plain(reason.meaning)),
        reason.hint && el("p", { class: "advice" }, reason.hint),
        reason.link && el("p", { class: "source" }, "See ", el("code", {}, reason.link)),
      ),
    ),
    facts([
      ["Error", failure.error],
      ["Time", moment(failure.time)],
      ["Request id", failure.request_id],
      ["Listener", failure.listener],
      ["Route", failure.route],
      ["Cluster", failure.cluster],
      ["Host", failure.host],
      ["Client", failure.client],
      ["Trace", failure.trace_id],
      ["Answered by", list(failure.acted).join(", ")],
    ]),
    tries(list(failure.tries)),
  );
}

const TRY = [
  ["Endpoint", (each) => plain(each.endpoint)],
  ["Began", (each) => seconds(each.began)],
  ["Ended", (each) => seconds(each.ended)],
  ["Connect", (each) => seconds(each.connect)],
  ["First byte", (each) => seconds(each.first_byte)],
  ["Status", (each) => plain(each.status || null)],
  ["Flag", (each) => plain(each.flag)],
  ["Reason", (each) => plain(each.reason)],
];

function tries(all) {
  if (!all.length) return el("p", { class: "empty" }, "It was not sent to any endpoint.");
  const rows = all.map((each) =>
    el(
      "tr",
      {},
      TRY.map(([, write]) => el("td", {}, write(each))),
    ),
  );
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tries of this request" },
    el(
      "table",
      {},
      el("caption", {}, `${all.length === 1 ? "1 try" : `${all.length} tries`}; times count from the request's head`),
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          TRY.map(([title]) => el("th", { scope: "col" }, title)),
        ),
      ),
      el("tbody", {}, rows),
    ),
  );
}

/** Whether one is open: what somebody reads must not move away or vanish because others came after it. */
export const isRead = (rows) => rows.querySelector("details[open]") !== null;

export function failures(root, again) {
  const filter = el("input", {
    type: "search",
    id: "failure-filter",
    placeholder: "path, flag, cluster, request id",
    input: again,
  });
  const rows = el("ul", { class: "failures" });
  const found = el("p", { class: "found", role: "status" });
  root.append(
    el("h2", {}, "Failed and slow requests"),
    el(
      "form",
      { class: "controls", role: "search", submit: (event) => event.preventDefault() },
      el("label", { for: "failure-filter" }, "Filter"),
      filter,
      found,
    ),
    rows,
  );
  let filtered = "";
  rows.addEventListener("toggle", again, true);
  return (state) => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = state.failures.filter((failure) => {
      const text = JSON.stringify(failure).toLowerCase();
      return words.every((word) => text.includes(word));
    });
    if (filter.value === filtered && isRead(rows)) {
      put(found, "Held while one is open.");
      return;
    }
    filtered = filter.value;
    sync(rows, shown, (failure) => failure.key, failureRow);
    put(found, state.failures.length ? count(shown.length, "request") : "None lately.");
  };
}
