// What no page may have, by eye and by ear. Returns sentences, one a fault.
() => {
  const faults = [];
  const seen = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
  const told = (element) => `${element.tagName.toLowerCase()}${element.id ? "#" + element.id : ""} "${(element.textContent || "").trim().slice(0, 40)}"`;
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push(`the page is ${root.scrollWidth} wide in a window of ${root.clientWidth}`);
  if (!root.lang) faults.push("the page has no language");
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  for (const part of ["main", "header", "nav"]) if (!document.querySelector(part)) faults.push(`no ${part}`);
  for (const image of document.querySelectorAll("img")) {
    if (!image.alt) faults.push(`a picture without text: ${image.src}`);
    if (image.complete && seen(image) && !image.naturalWidth) faults.push(`a picture that does not load: ${image.src}`);
  }
  for (const image of document.querySelectorAll("svg")) {
    if (image.getAttribute("aria-hidden") !== "true" && !(image.getAttribute("role") === "img" && image.getAttribute("aria-label")))
      faults.push("a drawing that is neither hidden nor named");
  }
  for (const control of document.querySelectorAll("button, input, select, a[href]")) {
    if (!seen(control)) continue;
    const name = control.getAttribute("aria-label") || (control.labels && [...control.labels].map((label) => label.textContent).join(" ")) || control.textContent;
    if (!name || !name.trim()) faults.push(`no name: ${told(control)}`);
    if (control.tagName === "BUTTON" && control.scrollWidth > control.clientWidth + 1) faults.push(`cut: ${told(control)}`);
  }
  // Siblings within one row of controls must not lie over each other.
  for (const group of document.querySelectorAll(".actions, .buttons, .panel-head, .segments, .pager, .pages, .filters, .controls")) {
    const boxes = [...group.children].filter(seen).map((child) => [child, child.getBoundingClientRect()]);
    boxes.forEach(([one, a], at) => boxes.slice(at + 1).forEach(([other, b]) => {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 1) faults.push(`${told(one)} lies over ${told(other)}`);
    }));
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  ids.filter((id, at) => ids.indexOf(id) !== at).forEach((id) => faults.push(`two elements are #${id}`));
  return [...new Set(faults)];
}
