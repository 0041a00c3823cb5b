// Model versions: what serves, what they scored, what the gates said, how a canary does; promote and roll back with the
// admin key.

import { get, post } from "./api.js";
import { canary } from "./canary.js";
import { byId, h, hidden, replace } from "./dom.js";
import { decimal } from "./format.js";
import { plot } from "./plot.js";
import { errorNotice, tell, tellError } from "./status.js";

const TITLES = { retrieval: "Retrieval", ranker: "Ranker", gateway: "Gateway: catalog and popularity" };
const ALIASES = { stable: "good", canary: "warn", previous: "accent" };
const FOLLOWED_MS = 2500; // services look at their alias every 2 s

byId("admin-form").addEventListener("submit", (event) => event.preventDefault());

async function load() {
  try {
    const { services, can_change: canChange } = await get("/v1/models");
    byId("admin").hidden = !canChange;
    replace(byId("models"), services.map((service) => panel(service, canChange)));
  } catch (error) {
    replace(byId("models"), h("section", { class: "panel" }, h("h2", {}, "Models"), errorNotice(error)));
  }
}

function panel(service, canChange) {
  const id = `service-${service.service}`;
  const plots = metricPlots(service.versions);
  const back = canChange && service.aliases.previous
    ? h("button", { type: "button", "data-rollback": service.service, onclick: () => change(service.service, "rollback") }, `Roll back to ${service.aliases.previous}`, hidden(`, ${service.service}`))
    : null;
  return h("section", { class: "panel", "aria-labelledby": id, "data-service": service.service },
    h("div", { class: "panel-head" }, h("h2", { id }, TITLES[service.service] ?? service.service), back),
    canary(service),
    plots.length ? h("div", { class: "plots" }, plots) : null,
    service.versions.length
      ? h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Versions of ${service.service}` }, table(service, canChange))
      : h("p", { class: "muted" }, "No version yet: the models have not been built."));
}

// A plot a metric over the versions in the order they were made: one each, since their scales differ.
function metricPlots(versions) {
  const made = versions.filter((one) => one.created).reverse();
  const names = [...new Set(made.flatMap((one) => Object.keys(one.metrics)))];
  return names
    .filter((name) => made.filter((one) => name in one.metrics).length > 1)
    .map((name) => plot({
      title: name.replaceAll("_", " "),
      now: decimal(made.filter((one) => name in one.metrics).at(-1).metrics[name]),
      series: [{ name, points: made.map((one, at) => [at, one.metrics[name] ?? null]).filter(([, value]) => value !== null) }],
      x: (at) => made[at].version.slice(0, 8),
      y: (value) => decimal(value),
      fromZero: false,
      dots: true,
    }));
}

function table(service, canChange) {
  const head = ["Version", "Made (UTC)", "Parent", "Trained on", "Metrics", "Gates", ...(canChange ? [""] : [])];
  return h("table", {},
    h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name || hidden("Change"))))),
    h("tbody", {}, service.versions.map((one) => h("tr", { "data-version": one.version },
      h("td", {}, h("code", { class: "version" }, one.version), h("div", {}, one.aliases.map((name) => [h("span", { class: `tag ${ALIASES[name] ?? ""}` }, name), " "]))),
      h("td", { class: "version" }, one.fault ? h("span", { class: "tag bad" }, one.fault) : one.created.slice(0, 16).replace("T", " ")),
      h("td", {}, one.parent ? h("code", { class: "version" }, one.parent) : "–"),
      h("td", {}, days(one.training_days)),
      h("td", {}, Object.entries(one.metrics).map(([name, value]) => h("div", { class: "small version" }, `${name.replaceAll("_", " ")} `, h("strong", { class: "number" }, decimal(value))))),
      h("td", {}, gates(one)),
      canChange && h("td", {}, one.aliases.includes("stable") || one.fault ? null
        : h("button", { type: "button", "data-promote": one.version, onclick: () => change(service.service, "promote", one.version) }, "Promote", hidden(` ${one.version}`)))))));
}

function days(all) {
  if (!all.length) return "–";
  return all.length === 1 ? all[0] : [`${all.length} days`, h("div", { class: "small muted version" }, `${all[0]} to ${all.at(-1)}`)];
}

function gates(version) {
  if (version.passed === null) return h("span", { class: "small muted" }, "none asked");
  const failed = version.gates.filter((gate) => gate.passed === false);
  const judged = version.gates.filter((gate) => gate.passed !== null);
  return [
    h("span", { class: `tag ${version.passed ? "good" : "bad"}` }, version.passed ? "passed" : "failed"),
    h("details", {}, h("summary", { class: "small" }, `${judged.length} judged, ${failed.length} failed`),
      h("ul", { class: "small" }, judged.map((gate) => h("li", {},
        `${gate.passed ? "✓" : "✗"} ${gate.metric}, ${gate.slice}: ${decimal(gate.candidate)} against ${decimal(gate.stable)} (tolerance ${decimal(gate.tolerance)})`)))),
  ];
}

async function change(service, step, version = undefined) {
  const headers = { authorization: `Bearer ${byId("admin-key").value}` };
  try {
    const done = await post(`/v1/models/${service}/${step}`, version ? { version } : undefined, { headers });
    tell(done.changed ? `${service} ${done.stable} is stable now; services follow within two seconds.` : `${service} ${done.stable} was stable already.`, "good");
    await load();
    setTimeout(load, FOLLOWED_MS);
  } catch (error) {
    tellError(error);
    byId("admin-key").focus();
  }
}

load();
