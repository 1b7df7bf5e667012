// The live page: asks for the gateway's status once a second and for pictures twice a second, while it can be seen.
"use strict";

const POLL_MS = 1000, PICTURE_MS = 500, ANSWER_MS = 4000, RETRY_MS = 1500;
const TROUBLES = {
  away: "the store cannot be reached, or is overloaded",
  refuses: "the store refuses one crop after another",
};
const cards = new Map();
let paused = false, lastAnswer = null, shownState = "";

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const number = (value) => Number(value).toLocaleString("en-GB");
const clock = (date) => date.toLocaleTimeString("en-GB");

function size(bytes) {
  for (const [unit, factor] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (bytes >= factor) return `${(bytes / factor).toFixed(bytes >= 100 * factor ? 0 : 1)} ${unit}`;
  }
  return `${Math.round(bytes)} B`;
}

function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

const words = (key) => key.replaceAll("_", " ");

// ---- tiles

function tile(title, big, lines, share) {
  const box = element("div", { class: "tile" }, element("h4", {}, title), element("div", { class: "big" }, big));
  if (share !== undefined) {
    const meter = element("meter", { min: 0, max: 1, high: 0.9, optimum: 0, value: Math.min(share, 1) });
    meter.setAttribute("aria-label", `${title}: ${Math.round(share * 100)} % used`);
    box.append(meter);
  }
  for (const [text, kind] of lines) if (text) box.append(element("p", { class: kind || "" }, text));
  return box;
}

function dropped(spool) {
  return Object.entries(spool).filter(([key]) => key.startsWith("dropped_") && !key.endsWith("_bytes"))
    .reduce((sum, [, value]) => sum + value, 0);
}

function tiles(status) {
  const spool = status.spool, uploads = status.uploads, rate = status.upload_rate, budget = status.budget;
  const found = [];
  found.push(tile("Spool", `${number(status.waiting)} waiting`, [
    [`${size(status.waiting_bytes)} of ${size(status.limit_bytes)}`],
    [typeof spool.oldest_s === "number" && status.waiting ? `oldest ${span(spool.oldest_s)}` : ""],
    [dropped(spool) ? `${number(dropped(spool))} dropped` : "", "bad"],
    [spool.times_full ? `found full: ${number(spool.times_full)}×` : "", "warn"],
    [spool.torn ? `${number(spool.torn)} damaged files set aside` : "", "warn"],
  ], status.limit_bytes ? status.waiting_bytes / status.limit_bytes : 0));
  found.push(tile("Upload", `${number(uploads.uploaded)} sent`, [
    [`${size(uploads.bytes_uploaded)}, now ${size(rate.bytes_per_s)}/s`],
    [uploads.trouble ? `${TROUBLES[uploads.trouble]}; crops wait` : "", "bad"],
    [uploads.retries ? `${number(uploads.retries)} attempts repeated` : ""],
    [uploads.refused ? `${number(uploads.refused)} refused` : "", "bad"],
  ]));
  if (budget) {
    const limits = [];
    if (budget.hour_limit_bytes) limits.push([`${size(budget.hour_bytes)} of ${size(budget.hour_limit_bytes)} this hour`]);
    if (budget.month_limit) limits.push([`${budget.month_spent.toFixed(2)} of ${budget.month_limit.toFixed(2)} this month`]);
    if (!limits.length) limits.push(["no limit is set"]);
    if (budget.held_back) limits.push([`${number(budget.held_back)} crops held back`, "warn"]);
    found.push(tile("Budget", limits[0][0] === "no limit is set" ? "–" : `${Math.round((budget.share || 0) * 100)} % used`,
      limits, limits[0][0] === "no limit is set" ? undefined : budget.share || 0));
  }
  const sum = (key) => status.cameras.reduce((total, camera) => total + (camera[key] || 0), 0);
  found.push(tile("Cameras", `${status.cameras.filter((c) => c.state === "running" && !c.error && !c.stuck).length} of ${status.cameras.length}`, [
    [`${number(sum("crops"))} crops, ${size(sum("bytes"))}`],
    [`${sum("worked_on_fps").toFixed(1)} frames worked on each second, ${sum("looked_at_fps").toFixed(1)} looked at`],
    [sum("lost") ? `${number(sum("lost"))} crops lost` : "", "bad"],
  ]));
  document.getElementById("tiles").replaceChildren(...found);
}

