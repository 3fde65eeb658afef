"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const $ = (id) => document.getElementById(id);
const state = { group: 0, left: 0, right: 0, zoom: 1, x: 50, y: 50 };
const stage = $("stage"), slider = $("slider");
const group = () => content.groups[state.group];
const picture = (side) => group().pictures[state[side]];

function make(tag, properties = {}, ...children) {
  const { data = {}, style = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, data);
  Object.assign(element.style, style);
  element.append(...children);
  return element;
}

// The two pictures and the divider between them.

function show(side, number) {
  state[side] = number;
  const { label, file, coarse } = picture(side);
  $(side).src = content.files[file];
  $(side).alt = label;
  $(side).classList.toggle("coarse", coarse);
  $(`choose-${side}`).value = number;
  describe();
}

function describe() {
  const different = stage.classList.contains("difference");
  const [left, right] = ["left", "right"].map((side) => picture(side).label);
  $("left-tag").textContent = different ? `|${left} − ${right}| × ${$("louder").value}` : left;
  $("right-tag").textContent = right;
  $("caption").textContent = picture("right").caption;
  const at = Number(slider.value);
  stage.style.setProperty("--at", `${at}%`);
  slider.setAttribute("aria-valuetext", `${left} ${Math.round(at)} %, ${right} ${Math.round(100 - at)} %`);
}

function swap() {
  const { left, right } = state;
  show("left", right);
  show("right", left);
}

function differ() {
  const on = stage.classList.toggle("difference");
  $("difference").setAttribute("aria-pressed", on);
  describe();
}

function zoom(factor = state.zoom < 8 ? 2 * state.zoom : 1) {
  state.zoom = factor;
  stage.style.setProperty("--zoom", factor);
  stage.classList.toggle("zoomed", factor > 1);
  $("zoom").textContent = `Zoom ${factor}×`;
}

function look(x, y) {
  [state.x, state.y] = [x, y].map((at) => Math.min(Math.max(at, 0), 100));
  stage.style.setProperty("--x", `${state.x}%`);
  stage.style.setProperty("--y", `${state.y}%`);
}

stage.addEventListener("pointermove", (event) => {
  const box = stage.getBoundingClientRect();
  look((100 * (event.clientX - box.left)) / box.width, (100 * (event.clientY - box.top)) / box.height);
});
slider.addEventListener("input", describe);
$("swap").addEventListener("click", swap);
$("difference").addEventListener("click", differ);
$("zoom").addEventListener("click", () => zoom());
$("louder").append(...[1, 4, 8, 16, 32, 64].map((times) => make("option", { value: times }, `× ${times}`)));
$("louder").value = 8;
$("louder").addEventListener("change", () => {
  stage.style.setProperty("--louder", $("louder").value);
  describe();
});
for (const side of ["left", "right"]) {
  $(`choose-${side}`).addEventListener("change", (event) => show(side, Number(event.target.value)));
}

// The table of figures.

function drawFigures() {
  const { columns, rows } = group();
  const bands = columns.filter(({ band }, i) => !i || band !== columns[i - 1].band).map(({ band }) => band);
  const spans = bands.map((band) => columns.filter((column) => column.band === band).length);
  const opens = columns.map(({ band }, i) => (i && band !== columns[i - 1].band ? "opens" : ""));
  const over = bands.map((band, i) => make("th", { colSpan: spans[i], scope: "colgroup", className: i ? "opens" : "" }, band));
  const heads = columns.map(({ name, better }, i) => make("th", { scope: "col", className: opens[i], title: better }, name));
  const body = rows.map(({ picture: number, cells }) => {
    const { key, label, detail } = group().pictures[number];
    const name = make("span", {}, label, make("small", {}, detail));
    const button = make("button", { type: "button", title: "Show on the right" }, make("kbd", {}, key), name);
    button.addEventListener("click", () => show("right", number));
    const values = cells.map((cell, i) => {
      const first = !i || opens[i];
      const data = { label: columns[i].name, ...(first ? { group: columns[i].band } : {}) };
      return make("td", { className: `${first ? "opens" : ""} ${cell === "–" ? "absent" : ""}`, data }, cell);
    });
    return make("tr", {}, make("th", { scope: "row" }, button), ...values);
  });
  const head = make("thead", {}, make("tr", {}, make("td"), ...over), make("tr", {}, make("td"), ...heads));
  $("figures").replaceChildren(head, make("tbody", {}, ...body));
}

// One strip for each run: a bar for each visit.

// In powers of ten: four at most, since nobody sees less than a ten thousandth of the worst.
function scaleOf(strips) {
  const powers = strips.flatMap(({ visits }) => visits.map(({ error }) => Math.log10(error))).filter(Number.isFinite);
  if (!powers.length) return null;
  const high = Math.max(...powers) + 0.1;
  return { low: Math.max(Math.min(...powers) - 0.2, high - 4), high };
}

function bar({ action, error }, scale) {
  const { low, high } = scale ?? {};
  const height = scale ? (error > 0 ? Math.max((100 * (Math.log10(error) - low)) / (high - low), 0) : 0) : 100;
  return make("i", { className: action, style: { height: `${height}%` } });
}

