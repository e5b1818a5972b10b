// The config that runs, where it came from, and how the last reload went.

import { badge, el, put } from "./dom.js";
import { count, moment, plain } from "./format.js";

const MOST = 50; // members of a list at once

const LEVELS = { accepted: "ok", unchanged: "idle", rejected: "bad", failed: "warn" };

/** Leave out what is not set. */
function set(value) {
  if (Array.isArray(value)) return value.map(set);
  if (value === null || typeof value !== "object") return value;
  const kept = Object.entries(value).map(([key, inner]) => [key, set(inner)]);
  const empty = (inner) => inner === null || (typeof inner === "object" && !Object.keys(inner).length);
  return Object.fromEntries(kept.filter(([, inner]) => !empty(inner)));
}

/** A part that shows its text when it is opened. */
function part(title, note, fill) {
  const details = el("details", { class: "part" }, el("summary", {}, el("b", {}, title), " ", el("span", {}, note)));
  details.addEventListener("toggle", () => details.append(...fill()), { once: true });
  return details;
}

function text(value) {
  return el("pre", { tabindex: "0" }, typeof value === "string" ? value : JSON.stringify(value, null, 2));
}

function member(value, index) {
  return part(plain(value?.name ?? index), value?.address ?? "", () => [text(value)]);
}

/** The members of a list, `MOST` at a time. */
function members(values, from = 0) {
  const shown = values.slice(from, from + MOST).map((value, index) => member(value, from + index));
  const left = values.length - from - MOST;
  if (left <= 0) return shown;
  const more = el("button", { type: "button" }, `Show more (${left} left)`);
  more.addEventListener("click", () => {
    const next = members(values, from + MOST);
    more.replaceWith(...next);
    next[0].firstChild.focus();
  });
  return [...shown, more];
}

function parts(config) {
  return Object.entries(config).map(([key, value]) => {
    const isList = Array.isArray(value) && value.every((inner) => inner !== null && typeof inner === "object");
    return part(key, isList ? count(value.length, "entry").replace("entrys", "entries") : "", () =>
      isList ? members(value) : [text(value)],
    );
  });
}

export function config(root, again) {
  const state = badge();
  const values = { Source: el("dd"), Version: el("dd"), "Last reload": el("dd", {}, state.node, " ") };
  const when = el("span");
  values["Last reload"].append(when);
  const reasons = el("ul", { class: "reasons" });
  const unset = el("input", { type: "checkbox", change: () => again() });
  const tree = el("div", { class: "tree" });
  let drawn = "";
  root.append(
    el("h2", {}, "Config"),
    el(
      "dl",
      { class: "facts panel" },
      Object.entries(values).map(([term, value]) => el("div", {}, el("dt", {}, term), value)),
    ),
    reasons,
    el(
      "div",
      { class: "controls" },
      el("label", { class: "check" }, unset, "Show what is not set"),
      el("a", { href: "/config_dump" }, "As JSON"),
    ),
    tree,
  );
  return ({ config: dump }) => {
    if (!dump) return;
    put(values.Source, plain(dump.source));
    put(values.Version, plain(dump.version));
    const last = dump.last_reload;
    state.set(last ? (LEVELS[last.result] ?? "idle") : "idle", last ? String(last.result) : "none yet");
    put(when, last ? moment(last.time) : "");
    reasons.replaceChildren(...(last?.reasons ?? []).map((reason) => el("li", {}, plain(reason))));
    reasons.hidden = !reasons.childElementCount;
    // Drawn anew only when it has changed: what was opened stays open.
    const wanted = JSON.stringify([dump.version, unset.checked]);
    if (wanted === drawn) return;
    drawn = wanted;
    tree.replaceChildren(...parts(unset.checked ? dump.config : set(dump.config ?? {})));
  };
}
