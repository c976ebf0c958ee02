// Takes an image that is chosen, dropped, pasted, or one of the samples.

import { showAnswer, showRefusal, showWaiting } from "./answer.js";
import { ask, askSample } from "./ask.js";

const drop = document.getElementById("drop");
const samples = document.querySelectorAll("[data-sample]");
let latest = 0;

/** Shows what comes of `question`, unless a later one was asked meanwhile. */
async function follow(question, truth) {
  const mine = ++latest;
  showWaiting();
  const { answer, file, refusal } = await question;
  if (mine !== latest) return;
  if (refusal === undefined) showAnswer(answer, file, truth);
  else showRefusal(refusal);
}

function take(files) {
  if (files.length === 0) return;
  press(null);
  follow(ask(files[0]), null);
}

function press(chosen) {
  for (const button of samples) button.setAttribute("aria-pressed", String(button === chosen));
}

press(null);
for (const button of samples) {
  button.addEventListener("click", () => {
    press(button);
    follow(askSample(button.dataset.sample), button.lastElementChild.textContent);
  });
}

document.getElementById("file").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = ""; // the same file may be chosen again
});

// Anywhere on the page: a browser would open a file that misses its target.
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
}

document.addEventListener("paste", (event) => take(event.clipboardData.files));

// The commands can be copied as they stand.
for (const node of document.getElementById("routes-code").childNodes) {
  if (node.nodeType === Node.TEXT_NODE) node.data = node.data.replaceAll("ADDRESS", location.origin);
}
