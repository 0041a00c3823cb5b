// A service's canary: how many users have it, since when, and what its judge says.

import { h } from "./dom.js";
import { time } from "./format.js";

const STATES = { running: ["runs", "warn"], promoted: ["promoted", "good"], aborted: ["taken back", "bad"] };

export function canary(service) {
  if (service.canary_fault) return h("p", { class: "notice bad", role: "alert" }, `Canary: ${service.canary_fault}`);
  const named = service.aliases.canary;
  const now = service.canary;
  if (!now || (now.state !== "running" && named && named !== now.version)) {
    return named ? h("p", { class: "notice warn" }, `Replicas hold ${named} as a canary; it has no share of the users.`) : null;
  }
  const [word, kind] = STATES[now.state];
  const running = now.state === "running";
  const facts = [
    ["Version", h("code", {}, now.version)],
    ["Share of the users", running ? `${now.percent} %, step ${now.step}` : `none any more; it ended in step ${now.step}`],
    ["Since", `${when(now.started)}${running ? (now.step > 1 ? `; this share since ${when(now.changed)}` : "") : `, until ${when(now.changed)}`}`],
    ["Verdict", verdict(now)],
    now.evidence.length && ["Counted in this step", h("ul", {}, now.evidence.map((one) => h("li", {}, one)))],
    now.trouble && ["The last look saw nothing", now.trouble],
  ];
  return h("section", { class: "canary", "data-canary": now.state, "aria-label": `Canary of ${service.service}` },
    h("div", { class: "canary-head" }, h("h3", {}, running ? "Canary" : "Last canary"), h("span", { class: `tag ${kind}` }, word)),
    running && h("progress", { max: 100, value: now.percent, "aria-label": `Share of the users who get the canary of ${service.service}` }),
    h("dl", { class: "facts-list" }, facts.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

function verdict(now) {
  if (now.verdict || now.reason) return now.verdict || now.reason;
  if (now.state !== "running") return "none: it was ended by hand";
  return now.judged ? `none yet; its judge looked last ${when(now.judged)}` : "none yet; nobody judges it";
}

const when = (moment) => `${time(Date.parse(moment) / 1000)} UTC`;
