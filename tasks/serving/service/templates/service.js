/* What the pages of the service share: requests with the token, its form, elements of text nodes. */
const TOKEN = "llm4cdsr-token"; // kept until the tab is closed

export const part = (id) => document.getElementById(id);

export async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const reply = await fetch(path, { ...options, headers });
  if (reply.status === 401) part("login").hidden = false;
  return reply;
}

export async function json(path, body) {
  const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await ask(path, sent);
  const content = await reply.json();
  if (!reply.ok) throw new Error(typeof content.detail === "string" ? content.detail : reply.statusText);
  return content;
}

export function element(name, text, attributes = {}, ...inside) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

export function offerLogin() {
  part("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, part("token").value.trim());
    location.reload();
  });
}