// ---- cameras

function cameraState(camera) {
  if (camera.stuck) return ["stuck", "bad"];
  if (camera.state === "failed") return ["failed", "bad"];
  if (camera.error) return ["no picture", "bad"];
  if (camera.picture && camera.picture !== "ok" && camera.picture !== "unknown") return [words(String(camera.picture)), "warn"];
  if (camera.state === "running") return ["running", "ok"];
  return [camera.state, "wait"];
}

function makeCard(index) {
  const image = element("img", { alt: "", hidden: "" });
  const none = element("span", { class: "none" }, "no picture yet");
  const picture = element("button", { type: "button", class: "picture", "aria-pressed": "false" }, image, none);
  const card = {
    index, image, none, picture, stopped: false, due: 0, loading: false,
    title: element("h3"), state: element("p", { class: "state" }), problem: element("p", { class: "problem", hidden: "" }),
    figures: element("dl", { class: "figures" }), share: element("div", { hidden: "" }), events: element("div", { hidden: "" }),
    all: element("dl"),
  };
  card.root = element("article", {},
    element("div", { class: "head" }, card.title, card.state), picture,
    element("div", { class: "body" }, card.problem, card.figures, card.share, card.events,
      element("details", {}, element("summary", {}, "All figures"), card.all)));
  picture.addEventListener("click", () => {
    const large = card.root.classList.toggle("large");
    picture.setAttribute("aria-pressed", String(large));
  });
  image.addEventListener("load", () => {
    card.loading = false; card.due = Date.now() + PICTURE_MS;
    image.hidden = false; none.hidden = true;
  });
  image.addEventListener("error", () => {
    card.loading = false; card.due = Date.now() + PICTURE_MS;
    image.hidden = true; none.hidden = false;
    none.textContent = card.stopped ? "this camera has ended" : card.problem.hidden ? "no picture yet" : "no picture";
  });
  document.getElementById("cameras").append(card.root);
  return card;
}

function rows(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]));
}

function usable(camera, box) {
  const causes = Object.entries(camera.unusable || {}).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]);
  const good = camera.usable, total = (good || 0) + causes.reduce((sum, [, count]) => sum + count, 0);
  box.hidden = typeof good !== "number" || total === 0;
  if (box.hidden) return;
  const shown = [["usable", good], ...causes.slice(0, 4)];
  const rest = causes.slice(4).reduce((sum, [, count]) => sum + count, 0);
  if (rest) shown.push(["other causes", rest]);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1000 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  let left = 0;
  shown.forEach(([, count], place) => {
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const width = 1000 * count / total;
    for (const [key, value] of Object.entries({ x: left, y: 0, width, height: 10, class: `s${place + 1}` })) part.setAttribute(key, value);
    svg.append(part);
    left += width;
  });
  box.replaceChildren(element("h4", {}, `Usable faces: ${Math.round(100 * good / total)} %`), element("div", { class: "bar" }, svg),
    element("ul", { class: "causes" }, ...shown.map(([name, count], place) =>
      element("li", {}, element("span", { class: `swatch s${place + 1}` }), `${words(name)} ${Math.round(100 * count / total)} %`))));
}

function events(camera, box) {
  const list = (camera.events || []).slice(-5).reverse();
  box.hidden = list.length === 0;
  if (box.hidden) return;
  box.replaceChildren(element("h4", {}, "Events"), element("ul", {}, ...list.map((event) => {
    const at = new Date(event.at || event.time);
    const phase = { begin: "", end: " is over", once: "" }[event.phase] ?? "";
    return element("li", {}, element("time", { datetime: event.at || "" }, Number.isNaN(at.valueOf()) ? "" : clock(at)),
      `${words(String(event.kind))}${phase}${event.detail ? `: ${event.detail}` : ""}`);
  })));
}

