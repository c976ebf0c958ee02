// Shows an answer of /predict, or a refusal. Text goes in as text, never as markup.

const SHOWN = 10;
const part = (id) => document.getElementById(id);

export function showWaiting() {
  showOnly("hint");
  part("hint").textContent = "Asking the model …";
  part("answer").setAttribute("aria-busy", "true");
}

export function showRefusal(sentence) {
  showOnly("refusal");
  part("refusal").textContent = sentence;
}

/** Shows the answer for `file`; `truth` is its label, or null where nobody knows. */
export function showAnswer(answer, file, truth) {
  URL.revokeObjectURL(part("preview").src);
  part("preview").src = URL.createObjectURL(file);
  part("class").textContent = answer.class;
  part("truth").textContent = remarks(answer, truth).join(", ");
  part("bars").replaceChildren(...bars(answer.probabilities));
  showOnly("given");
  showMeasured(answer.robustness);
  part("status").textContent = `The model says ${answer.class}, with a probability of ${percent(answer.probabilities[answer.class])}.`;
}

function showOnly(id) {
  for (const name of ["hint", "given", "measured"]) part(name).hidden = name !== id;
  for (const name of ["refusal", "status"]) part(name).textContent = "";
  part("answer").setAttribute("aria-busy", "false");
}

function remarks(answer, truth) {
  return [...(truth === null ? [] : [`the label says ${truth}`]), ...(answer.resized ? ["the image was resized"] : [])];
}

function bars(probabilities) {
  const ranked = Object.entries(probabilities).sort((one, other) => other[1] - one[1]);
  return ranked.slice(0, SHOWN).map(([name, share], place) => bar(name, share, place === 0));
}

function bar(name, share, first) {
  const row = element("li", first ? "first" : "");
  row.append(element("span", "name", name), filled(share), element("span", "value", percent(share)));
  return row;
}

function filled(share) {
  const svg = drawing("0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.append(shape("rect", { width: 100 * share, height: 10 }));
  return svg;
}

/** What was measured for the images of the class that was answered; nothing where the service did not say. */
function showMeasured(robustness) {
  part("measured").hidden = robustness === undefined;
  if (robustness === undefined) return;
  part("measured-class").textContent = robustness.class;
  part("measured-words").textContent = robustness.sentence;
  part("measured-rows").replaceChildren(...measuredRows(robustness));
}

function measuredRows({ clean, threats, reliable }) {
  const alarm = reliable ? [] : [["tag alarm", "unreliable"]];
  const attacked = threats.map((item) =>
    measuredRow(ball(item), item, [...(item.worst ? [["tag", "worst class"]] : []), ...alarm]),
  );
  return clean === null ? [] : [measuredRow("none", clean, []), ...attacked];
}

const ball = (threat) => (threat.norm === "linf" ? `l∞ ${threat.eps_255}/255` : `${threat.norm} ${threat.eps}`);

function measuredRow(title, share, tags) {
  const head = element("th", "");
  head.scope = "row";
  head.append(element("span", "short", title), " ", ...tags.flatMap(([kind, text]) => [element("span", kind, text), " "]));
  const said = element("td", "share");
  const [lower, upper] = share.interval;
  said.append(element("strong", "", percent(share.value)), " ");
  said.append(element("span", "count", `${share.correct}/${share.sampleSize}`));
  said.append(element("span", "detail", `${(100 * lower).toFixed(1)} to ${percent(upper)}`));
  const drawn = element("td", "strips");
  drawn.append(strip(share));
  const row = element("tr", "");
  row.append(head, said, drawn);
  return row;
}

/** A share with its interval on a line from 0 to 100 %. */
function strip({ value, interval: [lower, upper] }) {
  const place = (share) => 6 + 88 * share;
  const svg = drawing("0 0 100 12");
  svg.setAttribute("class", "strip");
  svg.append(
    shape("line", { class: "grid", x1: place(0), x2: place(1), y1: 6, y2: 6 }),
    shape("line", { class: "whisker wide served", x1: place(lower), x2: place(upper), y1: 6, y2: 6 }),
    shape("circle", { class: "fill mark served", cx: place(value), cy: 6, r: 4.5 }),
  );
  return svg;
}

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

function element(name, kind, text = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

/** An SVG that says nothing that the text beside it does not. */
function drawing(viewBox) {
  const svg = shape("svg", { viewBox });
  svg.setAttribute("aria-hidden", "true");
  return svg;
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
