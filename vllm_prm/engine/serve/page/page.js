"use strict";
// Asks /v1/prm/score and /v1/prm/prompts of the server that this page came from. The address may hold the texts:
// #q=QUESTION&i=ADDRESS OF AN IMAGE&s=SOLUTION&s=ANOTHER, and &run to score them at once.
(() => {
  const get = (id) => document.getElementById(id);
  let threshold = 0.5; // below it a step counts as wrong, as in first_error; the recipe may have another
  let key = sessionStorage.getItem("prm-key") ?? "";
  let images = []; // addresses and data URLs; they stand before the question's text
  let turn = 0; // a newer click makes the answers to an older one stale

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // Paths without a leading slash: the server may stand behind a prefix.
  async function ask(path, body) {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    const options = body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers };
    const answer = await fetch(path, options).catch(() => null);
    if (answer === null) throw new Error("the server does not answer; is it still running?");
    const said = await answer.json().catch(() => ({}));
    if (answer.ok) return said;
    if (answer.status === 401) {
      get("key").hidden = false;
      get("key-text").focus();
      throw new Error(key ? "the server does not know this API key" : "enter the server's API key above");
    }
    throw new Error(said.error?.message ?? `the server answered ${answer.status}`);
  }

  function say(text, wrong) {
    get("said").textContent = text;
    get("said").className = wrong ? "wrong" : "";
  }

  async function meet() {
    try {
      const served = await ask("v1/prm/recipe");
      const labels = served.labels.join(" or ");
      get("model").textContent = `${served.model}: recipe ${served.recipe.name}, reads ${labels} after each step`;
      get("aggregate").options[0].textContent = `the recipe's way (${served.aggregation})`;
      threshold = served.recipe.threshold ?? threshold;
      get("key").hidden = true;
      return true;
    } catch (error) {
      get("model").textContent = error.message;
      return false;
    }
  }

  // What all browsers show as pixels. An address is not opened: it is the server's to fetch, by its own rules.
  const isShown = (url) => /^data:image\/(png|jpeg|gif|webp);base64,/.test(url);

  function showImages() {
    const boxes = images.map((url, index) => {
      const box = element("span");
      const name = `image ${index + 1}`;
      if (isShown(url)) {
        const picture = element("img");
        picture.src = url;
        picture.alt = name;
        box.append(picture);
      } else box.append(url.startsWith("data:") ? name : `${name}: ${url}`);
      const drop = element("button", "", "remove");
      drop.type = "button";
      drop.addEventListener("click", () => {
        images.splice(index, 1);
        showImages();
      });
      box.append(drop);
      return box;
    });
    get("images").replaceChildren(...boxes);
  }

  function addAddress() {
    const url = get("image-url").value.trim();
    if (!url) return;
    images.push(url);
    get("image-url").value = "";
    showImages();
  }

  function dataUrl(file) {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.addEventListener("load", () => resolve(reader.result));
      reader.addEventListener("error", () => reject(reader.error));
      reader.readAsDataURL(file);
    });
  }

  async function addFiles(files) {
    try {
      images.push(...(await Promise.all(Array.from(files, dataUrl))));
      showImages();
    } catch (error) {
      say(`this file cannot be read: ${error.message}`, true);
    }
  }

  // The question as /v1/prm/score takes it: a text, or a chat message's content parts.
  function asked() {
    const text = get("question").value;
    if (!images.length) return text;
    const parts = images.map((url) => ({ type: "image_url", image_url: { url } }));
    return text ? [...parts, { type: "text", text }] : parts;
  }

  function texts() {
    return Array.from(get("candidates").querySelectorAll("textarea"), (field) => field.value);
  }

  function add(text = "") {
    const box = element("div", "candidate");
    const field = element("textarea");
    field.value = text;
    field.rows = 5;
    field.spellcheck = false;
    field.dir = "auto";
    field.placeholder = "a step a line, or steps between blank lines";
    const name = element("label");
    const drop = element("button", "", "remove");
    drop.type = "button";
    drop.addEventListener("click", () => {
      box.remove();
      number();
    });
    box.append(name, drop, field);
    get("candidates").append(box);
    number();
    return field;
  }

  function number() {
    const boxes = Array.from(get("candidates").children);
    boxes.forEach((box, index) => {
      const [name, drop, field] = box.children;
      name.textContent = boxes.length === 1 ? "Solution" : `Solution ${index + 1}`;
      name.htmlFor = field.id = `solution-${index}`;
      drop.hidden = boxes.length === 1;
    });
  }

  function tint(cell, score) {
    const low = score < threshold;
    const reach = low ? threshold : 1 - threshold;
    cell.classList.add(low ? "low" : "high");
    cell.style.setProperty("--t", reach > 0 ? Math.min(1, Math.abs(score - threshold) / reach).toFixed(2) : "1");
    return cell;
  }

  function card(name) {
    const box = element("details", "solution");
    box.open = true;
    const summary = element("summary");
    summary.append(element("span", "total", "…"), element("span", "name", name));
    box.append(summary);
    return box;
  }

  function show(box, answer, read) {
    const summary = box.firstElementChild;
    summary.firstElementChild.textContent = answer.score.toFixed(3);
    box.dataset.score = answer.score;
    if (answer.first_error === null) summary.append(element("span", "badge clean", "no error"));
    else summary.append(element("b", "badge first", `first error: step ${answer.first_error + 1}`));
    const strip = element("span", "strip");
    strip.ariaHidden = "true";
    strip.append(...answer.step_scores.map((score) => tint(element("i", "cell"), score)));
    const cached = `${answer.num_cached_tokens} of ${answer.num_prompt_tokens} tokens from the cache`;
    summary.append(element("span", "tag", cached), strip);
    const steps = element("ol", "steps");
    read.steps.forEach((text, index) => {
      const score = answer.step_scores[index];
      const line = tint(element("li"), score);
      const words = element("span", "text");
      words.dir = "auto";
      if (index === answer.first_error) words.append(element("b", "badge first", "first error"), " ");
      words.append(text);
      line.append(element("span", "score", score.toFixed(3)), words);
      steps.append(line);
    });
    box.append(steps, reads(read.prompts));
  }

  function reads(prompts) {
    const box = element("details", "reads");
    box.append(element("summary", "", "What the model reads, and where its scores are read"));
    box.addEventListener("toggle", () => {
      if (box.open && box.children.length === 1) box.append(...prompts.map(tokens)); // many, so made when looked at
    });
    return box;
  }

  function tokens(prompt) {
    const box = element("div", "prompt");
    const positions = new Set(prompt.positions);
    prompt.tokens.forEach((text, index) => {
      const token = element(positions.has(index) ? "mark" : "span", "", text);
      token.title = `token ${prompt.token_ids[index]}, position ${index}`;
      box.append(token);
    });
    return box;
  }

  function refuse(box, error) {
    box.firstElementChild.firstElementChild.textContent = "-";
    box.firstElementChild.append(element("b", "badge none", "not scored"));
    box.append(element("p", "error", error.message));
  }

  async function scoreOne(box, question, solution, aggregate) {
    const read = await ask("v1/prm/prompts", { question, solution });
    const body = { question, steps: read.steps, ...(aggregate && { aggregate }) };
    const answer = await ask("v1/prm/score", body);
    return () => show(box, answer.data[0], read);
  }

  async function score() {
    const mine = ++turn;
    const question = asked();
    const solutions = texts();
    const boxes = solutions.map((_, index) => card(solutions.length === 1 ? "Solution" : `Solution ${index + 1}`));
    get("answers").replaceChildren(...boxes);
    get("score").disabled = true;
    say("scoring …");
    const start = performance.now();
    await Promise.all(
      boxes.map((box, index) =>
        scoreOne(box, question, solutions[index], get("aggregate").value).then(
          (shown) => mine === turn && shown(),
          (error) => mine === turn && refuse(box, error),
        ),
      ),
    );
    if (mine !== turn) return;
    get("score").disabled = false;
    rank(boxes);
    const scored = boxes.filter((box) => box.dataset.score !== undefined).length;
    const seconds = ((performance.now() - start) / 1000).toFixed(2);
    say(`${scored} of ${boxes.length} scored in ${seconds} s`, scored < boxes.length);
    document.body.dataset.done = mine;
  }

  // Best first; what has no score stands last, in the order given.
  function rank(boxes) {
    const value = (box) => (box.dataset.score === undefined ? -Infinity : Number(box.dataset.score));
    const sorted = boxes.map((box, index) => ({ box, index })).sort((a, b) => value(b.box) - value(a.box) || a.index - b.index);
    if (boxes.length > 1 && value(sorted[0].box) > -Infinity) {
      sorted[0].box.querySelector(".name").after(element("b", "badge best", "best"));
    }
    get("answers").append(...sorted.map((entry) => entry.box));
  }

  function address() {
    const seen = images.filter((url) => !url.startsWith("data:")).map((url) => ["i", url]); // files are too long
    const words = new URLSearchParams([["q", get("question").value], ...seen, ...texts().map((text) => ["s", text])]);
    return `${location.origin}${location.pathname}#${words}&run`;
  }

  async function start() {
    const words = new URLSearchParams(location.hash.slice(1));
    get("question").value = words.get("q") ?? "";
    images = words.getAll("i");
    showImages();
    get("candidates").replaceChildren();
    const given = words.getAll("s");
    (given.length ? given : [""]).forEach((text) => add(text));
    if ((await meet()) && words.has("run")) await score();
  }

  get("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    score();
  });
  get("ask").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) score();
  });
  get("add-image").addEventListener("click", addAddress);
  get("image-url").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault(); // else it would score
    addAddress();
  });
  get("image-files").addEventListener("change", async (event) => {
    await addFiles(event.target.files);
    event.target.value = ""; // so that the same file can be chosen again
  });
  get("question").addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) addFiles(event.clipboardData.files);
  });
  get("add").addEventListener("click", () => add().focus());
  get("link").addEventListener("click", async () => {
    history.replaceState(null, "", address());
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    const files = images.some((url) => url.startsWith("data:")) ? ", without the image files" : "";
    say(`the address of this page now holds these texts${files}`);
  });
  get("key").addEventListener("submit", async (event) => {
    event.preventDefault();
    key = get("key-text").value;
    sessionStorage.setItem("prm-key", key);
    if (await meet()) say("");
  });
  window.addEventListener("hashchange", start);
  start();
})();
