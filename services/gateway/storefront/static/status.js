// What happened, for eyes and for screen readers: short messages at the foot of the page.

import { byId, h } from "./dom.js";

const SHOWN_MS = 4000;

export function tell(sentence, kind = "plain") {
  const message = h("p", { class: `notice ${kind}` }, sentence);
  byId("toasts").append(message);
  setTimeout(() => message.remove(), SHOWN_MS);
}

export function tellError(error) {
  if (error.name === "AbortError") return;
  tell(error.message, "bad");
}

// An error where the content would be, so that no part of the page is silently empty.
export const errorNotice = (error) => h("p", { class: "notice bad", role: "alert" }, error.message);
