// What /traffic tells are totals; rates and quantiles are differences of two answers.

export const TCP = "TCP"; // the route that connections count under; how long they last is no latency
const WINDOW = 10; // seconds that figures are about
const FAILING = 0.99; // a share of successes below this is worth a look
const BROKEN = 0.5;

/** The value below which `share` of the counted ones lie; as telemetry/traffic.py has it. */
export function quantile(bounds, counts, share) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (!total) return null;
  const rank = share * total;
  let below = 0;
  for (let index = 0; index < counts.length; index++) {
    const count = counts[index];
    if (count && below + count >= rank) {
      if (index === bounds.length) break;
      const start = index ? bounds[index - 1] : 0;
      return start + ((bounds[index] - start) * (rank - below)) / count;
    }
    below += count;
  }
  return bounds.at(-1);
}

const routeKey = (item) => JSON.stringify([item.listener, item.route, item.cluster]);
const endpointKey = (item) => JSON.stringify([item.cluster, item.endpoint]);

/** What was added to the totals of `item` since `before`; totals that shrank have begun anew. */
function since(item, before) {
  const same = before && before.requests <= item.requests ? before : null;
  const less = (name) => Math.max(0, (item[name] ?? 0) - (same?.[name] ?? 0));
  return {
    requests: less("requests"),
    failures: less("failures"),
    retries: less("retries"),
    active: item.active,
    durations: item.durations.map((count, index) => Math.max(0, count - (same?.durations[index] ?? 0))),
  };
}

/** Add up differences. */
export function sum(parts) {
  const total = { requests: 0, failures: 0, retries: 0, active: 0, durations: [] };
  for (const part of parts) {
    for (const name of ["requests", "failures", "retries", "active"]) total[name] += part[name];
    part.durations.forEach((count, index) => {
      total.durations[index] = (total.durations[index] ?? 0) + count;
    });
  }
  return total;
}

/** The share of successes; a connection that was refused has failed without a request. */
function successes({ requests, failures }) {
  if (requests) return Math.max(0, 1 - failures / requests);
  return failures ? 0 : null;
}

/** The answers of the last seconds, and what follows from them. */
export class Figures {
  #samples = [];
  routes = []; // of /traffic, each with `delta`
  endpoints = [];
  seconds = 0; // that the differences are about; 0 until there are two answers
  time = 0;

  add(traffic) {
    const sample = {
      traffic,
      routes: new Map(traffic.routes.map((item) => [routeKey(item), item])),
      endpoints: new Map(traffic.endpoints.map((item) => [endpointKey(item), item])),
    };
    this.#samples = [...this.#samples.filter((other) => other.traffic.time >= traffic.time - WINDOW - 1), sample];
    const first = this.#samples[0];
    this.seconds = traffic.time - first.traffic.time;
    this.time = traffic.time;
    // One that was not there before began with zeros.
    this.routes = traffic.routes.map((item) => ({ ...item, delta: since(item, first.routes.get(routeKey(item))) }));
    this.endpoints = traffic.endpoints.map((item) => ({
      ...item,
      delta: since(item, first.endpoints.get(endpointKey(item))),
    }));
  }

  /** Forget what came before a pause. */
  restart() {
    this.#samples = [];
    this.seconds = 0;
  }

  /** Rate, success and latency of differences. */
  describe(parts) {
    const total = sum(parts);
    const bounds = this.#samples.at(-1)?.traffic.bounds ?? [];
    const known = this.seconds > 0;
    return {
      ...total,
      rate: known ? total.requests / this.seconds : null,
      retryRate: known ? total.retries / this.seconds : null,
      success: known ? successes(total) : null,
      p50: known ? quantile(bounds, total.durations, 0.5) : null,
      p95: known ? quantile(bounds, total.durations, 0.95) : null,
      p99: known ? quantile(bounds, total.durations, 0.99) : null,
    };
  }
}

/** The points of the charts: those of /history, and from then on one every few seconds from /traffic. */
export class Timeline {
  static SPAN = 900; // seconds
  static STEP = 5;
  points = [];
  #last = null;

  begin(history) {
    this.points = history;
    this.#last = null;
  }

  add(traffic) {
    if (this.#last !== null && traffic.time - this.#last.time < Timeline.STEP - 0.5) return;
    if (this.#last !== null && traffic.time > (this.points.at(-1)?.time ?? 0)) {
      const point = { time: traffic.time, span: traffic.time - this.#last.time };
      const before = new Map(this.#last.routes.map((item) => [routeKey(item), item]));
      for (const direction of ["inbound", "outbound"]) {
        const parts = traffic.routes
          .filter((item) => item.direction === direction && item.route !== TCP)
          .map((item) => since(item, before.get(routeKey(item))));
        const { requests, failures, durations } = sum(parts);
        const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => quantile(traffic.bounds, durations, share));
        point[direction] = { requests, failures, p50, p95, p99 };
      }
      this.points.push(point);
    }
    this.#last = traffic;
    this.points = this.points.filter((point) => point.time > traffic.time - Timeline.SPAN);
  }

  /** The points of a direction as charts draw them. */
  series(direction) {
    return this.points.map((point) => {
      const { requests, failures, p50, p95, p99 } = point[direction] ?? { requests: 0, failures: 0 };
      const seconds = point.span ?? Timeline.STEP;
      return {
        time: point.time,
        requests: requests / seconds,
        failures: failures / seconds,
        success: requests ? 1 - failures / requests : null,
        p50,
        p95,
        p99,
      };
    });
  }
}

/** How an endpoint is doing: a level and a word. */
export function endpointHealth(endpoint, figures) {
  const state = String(endpoint.state ?? "");
  if (state !== "available") return state.startsWith("unhealthy") ? ["bad", state] : ["warn", state || "unknown"];
  return trafficHealth(figures) ?? ["ok", "available"];
}

/** What the share of successes says; null where it says nothing bad. */
export function trafficHealth({ success }) {
  if (success === null || success >= FAILING) return null;
  return [success < BROKEN ? "bad" : "warn", success < BROKEN ? "failing" : "failures"];
}

/** How a cluster is doing, from the health of its endpoints, its traffic and its discovery. */
export function clusterHealth(levels, figures, error) {
  const down = levels.filter((level) => level.out).length;
  if (levels.length && down === levels.length) {
    return ["bad", levels.length === 1 ? "endpoint not available" : `none of ${levels.length} available`];
  }
  const trouble = trafficHealth(figures);
  if (trouble?.[0] === "bad") return trouble;
  if (down) return ["warn", `${levels.length - down} of ${levels.length} available`];
  if (trouble) return trouble;
  if (error) return ["warn", "discovery fails"];
  return levels.length ? ["ok", "available"] : ["warn", "no endpoints"];
}
