// The shop page: puts its parts together. Each part knows one thing and tells the others by calls.

import { post } from "./api.js";
import { ChangePanel } from "./change.js";
import { Catalog } from "./catalog.js";
import { contextForm } from "./context.js";
import { byId } from "./dom.js";
import { EVENTS } from "./format.js";
import { Recommendations } from "./recommendations.js";
import { showSimilar } from "./similar.js";
import { onChange, state } from "./state.js";
import { tell, tellError } from "./status.js";
import { Trace } from "./trace.js";
import { Visitor } from "./visitor.js";
import { watch } from "./watch.js";
import { showWhy } from "./why.js";

async function act(item, eventType) {
  change.begin(recommendations.answer, visitor.topCategory, `${EVENTS[eventType]} ${item.title}`);
  try {
    await post("/v1/interactions", {
      user_id: state.user,
      item_id: item.item_id,
      event_type: eventType,
      device_type: state.device === "unknown" ? null : state.device,
      request_id: recommendations.shows(item.item_id) ? recommendations.answer.request_id : null,
    });
    tell(`Noted: ${EVENTS[eventType]} ${item.title}.`, "good");
    change.recorded();
  } catch (error) {
    change.cancel();
    tellError(error);
  }
}

const similar = ["Similar", (item) => showSimilar(item, act, why)];
const why = ["Why?", (item) => showWhy(item, recommendations.shows(item.item_id))];
const recommendations = new Recommendations(act, [similar, why]);
const visitor = new Visitor(() => reload());
const trace = new Trace(byId("trace"), byId("trace-toggle"), () => refresh(), (item) => showWhy(item, false));
const change = new ChangePanel(byId("change"), () => refresh());
const catalog = new Catalog(act, [similar, why]);

async function refresh() {
  const answer = await recommendations.load({ explain: trace.isOpen });
  if (answer) trace.draw(answer);
  return answer;
}

let stream = null;

// Another visitor: nothing of the one before may be compared with.
async function reload() {
  stream?.close();
  change.clear();
  stream = watch(state.user, {
    interactions: () => { visitor.load(); change.noticed(recommendations.answer, visitor.topCategory); },
    features: (features) => { visitor.load(); change.features(features, recommendations.answer); },
    missed: () => { visitor.load(); refresh(); },
  });
  await Promise.all([visitor.load(), refresh()]);
}

contextForm(byId("context"));
onChange((now, before) => (now.user === before.user ? (change.clear(), refresh()) : reload()));
catalog.start();
if (state.user) reload();
else visitor.random();
