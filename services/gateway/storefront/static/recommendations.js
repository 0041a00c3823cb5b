// The carousel: the visitor's list, and what was missing when it was made.

import { post } from "./api.js";
import { card } from "./cards.js";
import { byId, h, replace } from "./dom.js";
import { ms, several } from "./format.js";
import { recommendationRequest, state } from "./state.js";
import { errorNotice } from "./status.js";

const WITHOUT = {
  features: "what is known of the visitor: it is a stranger's list",
  retrieval: "retrieval: popular items stand in",
  filter: "the filter: items met before may be among them",
  ranker: "the ranker: in retrieval's order, without scores",
};

export class Recommendations {
  constructor(act, more) {
    this.act = act;
    this.more = more;
    this.answer = null;
    this.list = byId("for-you");
    this.asking = null;
    byId("carousel-back").addEventListener("click", () => this.move(-1));
    byId("carousel-on").addEventListener("click", () => this.move(1));
  }

  shows(itemId) {
    return this.answer !== null && this.answer.items.some((item) => item.item_id === itemId);
  }

  // The new answer, or null where it failed or another request overtook it.
  async load({ explain }) {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.list.setAttribute("aria-busy", "true");
    try {
      const body = recommendationRequest(explain ? { explain: true } : {});
      const answer = await post("/v1/recommendations", body, { signal: asking.signal });
      this.answer = answer;
      this.draw(answer);
      return answer;
    } catch (error) {
      if (error.name === "AbortError") return null;
      this.answer = null;
      byId("for-you-facts").textContent = "";
      replace(this.list);
      replace(byId("for-you-notice"), errorNotice(error));
      return null;
    } finally {
      if (this.asking === asking) this.list.removeAttribute("aria-busy");
    }
  }

  draw(answer) {
    const track = Object.values(answer.versions).some((version) => version.track === "canary") ? " · canary" : "";
    byId("for-you-facts").textContent =
      `${several(answer.items.length, "item")} in ${ms(answer.timings.total_ms)}${track}` +
      (state.diversity ? ` · drawn, temperature ${state.temperature}` : "");
    replace(byId("for-you-notice"), degraded(answer));
    replace(
      this.list,
      answer.items.map((item, at) =>
        h("li", {}, card(item, { act: this.act, more: this.more, place: at + 1, eager: at < 6 }))),
    );
    this.list.scrollLeft = 0;
  }

  move(direction) {
    this.list.scrollBy({ left: direction * 0.8 * this.list.clientWidth });
  }
}

function degraded(answer) {
  if (!answer.degraded.length) {
    return answer.items.length ? null : h("p", { class: "notice plain" }, "There is nothing left to show: every item was met.");
  }
  const lacks = answer.degraded.map((stage) => WITHOUT[stage]).join("; without ");
  return h("p", { class: "notice warn", role: "alert" }, `Degraded: made without ${lacks}.`);
}
