/* A history, and a list of the next items of every domain. Outside text only ever becomes text
   nodes. What is shown is in the address: a link shows the same. */
import { ask, element, json, offerLogin, part } from "./service.js";

(() => {
  const WAIT_MS = 150; // after the last key of a search
  const SIMILAR = 6; // items per domain
  const EFFECTS = 6; // events of the history
  const MOST_UNDO = 50;
  const LONGEST_NAME = 90; // characters of a title in a line
  let now = { history: [], user: null, profile: null, edited: false };
  let past = []; // what `Undo` goes back to
  let places = new Map(); // item -> its rank in the answer before
  let domains = [];
  let limits = { max_history: 500 };
  let asked = 0; // answers may overtake each other; only the newest counts
  let chosen = 0; // a user that comes after a later action is not shown

  const query = (values) => new URLSearchParams(values).toString();
  const name = ({ domain, item_id }) => ({ domain, item_id });
  const key = (item) => JSON.stringify([item.domain, item.item_id]);
  const title = (item) => item.title || `(no title: ${item.item_id})`;
  const short = (text) => ([...text].length > LONGEST_NAME ? `${[...text].slice(0, LONGEST_NAME - 1).join("")}…` : text);
  const tag = (item) => element("span", item.domain, { class: "tag" });
  const counted = (number, word) => `${number.toLocaleString()} ${word}${number === 1 ? "" : "s"}`;
  const sentence = (text) => `${text.replace(/^./u, (first) => first.toUpperCase())}.`;
  const price = (item) => (typeof item.price === "number" ? item.price.toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 }) : "");

  function button(text, label, onClick, kind = "") {
    const made = element("button", text, { type: "button", class: kind });
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", onClick);
    return made;
  }

  function say(text, failed = false) {
    part("basis").textContent = text;
    part("basis").classList.toggle("failed", failed);
  }

  /* ---- the next items ---- */
  const sent = () => now.history.slice(-limits.max_history).map(name);

  async function answer(after = "", failed = false) {
    const mine = ++asked;
    part("lists").setAttribute("aria-busy", "true");
    try {
      const found = await json("recommendations", { history: sent(), k: Number(part("count").value) });
      if (mine === asked) show(found, after, failed);
    } catch (error) {
      if (mine === asked) say(`No answer: ${error.message}`, true);
    } finally {
      if (mine === asked) part("lists").setAttribute("aria-busy", "false");
    }
  }

  function show(found, after, failed) {
    const before = places;
    places = new Map(found.domains.flatMap((list) => list.items.map((item) => [key(item), item.rank])));
    const compared = after && before.size > 0;
    const moved = compared ? found.domains.flatMap((list) => list.items).filter((item) => before.get(key(item)) !== item.rank).length : 0;
    const basis = found.basis === "history" ? "Best first; open an item to see why it is recommended." : "Without a history, these are the most popular items.";
    const news = compared ? `${after}: ${moved ? `${counted(moved, "rank")} changed` : "no rank changed"}` : after;
    say(news ? `${news}. ${basis}` : basis, failed);
    const visited = new Set(now.history.map((item) => item.domain));
    const novelty = (list) => (visited.size && !visited.has(list.domain) ? (now.user ? "new to this user" : "no events yet") : "");
    part("jump").replaceChildren(...found.domains.map((list, number) => jump(list.domain, novelty(list), `shelf-${number}`)));
    part("lists").replaceChildren(
      ...found.domains.map((list, number) => {
        const heading = element("h3", `${list.domain} `, { id: `shelf-${number}` }, ...(novelty(list) ? [element("span", novelty(list), { class: "tag" })] : []));
        const shelf = element("ol", undefined, { class: "shelf", tabindex: "0", "aria-labelledby": `shelf-${number}` });
        shelf.append(...list.items.map((item) => {
          const made = card(item, `${item.rank}`);
          if (compared) mark(made, before.get(key(item)), item.rank);
          const cost = element("span", price(item), { class: "price" });
          const add = button("Add", `Add ${title(item)} to the history`, () => change([...now.history, item], `Added ${short(title(item))}`), "add");
          made.append(element("div", undefined, { class: "foot" }, cost, add));
          return made;
        }));
        const empty = list.items.length ? [] : [element("p", "No item is left to recommend.", { class: "quiet" })];
        return element("div", undefined, {}, heading, shelf, ...empty);
      }),
    );
  }

  function jump(domain, novelty, id) {
    const made = button(domain, `Go to ${domain}${novelty && `, ${novelty}`}`, () => {
      part(id).scrollIntoView();
      part(id).nextElementSibling.focus({ preventScroll: true });
    });
    if (novelty) made.append(" ", element("span", novelty, { class: "tag" }));
    return made;
  }

  function card(item, place) {
    const open = button(null, null, () => detail(item), "open");
    picture(item, open);
    open.append(element("span", place, { class: "place" }), element("span", title(item), { class: "title" }));
    if (item.brand) open.append(element("span", item.brand, { class: "more" }));
    const categories = item.categories || [];
    if (categories.length) open.append(element("span", categories[categories.length - 1], { class: "tag" }));
    return element("li", undefined, { class: "card" }, open);
  }

  /* Files of this service are fetched when they come near the window, so that the token is sent. */
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      load(target).catch(() => target.remove());
    }
  }, { rootMargin: "200px" });

  function picture(item, place) {
    if (!item.image) return;
    const image = element("img", undefined, { alt: "", class: "picture", referrerpolicy: "no-referrer" });
    image.addEventListener("error", () => image.remove());
    image.dataset.from = item.image;
    place.prepend(image);
    seen.observe(image);
  }

  async function load(image) {
    const from = image.dataset.from;
    if (from.startsWith("https:")) return image.setAttribute("src", from);
    const reply = await ask(from);
    if (!reply.ok) throw new Error(reply.statusText);
    image.src = URL.createObjectURL(await reply.blob());
    await image.decode();
    URL.revokeObjectURL(image.src);
  }

  function mark(made, before, rank) {
    if (before === rank) return;
    const kind = before === undefined ? "new" : before > rank ? "up" : "down";
    const text = { new: "new", up: `▲ ${before - rank}`, down: `▼ ${rank - before}` }[kind];
    const words = { new: "new here", up: `up from ${before}`, down: `down from ${before}` }[kind];
    made.classList.add("changed");
    made.querySelector(".place").append(element("span", text, { class: `moved ${kind}`, title: words }));
  }

  /* ---- one item ---- */
  async function detail(item) {
    const body = part("detail-body");
    part("detail-title").textContent = title(item);
    const facts = [item.brand, (item.categories || []).join(" › "), price(item) && `price ${price(item)}`].filter(Boolean);
    const about = element("p", undefined, { class: "quiet" }, tag(item), ` ${facts.join(" · ")}`);
    const why = element("div", undefined, { role: "status" });
    const near = element("div");
    const add = button("Add to the history", null, () => {
      part("detail").close();
      change([...now.history, item], `Added ${short(title(item))}`);
    });
    const head = element("div", undefined, { class: "head" }, element("div", undefined, {}, about, add));
    body.replaceChildren(head, why, near);
    picture(item, head);
    if (!part("detail").open) part("detail").showModal();
    body.parentElement.scrollTop = 0;
    await Promise.all([reasons(item, why), similar(item, near)].map((work) => work.catch((error) => why.append(element("p", error.message, { class: "failed" })))));
  }

  async function reasons(item, place) {
    if (!now.history.length) return;
    if (now.history.some((event) => key(event) === key(item)))
      return place.append(element("p", "This item is in the history, so it is not recommended.", { class: "quiet" }));
    const found = await json("effects", { history: sent(), item: name(item) });
    const size = ({ effect }) => Math.abs(effect);
    const all = found.effects.filter(size).sort((one, other) => size(other) - size(one));
    const shown = all.slice(0, EFFECTS).sort((one, other) => other.effect - one.effect);
    place.append(element("h3", `Why it has rank ${found.rank.toLocaleString()} in ${item.domain}`));
    if (!shown.length) return place.append(element("p", "None of the latest events changes its score.", { class: "quiet" }));
    const isMoved = shown.some((effect) => effect.rank_without !== found.rank);
    const said = [
      "A bar shows by how much an event of the history raises or lowers the item's score: the score with the event minus the score without it.",
      all.length > shown.length ? `These are the ${shown.length} largest effects of ${counted(all.length, "event")}.` : "",
      shown.some(({ effect }) => effect < 0) ? "Removing an event also changes the scores of other items." : "",
      isMoved ? "" : "Without any single one of them the rank stays the same.",
    ];
    const kinds = [["raises", "bar"], ["lowers", "bar against"]].filter(([, kind]) => shown.some((effect) => barOf(effect) === kind));
    const keys = kinds.map(([word, kind]) => element("li", undefined, {}, element("span", undefined, { class: kind }, element("i")), `${word} the score`));
    const rows = shown.map((effect) => {
      const bar = element("span", undefined, { class: barOf(effect) }, element("i"));
      bar.firstChild.style.width = `${(100 * size(effect)) / size(all[0])}%`;
      const rank = effect.rank_without === found.rank ? "same rank without it" : `rank ${effect.rank_without.toLocaleString()} without it`;
      const change = effect.effect.toLocaleString(undefined, { minimumSignificantDigits: 2, maximumSignificantDigits: 2, signDisplay: "always" }).replace("-", "−");
      const then = element("span", isMoved ? `${change}, ${rank}` : change, { class: "then" });
      return element("li", undefined, {}, element("span", short(title(effect)), { class: "name", title: title(effect) }, " ", tag(effect)), bar, then);
    });
    place.append(
      element("p", said.filter(Boolean).join(" "), { class: "quiet" }),
      element("ul", undefined, { class: "keys", "aria-label": "Colours of the bars" }, ...keys),
      element("ol", undefined, { class: isMoved ? "effects" : "effects brief" }, ...rows),
    );
  }

  const barOf = ({ effect }) => (effect < 0 ? "bar against" : "bar");

  async function similar(item, place) {
    const lists = await Promise.all(domains.map((within) => json(`similar?${query({ ...name(item), within, k: SIMILAR })}`)));
    place.append(...lists.flatMap((list, number) => {
      if (!list.similar.length) return [];
      const shelf = element("ol", undefined, { class: "shelf small", tabindex: "0", "aria-label": `Similar items of ${domains[number]}` });
      shelf.append(...list.similar.map((other) => card(other, `similarity ${other.score.toFixed(2)}`)));
      return [element("h3", `Similar items: ${domains[number]}`), shelf];
    }));
    const said = place.childElementCount ? "Similarity: cosine of the embeddings of the items' texts." : "Similarity: none, because the item has no text.";
    place.append(element("p", said, { class: "quiet" }));
  }

  part("detail-close").addEventListener("click", () => part("detail").close());
  part("detail").addEventListener("click", (event) => {
    if (event.target === part("detail")) part("detail").close(); // The backdrop.
  });

  /* ---- the history ---- */
  function change(history, after = "") {
    step({ ...now, history, edited: now.user !== null }, after);
  }

  function step(next, after = "") {
    past = [...past, now].slice(-MOST_UNDO);
    put(next, after);
  }

  function put(next, after = "", failed = false) {
    chosen += 1;
    now = next;
    const count = counted(now.history.length, "event");
    part("history-title").textContent = now.user
      ? `User ${now.user}${now.edited ? ", changed" : ""}: ${count}, newest first`
      : now.history.length ? `${count}, newest first` : "No history yet";
    offerUndo();
    part("back").hidden = !now.edited;
    part("clear").hidden = !now.history.length;
    part("profile").hidden = !now.user;
    part("hint").hidden = now.history.length > 0 || now.user !== null;
    part("profile").textContent = now.profile || "This user has no profile.";
    const author = now.profile && limits.profiles_by ? `Profile by ${limits.profiles_by}. ` : "";
    part("profile").append(element("small", `${author}Profiles are used in training only; the next items depend on the events.`));
    part("history").hidden = !now.history.length;
    part("history").replaceChildren(
      ...now.history.map((item, place) => [item, place]).reverse().map(([item, place]) => {
        const made = card(item, item.domain);
        const without = () => change(now.history.filter((_, other) => other !== place), `Removed ${short(title(item))}`);
        made.append(button("×", `Remove ${title(item)}`, without, "remove"));
        return made;
      }),
    );
    remember();
    answer(after, failed);
  }

  function remember() {
    const state = new URLSearchParams();
    if (now.user) state.set("user", now.user);
    if (now.edited || (!now.user && now.history.length))
      state.set("items", JSON.stringify(now.history.map((item) => [item.domain, item.item_id])));
    window.history.replaceState(null, "", `#${state}`);
  }

  function offerUndo() {
    const left = document.activeElement === part("undo") && !past.length;
    part("undo").hidden = !past.length;
    if (left) part("history-title").focus(); // A hidden button would lose the place of the keyboard.
  }

  function undo() {
    if (past.length) put(past.pop(), "Undone");
  }

  async function pick(id, history = null, after = "") {
    const mine = ++chosen;
    try {
      const user = await json(`users/${encodeURIComponent(id)}`);
      if (mine !== chosen) return;
      const isFocused = part("user-found").contains(document.activeElement);
      part("user-found").replaceChildren();
      part("user-search").value = "";
      places = new Map();
      step({ history: history || user.history, user: user.shown_as, profile: user.profile, edited: history !== null }, after);
      if (isFocused) part("history-title").focus(); // Its button is gone.
    } catch (error) {
      if (mine === chosen) say(`The user cannot be shown: ${error.message}`, true);
    }
  }

  async function anyone(only) {
    const mine = ++chosen;
    try {
      const found = await json(`users?${query({ any: true, limit: 1, ...(only && { only }) })}`);
      if (mine !== chosen) return;
      if (found.users.length) await pick(found.users[0]);
      else say(`No user is active only in ${only}.`);
    } catch (error) {
      if (mine === chosen) say(`No answer: ${error.message}`, true);
    }
  }

  part("undo").addEventListener("click", undo);
  part("back").addEventListener("click", () => pick(now.user));
  part("clear").addEventListener("click", () => step({ history: [], user: null, profile: null, edited: false }, "Cleared"));
  part("count").addEventListener("change", () => answer());
  part("any-user").addEventListener("click", () => anyone());
  document.addEventListener("keydown", (event) => {
    const writing = event.target.matches("input, select, textarea");
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !writing) {
      event.preventDefault();
      undo();
    }
  });

  /* ---- searches ---- */
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
        if (!found.length) list.append(element("li", "Nothing found.", { class: "quiet" }));
      } catch (error) {
        list.replaceChildren(element("li", error.message, { class: "failed" }));
      }
    }
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(search, WAIT_MS);
    });
    list.addEventListener("mousedown", (event) => event.preventDefault()); // The list shows while the input has the focus.
    list.parentElement.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !list.children.length) return;
      event.preventDefault();
      list.replaceChildren();
      input.focus();
    });
    return search;
  }

  const found = (label, onClick, ...inside) => {
    const made = button(label, null, onClick);
    made.append(...inside);
    return element("li", undefined, {}, made);
  };
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
    (item) => found(title(item), () => {
      part("item-search").focus();
      part("item-search").select();
      part("item-found").replaceChildren();
      change([...now.history, item], `Added ${short(title(item))}`);
    }, " ", tag(item)),
  );
  part("item-domain").addEventListener("change", searchItems);

  offerLogin();

  async function begin() {
    try {
      const health = await json("health");
      limits = health;
      domains = Object.keys(health.items);
      const items = Object.entries(health.items).map(([domain, count]) => `${counted(count, "item")} in \u2068${domain}\u2069`);
      part("about").textContent =
        `${counted(health.users, "user")}, ${items.join(", ")}. ` +
        `Release ${health.release}, made ${new Date(health.created).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}.`;
      part("notes").hidden = !health.notes.length;
      part("notes").textContent = health.notes.map(sentence).join(" ");
      part("item-domain").append(...domains.map((domain) => element("option", domain, { value: domain })));
      part("only").append(...domains.map((domain) => button(domain, `Random user only in ${domain}`, () => anyone(domain))));
    } catch (error) {
      part("about").textContent = `The service does not answer: ${error.message}`;
    }
    await restore();
    past = [];
    offerUndo();
  }

  async function restore() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const [items, lost] = await known(wanted.get("items"));
    const after = lost ? `${counted(lost, "item")} of the link ${lost === 1 ? "is" : "are"} not in this release` : "";
    if (wanted.get("user")) await pick(wanted.get("user"), items, after);
    if (now.user === null) {
      const why = part("basis").textContent || after;
      put({ history: items || [], user: null, profile: null, edited: false }, why, Boolean(why));
    }
  }

  /* The items of a link, with their titles, and how many of them are no longer here. */
  async function known(text) {
    let pairs;
    try {
      pairs = JSON.parse(text);
    } catch {
      return [null, 0];
    }
    if (!Array.isArray(pairs)) return [null, 0];
    pairs = pairs.slice(-limits.max_history);
    const all = await Promise.allSettled(
      pairs.filter(Array.isArray).map(([domain, item_id]) => json(`similar?${query({ domain, item_id, k: 1 })}`)),
    );
    const items = all.filter((each) => each.status === "fulfilled").map((each) => each.value.item);
    return [items, pairs.length - items.length];
  }
  begin();
})();
