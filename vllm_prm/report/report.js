"use strict";
// Sorts and filters the solutions that stand in the page. The address keeps the choice: #sort=score&order=asc&q=text
(() => {
  const get = (id) => document.getElementById(id);
  const main = get("solutions");
  const solutions = Array.from(main.children);
  const texts = new Map(solutions.map((solution) => [solution, solution.textContent.toLowerCase()]));
  const fields = { sort: get("sort"), order: get("order"), show: get("show"), q: get("query") };
  const start = { sort: "given", order: "asc", show: "all", q: "" };

  const keys = {
    given: (data) => Number(data.index),
    score: (data) => (data.score === "" ? null : Number(data.score)),
    error: (data) => (data.error === "" ? null : Number(data.error)),
    length: (data) => Number(data.length),
  };
  const filters = {
    all: () => true,
    error: (data) => data.error !== "",
    clean: (data) => data.error === "" && data.score !== "",
    missed: (data) => data.missed === "1",
    unscored: (data) => data.score === "",
  };

  function apply() {
    const key = keys[fields.sort.value];
    const sign = fields.order.value === "desc" ? -1 : 1;
    const sorted = solutions
      .map((solution) => ({ solution, value: key(solution.dataset), index: Number(solution.dataset.index) }))
      .sort((a, b) => {
        // What has no value (no scores, no error) stands last in either order; equal ones in the order given.
        if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.index - b.index;
        return sign * (a.value - b.value) || a.index - b.index;
      });
    main.append(...sorted.map((entry) => entry.solution));

    const words = fields.q.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const solution of solutions) {
      const fits = filters[fields.show.value](solution.dataset) && words.every((word) => texts.get(solution).includes(word));
      solution.hidden = !fits;
      count += fits;
    }
    get("nothing").hidden = count > 0;
    get("count").textContent = count === solutions.length ? `${count} solutions` : `${count} of ${solutions.length} solutions`;
    label();
  }

  function visible() {
    return solutions.filter((solution) => !solution.hidden);
  }

  function label() {
    get("toggle").textContent = visible().some((solution) => !solution.open) ? "Open all" : "Close all";
  }

  function read() {
    const address = new URLSearchParams(location.hash.slice(1));
    for (const [name, field] of Object.entries(fields)) {
      field.value = address.get(name) ?? start[name];
      if (field.selectedIndex === -1) field.value = start[name]; // no such choice
    }
    apply();
  }

  function changed() {
    const address = new URLSearchParams();
    for (const [name, field] of Object.entries(fields)) if (field.value !== start[name]) address.set(name, field.value);
    history.replaceState(null, "", address.size ? `#${address}` : location.pathname + location.search);
    apply();
  }

  let timer = 0;
  for (const field of [fields.sort, fields.order, fields.show]) field.addEventListener("change", changed);
  fields.q.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(changed, 120); // ms: not at every key when there are thousands of solutions
  });
  get("controls").addEventListener("submit", (event) => event.preventDefault());
  get("toggle").addEventListener("click", () => {
    const open = visible().some((solution) => !solution.open);
    for (const solution of visible()) solution.open = open;
    label();
  });
  main.addEventListener("toggle", label, true);
  window.addEventListener("hashchange", read);
  get("controls").hidden = false; // without scripts there is nothing to control
  read();
})();
