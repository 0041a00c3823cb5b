// A dialog over the page. The browser keeps the focus inside and gives it back.

import { byId, h, replace } from "./dom.js";
import { errorNotice } from "./status.js";

const dialog = byId("dialog");
byId("dialog-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

// content(): a promise of what to show
export async function showDialog(title, content) {
  byId("dialog-title").textContent = title;
  const body = replace(byId("dialog-body"), h("p", { class: "muted" }, "Loading …"));
  if (!dialog.open) dialog.showModal();
  try {
    replace(body, ...[await content()].flat());
  } catch (error) {
    replace(body, errorNotice(error));
  }
}

// Whether a person agrees; false when the dialog is closed otherwise.
export function confirmed(title, sentence, action) {
  return new Promise((resolve) => {
    let agreed = false;
    const agree = () => {
      agreed = true;
      dialog.close();
    };
    dialog.addEventListener("close", () => resolve(agreed), { once: true });
    showDialog(title, async () => [
      h("p", {}, sentence),
      h("p", {}, h("button", { type: "button", class: "danger", onclick: agree }, action)),
    ]);
  });
}
