// Calls of the gateway. Whatever goes wrong is a Problem whose message is a sentence to show.

export class Problem extends Error {
  constructor(sentence, status = 0) {
    super(sentence);
    this.status = status;
  }
}

export const get = (path, params = {}, signal = undefined) => call("GET", withParams(path, params), undefined, { signal });
export const post = (path, body, options = {}) => call("POST", path, body, options);
export const remove = (path) => call("DELETE", path);

async function call(method, path, body = undefined, { signal = undefined, headers = {} } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The gateway does not answer. Is it running?");
  }
  const content = await answer.json().catch(() => null);
  if (!answer.ok) throw new Problem(sentence(content, answer.status), answer.status);
  return content;
}

function withParams(path, params) {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

// Problem details (RFC 9457) as one sentence: what, and which fields.
function sentence(problem, status) {
  if (!problem || !problem.title) return `The gateway answered with status ${status}.`;
  const fields = (problem.errors ?? []).map((fault) => `${fault.field}: ${fault.message}`);
  const parts = [problem.detail ?? problem.title, ...fields].map((part) => part.replace(/[.\s]+$/, ""));
  return `${[...new Set(parts)].join("; ")}.`;
}
