// Figures as people read them. A figure that is not there is an en dash.

const NONE = "\u2013";
const missing = (value) => value === null || value === undefined || Number.isNaN(value);
const digits = (value, precision = 3) => Number(value.toPrecision(precision)).toString();

/** A number per second. */
export function rate(value) {
  if (missing(value)) return NONE;
  return `${amount(value)}/s`;
}

/** A number with three digits that count. */
export function amount(value) {
  if (missing(value)) return NONE;
  if (value >= 1e6) return `${digits(value / 1e6)} M`;
  if (value >= 1e4) return `${digits(value / 1e3)} k`;
  return value >= 100 ? Math.round(value).toString() : digits(value, value < 1 ? 2 : 3);
}

/** A share from 0 to 1. What is not quite all never looks like all. */
export function percent(share) {
  if (missing(share)) return NONE;
  const value = share * 100;
  if (value === 100 || value === 0) return `${value} %`;
  if (value > 99) return `${Number(Math.min(value, 99.99).toFixed(2))} %`;
  return `${digits(Math.max(value, 0.01))} %`;
}

/** Seconds. */
export function seconds(value) {
  if (missing(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 0.001) return `${Math.round(value * 1e6)} \u00b5s`;
  if (value < 0.01) return `${digits(value * 1e3, 2)} ms`;
  if (value < 1) return `${Math.round(value * 1e3)} ms`;
  return value < 100 ? `${digits(value)} s` : span(value);
}

/** Seconds as hours and minutes. */
export function span(value) {
  if (missing(value)) return NONE;
  const minutes = Math.floor(value / 60);
  if (minutes < 1) return `${Math.floor(value)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Unix seconds, or RFC 3339, as the time of day here. */
export function clock(time) {
  if (missing(time)) return NONE;
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  return Number.isNaN(date.getTime()) ? String(time) : date.toLocaleTimeString("en-GB");
}

/** Likewise, with the date. */
export function moment(time) {
  if (missing(time)) return NONE;
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  return Number.isNaN(date.getTime()) ? String(time) : `${date.toLocaleDateString("en-CA")} ${clock(time)}`;
}

/** `1 endpoint`, `2 endpoints`. */
export function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** Any value of a JSON document in a cell. */
export function plain(value) {
  if (missing(value) || value === "") return NONE;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
