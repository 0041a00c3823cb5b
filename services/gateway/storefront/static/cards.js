// One item with what a visitor can do about it.

import { h, hidden } from "./dom.js";
import { audience, percent, price } from "./format.js";
import { picture } from "./picture.js";

// act(item, eventType): a visitor met it; more: [label, call(item)] for further buttons
export function card(item, { act, more = [], place = null, heading = "h3", eager = false }) {
  const event = (label, type, kind) =>
    h("button", { type: "button", class: kind, "data-event": type, onclick: () => act(item, type) }, label, hidden(`: ${item.title}`));
  return h(
    "article",
    { class: "card", "data-item": item.item_id },
    h("div", { class: "picture" }, picture(item, { eager }), place && h("span", { class: "tag place" }, `${place}`)),
    h(
      "div",
      { class: "body" },
      h(heading, { title: item.title }, item.title),
      h("p", { class: "muted small" }, `${item.category_l1} · ${item.category_l2} · for ${audience(item.gender)}`),
      h("p", { class: "facts" }, h("span", { class: "price number" }, price(item.price)), score(item)),
    ),
    h(
      "div",
      { class: "actions" },
      event("Interested", "click", "primary"),
      event("Add to cart", "add_to_cart"),
      event("Not interested", "not_interested", "wide"),
      ...more.map(([label, call]) => h("button", { type: "button", onclick: () => call(item) }, label, hidden(`: ${item.title}`))),
    ),
  );
}

function score(item) {
  if (item.score !== undefined) {
    const text = item.score === null ? "no score" : `click ${percent(item.score)}`;
    return h("span", { class: "small muted number" }, text);
  }
  if (item.similarity !== undefined) return h("span", { class: "small muted number" }, `similarity ${item.similarity.toFixed(2)}`);
  return null;
}
