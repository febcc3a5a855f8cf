/* What the pages of the service share: requests with the token, its form, elements of text nodes. */
const TOKEN = "llm4cdsr-token"; // kept until the tab is closed

export const part = (id) => document.getElementById(id);

export async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const reply = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error("the service cannot be reached");
  });
  if (reply.status === 401) {
    part("login").hidden = false;
    part("refused").textContent = token ? "This token is not accepted." : "";
    document.querySelector("main").hidden = true;
  }
  return reply;
}

export async function json(path, body) {
  const sent = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const reply = await ask(path, sent);
  const content = await reply.json().catch(() => ({}));
  if (reply.status === 401) throw new Error("the service needs its token");
  if (!reply.ok) throw new Error(fault(content.detail) || `status ${reply.status} ${reply.statusText}`);
  return content;
}

function fault(detail) {
  return Array.isArray(detail) ? detail.map(({ loc, msg }) => `${loc.join(".")}: ${msg}`).join("; ") : detail;
}

export function element(name, text, attributes = {}, ...inside) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

/* A link sends no token: with one, what it leads to is fetched and saved as a file. */
function saveLinked() {
  for (const link of document.querySelectorAll("a[data-file]"))
    link.addEventListener("click", async (event) => {
      if (!sessionStorage.getItem(TOKEN)) return;
      event.preventDefault();
      const reply = await ask(link.getAttribute("href"));
      if (!reply.ok) return (part("about").textContent = `${link.textContent}: ${fault((await reply.json()).detail)}`);
      const saved = element("a", null, { href: URL.createObjectURL(await reply.blob()), download: link.dataset.file });
      saved.click();
      URL.revokeObjectURL(saved.href);
    });
}

export function offerLogin() {
  saveLinked();
  part("login").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, part("token").value.trim());
    location.reload();
  });
}
