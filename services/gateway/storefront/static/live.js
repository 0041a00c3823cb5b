// The gateway now, as small plots that grow by a sample a second.

import { byId, replace } from "./dom.js";
import { count, ms, percent } from "./format.js";
import { plot } from "./plot.js";

const KEPT = 180; // three minutes
const STAGES = ["features", "retrieval", "filter", "ranker", "total"];
const samples = [];

const source = new EventSource("/v1/live");
source.addEventListener("sample", (event) => {
  samples.push({ at: Date.now(), ...JSON.parse(event.data) });
  if (samples.length > KEPT) samples.shift();
  byId("live-state").textContent = "Once a second; figures over the last ten seconds.";
  if (!document.hidden) draw();
});
source.addEventListener("error", () => {
  byId("live-state").textContent = "The connection broke; the page tries again by itself.";
});
document.addEventListener("visibilitychange", () => !document.hidden && samples.length && draw());

function draw() {
  const last = samples.at(-1);
  const line = (name, of) => ({ name, points: samples.map((one) => [one.at, of(one) ?? null]) });
  const clock = (at) => `${Math.round((at - last.at) / 1000)} s`.replace("-", "−").replace(/^[−]?0 s$/, "now");
  const shown = (title, now, series, y) => plot({ title, now, series, x: clock, y });
  const rate = (value) => `${value < 10 ? value.toFixed(1) : count(Math.round(value))}/s`;
  const time = (value) => (value === null ? "–" : ms(value));
  const tracks = [...new Set(samples.flatMap((one) => Object.keys(one.tracks ?? {})))].sort();
  const quantile = (name) => STAGES.map((stage) => line(stage, (one) => one.stages[stage][name]));
  const degraded = Math.max(...Object.values(last.degraded).map((share) => share ?? 0));
  const clicks = (track) => (one) => one.tracks?.[track] && one.tracks[track].clicked / one.tracks[track].lists;
  replace(
    byId("plots"),
    shown("Requests", rate(last.lists_per_s), [line("lists", (one) => one.lists_per_s), line("everything", (one) => one.requests_per_s)], rate),
    shown("Time of a stage, p50", time(last.stages.total.p50_ms), quantile("p50_ms"), ms),
    shown("Time of a stage, p99", time(last.stages.total.p99_ms), quantile("p99_ms"), ms),
    shown("Lists in hand, waiting, refused", last.in_hand.toFixed(2), [line("in hand", (one) => one.in_hand), line("waiting", (one) => one.queue), line("refused a second", (one) => one.refused_per_s)], (value) => (value > 0 && value < 1 ? value.toFixed(3) : value.toFixed(1))),
    shown("Lists made without a stage", percent(degraded, 0), STAGES.slice(0, 4).map((stage) => line(stage, (one) => one.degraded[stage])), (value) => percent(value, 0)),
    shown("Events not handled yet", last.stream ? `${count(last.stream.waiting)}, oldest ${last.stream.seconds.toFixed(1)} s` : "store down",
      [line("oldest, seconds", (one) => one.stream?.seconds), line("waiting", (one) => one.stream?.waiting)], (value) => (value < 10 ? value.toFixed(1) : count(Math.round(value)))),
    shown("Latest lists with a click, by track", last.tracks ? tracks.map((track) => `${track} ${last.tracks[track]?.clicked ?? 0} of ${count(last.tracks[track]?.lists ?? 0)}`).join(", ") : "store down",
      tracks.map((track) => line(track, clicks(track))), (value) => percent(value, 0)),
  );
}
