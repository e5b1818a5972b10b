// Listeners, clusters and endpoints with their figures, put together from what the endpoints of the admin port tell.

import { clusterHealth, endpointHealth, trafficHealth } from "./figures.js";

const ORDER = { bad: 0, warn: 1, ok: 2, idle: 3 };

/** What needs a look first, then by name. */
export const byTrouble = (a, b) => ORDER[a.health[0]] - ORDER[b.health[0]] || a.name.localeCompare(b.name);

function collect(items, keyOf) {
  const found = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (found.has(key)) found.get(key).push(item);
    else found.set(key, [item]);
  }
  return found;
}

/** The clusters that a listener of the config may send to. */
function targets(listener) {
  const routes = listener.routes ?? [];
  const names = routes.flatMap((route) => [route.cluster, ...(route.split ?? []).map((share) => share.cluster)]);
  return [listener.cluster, ...names].filter(Boolean);
}

/** `state` holds figures, config, listeners and clusters; all but figures may not be there yet. */
export function model({ figures, config, listeners, clusters }) {
  const configured = new Map((config?.config?.listeners ?? []).map((listener) => [listener.name, listener]));
  const routes = collect(figures.routes, (route) => route.listener);
  const directionOf = (name) =>
    configured.get(name)?.direction ??
    routes.get(name)?.[0].direction ??
    (name.startsWith("outbound") ? "outbound" : "inbound");

  const all = clustersOf(figures, clusters);
  const found = (listeners ?? []).map((listener) => {
    const own = routes.get(listener.name) ?? [];
    const described = figures.describe(own.map((route) => route.delta));
    const names = new Set([
      ...targets(configured.get(listener.name) ?? {}),
      ...own.map((route) => route.cluster).filter(Boolean),
    ]);
    const direction = directionOf(listener.name);
    for (const name of names) all.get(name)?.directions.add(direction);
    const accepting = listener.state === "accepting";
    const health = accepting ? (trafficHealth(described) ?? ["ok", "accepting"]) : ["warn", String(listener.state)];
    return { ...listener, direction, targets: names, figures: described, health };
  });
  return { listeners: found, clusters: all };
}

const ADDED = ["connections", "pending", "connect_failures_total"];

const total = (members, key) => members.reduce((sum, member) => sum + (member[key] ?? 0), 0);

function clustersOf(figures, clusters) {
  const routes = collect(figures.routes, (route) => route.cluster);
  const endpoints = collect(figures.endpoints, (endpoint) => endpoint.cluster);
  const told = new Map((clusters ?? []).map((cluster) => [cluster.name, cluster]));
  const names = new Set([...told.keys(), ...endpoints.keys()]);
  const found = new Map();
  for (const name of names) {
    const cluster = told.get(name);
    const more = new Map((cluster?.endpoints ?? []).map((endpoint) => [endpoint.address, endpoint]));
    const live = new Map((endpoints.get(name) ?? []).map((endpoint) => [endpoint.endpoint, endpoint]));
    const members = [...new Set([...live.keys(), ...more.keys()])].map((address) => {
      const endpoint = live.get(address);
      const described = figures.describe(endpoint ? [endpoint.delta] : []);
      const state = String(endpoint?.state ?? more.get(address)?.state ?? "unknown");
      const health = endpointHealth({ state }, described);
      return { ...more.get(address), ...endpoint, name: address, state, figures: described, health };
    });
    const described = figures.describe((routes.get(name) ?? []).map((route) => route.delta));
    const levels = members.map(({ state }) => ({ out: state !== "available" }));
    found.set(name, {
      name,
      balancer: cluster?.balancer ?? "",
      error: cluster?.error ?? null,
      endpoints: members.sort(byTrouble),
      ...Object.fromEntries(ADDED.map((key) => [key, total(members, key)])),
      figures: described,
      health: clusterHealth(levels, described, cluster?.error),
      directions: new Set((routes.get(name) ?? []).map((route) => route.direction)),
    });
  }
  return found;
}
