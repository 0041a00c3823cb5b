// Small line plots as SVG.

import { h, svg } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [420, 150, 52, 10, 8, 24];

// Round numbers from low to high, about `wanted` of them.
export function ticksOf(low, high, wanted) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
}

// series: [{name, points: [[x, y], …]}], a missing y is null; x and y: how to write a number
export function plot({ title, now = "", series, x, y, fromZero = true, dots = false }) {
  const points = series.flatMap((one) => one.points.filter(([, value]) => value !== null));
  const heading = h("h3", {}, title, h("span", { class: "number muted" }, now));
  if (!points.length) return h("figure", { class: "plot" }, heading, h("p", { class: "small muted" }, "Nothing yet."));
  const [xLow, xHigh] = extent(points.map(([at]) => at));
  let [yLow, yHigh] = extent(points.map(([, value]) => value));
  if (fromZero) yLow = Math.min(yLow, 0);
  if (yHigh === yLow) yHigh = yLow + (Math.abs(yLow) || 1);
  else if (!fromZero) [yLow, yHigh] = [yLow - 0.08 * (yHigh - yLow), yHigh + 0.08 * (yHigh - yLow)];
  const px = (at) => LEFT + (xHigh > xLow ? (at - xLow) / (xHigh - xLow) : 0.5) * (WIDTH - LEFT - RIGHT);
  const py = (value) => TOP + (1 - (value - yLow) / (yHigh - yLow)) * (HEIGHT - TOP - BOTTOM);
  const image = svg("svg", { class: "lines", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": told(title, series, y) },
    ticksOf(yLow, yHigh, 5).map((value) => [
      svg("line", { class: "gridline", x1: LEFT, x2: WIDTH - RIGHT, y1: py(value), y2: py(value) }),
      svg("text", { class: "tick", x: LEFT - 6, y: py(value) + 4, "text-anchor": "end" }, y(value))]),
    [[xLow, "start"], ...(xHigh > xLow ? [[xHigh, "end"]] : [])].map(([at, anchor]) =>
      svg("text", { class: "tick", x: px(at), y: HEIGHT - 6, "text-anchor": xHigh > xLow ? anchor : "middle" }, x(at))),
    series.map((one, at) => [
      svg("path", { class: `line series-${at + 1}`, d: path(one.points, px, py) }),
      dots || one.points.filter(([, value]) => value !== null).length === 1
        ? one.points.filter(([, value]) => value !== null).map(([where, value]) =>
          svg("circle", { class: `series-${at + 1}`, cx: px(where), cy: py(value), r: 3.5 }, svg("title", {}, `${one.name}: ${y(value)}`)))
        : []]));
  const legend = series.length > 1
    ? h("figcaption", { class: "legend" }, series.map((one, at) =>
      h("span", {}, svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("rect", { class: `series-${at + 1}`, width: 12, height: 12, rx: 3 })), one.name)))
    : null;
  return h("figure", { class: "plot" }, heading, image, legend);
}

function extent(values) {
  return [Math.min(...values), Math.max(...values)];
}

// A gap where a value is missing.
function path(points, px, py) {
  let pen = false;
  return points.map(([at, value]) => {
    if (value === null) {
      pen = false;
      return "";
    }
    const step = `${pen ? "L" : "M"}${px(at).toFixed(1)},${py(value).toFixed(1)}`;
    pen = true;
    return step;
  }).join("");
}

function told(title, series, y) {
  const last = (one) => one.points.filter(([, value]) => value !== null).at(-1);
  const parts = series.filter(last).map((one) => `${one.name} ${y(last(one)[1])}`);
  return `${title}, latest: ${parts.join(", ")}`;
}
