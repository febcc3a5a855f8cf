/* A history on one side, what comes next in every domain on the other. Outside text only ever
   becomes text nodes. */
(() => {
  "use strict";
  const WAIT_MS = 150; // after the last key of a search
  const NEAR = 0.2; // cosine; what is further explains nothing
  const TOKEN = "llm4cdsr-token"; // kept until the tab is closed
  const part = (id) => document.getElementById(id);
  let history = [];
  let user = null; // whose history it is, until it is changed
  let limits = { max_history: 500 };
  let asked = 0; // answers may overtake each other; only the newest counts

  async function json(path, body) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = {
      ...(body && { "Content-Type": "application/json" }),
      ...(token && { Authorization: `Bearer ${token}` }),
    };
    const sent = body && { method: "POST", body: JSON.stringify(body) };
    const reply = await fetch(path, { headers, ...sent });
    if (reply.status === 401) part("login").hidden = false;
    const content = await reply.json();
    if (!reply.ok) throw new Error(typeof content.detail === "string" ? content.detail : reply.statusText);
    return content;
  }

  function element(name, text, attributes = {}) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  const title = (item) => item.title || `(no title: ${item.item_id})`;
  const tag = (item) => element("span", item.domain, { class: "tag" });

  function button(text, label, onClick, name = "") {
    const made = element("button", text, { type: "button", "aria-label": label, class: name });
    made.addEventListener("click", onClick);
    return made;
  }

  function say(text, failed = false) {
    part("basis").textContent = text;
    part("basis").classList.toggle("failed", failed);
  }

  async function answer() {
    const mine = ++asked;
    part("lists").setAttribute("aria-busy", "true");
    try {
      const sent = history.slice(-limits.max_history).map(({ domain, item_id }) => ({ domain, item_id }));
      const k = Number(part("count").value);
      const found = await json("recommendations", { history: sent, k, reasons: 2 });
      if (mine === asked) show(found);
    } catch (error) {
      if (mine === asked) say(`No answer: ${error.message}`, true);
    } finally {
      if (mine === asked) part("lists").setAttribute("aria-busy", "false");
    }
  }

  function show(found) {
    say(
      found.basis === "history"
        ? "Best first. Below an item: what in the history is nearest to it in meaning."
        : "Nothing in the history yet, so these are the most bought items.",
    );
    part("lists").replaceChildren(
      ...found.domains.map((domain) => {
        const column = element("div");
        const list = element("ol", undefined, { "aria-label": `Recommended in ${domain.domain}` });
        list.append(...domain.items.map(recommended));
        column.append(element("h3", domain.domain), list);
        if (!domain.items.length) column.append(element("p", "Nothing is left to recommend here.", { class: "quiet" }));
        return column;
      }),
    );
  }

  function recommended(item) {
    const row = element("li", title(item), { title: `score ${item.score}` });
    for (const reason of item.reasons.filter((near) => near.similarity >= NEAR))
      row.append(element("p", `near: ${title(reason)} (${Math.round(reason.similarity * 100)} %)`, { class: "why" }));
    row.append(button("+", `Add ${title(item)} to the history`, () => change([...history, item]), "add"));
    return row;
  }

  function change(next, owner = null, profile = null) {
    history = next;
    user = owner;
    part("history-title").textContent = user
      ? `User ${user}: ${history.length} events, newest first`
      : history.length
        ? `${history.length} events, newest first`
        : "No history yet";
    part("clear").hidden = !history.length;
    part("profile").hidden = !user;
    part("profile").textContent = profile || "No profile was written for this user: the events alone count.";
    part("history").replaceChildren(
      ...history.map((item, place) => [item, place]).reverse().map(([item, place]) => {
        const row = element("li");
        const name = element("span", `${title(item)} `);
        name.append(tag(item));
        const without = () => change(history.filter((_, other) => other !== place));
        row.append(name, button("×", `Remove ${title(item)}`, without));
        return row;
      }),
    );
    window.history.replaceState(null, "", user ? `#user=${encodeURIComponent(user)}` : "#");
    answer();
  }

  async function pick(id) {
    try {
      const card = await json(`users/${encodeURIComponent(id)}`);
      part("user-found").replaceChildren();
      part("user-search").value = id;
      change(card.history, id, card.profile);
    } catch (error) {
      say(`No such user: ${error.message}`, true);
    }
  }

  function searches(input, list, find, row) {
    let timer;
    let newest = 0;
    async function search() {
      const mine = ++newest;
      if (!input.value.trim()) return list.replaceChildren();
      try {
        const found = await find(input.value.trim());
        if (mine !== newest) return;
        list.replaceChildren(...found.map(row));
        if (!found.length) list.append(element("p", "Nothing found.", { class: "quiet" }));
      } catch (error) {
        list.replaceChildren(element("p", error.message, { class: "failed" }));
      }
    }
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(search, WAIT_MS);
    });
    return search;
  }

  function found(label, onClick) {
    const row = element("li");
    row.append(button(label, label, onClick));
    return row;
  }

  const query = (values) => new URLSearchParams(values).toString();
  searches(
    part("user-search"),
    part("user-found"),
    async (search) => (await json(`users?${query({ search, limit: 8 })}`)).users,
    (id) => found(id, () => pick(id)),
  );
  const searchItems = searches(
    part("item-search"),
    part("item-found"),
    async (search) => {
      const domain = part("item-domain").value;
      return (await json(`items?${query({ search, limit: 12, ...(domain && { domain }) })}`)).items;
    },
    (item) => {
      const row = found(title(item), () => change([...history, item]));
      row.firstChild.append(" ", tag(item));
      return row;
    },
  );
  part("item-domain").addEventListener("change", searchItems);
  part("count").addEventListener("change", answer);
  part("clear").addEventListener("click", () => change([]));
  part("any-user").addEventListener("click", async () => {
    try {
      pick((await json("users?any=true&limit=1")).users[0]);
    } catch (error) {
      say(`No answer: ${error.message}`, true);
    }
  });

  part("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, part("token").value.trim());
    location.reload();
  });

  async function begin() {
    try {
      const health = await json("health");
      limits = health;
      const items = Object.entries(health.items);
      part("about").textContent =
        `Release ${health.release}, made ${new Date(health.created).toLocaleString()}: ` +
        `${health.users.toLocaleString()} users, ` +
        items.map(([name, count]) => `${count.toLocaleString()} items of ${name}`).join(", ") + ".";
      part("notes").hidden = !health.notes.length;
      part("notes").textContent = health.notes.join("; ") + ".";
      part("item-domain").append(...items.map(([name]) => element("option", name, { value: name })));
    } catch (error) {
      part("about").textContent = `The service does not answer: ${error.message}`;
    }
    const wanted = new URLSearchParams(location.hash.slice(1)).get("user");
    if (wanted) pick(wanted);
    else change([]);
  }
  begin();
})();
