// An item's picture, or its first letter where there is none. Every picture has text.

import { h } from "./dom.js";

export function picture(item, { className = null, eager = false } = {}) {
  const classes = [className, item.image ? null : "no-picture"].filter(Boolean).join(" ") || null;
  if (!item.image) {
    return h("span", { class: classes, role: "img", "aria-label": `no picture of ${item.title}` }, (item.title || "?")[0]);
  }
  return h("img", {
    class: classes, src: item.image, alt: item.title, width: 64, height: 64, decoding: "async",
    loading: eager ? "eager" : "lazy",
  });
}
