// Each candidate as a point: what retrieval thought of it against what the ranker does.

import { h, svg } from "./dom.js";
import { percent, several } from "./format.js";
import { ticksOf } from "./plot.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [460, 240, 46, 40, 10];
const KINDS = [["below", "ranked below"], ["met", "met before"], ["shown", "shown"]];

export function scatter(candidates) {
  const placed = candidates.filter((one) => one.retrieval_score !== null && (one.click_probability !== null || one.outcome === "met"));
  if (!placed.length) return h("p", { class: "muted" }, "Without scores of both stages there is nothing to plot.");
  const scores = placed.map((one) => one.retrieval_score);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const top = Math.max(...placed.map((one) => one.click_probability ?? 0), 0.01);
  const x = (score) => LEFT + ((score - low) / (high - low || 1)) * (WIDTH - LEFT - 12);
  const y = (probability) => TOP + (1 - probability / top) * (HEIGHT - TOP - BOTTOM);
  const point = (one) => svg("circle", { class: `dot-${one.outcome}`, cx: x(one.retrieval_score), cy: y(one.click_probability ?? 0), r: one.outcome === "shown" ? 5 : 3 },
    svg("title", {}, `${one.title ?? one.item_id}: ${one.click_probability === null ? "met before" : percent(one.click_probability)}`));
  const shown = placed.filter((one) => one.outcome === "shown").length;
  const image = svg("svg", { class: "scatter", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Retrieval score against click probability of ${several(placed.length, "candidate")}, ${shown} of them shown` },
    ticksOf(0, top, 4).map((value) => [
      svg("line", { class: "gridline", x1: LEFT, x2: WIDTH - 12, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, percent(value, 0))]),
    ticksOf(low, high, 4).map((value) =>
      svg("text", { class: "tick", x: x(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, value.toFixed(2))),
    svg("path", { class: "axis", d: `M${LEFT},${TOP}V${HEIGHT - BOTTOM}H${WIDTH - 12}` }),
    svg("text", { class: "tick", x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "retrieval score"),
    KINDS.map(([kind]) => placed.filter((one) => one.outcome === kind).map(point)));
  const legend = KINDS.map(([kind, text]) =>
    h("span", {}, svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("circle", { class: `dot-${kind}`, cx: 6, cy: 6, r: 5 })), text));
  return h("figure", {}, image, h("figcaption", { class: "legend" }, "Click probability by retrieval score:", legend));
}
