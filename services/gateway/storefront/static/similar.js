// Items like an item, in a dialog.

import { get } from "./api.js";
import { card } from "./cards.js";
import { showDialog } from "./dialog.js";
import { h } from "./dom.js";

export function showSimilar(item, act, why) {
  showDialog(`Similar to ${item.title}`, async () => {
    const { items } = await get(`/v1/items/${encodeURIComponent(item.item_id)}/similar`, { k: 12 });
    const again = ["Similar", (one) => showSimilar(one, act, why)];
    return h("ul", { class: "grid" }, items.map((one) => h("li", {}, card(one, { act, more: [again, why] }))));
  });
}
