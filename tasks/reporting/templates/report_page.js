/* Switches the colours of the item map, and marks the section that is read. */
(() => {
  "use strict";
  for (const button of document.querySelectorAll("button[data-colouring]")) {
    button.addEventListener("click", () => {
      const map = document.getElementById(button.getAttribute("aria-controls")).firstElementChild;
      map.dataset.colour = button.dataset.colouring;
      for (const other of button.parentElement.querySelectorAll("button"))
        other.setAttribute("aria-pressed", String(other === button));
    });
  }
  const links = new Map(
    [...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]),
  );
  const seen = new Set();
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) seen[entry.isIntersecting ? "add" : "delete"](entry.target.id);
      const first = [...links.keys()].find((id) => seen.has(id));
      for (const [id, link] of links)
        if (id === first) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
    },
    { rootMargin: "0px 0px -60% 0px" },
  );
  for (const id of links.keys()) watch.observe(document.getElementById(id));
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.printing = "";
    for (const closed of document.querySelectorAll("details:not([open])")) closed.open = true;
  });
  addEventListener("afterprint", () => delete document.documentElement.dataset.printing);
})();
