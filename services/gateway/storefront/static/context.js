// Device, time, length, diversity: what a list depends on besides the visitor. Every change asks for a new list at once.

import { h, replace } from "./dom.js";
import { change, onChange, state } from "./state.js";

const DEVICES = ["mobile", "desktop", "tablet", "unknown"];
const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const LARGEST_SEED = 2 ** 31;

export function contextForm(form) {
  form.addEventListener("submit", (event) => event.preventDefault());
  const hour = range("hour", "Hour (UTC)", 0, 23, 1, (value) => `${String(value).padStart(2, "0")}:00`);
  const k = range("k", "Items in the list", 1, 50, 1, String);
  const temperature = range("temperature", "Temperature", 0.1, 5, 0.1, (value) => Number(value).toFixed(1));
  const again = h("button", { type: "button", id: "context-again", onclick: () => change({ seed: 1 + Math.floor(Math.random() * LARGEST_SEED) }) }, "Draw again");
  const weekday = h("select", { id: "context-weekday", onchange: (event) => change({ weekday: Number(event.target.value) }) },
    WEEKDAYS.map((name, at) => h("option", { value: at, selected: at === state.weekday }, name)));
  replace(
    form,
    h("fieldset", {}, h("legend", {}, "Device"), h("div", { class: "segments" }, DEVICES.map((name) =>
      h("label", {}, h("input", { type: "radio", name: "device", value: name, checked: name === state.device, onchange: () => change({ device: name }) }), name)))),
    k.field,
    h("fieldset", {}, h("legend", {}, "Time"), h("div", { class: "segments" }, [["now", "now"], ["chosen", "chosen"]].map(([value, label]) =>
      h("label", {}, h("input", { type: "radio", name: "when", value, checked: value === state.when, onchange: () => change({ when: value }) }), label)))),
    h("fieldset", {}, h("legend", {}, "Diversity"), h("div", { class: "segments" },
      h("label", {}, h("input", { type: "checkbox", id: "context-diversity", checked: state.diversity, onchange: (event) => change({ diversity: event.target.checked }) }), "draw the list"), again)),
    h("div", { class: "field" }, h("label", { for: "context-weekday" }, "Weekday"), weekday),
    temperature.field,
    hour.field,
  );
  const enable = () => {
    weekday.disabled = hour.input.disabled = state.when === "now";
    temperature.input.disabled = again.disabled = !state.diversity;
  };
  enable();
  onChange(enable);
}

function range(name, label, min, max, step, shown) {
  const value = h("output", { class: "value", for: `context-${name}` }, shown(state[name]));
  const input = h("input", {
    id: `context-${name}`, type: "range", min, max, step, value: state[name],
    oninput: (event) => { value.textContent = shown(event.target.value); },
    onchange: (event) => change({ [name]: Number(event.target.value) }),
  });
  return { input, field: h("div", { class: "field" }, h("div", {}, h("label", { for: `context-${name}` }, label), value), input) };
}
