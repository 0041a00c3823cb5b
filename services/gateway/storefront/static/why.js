// Why an item is in the list, or is not: the stage that decided, what the score is made of, what the visitor liked like it.

import { post } from "./api.js";
import { showDialog } from "./dialog.js";
import { h, svg } from "./dom.js";
import { decimal, EVENTS, percent, signed } from "./format.js";
import { picture } from "./picture.js";
import { recommendationRequest } from "./state.js";

const PARTS = { user: "the visitor", item: "the item's kind and price", context: "device and time", image: "the picture", text: "the text" };
const DECIDED = {
  shown: ["in the list", "good"],
  retrieval: ["not a candidate", "bad"],
  filter: ["met before", "bad"],
  ranker: ["ranked below", "bad"],
  catalog: ["not ranked yet", "warn"],
};

export function showWhy(item, isShown) {
  showDialog(isShown ? "Why is this here?" : "Why is this not here?", async () => {
    const answer = await post("/v1/explanations", { ...recommendationRequest(), item_id: item.item_id });
    return [verdict(answer), score(answer.attribution), liked(answer.liked)].filter(Boolean);
  });
}

function verdict({ item, verdict: { decided_by: decision, sentence } }) {
  const [text, kind] = DECIDED[decision];
  return h("div", { class: "who" }, picture(item, { className: "thumb" }),
    h("strong", {}, item.title), h("span", { class: `tag ${kind}`, id: "why-decision" }, text), h("p", { id: "why-sentence" }, sentence));
}

function score(attribution) {
  if (!attribution) return h("p", { class: "notice warn" }, "The ranker does not answer, or does not know this item: its score cannot be taken apart.");
  const most = Math.max(...attribution.parts.map((one) => Math.abs(one.logit)), 1e-9);
  return h("section", { "aria-label": "What the score is made of" },
    h("h3", {}, `Click probability ${percent(attribution.click_probability)}`),
    h("p", { class: "small muted" },
      `With nothing known it would be ${percent(attribution.baseline_probability)}. What each part adds to the log-odds, on average over the orders in which they become known; the parts sum to the difference.`),
    h("ol", { class: "parts" }, attribution.parts.map((one) => h("li", {},
      h("strong", {}, one.part, h("span", { class: "visually-hidden" }, ` (${PARTS[one.part]})`)),
      svg("svg", { viewBox: "-50 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { class: "bar-back", x: -50, width: 100, height: 10 }),
        svg("rect", {
          class: one.logit < 0 ? "part-down" : "part-up", height: 10, width: (50 * Math.abs(one.logit)) / most,
          x: one.logit < 0 ? (-50 * Math.abs(one.logit)) / most : 0,
        }),
        svg("rect", { class: "bar-mid", x: -0.15, width: 0.3, height: 10 })),
      h("span", { class: "small number" }, `${signed(one.logit)} · ${percent(one.share, 0)} of all`)))));
}

function liked(items) {
  if (!items.length) return h("p", { class: "small muted" }, "This visitor liked nothing lately that it could be compared with.");
  return h("section", { "aria-label": "Nearest liked items" }, h("h3", {}, "Nearest of what the visitor liked"),
    h("ul", { class: "liked" }, items.map((one) => h("li", {}, picture(one, { className: "thumb" }),
      h("span", { class: "text" }, h("span", {}, one.title),
        h("span", { class: "muted small" }, `${EVENTS[one.event_type]} it · picture ${decimal(one.image_similarity, 2)}, text ${decimal(one.text_similarity, 2)}`))))));
}
