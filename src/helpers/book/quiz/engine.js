// Makes the questions on a page answerable. What is right stands in each instance's JSON, the
// reasons in the page itself, under "Answer and reasons": nothing is said twice.
const KEY = "moving-bytes:quiz:", memory = {};
// A sandboxed frame throws on any touch of localStorage: then answers last as long as the page.
const recall = id => {
  try { return JSON.parse(localStorage[KEY + id]); } catch { return memory[id]; }
};
const keep = (id, v) => {
  memory[id] = v;
  try { v ? localStorage[KEY + id] = JSON.stringify(v) : delete localStorage[KEY + id]; } catch { }
  dispatchEvent(new Event("mb-kept"));
};

const all = (e, q) => [...e.querySelectorAll(q)];
const make = (tag, text, more) => Object.assign(document.createElement(tag), { textContent: text }, more);
const inside = e => e ? [...e.cloneNode(true).childNodes] : [];
const reason = (form, i) => inside(all(form, ".mb-why>li")[i]);
const MARKS = { right: "✓ Right. ", wrong: "✗ Not yet. ", retry: "? Not counted. ", kept: "✓ Kept. " };

// Each kind of question: what the reader chose, putting a choice back, and the verdict on it:
// [state, what to say ...].
const choice = {
  get: form => all(form, "input").flatMap((e, i) => e.checked ? i : []),
  put: (form, a) => all(form, "input").forEach((e, i) => { e.checked = !!a?.includes(i); }),
};
const typed = {
  get: form => form.a.value,
  put: (form, a) => { form.a.value = a ?? ""; },
};
const KINDS = {
  one: {
    ...choice,
    check: (form, q, [a]) => a >= 0 ? [q.a == a ? "right" : "wrong", ...reason(form, a)] : ["retry", "Choose one first."],
  },
  some: {
    ...choice,
    check: (form, q, a) => {
      if (!a[0] && a[0] !== 0) return ["retry", "Tick at least one first."];
      const good = a.filter(i => q.a.includes(i)).length, extra = a.length - good, n = q.a.length, list = make("ul");
      list.append(...a.map(i => { const li = make("li"); li.append(...reason(form, i)); return li; }));
      return [good < n || extra ? "wrong" : "right", `You ticked ${good} of the ${n} right ones and ${extra} wrong ones.`, list];
    },
  },
  order: {
    get: form => all(form, ".mb-o>li").map(e => +e.dataset.i),
    put: (form, a, first) => {
      const items = all(form, ".mb-o>li");
      items[0].parentNode.append(...(a || first).map(i => items.find(e => e.dataset.i == i)));
    },
    check: (form, q, a) => {
      const off = a.findIndex((x, i) => x != i);
      if (off < 0) return ["right"];
      return ["wrong", `${a.filter((x, i) => x == i).length} of ${a.length} in place. Number ${off + 1} is not: `, ...reason(form, a[off])];
    },
  },
  number: {
    ...typed,
    check: (form, q, a) => {
      const got = read(a, q.u);
      if (got.error) return ["retry", got.error];
      const [state, message, i] = judge(got, q);
      return [state, state == "retry" || /^Read as/.test(message) ? "" : `Read as ${joined(got.v, got.base)}. `, message, ...i >= 0 ? reason(form, i) : []];
    },
  },
  guess: {
    ...typed,
    check: (form, q, a) => {
      const got = read(a, q.u);
      q.v = got.bare ? got.v * scale(q.u) : got.v;
      if (got.error || q.v <= 0) return ["retry", got.error || "A guess is above zero."];
      return ["kept", `Read as ${joined(q.v / scale(q.u), q.u)}. It comes back at the end of the chapter.`];
    },
  },
};

// Up and Down buttons for a list that is to be put in order.
const movers = (form, say) => all(form, ".mb-o>li").forEach(li => {
  const list = li.parentNode, name = li.textContent.trim(), box = make("span", "", { className: "mb-mv" });
  for (const [label, step] of [["Up", -1], ["Down", 1]]) {
    const place = () => [...list.children].indexOf(li), b = make("button", label, {
      type: "button",
      ariaLabel: `Move ${label.toLowerCase()}: ${name}`,
      onclick() {
        list.children[place() + step]?.[step < 0 ? "before" : "after"](li);
        b.focus();
        say("", `${name}: now ${place() + 1} of ${list.children.length}.`);
      },
    });
    box.append(b);
  }
  li.append(box);
});

