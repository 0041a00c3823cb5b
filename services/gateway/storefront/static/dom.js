// Elements without a framework: h("p", {class: "muted"}, "text", another). Text is text, never HTML.

const SVG = "http://www.w3.org/2000/svg";

export const h = (tag, props = {}, ...children) => filled(document.createElement(tag), props, children);

export const svg = (tag, props = {}, ...children) => filled(document.createElementNS(SVG, tag), props, children);

// A part of a label for those who hear it: "Interested" alone says nothing among forty of them.
export const hidden = (text) => h("span", { class: "visually-hidden" }, text);

export const byId = (id) => document.getElementById(id);

export const replace = (element, ...children) => {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
};

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
