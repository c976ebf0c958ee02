// Sends an image to /predict. What comes back is { file, answer } or { refusal }, a sentence; nothing is thrown.

const PREDICT = "predict?explain=robustness";

// For answers without a sentence of the service's own, as a proxy before it may give.
const WORDS = new Map([
  [401, "This service wants a token."],
  [413, "The file is too large."],
  [429, "Too many questions at once."],
  [502, "The service is not there."],
  [503, "The service is busy."],
  [504, "The service gave no answer in time."],
]);

export function ask(file) {
  return caught(() => predict(file));
}

/** Asks about an image that lies on the service. */
export function askSample(address) {
  return caught(async () => {
    const response = await fetch(address);
    return response.ok ? predict(await response.blob()) : { refusal: await refusal(response) };
  });
}

async function predict(file) {
  const form = new FormData();
  form.append("image", file, file.name || "image");
  const response = await fetch(PREDICT, { method: "POST", body: form });
  return response.ok ? { file, answer: await response.json() } : { refusal: await refusal(response) };
}

async function caught(question) {
  try {
    return await question();
  } catch {
    return { refusal: "The service could not be reached, or it broke off. Nothing was predicted." };
  }
}

async function refusal(response) {
  if (response.status === 401) return WORDS.get(401);
  const sentence = (await detail(response)) ?? WORDS.get(response.status) ?? `The service answered ${response.status}.`;
  const seconds = response.headers.get("Retry-After") ?? "";
  return /^\d+$/.test(seconds) ? `${sentence} Try again in ${seconds} s.` : sentence;
}

async function detail(response) {
  if (!(response.headers.get("Content-Type") ?? "").startsWith("application/problem+json")) return undefined;
  return (await response.json()).detail;
}
