// The page at "/". Everything the service says is put in as text or as an attribute of an element made here, never as
// HTML; the content security policy forbids the rest. The key stays in this variable and is gone with the page.
"use strict";

const find = (id) => document.getElementById(id);
let key = "";
let wanted = null; // {user} or {history}: whom somebody asked for last, and the filter is for
let question = null; // the same of the list on the page, which is what gets explained
const titles = new Map(); // of the items seen so far, for histories that are pasted
let turn = 0; // answers to earlier questions are dropped,
let suggesting = 0; // suggestions for less of a name,
let reasonsTurn = 0; // and reasons that are not the last asked for, or belong to a list that is gone

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function draw(name, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== null) element.textContent = text;
  return element;
}

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const said = await answer.json();
  if (answer.headers.has("WWW-Authenticate")) find("door").hidden = false;
  if (!answer.ok) throw new Error(said.detail);
  return said;
}

// Runs one step of the conversation; what goes wrong is told in the status line.
async function tell(work) {
  find("told").textContent = "";
  try {
    await work();
  } catch (error) {
    find("told").textContent = error instanceof TypeError ? "The service does not answer." : error.message;
  }
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function rows(items, act, empty) {
  if (!items.length) return [make("li", {}, make("p", { class: "soft" }, empty))];
  return items.map((item) => {
    titles.set(item.id, item.title);
    const title = item.title === item.id ? item.id : `${item.title} (${item.id})`;
    const button = make("button", { type: "button" }, make("span", { class: "name" }, title));
    if (item.score !== undefined) button.append(make("span", { class: "number" }, item.score.toFixed(3)));
    button.addEventListener("click", () => act(item, button));
    return make("li", {}, button);
  });
}

function into(id, items, act, empty) {
  find(id).replaceChildren(...rows(items, act, empty));
}

function addToHistory(item) {
  const box = find("history");
  box.value = box.value.trim() ? `${box.value.trimEnd()}\n${item.id}` : item.id;
  box.focus();
}

async function show(asked) {
  const mine = ++turn;
  wanted = asked;
  let had, said;
  try {
    had = asked.user
      ? (await ask("/history", asked)).found
      : asked.history.map((id) => ({ id, title: titles.get(id) ?? id }));
    const body = asked.user ? { users: [asked.user] } : { history: asked.history };
    const where = find("where").value.trim();
    said = await ask("/recommend", where ? { ...body, where } : body);
  } catch (error) {
    if (mine === turn) throw error;
  }
  if (mine !== turn) return;
  question = asked;
  reasonsTurn++;
  find("version").textContent = `version ${said.version}`;
  into("had", had, addToHistory, "Nothing yet.");
  const best = said.lists[0].items.map((place) => ({ ...place, id: place.item }));
  into("list", best, explain, "Nothing is left that fits.");
  sayWhy("Choose a recommended item.");
}

function sayWhy(text) {
  find("reasons").replaceChildren(make("p", { class: "soft" }, text));
}

function turnToWhy() {
  find("why").focus({ preventScroll: window.innerWidth > 960 });
}

function explain(item, button) {
  for (const other of find("list").querySelectorAll("button")) other.setAttribute("aria-pressed", other === button);
  const mine = ++reasonsTurn;
  if (question.history?.length === 0) {
    sayWhy("Nothing is known of whom this is for, so the list is what most people take.");
    turnToWhy();
    return;
  }
  tell(async () => {
    const why = await ask("/explain", { ...question, item: item.id });
    if (mine !== reasonsTurn) return;
    const reasons = why.reasons.map((reason) => reasonOf(reason, why.words));
    if (!reasons.length) reasons.push(make("p", { class: "soft" }, "No single item of the history stands out."));
    find("reasons").replaceChildren(
      make("h3", {}, `${why.title}: ${why.score.toFixed(3)}`),
      barsOf(why.terms, why.words),
      ...reasons,
      ...why.paths.map(pathOf),
    );
    turnToWhy();
  });
}

// Drawings have the width of their place, so that their text is as large as the text around it.
const width = () => Math.max(280, Math.min(560, find("reasons").clientWidth));

// The largest terms as bars around a common zero, each under its words; its name shows where a mouse rests on them.
function barsOf(terms, words) {
  const largest = Object.entries(terms)
    .filter(([, value]) => value !== 0)
    .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))
    .slice(0, 10);
  const wide = width(), height = 40, to = wide - 58;
  const low = Math.min(0, ...largest.map(([, v]) => v)), high = Math.max(0, ...largest.map(([, v]) => v));
  const x = (value) => ((value - low) / (high - low || 1)) * to;
  const label = largest.map(([name, value]) => `${words[name]} ${value.toFixed(3)}`).join(", ");
  const chart = draw("svg", { viewBox: `0 0 ${wide} ${height * largest.length}`, role: "img", "aria-label": `Terms of the score: ${label}` });
  largest.forEach(([name, value], n) => {
    const y = n * height;
    const said = draw("text", { x: 0, y: y + 15 }, shortened(words[name], Math.floor(wide / 7.2)));
    said.append(draw("title", {}, name));
    const bar = { x: Math.min(x(0), x(value)), y: y + 23, width: Math.max(Math.abs(x(value) - x(0)), 1), height: 12 };
    chart.append(said, draw("rect", { ...bar, class: value < 0 ? "against" : "for" }));
    chart.append(draw("text", { x: wide, y: y + 33, "text-anchor": "end", class: "soft" }, value.toFixed(3)));
  });
  return chart;
}

