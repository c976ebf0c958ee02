"use strict";
// Sends an image to /predict and shows the answer. Text goes in as text, never as markup.

const part = (id) => document.getElementById(id);
const SHOWN = 10;
let latest = 0;

async function send(file, truth) {
  const mine = ++latest;
  showPreview(file);
  const form = new FormData();
  form.append("image", file, file.name || "image.png");
  let answer;
  let refusal = "";
  try {
    const response = await fetch("predict", { method: "POST", body: form });
    answer = await response.json();
    refusal = response.ok ? "" : answer.detail;
  } catch {
    refusal = "The service cannot be reached.";
  }
  if (mine === latest) show(answer, refusal, truth);
}

function showPreview(file) {
  const preview = part("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
}

function show(answer, refusal, truth) {
  part("hint").hidden = true;
  part("verdict").hidden = refusal !== "";
  part("refusal").hidden = refusal === "";
  part("refusal").textContent = refusal;
  part("bars").replaceChildren(...(refusal ? [] : bars(answer.probabilities)));
  if (refusal) return;
  part("class").textContent = answer.class;
  part("truth").textContent = truth === null ? "" : `the label says ${truth}`;
}

function bars(probabilities) {
  const ranked = Object.entries(probabilities).sort((one, other) => other[1] - one[1]);
  return ranked.slice(0, SHOWN).map(([name, share], place) => bar(name, share, place === 0));
}

function bar(name, share, first) {
  const row = document.createElement("li");
  if (first) row.className = "first";
  row.append(cell("name", name), drawn(share), cell("value", `${(100 * share).toFixed(1)} %`));
  return row;
}

function cell(kind, text) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = text;
  span.title = text;
  return span;
}

function drawn(share) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const rect = document.createElementNS(space, "rect");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  rect.setAttribute("width", String(100 * share));
  rect.setAttribute("height", "10");
  svg.append(rect);
  return svg;
}

function press(chosen) {
  for (const button of document.querySelectorAll("[data-sample]")) {
    button.setAttribute("aria-pressed", String(button === chosen));
  }
}

function sendOwn(files) {
  if (files.length === 0) return;
  press(null);
  send(files[0], null);
}

part("file").addEventListener("change", (event) => {
  sendOwn(event.target.files);
  event.target.value = "";
});

for (const button of document.querySelectorAll("[data-sample]")) {
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", async () => {
    press(button);
    const response = await fetch(button.dataset.sample);
    send(await response.blob(), button.lastElementChild.textContent);
  });
}

const drop = part("drop");
for (const kind of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") sendOwn(event.dataTransfer.files);
  });
}

// The commands can be copied as they stand.
for (const node of part("routes-code").childNodes) {
  if (node.nodeType === Node.TEXT_NODE) node.data = node.data.replaceAll("ADDRESS", location.origin);
}
