// The calls to the REST API.

const message = (id) => `/api/v1/message/${encodeURIComponent(id)}`;

async function call(path, options) {
  const response = await fetch(path, options);
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Error(problem.Error || `the inbox answered ${response.status}`);
}

export async function list(query, limit) {
  const parameters = new URLSearchParams({ start: 0, limit });
  if (query) parameters.set("query", query);
  return (await call(`/api/v1/${query ? "search" : "messages"}?${parameters}`)).json();
}

export const show = async (id) => (await call(message(id))).json();
export const headers = async (id) => (await call(`${message(id)}/headers`)).json();
export const raw = async (id) => (await call(`${message(id)}/raw`)).text();
export const partUrl = (id, part) => `${message(id)}/part/${encodeURIComponent(part)}`;

export function remove(ids = []) {
  return call("/api/v1/messages", {
    method: "DELETE",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ IDs: ids }),
  });
}
