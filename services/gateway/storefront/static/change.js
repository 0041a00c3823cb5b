// What an interaction changed: the list before and after, side by side.

import { h, replace } from "./dom.js";
import { ms, several } from "./format.js";
import { picture } from "./picture.js";

const SETTLE_MS = 20; // interactions and features often change together: one new list for both
const PATIENCE_MS = 1500; // without word from the gateway the list is asked for anyway

export class ChangePanel {
  // refresh(): a promise of the new answer
  constructor(panel, refresh) {
    this.panel = panel;
    this.refresh = refresh;
    this.clear();
  }

  clear() {
    this.cancel();
    this.panel.hidden = true;
    replace(this.panel);
  }

  cancel() {
    clearTimeout(this.waiting);
    clearTimeout(this.patience);
    this.subject = null;
  }

  // A visitor did something: from here on the time counts.
  begin(answer, topCategory, what) {
    this.cancel();
    this.subject = { what, at: performance.now(), before: answer, topBefore: topCategory, top: topCategory, features: null };
  }

  // The gateway has taken it. Where no event comes (its store is down, say), the list is asked for all the same.
  recorded() {
    this.patience = setTimeout(() => this.soon(), PATIENCE_MS);
  }

  // The gateway tells of an interaction: of this page or of another.
  noticed(answer, topCategory) {
    if (!this.subject) this.begin(answer, topCategory, "something done elsewhere");
    this.soon();
  }

  // The gateway tells of new features.
  features(told, answer) {
    if (!this.subject) this.begin(answer, told.before.top_category, "new features");
    this.subject.top = told.features.top_category;
    this.subject.features = performance.now();
    this.soon();
  }

  soon() {
    clearTimeout(this.waiting);
    clearTimeout(this.patience);
    this.waiting = setTimeout(() => this.compare(), SETTLE_MS);
  }

  async compare() {
    const subject = this.subject;
    const answer = await this.refresh();
    if (answer && subject && subject === this.subject && subject.before) this.draw(subject, answer);
  }

  draw(subject, answer) {
    const before = subject.before.items;
    const after = answer.items;
    const places = new Map(before.map((item, at) => [item.item_id, at]));
    const now = new Set(after.map((item) => item.item_id));
    const left = before.filter((item) => !now.has(item.item_id)).length;
    const came = after.filter((item) => !places.has(item.item_id)).length;
    const features = subject.features === null ? "the same as before" : `new after ${ms(subject.features - subject.at)}`;
    this.panel.hidden = false;
    replace(
      this.panel,
      h("div", { class: "panel-head" }, h("h2", { id: "change-title" }, `What changed: ${subject.what}`)),
      h("dl", { class: "change-facts" },
        fact("Left, came", `${several(left, "item")} left, ${several(came, "item")} came`),
        fact("Top category", subject.topBefore === subject.top ? subject.top ?? "none" : `${subject.topBefore ?? "none"} → ${subject.top ?? "none"}`),
        fact("Features", features),
        fact("From click to new list", ms(performance.now() - subject.at))),
      h("div", { class: "compare" },
        side("Before", before, (item) => (now.has(item.item_id) ? null : ["left", "left"])),
        side("After", after, (item, at) => {
          if (!places.has(item.item_id)) return ["came", "new"];
          const up = places.get(item.item_id) - at;
          return up === 0 ? null : [null, up > 0 ? `up ${up}` : `down ${-up}`];
        })),
    );
  }
}

const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

const side = (title, items, mark) =>
  h("div", {}, h("h3", {}, title), h("ol", {}, items.map((item, at) => {
    const [kind, text] = mark(item, at) ?? [null, null];
    return h("li", { class: kind }, picture(item, { className: "thumb" }),
      h("span", { class: "text" }, h("span", {}, `${at + 1}. ${item.title}`), h("span", { class: "small muted" }, item.category_l1)),
      text && h("span", { class: kind === "left" ? "tag bad" : kind === "came" ? "tag good" : "tag" }, text));
  })));
