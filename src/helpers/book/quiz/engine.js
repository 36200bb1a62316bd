// Makes the questions on a page answerable. What is right stands in each instance's JSON, the
// reasons in the page itself, under "Answer and reasons": nothing is said twice.
const KEY = "moving-bytes:", memory = {};
// A sandboxed frame throws on any touch of localStorage: then answers last as long as the page.
const recall = k => {
  try { return JSON.parse(localStorage.getItem(KEY + k)) ?? memory[k]; } catch { return memory[k]; }
};
const keep = (k, v) => {
  memory[k] = v;
  try { v ? localStorage.setItem(KEY + k, JSON.stringify(v)) : localStorage.removeItem(KEY + k); } catch { }
  dispatchEvent(new Event("mb-kept"));
};

const all = (e, q) => [...e.querySelectorAll(q)];
const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text }, more);
const copy = e => e ? [...e.cloneNode(true).childNodes] : [];
const words = e => (e.querySelector("span") || e).textContent.trim();
const MARKS = { right: ["✓", "Right."], wrong: ["✗", "Not yet."], retry: ["?", "Not counted."], kept: ["✓", "Kept."] };

// Each type: what the reader chose, putting a choice back, and the verdict [state, ...what to say].
const picks = form => all(form, "input").flatMap((e, i) => e.checked ? i : []);
const choose = {
  get: picks,
  set: (form, a) => all(form, "input").forEach((e, i) => { e.checked = !!a?.includes(i); }),
};
const sequence = {
  get: form => all(form, "ol.mb-o>li").map(e => +e.dataset.i),
  set: (form, a, start) => {
    const list = form.querySelector("ol.mb-o"), by = {};
    for (const e of list.children) by[e.dataset.i] = e;
    list.append(...(a || start).map(i => by[i]).filter(Boolean));
  },
};
const typed = {
  get: form => form.a.value,
  set: (form, a) => { form.a.value = a ?? ""; },
};
const reason = (form, i) => copy(all(form, ".mb-why>li")[i]);
const number = (form, q, a) => {
  const got = read(a, q.u);
  if (got.error) return ["retry", got.error];
  const [state, message, i] = judge(got, q);
  return [state, state == "retry" ? "" : `Read as ${joined(got.v, got.base)}. `, message, ...i >= 0 ? reason(form, i) : []];
};
const KINDS = {
  one: { ...choose, check: (form, q, a) => a.length ? [q.a == a[0] ? "right" : "wrong", ...reason(form, a[0])] : ["retry", "Choose one first."] },
  some: {
    ...choose,
    check: (form, q, a) => {
      if (!a.length) return ["retry", "Tick at least one first."];
      const wrong = a.filter(i => !q.a.includes(i)), missed = q.a.length + wrong.length - a.length;
      const list = make("ul");
      for (const i of a) { const li = make("li"); li.append(...reason(form, i)); list.append(li); }
      return [wrong.length || missed ? "wrong" : "right", `${a.length - wrong.length} of ${q.a.length} right ones ticked, ${wrong.length} too many.`, list];
    },
  },
  order: {
    ...sequence,
    check: (form, q, a) => {
      const off = a.findIndex((x, i) => x != i);
      if (off < 0) return ["right"];
      return ["wrong", `${a.filter((x, i) => x == i).length} of ${a.length} in place. The first that is not: number ${off + 1}.`];
    },
  },
  number: { ...typed, check: number },
  guess: {
    ...typed,
    check: (form, q, a) => {
      const got = read(a, q.u);
      if (got.error) return ["retry", got.error];
      const [, size, ten, two] = unit(q.u);
      const v = got.bare ? got.v * size * 10 ** ten * 2 ** two : got.v;
      if (v <= 0) return ["retry", "A guess is above zero."];
      q.v = v;
      return ["kept", `Read as ${joined(v, got.base)}. It comes back at the end of the chapter.`];
    },
  },
};

const movers = (form, say) => {
  for (const li of all(form, "ol.mb-o>li")) {
    const name = words(li), box = make("span", "", { className: "mb-mv" });
    for (const [label, step] of [["Up", -1], ["Down", 1]]) {
      const b = make("button", label, { type: "button" });
      b.setAttribute("aria-label", `Move ${label.toLowerCase()}: ${name}`);
      b.onclick = () => {
        const list = li.parentNode, at = [...list.children].indexOf(li), to = at + step;
        if (list.children[to]) {
          list.children[to][step < 0 ? "before" : "after"](li);
          b.focus();
        }
        say("", `${name}: now ${[...list.children].indexOf(li) + 1} of ${list.children.length}.`);
      };
      box.append(b);
    }
    li.append(box);
  }
};

