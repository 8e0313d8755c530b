// Sends pictures to /judge, one after the other, and shows the answers. Every text from outside is set as text, never as HTML.
"use strict";

const byId = (id) => document.getElementById(id);
const percent = (p) => `${(100 * p).toFixed(1)}%`;
const signed = (value) => `${value < -0.005 ? "−" : value < 0.005 ? "" : "+"}${Math.abs(value).toFixed(2)}`;
const STOPPED = "no answer; is `page` still running?";
let about = null; // the detector: its limits, its name, its mean spectra

function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "class") element.className = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function draw(tag, options, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(options)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// --- one answer

function showScale(answer) {
  const { low, high } = about;
  const scale = make("div", {
    class: "scale",
    role: "img",
    "aria-label": `Probability that the picture is fake ${percent(answer.probability_fake)}; ` +
      (low < high ? `unsure between ${percent(low)} and ${percent(high)}` : `fake from ${percent(high)}`),
  });
  for (const [name, width, words] of [["r", low, "real"], ["u", high - low, "unsure"], ["f", 1 - high, "fake"]]) {
    const part = make("span", { class: name }, make("em", {}, words)); // hidden by page.css where it does not fit
    part.style.width = `${100 * width}%`;
    scale.append(part);
  }
  for (const p of Object.values(answer.checks)) {
    const stroke = make("i");
    stroke.style.left = `${100 * p}%`;
    scale.append(stroke);
  }
  const pointer = make("b");
  pointer.style.left = `${100 * answer.probability_fake}%`;
  scale.append(pointer);
  return scale;
}

function showProbability(answer) {
  const text = `probability that the picture is fake: ${percent(answer.probability_fake)}`;
  return [
    showScale(answer),
    make("div", { class: "ends" },
      make("span", {}, "0%"), make(answer.verdict === "unsure" ? "span" : "strong", {}, text), make("span", {}, "100%"))];
}

// A score that is not a probability is shown among the details only.
function showInvalidScore(answer) {
  return make("p", { class: "soft" }, `Score: ${percent(answer.probability_fake)}. ${about.score_note}`);
}

function showChecks(answer) {
  const checks = Object.entries(answer.checks).map(([name, p]) => `${name}: ${percent(p)}`);
  const crops = answer.crops > 1 ? ` Judged on ${answer.crops} crops; the figures show what decided for the middle one.` : "";
  if (!checks.length && !crops) return null;
  const what = answer.score_valid ? "Probability after a change (strokes on the scale)" : "Score after a change";
  const text = checks.length ? `${what}. ${checks.join("; ")}.` : "";
  return make("p", { class: "soft" }, `${text}${crops}`.trim());
}

function showDeclared(answer) {
  if (!answer.declared.length) return null;
  const items = answer.declared.map((one) =>
    make("li", {}, `${one.what}, in ${one.where}`, one.value ? make("span", { class: "value soft" }, `: ${one.value}`) : null));
  return make("div", { class: "declared" },
    make("h3", {}, "What the file declares"), make("ul", {}, ...items), make("p", { class: "soft" }, about.declared_note));
}

const WIDTH = 440, HEIGHT = 250, LEFT = 40, RIGHT = 8, TOP = 26, BOTTOM = 40;

function startPlot(label, highest, low, high) {
  const x = (value) => LEFT + (value / highest) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const value of [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7].filter((one) => one <= highest)) {
    svg.append(draw("line", { class: "axis", x1: x(value), x2: x(value), y1: TOP, y2: HEIGHT - BOTTOM }));
    if (Math.round(value * 10) % 2 === 0 || value === 0.5)
      svg.append(draw("text", { x: x(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, String(value)));
  }
  const words = "cycles per pixel: coarse to fine; above 0.5, diagonal";
  svg.append(draw("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, words));
  return { svg, x, y };
}

function addTicks(plot, low, high) {
  const power = 10 ** Math.floor(Math.log10((high - low) / 5));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => (high - low) / one <= 5);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  for (let value = Math.ceil(low / step) * step; value <= high + 1e-9; value += step)
    plot.svg.append(draw("text", { x: LEFT - 5, y: plot.y(value) + 4, "text-anchor": "end" }, (Math.abs(value) < step / 2 ? 0 : value).toFixed(digits)));
}

function drawSpectrum(answer) {
  const { frequencies, profile } = answer.explanation;
  const highest = answer.explanation.band_edges.at(-1);
  const classes = about.profiles === null ? [] : [["r", "real"], ["f", "fake"]];
  const edges = classes.flatMap(([, name]) => about.profiles.mean[name].flatMap((mean, at) => {
    const width = about.profiles.deviation[name][at];
    return [mean - width, mean + width];
  }));
  const low = Math.min(...profile, ...edges), high = Math.max(...profile, ...edges);
  const plot = startPlot("Spectrum of this picture beside the mean spectra of both classes", highest, low, high);
  addTicks(plot, low, high);
  const line = (at, values) => values.map((value, number) => `${plot.x(at[number]).toFixed(1)},${plot.y(value).toFixed(1)}`);
  for (const [short, name] of classes) {
    const mean = about.profiles.mean[name], width = about.profiles.deviation[name], at = about.profiles.frequencies;
    const upper = line(at, mean.map((value, number) => value + width[number]));
    const lower = line(at, mean.map((value, number) => value - width[number])).reverse();
    plot.svg.append(draw("polygon", { class: `spread ${short}`, points: [...upper, ...lower].join(" ") }));
    plot.svg.append(draw("polyline", { class: `curve ${short}`, points: line(at, mean).join(" ") }));
  }
  plot.svg.append(draw("polyline", { class: "curve own", points: line(frequencies, profile).join(" ") }));
  let at = LEFT;
  for (const [short, words] of [["own", "this picture"], ...classes]) {
    plot.svg.append(draw("rect", { class: `key-${short}`, x: at, y: 8, width: 14, height: 4 }));
    plot.svg.append(draw("text", { x: at + 19, y: 15 }, words));
    at += 19 + 7.6 * words.length + 14;
  }
  return make("figure", {}, make("h3", {}, "Spectrum: how strong each pattern is"), plot.svg);
}

function drawBands(answer) {
  const { band_edges: edges, bands } = answer.explanation;
  const low = Math.min(0, ...bands), high = Math.max(0, ...bands, low + 1e-3);
  const plot = startPlot("How much each band of frequencies indicates fake, or real", edges.at(-1), low, high);
  addTicks(plot, low, high);
  bands.forEach((value, number) => {
    const left = plot.x(edges[number]) + 1, right = plot.x(edges[number + 1]) - 1;
    const top = plot.y(Math.max(value, 0)), height = Math.abs(plot.y(value) - plot.y(0));
    plot.svg.append(draw("rect", { class: `bar ${value > 0 ? "f" : "r"}`, x: left, y: top, width: right - left, height }));
  });
  plot.svg.append(draw("line", { class: "zero", x1: LEFT, x2: WIDTH - RIGHT, y1: plot.y(0), y2: plot.y(0) }));
  let at = LEFT;
  for (const [short, words] of [["f", "for “fake”"], ["r", "for “real”"]]) {
    plot.svg.append(draw("rect", { class: `key-${short}`, x: at, y: 6, width: 10, height: 10 }));
    plot.svg.append(draw("text", { x: at + 15, y: 15 }, words));
    at += 150;
  }
  return make("figure", {}, make("h3", {}, "What decided the network’s score, in log-odds"), plot.svg);
}

function drawComb(answer) {
  const { map, title, frequencies } = answer.comb;
  const side = 250, left = 48, top = 10, at = (value, start) => start + (value / 0.5) * side;
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} 305`, role: "img", "aria-label": `Peaks in the spectrum of brightness; ${title}` });
  svg.append(draw("image", { class: "map", href: map, x: left, y: top, width: side, height: side }));
  for (const value of [0, 0.125, 0.25, 0.375, 0.5]) {
    svg.append(draw("text", { x: at(value, left), y: top + side + 18, "text-anchor": "middle" }, String(value)));
    svg.append(draw("text", { x: left - 6, y: at(value, top) + 4, "text-anchor": "end" }, String(value)));
  }
  svg.append(draw("text", { x: left + side / 2, y: top + side + 36, "text-anchor": "middle" }, "cycles per pixel, across and down"));
  for (const down of frequencies)
    for (const across of frequencies)
      if (down || across) svg.append(draw("circle", { class: "tooth", cx: at(across, left), cy: at(down, top), r: 6 }));
  return make("figure", {}, make("h3", {}, `Peaks in the spectrum of brightness (${title})`), svg);
}

function drawParts(answer) {
  const parts = Object.entries(answer.parts);
  const middle = 325, most = Math.max(0.1, ...parts.map(([, value]) => Math.abs(value))), height = 34;
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${height * parts.length + 10}`, role: "img", "aria-label": "How much each part of the detector indicates fake, or real" });
  parts.forEach(([name, value], number) => {
    const width = (Math.abs(value) / most) * 60, y = height * number + 6;
    svg.append(draw("text", { x: 0, y: y + 15 }, name));
    svg.append(draw("rect", { class: `bar ${value > 0 ? "f" : "r"}`, x: value > 0 ? middle : middle - width, y, width, height: 20 }));
    const end = value > 0 ? middle + width + 5 : middle - width - 5;
    svg.append(draw("text", { x: end, y: y + 15, "text-anchor": value > 0 ? "start" : "end" }, signed(value)));
  });
  svg.append(draw("line", { class: "zero", x1: middle, x2: middle, y1: 0, y2: height * parts.length }));
  return make("figure", {}, make("h3", {}, "What each part adds, in log-odds: left “real”, right “fake”"), svg);
}