function gridLines({ low, high }) {
  const powers = Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, i) => Math.ceil(low) + i);
  const named = (power) => (power >= -2 ? `${100 * 10 ** power} %` : `${(100 * 10 ** power).toFixed(-power - 2)} %`);
  return powers.map((power) =>
    make("span", { className: "decade", style: { bottom: `${(100 * (power - low)) / (high - low)}%` } }, named(power)));
}

function axis(visits) {
  const count = Math.min(visits.length, innerWidth < 600 ? 4 : 7);
  const chosen = [...new Set(Array.from({ length: count }, (_, i) => Math.round((i * (visits.length - 1)) / Math.max(count - 1, 1))))];
  const at = (i) => (chosen.length > 1 ? `${(100 * (i + 0.5)) / visits.length}%` : "0");
  const text = (i, first) => (first ? `σ ${visits[i].sigma}` : visits[i].sigma);
  return make("div", { className: "axis" }, ...chosen.map((i, n) => make("span", { style: { left: at(i) } }, text(i, !n))));
}

function drawStrip({ label, detail, visits, flat }, scale) {
  const used = flat ? null : scale;
  const bars = visits.map((visit) => bar(visit, used));
  const reading = make("p", { className: "reading" });
  const pick = make("input", { type: "range", min: 0, max: visits.length - 1, ariaLabel: `Visits of ${detail}` });
  let pointed = null; // the bar under the pointer: the browser's own thumb would be elsewhere
  const read = (number) => {
    pick.value = number;
    bars.forEach((each, i) => each.classList.toggle("chosen", i === number));
    reading.textContent = visits[number].text;
    pick.setAttribute("aria-valuetext", visits[number].text);
  };
  const point = (event) => {
    const box = pick.getBoundingClientRect();
    const number = Math.floor((visits.length * (event.clientX - box.left)) / box.width);
    read((pointed = Math.min(Math.max(number, 0), visits.length - 1)));
  };
  for (const kind of ["pointermove", "pointerdown"]) pick.addEventListener(kind, point);
  pick.addEventListener("keydown", () => (pointed = null));
  pick.addEventListener("input", () => read(pointed ?? Number(pick.value)));
  const errors = visits.map(({ error }) => error ?? 0);
  read(errors.indexOf(Math.max(...errors)));
  const row = make("div", { className: `visits ${used ? "" : "flat"}` }, ...(used ? gridLines(used) : []), ...bars, pick);
  const head = make("h3", {}, label, make("small", {}, detail));
  return make("div", { className: "strip" }, head, row, axis(visits), reading);
}

function drawStrips() {
  const { strips, bars } = group();
  $("runs").hidden = !strips.length;
  $("bars-are").textContent = bars;
  const scale = scaleOf(strips.filter(({ flat }) => !flat));
  $("strips").classList.toggle("flat", !scale);
  $("strips").replaceChildren(...strips.map((strip) => drawStrip(strip, scale)));
}

// The page.

function open(number) {
  state.group = number;
  const { name, size, ratio, pictures, left, right } = group();
  $("name").textContent = name;
  $("size").textContent = size;
  stage.style.setProperty("--ratio", ratio);
  for (const side of ["left", "right"]) {
    $(`choose-${side}`).replaceChildren(...pictures.map(({ label, key }, i) => make("option", { value: i }, key ? `${label} (${key})` : label)));
  }
  Object.assign(state, { left, right });
  show("left", left);
  show("right", right);
  [...$("groups").children].forEach((button, i) => button.setAttribute("aria-current", i === number));
  const chosen = $("groups").children[number];
  if (chosen) $("groups").scrollLeft = chosen.offsetLeft - $("groups").offsetLeft - chosen.offsetWidth;
  drawFigures();
  drawStrips();
}

function move(by) {
  slider.value = Number(slider.value) + by;
  describe();
}

const actions = {
  d: differ,
  x: swap,
  z: () => zoom(),
  n: () => open((state.group + 1) % content.groups.length),
  p: () => open((state.group + content.groups.length - 1) % content.groups.length),
};

document.addEventListener("keydown", (event) => {
  const { target, key, shiftKey, code } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || target.tagName === "SELECT") return;
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (arrow && shiftKey && state.zoom > 1) {
    look(state.x + 10 * arrow[0], state.y + 10 * arrow[1]);
    event.preventDefault();
  } else if (arrow?.[0] && (target === slider || target.type !== "range")) {
    move(2 * arrow[0]);
    event.preventDefault();
  }
  const letter = code.startsWith("Digit") ? code.slice(5) : key.toLowerCase();
  const number = group().pictures.findIndex((each) => each.key === letter);
  if (number >= 0) show(shiftKey ? "left" : "right", number);
  else if (!shiftKey) actions[letter]?.();
});

$("summary").textContent = content.summary;
$("keys").append(...content.keys.flatMap(([key, does]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, does)]));
$("notes").append(...content.notes.map((note) => make("p", {}, note)));
if (content.groups.length > 1) {
  $("groups").hidden = false;
  $("groups").append(...content.groups.map(({ name, thumbnail }, i) => {
    const button = make("button", { type: "button" }, make("img", { src: thumbnail, alt: "" }), make("span", {}, name));
    button.addEventListener("click", () => open(i));
    return button;
  }));
}
open(0);
