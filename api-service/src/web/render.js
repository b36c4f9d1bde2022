// Builds the parts of the API reference from an OpenAPI 3.1 document.

/** An element with attributes and children; strings become text. */
export function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Paragraphs, with `code` between backticks: what our descriptions use of Markdown. */
export function text(markdown) {
  return (markdown ?? "").split(/\n{2,}/).filter(Boolean).map((paragraph) => el("p", {}, ...inline(paragraph)));
}

function inline(paragraph) {
  return paragraph.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

export const slug = (operation) => operation.operationId;

const nameOf = (reference) => reference.split("/").pop();

function resolve(node, root) {
  if (!node?.$ref) return node ?? {};
  return node.$ref.slice(2).split("/").reduce((at, key) => at?.[key], root) ?? {};
}

/** A type in words, e.g. "list of Task" or "string or null". */
function typeOf(schema, root) {
  if (!schema) return ["any"];
  if (schema.$ref) return [el("a", { href: `#schema-${nameOf(schema.$ref)}` }, nameOf(schema.$ref))];
  const either = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (either) return either.flatMap((one, index) => [...(index ? [" or "] : []), ...typeOf(one, root)]);
  const types = [schema.type ?? "any"].flat();
  return types.flatMap((type, index) => [
    ...(index ? [" or "] : []),
    ...(type === "array" ? ["list of ", ...typeOf(schema.items, root)] : [type]),
    ...(schema.format && type !== "null" ? [` (${schema.format})`] : []),
  ]);
}

function bounds(schema) {
  const words = [];
  if (schema.minimum !== undefined && schema.maximum !== undefined) words.push(`${schema.minimum} to ${schema.maximum}`);
  else if (schema.minimum !== undefined) words.push(`${schema.minimum} or more`);
  if (schema.enum) words.push(schema.enum.map((value) => `\`${value}\``).join(", "));
  return words.length ? [el("p", { class: "type" }, ...inline(words.join("; ")))] : [];
}

function row(name, schema, needed, description, root) {
  return el("tr", {},
    el("td", {}, el("code", {}, name), needed ? el("span", { class: "needed" }, "needed") : null),
    el("td", {}, el("span", { class: "type" }, ...typeOf(schema, root))),
    el("td", {}, ...text(description ?? schema?.description), ...bounds(schema ?? {})));
}

function table(rows) {
  const head = ["Name", "Type", "Meaning"].map((title) => el("th", { scope: "col" }, title));
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)));
}

function properties(schema, root) {
  const whole = resolve(schema, root);
  const rows = Object.entries(whole.properties ?? {}).map(([name, property]) =>
    row(name, property, whole.required?.includes(name), property.description, root));
  if (rows.length) return table(rows);
  return el("p", { class: "type" }, ...typeOf(whole, root), ...bounds(whole));
}

/** A value that fits the schema: its example where there is one. */
function sample(schema, root, depth = 0) {
  if (schema?.$ref) return depth > 6 ? {} : sample(resolve(schema, root), root, depth + 1);
  if (!schema) return null;
  if (schema.example !== undefined) return schema.example;
  if (schema.enum) return schema.enum[0];
  const either = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (either) return sample(either.find((one) => one.type !== "null"), root, depth + 1);
  const type = [schema.type].flat().find((one) => one !== "null");
  if (type === "object") {
    return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([key, one]) => [key, sample(one, root, depth + 1)]));
  }
  if (type === "array") return [sample(schema.items, root, depth + 1)];
  if (type === "integer" || type === "number") return schema.minimum ?? 0;
  if (type === "boolean") return false;
  if (schema.format === "uuid") return "01890000-0000-7000-8000-000000000001";
  if (schema.format === "date-time") return "2030-01-31T08:00:00.000Z";
  return "…";
}

