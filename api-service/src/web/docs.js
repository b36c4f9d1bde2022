// The API reference: reads /openapi.json and shows it. Everything is built as DOM nodes, so no text of the
// document can become markup.
import { el, text } from "/docs/render.js";
import { operationSection, problemsSection, schemasSection, slug } from "/docs/render.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

function operations(document) {
  return Object.entries(document.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })));
}

function link(operation) {
  return el("li", {}, el("a", { href: `#${slug(operation)}`, title: operation.path },
    el("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()), operation.summary));
}

function show(document) {
  const all = operations(document);
  const nav = window.document.getElementById("nav");
  const main = window.document.getElementById("content");
  main.replaceChildren(
    el("h1", {}, document.info.title), ...text(document.info.description));
  main.append(...authentication());
  for (const tag of document.tags) {
    const tagged = all.filter((operation) => operation.tags?.includes(tag.name));
    nav.append(el("h2", {}, tag.name), el("ul", {}, ...tagged.map(link)));
    main.append(...tagged.map((operation) => operationSection(operation, document)));
  }
  nav.append(el("h2", {}, "Reference"), el("ul", {},
    el("li", {}, el("a", { href: "#schemas" }, "Schemas")), el("li", {}, el("a", { href: "#problems" }, "Problems"))));
  main.append(schemasSection(document), problemsSection(document));
  main.removeAttribute("aria-busy");
  window.document.getElementById("version").textContent = `v${document.info.version}`;
  // The target exists only now.
  window.document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

function authentication() {
  return [el("h4", {}, "Keys"), ...text(
    "Every request but health and these pages needs an API key: `Authorization: Bearer wr_…`. "
    + "Make one with `api-service key create --name NAME`. The examples read it from `$WARREN_API_KEY`.")];
}

function search(event) {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const item of document.querySelectorAll("#nav li")) {
    const where = `${item.textContent} ${item.firstChild.title}`.toLowerCase();
    item.hidden = !words.every((word) => where.includes(word));
  }
}

function theme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  const kept = localStorage.getItem("warren-theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem("warren-theme", root.dataset.theme);
    label();
  });
  label();
}

theme();
document.getElementById("search").addEventListener("input", search);
try {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  show(await answer.json());
} catch (error) {
  document.getElementById("content").replaceChildren(
    el("p", {}, `The API description could not be loaded (${error.message}). Reload the page to try again.`));
}
