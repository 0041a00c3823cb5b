// The map of the catalog: the item that is pointed at, or stepped to, with its picture and its title.
"use strict";
const data = document.getElementById("items");
if (data) {
  const items = JSON.parse(data.textContent);
  const [map, ring, step, picture, title, category] = ["map", "ring", "step", "item-picture", "item-title", "item-category"].map((id) => document.getElementById(id));
  const dots = [...map.querySelectorAll(".dot")].map((dot) => [Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy"))]);
  const NEAR = 0.12; // of the map's 2 by 2

  const show = (at) => {
    const [name, kind, image] = items[at];
    ring.setAttribute("cx", dots[at][0]);
    ring.setAttribute("cy", dots[at][1]);
    title.textContent = name;
    category.textContent = kind;
    picture.hidden = !image;
    picture.alt = image ? `Picture of ${name}` : "";
    if (image) picture.src = image;
    step.value = at;
    step.setAttribute("aria-valuetext", name);
  };

  const nearest = (event) => {
    const there = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    let found = -1;
    let least = NEAR * NEAR;
    dots.forEach(([x, y], at) => {
      const distance = (x - there.x) ** 2 + (y - there.y) ** 2;
      if (distance < least) [found, least] = [at, distance];
    });
    if (found >= 0) show(found);
  };

  map.addEventListener("pointermove", nearest);
  map.addEventListener("pointerdown", nearest);
  step.addEventListener("input", () => show(Number(step.value)));
  step.addEventListener("focus", () => show(Number(step.value)));
}
