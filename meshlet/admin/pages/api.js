// Asking the admin port. Everything stays on its origin.

// Milliseconds.
const TIMEOUT = 10_000;
const RETRY = 5_000;

async function ask(path, options) {
  const response = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT), cache: "no-store" });
  if (!response.ok) throw new Error((await response.text()).slice(0, 500).trim() || `${path}: ${response.status}`);
  return response;
}

export const getJson = async (path) => (await ask(path)).json();
export const getText = async (path) => (await ask(path)).text();
export const post = async (path) => (await ask(path, { method: "POST" })).text();

/**
 * Asks for paths again and again: each as often as it says, one answer at a time, only while `wanted` holds.
 * `onState(error or null)` hears how each went.
 */
export class Poller {
  #sources = [];
  #onState;

  constructor(onState) {
    this.#onState = onState;
  }

  /** `every` is in seconds; `take(document)` gets the answer. */
  add(path, every, wanted, take) {
    this.#sources.push({ path, every: every * 1000, wanted, take, due: 0, busy: false });
  }

  /** Ask for what is due; to be called about once a second. */
  tick() {
    const now = performance.now();
    for (const source of this.#sources) {
      if (!source.busy && now >= source.due && source.wanted()) this.#ask(source, now);
    }
  }

  /** Ask for a path at the next tick, whenever it was asked for. */
  hurry(path) {
    for (const source of this.#sources) if (source.path === path) source.due = 0;
  }

  async #ask(source, now) {
    source.busy = true;
    // A little less, or a tick that comes early would leave a source to the next one.
    source.due = now + source.every - 100;
    try {
      source.take(await getJson(source.path));
      this.#onState(null);
    } catch (error) {
      source.due = now + Math.min(source.every, RETRY);
      this.#onState(error);
    } finally {
      source.busy = false;
    }
  }
}