function show(card, camera) {
  const [text, kind] = cameraState(camera);
  card.stopped = camera.state !== "running";
  card.name = camera.camera;
  card.title.replaceChildren(camera.camera, " ", element("small", {}, camera.location === camera.camera ? "" : camera.location));
  card.picture.setAttribute("aria-label", `Enlarge the picture of ${camera.camera}`);
  card.image.alt = `What ${camera.camera} sees, with faces marked`;
  card.state.textContent = text;
  card.state.className = `state ${kind}`;
  card.problem.hidden = !camera.error;
  card.problem.textContent = camera.error || "";
  const pairs = [
    ["worked on", `${camera.worked_on_fps.toFixed(1)} fps`], ["looked at", `${camera.looked_at_fps.toFixed(1)} fps`],
    ["behind", number((camera.frames_without_look || {}).load || 0)], ["camera gives", `${camera.grabbed_fps.toFixed(1)} fps`],
    ["dropped", number(camera.frames_dropped)], ["faces", number(camera.detections)], ["tracks", number(camera.tracks)],
    ["crops", number(camera.crops)], ["size", size(camera.bytes)], ["reconnects", number(camera.reconnects)],
  ];
  card.figures.replaceChildren(...pairs.map(([key, value]) => element("div", {}, element("dt", {}, key), element("dd", {}, value))));
  usable(camera, card.share);
  events(camera, card.events);
  rows(card.all, Object.entries(camera).filter(([, value]) => ["number", "string", "boolean"].includes(typeof value))
    .map(([key, value]) => [words(key), typeof value === "number" ? number(value) : String(value)]));
}

// ---- state

function state(text, kind) {
  const told = document.getElementById("state");
  if (text !== shownState) told.textContent = shownState = text;  // a screen reader says what has changed
  told.className = `state ${kind}`;
}

function render(status) {
  tiles(status);
  status.cameras.forEach((camera, index) => {
    if (!cards.has(index)) cards.set(index, makeCard(index));
    show(cards.get(index), camera);
  });
  const troubles = status.cameras.filter((camera) => ["bad", "warn"].includes(cameraState(camera)[1])).length;
  if (!status.health.ok) state(status.health.problems.join("; "), "bad");
  else if (status.uploads.trouble) state(TROUBLES[status.uploads.trouble], "warn");
  else if (troubles) state(troubles === 1 ? "one camera needs a look" : `${troubles} cameras need a look`, "warn");
  else state("all is well", "ok");
  document.getElementById("foot").textContent =
    `facerelay ${status.version}, running for ${span(status.duration_s)}; gateway's clock ${status.now}`;
}

async function poll() {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), ANSWER_MS);
  let wait = POLL_MS;
  try {
    const answer = await fetch("/api/status", { signal: stop.signal, cache: "no-store" });
    if (answer.status === 401) { location.assign("/login"); return; }
    if (!answer.ok) throw new Error(String(answer.status));
    const status = await answer.json();
    lastAnswer = new Date();
    document.body.classList.remove("lost");
    render(status);
  } catch {
    wait = RETRY_MS;
    document.body.classList.add("lost");
    state(lastAnswer ? `no answer since ${clock(lastAnswer)}: the gateway has stopped, or cannot be reached` : "the gateway does not answer", "bad");
    for (const card of cards.values()) card.picture.classList.add("stale");
  } finally {
    clearTimeout(timer);
  }
  setTimeout(poll, wait);
}

function pictures() {
  const lost = document.body.classList.contains("lost");
  for (const card of cards.values()) {
    card.picture.classList.toggle("stale", lost || card.stopped);
    if (paused || lost || document.hidden || card.loading || card.stopped || Date.now() < card.due) continue;
    const place = card.picture.getBoundingClientRect();
    if (place.bottom < 0 || place.top > window.innerHeight) continue;
    card.loading = true;
    card.image.src = `/api/cameras/${card.index}/picture?n=${Date.now()}`;
  }
}

document.getElementById("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.currentTarget.setAttribute("aria-pressed", String(paused));
  event.currentTarget.textContent = paused ? "Show pictures" : "Pause pictures";
});
setInterval(pictures, 100);
poll();