const tally = () => {
  const boxes = all(document, ".mb-quiz").filter(b => b.quiz), real = boxes.filter(b => !b.matches(".mb-guess"));
  const line = list => {
    const got = list.flatMap(b => Object.values(b.quiz.states));
    return `${got.filter(s => s.ok).length} of ${list.reduce((n, b) => n + b.quiz.n, 0)} right, ${got.filter(s => s.once).length} at the first try.`;
  };
  for (const b of boxes) {
    const { states, n, score } = b.quiz;
    const text = real.includes(b) ? "These questions: " + line([b]) + (real[1] ? " This page: " + line(real) : "")
      : `${Object.keys(states).length} of ${n} guesses kept.`;
    if (score.textContent != text) score.textContent = text;
  }
};

const status = c => make("div", "", { className: c, role: "status" });

const question = (form, q, states) => {
  const id = form.dataset.q, kind = KINDS[q.k], out = status("mb-r"), row = make("p", "", { className: "mb-go" });
  const say = (state, ...parts) => {
    out.dataset.s = state;
    out.replaceChildren(...MARKS[state] ? [make("b", MARKS[state])] : [], ...parts);
  };
  const check = again => {
    const a = kind.get(form), [state, ...parts] = kind.check(form, q, a), old = states[id], ok = state == "right";
    const n = (old?.n || 0) + 1;
    if (ok) parts.push(" ", ...inside(form.querySelector(".mb-e")));
    if (state == "wrong" && !again && n > 1) parts.push(` (Try ${n}.)`);
    say(state, ...parts);
    if (state != "retry" && !again) keep(id, states[id] = { a, n, ok, once: old ? old.once : ok, v: q.v });
    tally();
  };
  const forget = said => {
    delete states[id];
    keep(id);
    kind.put(form, null, first);
    say("", said || "");
    tally();
  };
  // A frame sandboxed without allow-forms drops submits unseen, so nothing here relies on one.
  form.onsubmit = () => false;
  form.onkeydown = e => { if (e.key == "Enter" && e.target.matches("input")) { e.preventDefault(); check(); } };
  form.oninput = () => say("");
  row.append(make("button", q.k == "guess" ? "Keep my guess" : "Check", { type: "button", onclick: () => check() }));
  if (q.k == "guess") row.append(make("button", "Skip", { type: "button", onclick: () => forget("Skipped. The answer is at the end of the chapter.") }));
  const why = form.querySelector(".mb-a");
  why ? why.before(row, out) : form.firstChild.append(row, out);
  const first = kind.get(form), saved = recall(id);
  if (q.k == "order") movers(form, say);
  if (saved) try { kind.put(form, saved.a, first); states[id] = saved; check(1); } catch { forget(); }  // the question changed
  return forget;
};

// The guesses return: one line each, filled from what this browser has kept.
const bring = (box, answers) => {
  const fill = () => all(box, "[data-back]").forEach(e => {
    const id = e.dataset.back, { u, a } = answers[id], v = recall(id)?.v;
    e.textContent = v > 0 ? `Your guess: ${joined(v / scale(u), u)}, ${miss(v, a)}.` : "No guess kept in this browser.";
  });
  addEventListener("mb-kept", fill);
  addEventListener("storage", fill);
  fill();
};

const start = ([name, spec]) => all(document, `[data-quiz="${name}"]:not([data-on])`).forEach(box => {
  box.dataset.on = "";
  box.addEventListener("keydown", e => e.stopPropagation());  // a notebook must not take the keys
  if (spec.back) return bring(box, spec.back);
  const forms = all(box, "form"), states = {}, score = status("mb-s"), foot = make("div", "", { className: "mb-f" });
  box.quiz = { states, score, n: forms.length };
  const resets = forms.map(f => question(f, spec[f.dataset.q], states));
  foot.append(score, make("button", "Reset", {
    type: "button",
    ariaLabel: "Reset: " + box.ariaLabel,
    onclick: () => resets.forEach(f => f()),
  }));
  box.append(foot);
  tally();
});

// Instances may come before or after this code: they queue, and whoever is first serves them.
if (!globalThis.mbQuiz?.on) {
  const waiting = globalThis.mbQuiz || [];
  globalThis.mbQuiz = { on: 1, push: start };
  waiting.forEach(start);
}
