// The list of mails. Rows are kept by id, so that a refresh disturbs neither focus nor scroll position.

import { byId, element, shortly, when } from "./dom.js";

const rows = new Map();

function makeRow(mail) {
  const recipients = mail.To.length ? mail.To : mail.Bcc;
  const subject = mail.Subject || "(no subject)";
  const link = element(
    "a",
    { href: `#/message/${mail.ID}` },
    element("span", { class: "who" }, `${shortly(mail.From)} → ${recipients.map(shortly).join(", ")}`),
    element("span", { class: "when", title: new Date(mail.Created).toLocaleString() }, when(mail.Created)),
    element("span", { class: "what" }, subject),
    element("span", { class: "snippet" }, mail.Snippet || "\u00a0"),
  );
  return element("li", {}, link);
}

export function render(answer, query) {
  const list = byId("list");
  const shown = new Set();
  let before = list.firstChild;
  for (const mail of answer.messages) {
    const row = rows.get(mail.ID) ?? makeRow(mail);
    rows.set(mail.ID, row);
    shown.add(mail.ID);
    row.classList.toggle("unread", !mail.Read);
    if (row === before) before = before.nextSibling;
    else list.insertBefore(row, before);
  }
  for (const [id, row] of rows) {
    if (shown.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  byId("more").hidden = answer.count >= answer.messages_count;
  const empty = byId("empty");
  empty.hidden = answer.count > 0;
  empty.textContent = query ? "No mail matches." : "No mail yet. Send one to the SMTP address of this inbox.";
  report(
    query
      ? `${answer.messages_count} of ${answer.total} mails match`
      : `${answer.total} mails, ${answer.unread} unread`,
  );
  document.title = answer.unread ? `(${answer.unread}) Warren inbox` : "Warren inbox";
}

export function report(text, failed = false) {
  const status = byId("status");
  status.classList.toggle("failed", failed);
  if (status.textContent !== text) status.textContent = text;
}

/** Marks the open mail. */
export function choose(id) {
  for (const [key, row] of rows) {
    const link = row.firstChild;
    if (key === id) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
  rows.get(id)?.classList.remove("unread");
}

/** Moves the focus by so many rows, from the focused row or the open mail. */
export function move(by) {
  const links = [...byId("list").querySelectorAll("a")];
  const focused = links.indexOf(document.activeElement);
  const from = focused >= 0 ? focused : links.findIndex((link) => link.hasAttribute("aria-current"));
  links[Math.min(Math.max(from + by, 0), links.length - 1)]?.focus();
}