function block(code) {
  const button = el("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return el("div", { class: "example" }, el("pre", { tabindex: "0" }, el("code", {}, code)), button);
}

/** The request as a command: needed fields, and those that have an example of their own. */
function curl(operation, root) {
  const isOpen = operation.security?.some((one) => !Object.keys(one).length);
  const path = operation.path.replace(/{(\w+)}/g, (_, name) => {
    const parameter = operation.parameters?.find((one) => one.name === name);
    return parameter?.example ?? sample(parameter?.schema, root);
  });
  const lines = [`curl ${location.origin}${path}`];
  if (!isOpen) lines.push('-H "Authorization: Bearer $WARREN_API_KEY"');
  const body = operation.requestBody?.content?.["application/json"];
  if (body) {
    const schema = resolve(body.schema, root);
    const wanted = Object.entries(schema.properties ?? {}).filter(([name, property]) =>
      schema.required?.includes(name) || (property.example !== undefined && name !== "from"));
    const value = Object.fromEntries(wanted.map(([name, property]) => [name, sample(property, root)]));
    lines.push('-H "Content-Type: application/json"', '-H "Idempotency-Key: $(uuidgen)"');
    lines.push(`-d '${JSON.stringify(value).replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n  ");
}

function responses(operation, root) {
  return Object.entries(operation.responses).map(([status, reference]) => {
    const response = resolve(reference, root);
    const [mediaType, content] = Object.entries(response.content ?? {})[0] ?? [];
    const quality = status.startsWith("2") ? "good" : "bad";
    const title = [el("span", { class: `status ${quality}` }, status === "default" ? "other" : status), ...inline(response.description)];
    const headers = Object.entries(response.headers ?? {}).map(([name, header]) =>
      row(name, header.schema, false, header.description, root));
    const isShown = quality === "good" && mediaType?.includes("json");
    return el("details", isShown ? { open: "" } : {}, el("summary", {}, ...title),
      mediaType ? el("p", { class: "type" }, mediaType, " · ", ...typeOf(content.schema, root)) : null,
      ...(headers.length ? [table(headers)] : []),
      isShown ? block(JSON.stringify(sample(content.schema, root), null, 2)) : null);
  });
}

export function operationSection(operation, root) {
  const isOpen = operation.security?.some((one) => !Object.keys(one).length);
  const section = el("section", { class: "operation", id: slug(operation) },
    el("h3", {}, operation.summary),
    el("div", { class: "address" }, el("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()),
      el("code", {}, operation.path), isOpen ? el("span", { class: "open" }, "needs no key") : null),
    ...text(operation.description));
  if (operation.parameters?.length) {
    section.append(el("h4", {}, "Parameters"), table(operation.parameters.map((one) =>
      row(one.name, one.schema, one.required, `${one.description ?? ""} (${one.in})`.trim(), root))));
  }
  const body = operation.requestBody?.content?.["application/json"];
  if (body) section.append(el("h4", {}, "Body"), ...text(resolve(body.schema, root).description), properties(body.schema, root));
  section.append(el("h4", {}, "Example"), block(curl(operation, root)));
  section.append(el("h4", {}, "Answers"), ...responses(operation, root));
  return section;
}

export function schemasSection(root) {
  const all = Object.entries(root.components?.schemas ?? {}).map(([name, schema]) =>
    el("details", { id: `schema-${name}` }, el("summary", {}, el("code", {}, name)), ...text(schema.description), properties(schema, root)));
  addEventListener("hashchange", openTarget);
  return el("section", { class: "operation", id: "schemas" }, el("h3", {}, "Schemas"), ...all);
}

/** A link to a schema opens it. */
function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

export function problemsSection(root) {
  const rows = (root["x-problems"] ?? []).map((problem) => el("tr", { id: problem.type.split("/").pop() },
    el("td", {}, el("a", { href: problem.type }, el("code", {}, problem.type.split("/").pop()))),
    el("td", {}, el("span", { class: "status bad" }, String(problem.status))),
    el("td", {}, el("p", {}, problem.title), ...text(problem.help))));
  const head = ["Problem", "Status", "Meaning"].map((title) => el("th", { scope: "col" }, title));
  return el("section", { class: "operation", id: "problems" }, el("h3", {}, "Problems"),
    ...text("Errors are `application/problem+json` (RFC 9457). `type` is the path of one of these; `errors` names fields, parameters and headers."),
    el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))));
}