function showKinds(answer) {
  if (answer.explanation === null) return null;
  const kinds = Object.entries(answer.explanation.kinds).map(([name, value]) => `${name} ${signed(value)}`);
  return make("p", { class: "soft" }, `Log-odds of the network by kind of plane, above 0 for “fake”: ${kinds.join(", ")}.`);
}

function showFigures(answer) {
  return make("details", {},
    make("summary", {}, "The figures behind this"),
    ...(answer.score_valid ? [] : [showInvalidScore(answer), showChecks(answer)]),
    make("p", { class: "soft" },
      "Log-odds are the natural logarithm of the odds of “fake” against “real”: 0 means 50%, +1 means 73%, " +
      `−1 means 27%.${Object.keys(answer.parts).length ? " The parts and a constant add up to the log-odds of this picture." : ""}`),
    make("div", { class: "plots" },
      ...(answer.comb === null ? [] : [drawComb(answer), drawParts(answer)]),
      ...(answer.explanation === null ? [] : [drawSpectrum(answer), drawBands(answer)])),
    showKinds(answer),
    make("p", { class: "soft value" },
      `SHA-256 of the file: ${answer.sha256}. Judged by version ${answer.version} of this program with the run ${answer.run}.`));
}

function showName(name, answer) {
  const size = answer ? ` · ${answer.width} × ${answer.height} pixels` : "";
  return make("p", { class: "name" }, make("bdi", {}, name), size);
}

