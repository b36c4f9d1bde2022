// Small helpers. Text always goes in as text: a mail is hostile input and never becomes markup of this page.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text nodes. */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export const person = (mailbox) => {
  if (!mailbox) return "(unknown)";
  return mailbox.Name ? `${mailbox.Name} <${mailbox.Address}>` : mailbox.Address || "<>";
};

/** For a list: the name alone, or else the address. */
export const shortly = (mailbox) => mailbox?.Name || person(mailbox);

export const people = (mailboxes) => mailboxes.map(person).join(", ");

export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** The time of day for today's mails, the date for others. */
export function when(iso) {
  const time = new Date(iso);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleDateString();
}