function reasonOf(reason, words) {
  const part = make("div", { class: "reason" }, make("h3", {}, `because of ${reason.title}`));
  const said = `${words[reason.term]} ${reason.score >= 0 ? "+" : ""}${reason.score.toFixed(3)}`;
  part.append(make("p", { class: "soft", title: reason.term }, said));
  return part;
}

function pathOf(path) {
  const parameters = JSON.stringify(path.parameters);
  return make("div", { class: "reason" },
    make("h3", {}, path.sentence),
    wayOf(path),
    make("pre", {}, path.cypher), copyOf(path.cypher, "Copy the Cypher"),
    make("pre", {}, parameters), copyOf(parameters, "Copy its parameters"),
  );
}

function copyOf(text, what) {
  if (!navigator.clipboard) return ""; // only a safe page (HTTPS, or this machine) has one
  const button = make("button", { type: "button", class: "copy" }, what);
  button.addEventListener("click", () =>
    tell(async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    }),
  );
  return button;
}

// The way from the customer or a history item to the recommended one, top to bottom, so that long names have room.
function wayOf({ nodes: names, steps }) {
  const step = 52, x = 14, most = Math.floor(width() / 8), y = (node) => 16 + node * step;
  const height = y(names.length - 1) + 18;
  const label = steps.map((s) => `${names[s.source]} ${s.relation} ${names[s.target]}`).join("; ");
  const drawing = draw("svg", { viewBox: `0 0 ${width()} ${height}`, class: "way", role: "img", "aria-label": label });
  for (const { source, target, relation } of steps) {
    const down = target > source ? 1 : -1;
    const tip = y(target) - down * 8;
    drawing.append(draw("line", { x1: x, x2: x, y1: y(source) + down * 8, y2: tip }));
    drawing.append(draw("path", { d: `M ${x} ${tip} l -5 ${-down * 9} h 10 z` }));
    drawing.append(draw("text", { x: x + 16, y: (y(source) + y(target)) / 2 + 4, class: "soft" }, shortened(relation, most)));
  }
  names.forEach((name, n) => {
    const end = n === 0 || n === names.length - 1;
    drawing.append(draw("circle", { cx: x, cy: y(n), r: 7, class: end ? "end" : "" }));
    drawing.append(draw("text", { x: x + 16, y: y(n) + 5 }, shortened(name, most)));
  });
  return drawing;
}

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

function when(id, act) {
  find(id).addEventListener("submit", (event) => {
    event.preventDefault();
    tell(act);
  });
}

async function suggestUsers() {
  const mine = ++suggesting;
  const said = await ask("/search", { what: "users", text: find("user").value, n: 20 });
  if (mine !== suggesting) return;
  find("users").replaceChildren(...said.found.map(({ id }) => make("option", { value: id })));
}

when("door", async () => {
  key = find("key").value.trim();
  await suggestUsers();
  find("door").hidden = true;
});
when("customer", () => show({ user: find("user").value.trim() }));
when("pasted", () => show({ history: lines(find("history").value) }));
when("filter", async () => wanted && show(wanted));
when("search", async () => {
  const said = await ask("/search", { what: "items", text: find("text").value });
  into("found", said.found, addToHistory, "No such item.");
});
find("user").addEventListener("input", () => tell(suggestUsers));
tell(suggestUsers);