function showAnswer(card, name, answer) {
  card.setAttribute("aria-label", `${name}: ${answer.title}`);
  card.className = answer.verdict;
  const words = make("div", {},
    showName(name, answer),
    make("h2", {}, answer.title),
    make("p", {}, answer.words),
    ...answer.remarks.map((text) => make("p", {}, `The file: ${text}.`)),
    ...answer.deciding.map((text) => make("p", {}, text)),
    ...(answer.score_valid ? [...showProbability(answer), showChecks(answer)] : []),
    showDeclared(answer));
  card.replaceChildren(
    make("div", { class: "head" }, make("img", { src: answer.thumbnail, alt: "" }), words),
    showFigures(answer));
}

function showFailure(card, name, reason) {
  card.setAttribute("aria-label", `${name}: cannot be judged`);
  card.className = "failed";
  card.replaceChildren(showName(name), make("h2", {}, "Cannot be judged"), make("p", { class: "value" }, reason));
}

// --- sending

const TRIES = 15; // while pictures of other people are judged
const queue = [];
let busy = false;

const say = (text) => { byId("status").textContent = text; };
const nameOf = (file) => file.name || "pasted picture";
const isolate = (name) => `\u2068${name}\u2069`; // letters written from right to left do not reorder the rest

function add(files, otherwise) {
  if (!files.length) {
    if (!busy) say(otherwise);
    return;
  }
  const cards = files.map((file) => make("article", { "aria-label": nameOf(file) }, showName(nameOf(file)), make("p", {}, "waiting …")));
  byId("results").prepend(...cards);
  files.forEach((file, number) => queue.push([file, cards[number]]));
  work();
}

