// The catalog: narrowed by category, audience, price and words, page by page.

import { get } from "./api.js";
import { card } from "./cards.js";
import { byId, h, replace } from "./dom.js";
import { audience, count, several } from "./format.js";
import { errorNotice, tellError } from "./status.js";

const PAGE = 24;
const SEARCH_AFTER_MS = 200;

export class Catalog {
  constructor(act, more) {
    this.act = act;
    this.more = more;
    this.query = {};
    this.offset = 0;
    this.asking = null;
    byId("catalog-back").addEventListener("click", () => this.turn(-1));
    byId("catalog-on").addEventListener("click", () => this.turn(1));
  }

  async start() {
    this.load();
    try {
      this.filters(await get("/v1/facets"));
    } catch (error) {
      tellError(error);
    }
  }

  filters(facets) {
    const form = byId("catalog-filters");
    form.addEventListener("submit", (event) => event.preventDefault());
    let waiting = 0;
    const narrow = (values, after = 0) => {
      clearTimeout(waiting);
      Object.assign(this.query, values);
      waiting = setTimeout(() => this.load(), after);
    };
    const options = (all, values) => [h("option", { value: "" }, all), ...values.map(([value, label]) => h("option", { value }, label))];
    const counted = (one) => [one.name, `${one.name} (${count(one.items)})`];
    const second = h("select", { id: "filter-l2", disabled: true, onchange: (event) => narrow({ category_l2: event.target.value }) }, options("all", []));
    const first = h("select", {
      id: "filter-l1",
      onchange: (event) => {
        const chosen = facets.categories.find((one) => one.name === event.target.value);
        replace(second, options("all", (chosen?.children ?? []).map(counted)));
        second.disabled = !chosen;
        narrow({ category_l1: event.target.value, category_l2: "" });
      },
    }, options("all", facets.categories.map(counted)));
    const number = (name, placeholder) => h("input", {
      id: `filter-${name}`, type: "number", min: 0, step: "any", inputmode: "decimal", placeholder,
      oninput: (event) => narrow({ [name]: event.target.value }, SEARCH_AFTER_MS),
    });
    const field = (label, input) => h("div", { class: "field" }, h("label", { for: input.id }, label), input);
    replace(
      form,
      field("Search", h("input", { id: "filter-q", type: "search", maxlength: 200, placeholder: "words of title or text", oninput: (event) => narrow({ q: event.target.value.trim() }, SEARCH_AFTER_MS) })),
      field("Category", first),
      field("Kind", second),
      field("Audience", h("select", { id: "filter-gender", onchange: (event) => narrow({ gender: event.target.value }) }, options("all", facets.genders.map((one) => [one.name, `${audience(one.name)} (${count(one.items)})`])))),
      field("Price from", number("min_price", facets.min_price === null ? "" : String(Math.floor(facets.min_price)))),
      field("Price to", number("max_price", facets.max_price === null ? "" : String(Math.ceil(facets.max_price)))),
    );
  }

  turn(direction) {
    this.load(this.offset + direction * PAGE);
    byId("catalog-title").scrollIntoView({ block: "start" });
  }

  async load(offset = 0) {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    const list = byId("catalog");
    try {
      const page = await get("/v1/items", { ...this.query, offset, limit: PAGE }, asking.signal);
      this.offset = offset;
      byId("catalog-facts").textContent = several(page.total, "item");
      replace(list, page.items.map((item) => h("li", {}, card(item, { act: this.act, more: this.more }))));
      if (!page.total) replace(list, h("li", { class: "muted" }, "No item matches; loosen a filter."));
      this.pager(page.total);
    } catch (error) {
      if (error.name === "AbortError") return;
      byId("catalog-facts").textContent = "";
      replace(list, h("li", {}, errorNotice(error)));
      this.pager(0);
    }
  }

  pager(total) {
    const last = Math.min(this.offset + PAGE, total);
    byId("catalog-page").textContent = total ? `${count(this.offset + 1)} to ${count(last)} of ${count(total)}` : "";
    byId("catalog-back").disabled = this.offset === 0;
    byId("catalog-on").disabled = last >= total;
  }
}
