// Ties list and reader together. The address says which mail is open: #/message/<id>.

import * as api from "./api.js";
import { byId } from "./dom.js";
import * as list from "./list.js";
import * as reader from "./reader.js";

const PAGE = 50;
const REFRESH_MS = 2000;

let query = "";
let limit = PAGE;
let latest = 0;

async function refresh() {
  // Only the newest request may draw: a slow older answer would bring back an older state.
  const request = ++latest;
  try {
    const answer = await api.list(query, limit);
    if (request !== latest) return;
    list.render(answer, query);
    list.choose(reader.openId());
  } catch (error) {
    if (request === latest) list.report(`Can't read the inbox: ${error.message}`, true);
  }
}

async function route() {
  const id = location.hash.match(/^#\/message\/([\w-]+)$/)?.[1] ?? null;
  try {
    await reader.open(id);
  } catch (error) {
    await reader.open(null);
    list.report(`Can't open the mail: ${error.message}`, true);
  }
  list.choose(reader.openId());
}

function close() {
  const id = reader.openId();
  location.hash = "#/";
  if (id) byId("list").querySelector(`a[href="#/message/${id}"]`)?.focus();
}

function searchSoon() {
  clearTimeout(searchSoon.timer);
  searchSoon.timer = setTimeout(() => {
    query = byId("search").value.trim();
    limit = PAGE;
    refresh();
  }, 200);
}

async function remove(ids) {
  try {
    await api.remove(ids);
    close();
  } catch (error) {
    list.report(`Can't delete: ${error.message}`, true);
    return;
  }
  refresh();
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("confirm").open) return;
  if (event.target === byId("search")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const arrows = Boolean(event.target.closest?.("#list"));
  const actions = { "/": () => byId("search").focus(), j: () => list.move(1), k: () => list.move(-1), Escape: close };
  if (arrows) Object.assign(actions, { ArrowDown: actions.j, ArrowUp: actions.k });
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

byId("search").addEventListener("input", searchSoon);
byId("more").addEventListener("click", () => {
  limit += PAGE;
  refresh();
});
byId("back").addEventListener("click", close);
byId("delete-one").addEventListener("click", () => remove([reader.openId()]));
byId("delete-all").addEventListener("click", () => byId("confirm").showModal());
byId("confirm").addEventListener("close", () => {
  if (byId("confirm").returnValue === "delete") remove([]);
  byId("confirm").returnValue = "";
});
document.addEventListener("keydown", keys);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
window.addEventListener("hashchange", route);

// The next round starts after the last one's answer, so a slow inbox isn't asked faster than it answers.
async function refreshForever() {
  if (byId("refresh").checked && !document.hidden) await refresh();
  setTimeout(refreshForever, REFRESH_MS);
}

refreshForever().then(route);