async function work() {
  if (busy) return;
  busy = true;
  let failed = 0;
  const verdicts = [];
  while (queue.length) {
    const [file, card] = queue.shift();
    const name = nameOf(file);
    say(`Judging ${isolate(name)}${queue.length ? `, ${queue.length} more to come` : ""} …`);
    card.setAttribute("aria-busy", "true");
    try {
      const answer = await send(file);
      showAnswer(card, name, answer);
      verdicts.push(answer.verdict);
    } catch (error) {
      showFailure(card, name, error.message);
      failed += 1;
    }
    card.removeAttribute("aria-busy");
  }
  busy = false;
  say(summarise(verdicts, failed));
}

function summarise(verdicts, failed) {
  const counts = [[verdicts.length, "judged"], [failed, "cannot be judged"]].filter(([count]) => count);
  const kinds = [...new Set(verdicts)].map((word) => `${verdicts.filter((one) => one === word).length} ${word}`);
  const found = kinds.length ? ` Verdicts: ${kinds.join(", ")}.` : "";
  return `${counts.map(([count, words]) => `${count} ${words}`).join(", ")}.${found}`;
}

async function send(file) {
  if (about === null) await learn();
  const most = about.most_bytes;
  if (file.size > most) {
    const [bound, size] = [most, file.size].map((bytes) => `${Math.ceil(bytes / 2 ** 20)} MB`);
    throw new Error(`too large; expected at most ${bound}, got ${size}; \`predict\` judges larger files`);
  }
  const data = await read(file);
  for (let tries = 1; ; tries += 1) {
    const [response, answer] = await ask("/judge", { method: "POST", body: data, headers: { "content-type": "application/octet-stream" } });
    if (response.ok) return answer;
    if (response.status !== 503 || tries === TRIES) throw new Error(answer.error);
    await new Promise((resolve) => setTimeout(resolve, 1000 * (Number(response.headers.get("retry-after")) || 2)));
  }
}

async function read(file) {
  try {
    return await file.arrayBuffer();
  } catch {
    throw new Error("cannot be read; expected a picture file, got a folder, or a file that was moved or changed; choose it again");
  }
}

async function ask(address, options = {}) {
  try {
    const response = await fetch(address, options);
    return [response, await response.json()];
  } catch {
    about = null; // `page` may be started again with another run
    throw new Error(STOPPED);
  }
}

async function learn() {
  const [response, answer] = await ask("/about");
  if (!response.ok) throw new Error(answer.error);
  about = answer;
  byId("notice").hidden = about.notice === null;
  byId("notice").textContent = about.notice ?? "";
  const never = about.never === null ? "" : ` ${about.never[0].toUpperCase()}${about.never.slice(1)}.`;
  byId("caution").textContent = `${about.caution}${never}`;
  byId("run").textContent = `Detector: ${about.run}`;
}

byId("files").addEventListener("change", (event) => {
  add([...event.target.files]);
  event.target.value = "";
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.toggle("over", event.dataTransfer.types.includes("Files"));
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  add([...event.dataTransfer.files], "No picture file was dropped. A picture of a web page can be judged after you save it as a file.");
});
addEventListener("paste", (event) => add([...event.clipboardData.files], "The clipboard holds no picture."));
learn().catch((error) => say(error.message));
