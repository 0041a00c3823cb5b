// How a list was made: the funnel, the time of each stage, the models that answered, every candidate.

import { h, hidden, replace, svg } from "./dom.js";
import { count, decimal, ms, percent, several } from "./format.js";
import { scatter } from "./scatter.js";

const OUTCOMES = {
  shown: ["shown", "good"],
  below: ["ranked below", ""],
  met: ["met before", "bad"],
  without_metadata: ["not in the catalog", "warn"],
  unknown_to_ranker: ["unknown to the ranker", "warn"],
};

export class Trace {
  // refresh(): asks for the list anew, explained; ask(item): why an item is not there
  constructor(panel, toggle, refresh, ask) {
    this.panel = panel;
    this.toggle = toggle;
    this.ask = ask;
    toggle.addEventListener("click", () => {
      this.set(!this.isOpen);
      if (this.isOpen) refresh();
    });
  }

  get isOpen() {
    return this.toggle.getAttribute("aria-expanded") === "true";
  }

  set(open) {
    this.toggle.setAttribute("aria-expanded", String(open));
    this.panel.hidden = !open;
  }

  draw(answer) {
    if (!this.isOpen || !answer.explanation) return;
    const { funnel, candidates } = answer.explanation;
    replace(
      this.panel,
      h("div", { class: "panel-head" }, h("h2", { id: "trace-title" }, "How this list was made")),
      stages(answer, funnel),
      h("div", { class: "split" }, asked(answer), scatter(candidates)),
      h("h3", { class: "inside-title" }, "Every candidate"),
      h("p", { class: "small muted" }, `In retrieval's order; ${several(funnel.shown, "item")} of ${count(funnel.retrieved)} shown.`),
      this.table(candidates),
      this.askForm(),
    );
  }

  table(candidates) {
    const row = (one) => {
      const [text, kind] = OUTCOMES[one.outcome];
      return h("tr", { "data-outcome": one.outcome },
        h("td", {}, one.title ?? one.item_id, h("br"), h("span", { class: "small muted" }, one.category_l1 ?? "")),
        number(one.retrieval_rank), number(one.retrieval_score === null ? "–" : decimal(one.retrieval_score)),
        h("td", {}, h("span", { class: `tag ${kind}` }, text)),
        number(one.rank ?? "–"), number(one.click_probability === null ? "–" : percent(one.click_probability)),
        h("td", {}, h("button", { type: "button", onclick: () => this.ask(one) }, "Why?", hidden(`: ${one.title ?? one.item_id}`))));
    };
    const head = ["Item", "Retrieval rank", "Score", "What became of it", "Rank", "Click", ""];
    return h("div", { class: "candidates", tabindex: 0, role: "region", "aria-label": "Every candidate" },
      h("table", {},
        h("thead", {}, h("tr", {}, head.map((name, at) => h("th", { scope: "col", class: [1, 2, 4, 5].includes(at) ? "number" : null }, name || hidden("Why"))))),
        h("tbody", {}, candidates.map(row))));
  }

  askForm() {
    const input = h("input", { id: "why-id", type: "text", autocomplete: "off", spellcheck: "false", placeholder: "an item id" });
    const form = h("form", { class: "ask" },
      h("div", { class: "field" }, h("label", { for: "why-id" }, "Why is this item not here?"), input),
      h("button", { type: "submit" }, "Ask"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (input.value.trim()) this.ask({ item_id: input.value.trim(), title: input.value.trim() });
    });
    return form;
  }
}

function stages(answer, funnel) {
  const { timings, versions, explanation, degraded } = answer;
  const unmet = funnel.retrieved - funnel.met;
  const without = (stage, text, instead) => (degraded.includes(stage) ? instead : text);
  const rows = [
    ["features", "Features", null, null, ""],
    ["retrieval", "Retrieved", funnel.retrieved, 0, without("retrieval", several(funnel.retrieved, "candidate"), `${several(funnel.retrieved, "popular item")} instead of candidates`)],
    ["filter", "Not met before", unmet, funnel.met, without("filter", `${count(unmet)} left, ${count(funnel.met)} met before`, `${count(unmet)} left, met ones among them`)],
    ["ranker", "Ranked", funnel.ranked, unmet - funnel.ranked, without("ranker", `${count(funnel.ranked)} with a click probability`, `${count(funnel.ranked)} in retrieval's order, without a click probability`)],
    ["metadata", "Shown", funnel.shown, funnel.below, `${several(funnel.shown, "item")} in the list`],
  ];
  return h("ol", { class: "funnel" }, rows.map(([stage, name, left, gone, text]) => {
    const service = explanation.services[stage];
    const inside = service ? `, ${ms(service.compute_ms)} inside` : "";
    const version = versions[stage] ? ` · ${versions[stage].version} (${versions[stage].track})` : "";
    return h("li", { "data-stage": stage },
      h("span", {}, h("strong", {}, name), degraded.includes(stage) ? [" ", h("span", { class: "tag warn" }, "degraded")] : null),
      left === null
        ? h("span", { class: "what small muted" }, facts(explanation.user))
        : h("span", { class: "what" }, bar(left, gone, funnel.retrieved), h("span", { class: "small" }, text, h("span", { class: "muted" }, version))),
      h("span", { class: "took small muted number" }, `${ms(timings[`${stage}_ms`])}${inside}`));
  }));
}

function facts(user) {
  const { user_id: _, ...known } = user;
  const told = Object.entries(known).filter(([, value]) => value !== null && !(Array.isArray(value) && !value.length));
  if (!told.length) return "nothing is known of this visitor";
  return told.map(([name, value]) => `${name.replaceAll("_", " ")}: ${Array.isArray(value) ? value.length : value}`).join(", ");
}

function bar(left, gone, all) {
  const share = (value) => (all ? (100 * value) / all : 0);
  return svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "bar-back", width: 100, height: 10 }),
    svg("rect", { class: "bar-rest", width: share(left), height: 10 }),
    svg("rect", { class: "bar-gone", x: share(left), width: share(gone), height: 10 }));
}

function asked(answer) {
  const { context, user } = answer.explanation;
  const moment = new Date(1000 * context.timestamp).toLocaleString("en-GB", { weekday: "long", hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
  const rows = [
    ["Visitor", user.user_id],
    ["Moment", `${moment} UTC`],
    ["Device", context.device_type ?? "unknown"],
    ["Request", answer.request_id],
    ["Whole time", ms(answer.timings.total_ms)],
    ...Object.entries(answer.versions).map(([service, { version, track }]) => [service[0].toUpperCase() + service.slice(1), `${version}, ${track}`]),
  ];
  return h("dl", { class: "facts-list" }, rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

const number = (value) => h("td", { class: "number" }, typeof value === "number" ? count(value) : value);
