// One mail: its facts and the views HTML, Text, Headers and Raw.

import * as api from "./api.js";
import { byId, element, people, person, size } from "./dom.js";

const VIEWS = ["html", "text", "headers", "raw"];
const tab = (view) => byId(`tab-${view}`);
const panel = (view) => byId(`panel-${view}`);

let current = null;
let wanted = null;
let preferred = "html";

/** Opens a mail; null closes. */
export async function open(id) {
  wanted = id;
  if (id && current?.ID === id) return;
  if (!id) {
    current = null;
    show(null);
    return;
  }
  const mail = await api.show(id);
  if (wanted !== id) return;
  current = mail;
  show(mail);
  byId("reader").focus({ preventScroll: true });
}

export const openId = () => current?.ID ?? null;

function show(mail) {
  byId("mail").hidden = !mail;
  byId("nothing").hidden = Boolean(mail);
  document.body.classList.toggle("reading", Boolean(mail));
  for (const view of VIEWS) panel(view).replaceChildren();
  if (!mail) return;
  byId("subject").textContent = mail.Subject || "(no subject)";
  facts(mail);
  attachments(mail);
  tab("html").disabled = !mail.HTML;
  tab("text").disabled = !mail.Text;
  const usable = [preferred, "html", "text", "headers"].find((view) => !tab(view).disabled);
  select(usable);
}

function facts(mail) {
  const { Envelope: envelope } = mail;
  const how = [envelope.TLS ? "TLS" : "no TLS", envelope.User && `user ${envelope.User}`, `${envelope.Helo} at ${envelope.Client}`];
  const entries = [
    ["From", person(mail.From)],
    ["To", people(mail.To)],
    ["Cc", people(mail.Cc)],
    ["Bcc", people(mail.Bcc)],
    ["Reply to", people(mail.ReplyTo)],
    ["Envelope", `<${envelope.From}> → ${envelope.To.join(", ")}`],
    ["Received", `${new Date(envelope.Received).toLocaleString()}, ${size(mail.Size)}`],
    ["By", how.filter(Boolean).join(", ")],
  ];
  const nodes = entries
    .filter(([, value]) => value)
    .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]);
  byId("facts").replaceChildren(...nodes);
}

function attachments(mail) {
  const all = [...mail.Attachments, ...mail.Inline];
  const items = all.map((part) => {
    const name = part.FileName || part.ContentType;
    const link = element("a", { href: api.partUrl(mail.ID, part.PartID), download: name }, `${name}, ${size(part.Size)}`);
    return element("li", {}, link);
  });
  byId("attachments").replaceChildren(...items);
  byId("attachments").hidden = items.length === 0;
}

/** Shows a view, and loads it when it is first wanted. */
async function select(view) {
  for (const other of VIEWS) {
    const chosen = other === view;
    tab(other).setAttribute("aria-selected", chosen);
    tab(other).tabIndex = chosen ? 0 : -1;
    panel(other).hidden = !chosen;
  }
  const mail = current;
  if (!mail || panel(view).childNodes.length) return;
  try {
    const nodes = await content(mail, view);
    if (current === mail) panel(view).replaceChildren(...nodes);
  } catch (error) {
    if (current === mail) panel(view).replaceChildren(`Can't be shown: ${error.message}`);
  }
}

async function content(mail, view) {
  if (view === "html") return [frame(mail)];
  if (view === "text") return [mail.Text];
  if (view === "raw") return [(await api.raw(mail.ID)) || "This inbox keeps no content (light mode)."];
  const entries = Object.entries(await api.headers(mail.ID));
  const line = ([name, values]) =>
    values.map((value) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)));
  return [element("table", {}, element("tbody", {}, ...entries.flatMap(line)))];
}

/** The mail's HTML in a frame without scripts, forms or our origin. Links open in a new window. */
function frame(mail) {
  let html = mail.HTML;
  for (const part of [...mail.Inline, ...mail.Attachments]) {
    if (part.ContentID) html = html.replaceAll(`cid:${part.ContentID}`, location.origin + api.partUrl(mail.ID, part.PartID));
  }
  const node = element("iframe", {
    title: "The mail's HTML",
    sandbox: "allow-popups allow-popups-to-escape-sandbox",
    referrerpolicy: "no-referrer",
  });
  node.srcdoc = `<!doctype html><meta charset="utf-8"><base target="_blank">${html}`;
  return node;
}

for (const view of VIEWS) {
  tab(view).addEventListener("click", () => {
    preferred = view;
    select(view);
  });
}

byId("mail").querySelector("[role=tablist]").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const tabs = VIEWS.map(tab).filter((candidate) => !candidate.disabled);
  const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
  next.focus();
  next.click();
});