const start = ([name, spec]) => all(document, `[data-quiz="${name}"]:not([data-on])`).forEach(box => {
  box.dataset.on = "";
  box.addEventListener("keydown", e => e.stopPropagation());       // a notebook must not take the keys
  const score = make("p", "", { className: "mb-s" }), states = box.states = {};
  const tally = () => all(document, "[data-quiz]").forEach(b => b.tally?.());
  const resets = [];
  for (const form of all(box, "form")) {
    const id = form.dataset.q, q = spec[id], kind = KINDS[q.k], guess = q.k == "guess";
    const out = make("div", "", { className: "mb-r" }), row = make("p", "", { className: "mb-go" });
    out.setAttribute("role", "status");
    const say = (state, ...parts) => {
      out.dataset.s = state;
      const mark = MARKS[state];
      out.replaceChildren(...mark ? [make("b", mark.join(" ")), " "] : [], ...parts);
    };
    const first = kind.get(form);
    const check = quiet => {
      const a = kind.get(form), [state, ...parts] = kind.check(form, q, a), old = states[id] || {};
      const n = (old.n || 0) + (quiet || state == "retry" ? 0 : 1);
      if (state == "right") parts.push(...copy(form.querySelector(".mb-e")).length ? [make("br"), ...copy(form.querySelector(".mb-e"))] : []);
      if (state == "wrong" && n > 1) parts.push(` (Try ${n}.)`);
      say(state, ...parts);
      if (!quiet && state != "retry") {
        states[id] = { a, n, ok: state == "right", once: old.once ?? state == "right", v: q.v };
        keep("quiz:" + id, states[id]);
      }
      tally();
    };
    form.onsubmit = e => { e.preventDefault(); check(); };
    row.append(make("button", guess ? "Keep my guess" : "Check"));
    if (guess) {
      const skip = make("button", "Skip", { type: "button" });
      skip.onclick = () => { kind.set(form); delete states[id]; keep("quiz:" + id); say("", "Skipped. The answer is at the end of the chapter."); tally(); };
      row.append(skip);
    }
    form.querySelector("details:not(.mb-h)")?.before(row, out);
    out.isConnected || form.firstElementChild.append(row, out);
    if (q.k == "order") movers(form, say);
    const saved = recall("quiz:" + id);
    if (saved) {
      states[id] = saved;
      try { kind.set(form, saved.a, first); check(true); } catch { kind.set(form, null, first); }
    }
    resets.push(() => { delete states[id]; keep("quiz:" + id); kind.set(form, null, first); say(""); });
  }
  const again = make("button", "Reset", { type: "button" });
  again.setAttribute("aria-label", `Reset: ${box.getAttribute("aria-label")}`);
  again.onclick = () => { resets.forEach(f => f()); tally(); say(); };
  const foot = make("div", "", { className: "mb-f" });
  const say = () => { foot.dataset.said = ""; };
  foot.append(score, again);
  if (resets.length) box.append(foot);
  const count = b => [Object.values(b.states || {}), all(b, "form").length];
  box.tally = () => {
    const boxes = all(document, "[data-quiz]:not(.mb-guess)").filter(b => b.states);
    const line = list => {
      const got = list.flatMap(b => Object.values(b.states)), n = list.flatMap(b => all(b, "form")).length;
      return `${got.filter(s => s.ok).length} of ${n} right (${got.filter(s => s.once).length} at once)`;
    };
    score.textContent = box.matches(".mb-guess") ? `${Object.keys(states).length} of ${all(box, "form").length} guesses kept`
      : `These questions: ${line([box])}.` + (boxes.length > 1 ? ` This page: ${line(boxes)}.` : "");
  };
  tally();
  if (spec.back) bring(box, spec.back);
});

// The guesses return: one row each, filled from what this browser has kept.
const bring = (box, answers) => {
  const fill = () => all(box, "[data-back]").forEach(row => {
    const q = answers[row.dataset.back], v = recall("quiz:" + row.dataset.back)?.v;
    const [, size, ten, two] = unit(q.u);
    row.textContent = v > 0 ? `Your guess: ${joined(v / (size * 10 ** ten * 2 ** two), q.u)}. ${miss(v, q.a)}.` : "No guess kept in this browser.";
  });
  addEventListener("mb-kept", fill);
  addEventListener("storage", fill);
  fill();
};

// Instances may come before or after this code: they queue, and whoever is first serves them.
if (!globalThis.mbQuiz?.on) {
  const waiting = globalThis.mbQuiz || [];
  globalThis.mbQuiz = { on: 1, push: start };
  waiting.forEach(start);
}
