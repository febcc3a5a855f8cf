/* The routes of the service from its own OpenAPI document, each with a form to try it. Loads nothing
   from elsewhere; text of the document and of answers only ever becomes text nodes. */
import { ask, element, json, offerLogin, part } from "./service.js";

(() => {
  const MOST_SHOWN = 20_000; // characters of an answer
  let schemas = {};
  let known = {}; // a user and an item of the service, for examples

  /* ---- schemas ---- */
  const lastOf = (reference) => reference.slice(reference.lastIndexOf("/") + 1);
  const whole = (schema) => (schema.$ref ? schemas[lastOf(schema.$ref)] : schema);
  const choices = (schema) => (schema.anyOf || []).filter((each) => each.type !== "null");

  function kind(schema) {
    if (schema.$ref) return lastOf(schema.$ref);
    if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    if (schema.type === "array") return `list of ${kind(schema.items || {})}`;
    return schema.type || "anything";
  }

  function bounds(schema) {
    const [one = {}] = choices(schema);
    const said = { minimum: "at least #", maximum: "at most #", minLength: "at least # characters", maxLength: "at most # characters", minItems: "at least # entries" };
    return Object.entries(said)
      .filter(([key]) => (schema[key] ?? one[key]) !== undefined)
      .filter(([key]) => key !== "minLength" || (schema[key] ?? one[key]) > 1)
      .map(([key, words]) => words.replace("#", (schema[key] ?? one[key]).toLocaleString()))
      .concat(schema.default === undefined || schema.default === null ? [] : [`${JSON.stringify(schema.default)} by default`])
      .join(", ");
  }

  function example(schema, name = "") {
    const of = whole(schema);
    if (name in known) return known[name];
    if (of.default !== undefined) return of.default;
    if (of.anyOf) return example(choices(of)[0], name);
    if (of.type === "array") return [example(of.items || {}, name)];
    if (of.type === "object")
      return Object.fromEntries(
        Object.entries(of.properties || {})
          .filter(([field, inner]) => (of.required || []).includes(field) || (field === "domain" && known.domain && inner))
          .map(([field, inner]) => [field, example(inner, field)]),
      );
    return of.type === "string" ? "" : of.type === "boolean" ? false : (of.minimum ?? 0);
  }

  /* Every field of a message, those of the messages in it behind a dot. */
  function fields(schema, before = "", seen = []) {
    const of = whole(schema);
    const named = schema.$ref ? [...seen, schema.$ref] : seen;
    if (of.type === "array") return fields(of.items || {}, before, named);
    return Object.entries(of.properties || {}).flatMap(([name, inner]) => {
      const path = before ? `${before}.${name}` : name;
      const below = inner.items || choices(inner)[0] || inner;
      const deeper = below.$ref && !named.includes(below.$ref) ? fields(below, path, named) : [];
      const needed = (of.required || []).includes(name);
      return [{ path, schema: inner, needed }, ...deeper];
    });
  }

  function table(caption, heads, rows) {
    const head = element("tr", undefined, {}, ...heads.map((text) => element("th", text, { scope: "col" })));
    const made = element("table", undefined, { class: "fields" });
    made.append(element("thead", undefined, {}, head), element("tbody", undefined, {}, ...rows));
    return element("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, made);
  }

  const about = (schema) => [bounds(schema), plain(schema.description)].filter(Boolean).join(". ");

  function shape(title, schema, route) {
    const rows = fields(schema).map(({ path, schema: inner, needed }) =>
      element("tr", undefined, {}, element("th", path, { scope: "row" }), element("td", kind(inner)), element("td", [needed ? "" : "optional", about(inner)].filter(Boolean).join("; "))),
    );
    const of = whole(schema);
    const said = of.description ? [element("p", plain(of.description), { class: "quiet" })] : [];
    return element("details", undefined, { class: "shape" }, element("summary", title), ...said, table(`${title}, ${route}`, ["Field", "Type", "About"], rows));
  }

  /* A description without the marks and line breaks of its source. */
  const plain = (text = "") => text.replaceAll(/[\s`]+/g, " ").replaceAll(/ ([,;:.])/g, "$1").trim();

  /* ---- one route ---- */
  function route(path, method, operation, number) {
    const does = plain(operation.description || operation.summary);
    const heading = element("h2", undefined, {}, element("span", method.toUpperCase(), { class: "method" }), path);
    const made = element("details", undefined, { class: "route" }, element("summary", undefined, {}, heading, element("span", does, { class: "does" })));
    const body = operation.requestBody?.content["application/json"].schema;
    const answer = operation.responses["200"]?.content?.["application/json"]?.schema;
    const inside = element("form", undefined, { class: "inside" });
    const inputs = (operation.parameters || []).map((parameter) => ({ parameter, input: field(parameter) }));
    if (inputs.length) {
      const rows = inputs.map(({ parameter, input }) =>
        element("tr", undefined, {}, element("th", parameter.name, { scope: "row" }), element("td", undefined, {}, input), element("td", kind(parameter.schema)), element("td", [parameter.required ? "" : "optional", about(parameter.schema)].filter(Boolean).join("; "))),
      );
      inside.append(table(`Parameters, ${method} ${path}`, ["Parameter", "Value", "Type", "About"], rows));
    }
    let area;
    if (body) {
      area = element("textarea", undefined, { id: `body-${number}`, spellcheck: "false" });
      area.value = JSON.stringify(example(body), null, 2);
      area.rows = area.value.split("\n").length;
      inside.append(element("label", "Body", { for: area.id }), area, shape("Fields of the body", body, `${method} ${path}`));
    }
    if (answer?.$ref) inside.append(shape("Fields of the answer", answer, `${method} ${path}`));
    const told = element("div", undefined, { role: "status" });
    inside.append(element("button", "Send", { type: "submit", "aria-label": `Send ${method.toUpperCase()} ${path}` }), told);
    inside.addEventListener("submit", (event) => {
      event.preventDefault();
      send(method, address(path, inputs), area?.value, told);
    });
    made.append(inside);
    return made;
  }

  function field(parameter) {
    const value = parameter.name in known && parameter.required ? known[parameter.name] : (parameter.schema.default ?? "");
    const input = element("input", undefined, { type: "text", autocomplete: "off", "aria-label": parameter.name });
    input.value = String(value);
    return input;
  }

  function address(path, inputs) {
    let filled = path.slice(1);
    const query = new URLSearchParams();
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") filled = filled.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.append(parameter.name, input.value);
    }
    return query.size ? `${filled}?${query}` : filled;
  }

  async function send(method, path, body, told) {
    told.replaceChildren(element("p", "Sent…", { class: "quiet" }));
    try {
      const given = body === undefined ? {} : { body, headers: { "Content-Type": "application/json" } };
      const reply = await ask(path, { method: method.toUpperCase(), ...given });
      let text = await reply.text();
      try {
        text = JSON.stringify(JSON.parse(text), null, 2);
      } catch {
        // An answer that is no JSON is shown as it came.
      }
      const cut = text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}\n… ${(text.length - MOST_SHOWN).toLocaleString()} characters more` : text;
      told.replaceChildren(element("p", `${reply.status} ${reply.statusText} from ${method.toUpperCase()} /${path}`, reply.ok ? {} : { class: "failed" }), element("pre", cut, { tabindex: "0", role: "region", "aria-label": "The answer" }));
    } catch (error) {
      told.replaceChildren(element("p", `No answer: ${error.message}`, { class: "failed" }));
    }
  }

  offerLogin();

  async function begin() {
    try {
      const described = await json("openapi.json");
      schemas = described.components?.schemas || {};
      const [items, users] = await Promise.all([json("items?limit=1"), json("users?limit=1")]);
      const [item] = items.items;
      known = { ...(item && { item_id: item.item_id, domain: item.domain }), ...(users.users.length && { user_id: users.users[0] }) };
      const routes = Object.entries(described.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => [path, method, operation]));
      part("routes").append(...routes.map((each, number) => route(...each, number)));
      part("about").textContent = `${described.info.title} ${described.info.version}: ${routes.length} routes. Open one to see its fields and to try it; requests go to this service only.`;
    } catch (error) {
      part("about").textContent = `The routes cannot be shown: ${error.message}`;
    }
  }
  begin();
})();
