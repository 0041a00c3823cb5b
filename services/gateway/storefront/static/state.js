// Who looks at the shop and when: kept in the address, so that a page can be shared and comes back as it was.

const DEFAULTS = {
  user: "", device: "desktop", when: "now", weekday: 0, hour: 9, k: 10, diversity: false, temperature: 1, seed: 1,
};
const listeners = new Set();

export const state = { ...DEFAULTS, ...fromAddress() };

export function change(values) {
  const before = { ...state };
  Object.assign(state, values);
  if (Object.keys(values).every((name) => before[name] === state[name])) return;
  toAddress();
  for (const listener of listeners) listener(state, before);
}

export const onChange = (listener) => listeners.add(listener);

// The chosen moment in UTC seconds, in this week; null means now.
export function timestamp() {
  if (state.when === "now") return null;
  const now = new Date();
  const today = (now.getUTCDay() + 6) % 7; // Monday is 0
  const day = now.getUTCDate() - today + state.weekday;
  return Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), day, state.hour) / 1000;
}

export function recommendationRequest(more = {}) {
  return {
    user_id: state.user,
    k: state.k,
    device_type: state.device === "unknown" ? null : state.device,
    timestamp: timestamp(),
    ...(state.diversity ? { diversity: true, temperature: state.temperature, seed: state.seed } : {}),
    ...more,
  };
}

function fromAddress() {
  const given = new URLSearchParams(location.search);
  const values = {};
  for (const [name, kind] of Object.entries(DEFAULTS).map(([name, value]) => [name, typeof value])) {
    if (!given.has(name)) continue;
    const text = given.get(name);
    if (kind === "number" && Number.isFinite(Number(text))) values[name] = Number(text);
    if (kind === "boolean") values[name] = text === "true";
    if (kind === "string") values[name] = text;
  }
  return values;
}

function toAddress() {
  const told = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  history.replaceState(null, "", told.length ? `?${new URLSearchParams(told)}` : location.pathname);
}
