// Who looks: search, somebody by chance, somebody new; and what the shop knows of them.

import { get, remove } from "./api.js";
import { confirmed } from "./dialog.js";
import { byId, h, replace } from "./dom.js";
import { AUDIENCES, EVENTS, several } from "./format.js";
import { picture } from "./picture.js";
import { change, state } from "./state.js";
import { errorNotice, tell, tellError } from "./status.js";

const SEARCH_AFTER_MS = 200;
const GENDERS = { F: "woman", M: "man" };

export class Visitor {
  // reset(): the same visitor starts anew
  constructor(reset) {
    this.topCategory = null;
    this.reset = reset;
    const query = byId("visitor-query");
    let waiting = 0;
    query.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.search(query.value.trim()), SEARCH_AFTER_MS);
    });
    byId("visitor-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (query.value.trim()) this.choose(query.value.trim());
    });
    byId("visitor-random").addEventListener("click", () => this.random());
    byId("visitor-new").addEventListener("click", () => this.choose(`new-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`));
    byId("visitor-reset").addEventListener("click", () => this.resetHistory());
    byId("visitor-forget").addEventListener("click", () => this.forget());
  }

  choose(userId) {
    byId("visitor-query").value = "";
    replace(byId("visitor-found")).hidden = true;
    if (userId === state.user) return;
    change({ user: userId });
  }

  async random() {
    try {
      const { users } = await get("/v1/users", { limit: 5 });
      const other = users.find((user) => user.user_id !== state.user);
      if (!other) tell("The shop knows no visitors yet; a new one is taken.");
      this.choose(other ? other.user_id : "new-visitor");
    } catch (error) {
      tellError(error);
      if (!state.user) this.choose("new-visitor");
    }
  }

  async search(query) {
    const list = byId("visitor-found");
    if (!query) {
      list.hidden = true;
      return;
    }
    list.hidden = false;
    try {
      const { users, complete } = await get("/v1/users", { query, limit: 8 });
      const rows = users.map((user) =>
        h("li", {}, h("button", { type: "button", onclick: () => this.choose(user.user_id) },
          h("code", {}, user.user_id), h("span", { class: "small muted" }, describe(user).join(", ")))));
      if (!rows.length) {
        const why = complete ? "No visitor has this in the id" : "None found among those looked at";
        rows.push(h("li", { class: "small muted" }, `${why}; press Enter to look as “${query}”.`));
      }
      replace(list, rows);
    } catch (error) {
      replace(list, h("li", {}, errorNotice(error)));
    }
  }

  async load() {
    const user = state.user;
    try {
      const profile = await get(`/v1/users/${encodeURIComponent(user)}`);
      if (user !== state.user) return;
      this.topCategory = profile.features.top_category;
      replace(byId("visitor-card"), ...shown(profile));
    } catch (error) {
      replace(byId("visitor-card"), h("p", { class: "who" }, h("code", {}, user)), errorNotice(error));
    }
  }

  async resetHistory() {
    try {
      await remove(`/v1/users/${encodeURIComponent(state.user)}/history`);
      tell("History reset: every item may be shown again.", "good");
      await this.reset();
    } catch (error) {
      tellError(error);
    }
  }

  async forget() {
    const sentence = `All that is kept of ${state.user} is removed, in files too, and nothing of this id is recorded any more. It cannot be undone.`;
    if (!(await confirmed("Forget this visitor?", sentence, "Forget"))) return;
    try {
      const { removed, receipt } = await remove(`/v1/users/${encodeURIComponent(state.user)}`);
      const records = Object.values(removed).reduce((sum, one) => sum + one, 0);
      tell(`Forgotten: ${several(records, "record")} removed online; files follow (receipt ${receipt}).`, "good");
      await this.reset();
    } catch (error) {
      tellError(error);
    }
  }
}

function describe(features) {
  const facts = [];
  if (features.gender) facts.push(GENDERS[features.gender] ?? AUDIENCES[features.gender] ?? features.gender);
  if (features.age) facts.push(`${Math.round(features.age)} years`);
  if (features.top_category) facts.push(features.top_category);
  return facts;
}

function shown(profile) {
  const facts = describe({ ...profile.features, top_category: null });
  const top = profile.features.top_category;
  return [
    h("p", { class: "who" }, h("code", { id: "visitor-id" }, profile.user_id),
      ...(profile.known ? facts : ["a stranger"]).map((fact) => h("span", { class: "tag" }, fact)),
      h("span", { class: top ? "tag accent" : "tag", id: "visitor-top" }, top ? `top category: ${top}` : "no top category")),
    profile.recent.length
      ? h("ul", { class: "recent", "aria-label": "Latest interactions, newest first" },
        profile.recent.slice(0, 6).map((one) =>
          h("li", {}, picture({ ...one, title: one.title ?? one.item_id }, { className: "thumb" }),
            h("span", { class: "text" }, h("span", { class: "muted" }, EVENTS[one.event_type] ?? one.event_type), h("span", {}, one.title ?? one.item_id)))))
      : h("p", { class: "small muted" }, "No interactions in the last days."),
  ];
}
