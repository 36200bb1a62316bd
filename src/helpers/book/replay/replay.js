// Replays: Python drew the first frame and recorded what changes; this steps through.
// An instance queues [name, spec]. Each run of spec.runs has looks, a table of [text, kind, size];
// first, the look of each element in the first frame; steps, for each further frame a list of
// element, look, element, look. Elements are those with data-v, in the order of the page.
globalThis.mbReplay ??= (() => {
  const all = (e, selector) => [...e.querySelectorAll(selector)];
  const make = (tag, more) => Object.assign(document.createElement(tag), more);
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const put = (e, [text, kind = "", size]) => {
    if (text != null) e.textContent = text;
    e.dataset.v = kind;
    size == null ? e.removeAttribute("style") : e.setAttribute("style", "--v:" + size);
  };

  const start = (root, spec) => {
    root.dataset.live = "";
    const [bar] = all(root, ".mb-y-controls"), [out] = all(root, "output"), [place] = all(root, ".mb-y-place");
    const runs = all(root, ".mb-y-run").map((box, i) => ({
      ...spec.runs[i],
      box,
      elements: all(box, "[data-v]"),
      says: all(box, "li").map(e => e.textContent),
    }));
    let run = runs[0], at = 0, timer;

    const draw = () => {
      const now = [...run.first], last = run.steps.length, said = `${at + 1} of ${last + 1}`;
      for (const step of run.steps.slice(0, at)) for (let i = 0; i < step.length; i += 2) now[step[i]] = step[i + 1];
      run.elements.forEach((e, i) => {
        if (e.mbLook !== now[i]) put(e, run.looks[e.mbLook = now[i]]);
      });
      out.textContent = run.says[at];
      // once two lines, always two lines: the picture must not jump
      if (out.offsetHeight > (parseFloat(out.style.minHeight) || 0)) out.style.minHeight = out.offsetHeight + "px";
      all(run.box, "[role=img]")[0].setAttribute("aria-label", spec.alt + " Now: " + run.says[at]);
      place.textContent = spec.counted + " " + said;
      slider.max = last;
      slider.value = at;
      slider.setAttribute("aria-valuetext", said);
      count.textContent = said;
      back.ariaDisabled = at == 0;
      forward.ariaDisabled = at == last;
      runs.forEach(r => r.box.hidden = r != run);
    };
    const go = to => {
      at = Math.max(0, Math.min(run.steps.length, to));
      draw();
    };
    // while it plays, a screen reader is not to read every frame
    const pause = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
      out.ariaLive = "polite";
    };
    const toggle = () => {
      if (timer) return pause();
      if (at == run.steps.length) go(0);
      play.textContent = "Pause";
      out.ariaLive = "off";
      timer = setInterval(() => {
        if (root.isConnected) go(at + 1);
        if (at == run.steps.length || !root.isConnected) pause();
      }, spec.pause);
    };
    const button = (text, onclick) => make("button", { type: "button", textContent: text, onclick });
    const back = button("Back", () => { pause(); go(at - 1); }), forward = button("Forward", () => { pause(); go(at + 1); });
    const play = button("Play", toggle);

    // controls exist only where they work
    if (runs[1]) {
      const label = make("label", { textContent: "Run" }), select = make("select", {
        onchange() {
          pause();
          run = runs[select.value];
          go(0);
        },
      });
      runs.forEach((r, i) => select.add(new Option(r.name, i)));
      label.append(select);
      bar.append(label);
    }
    const label = make("label"), count = make("b"), slider = make("input", {
      type: "range",
      min: 0,
      ariaLabel: spec.counted,
      oninput() {
        pause();
        go(+slider.value);
      },
    });
    label.append(spec.counted + " ", count, slider);
    bar.append(back, play, forward, label);
    // a reader who prefers no motion steps through
    const motion = () => {
      play.hidden = still.matches;
      if (still.matches) pause();
    };
    still.addEventListener("change", motion);
    // a notebook must not take the arrow keys
    root.addEventListener("keydown", event => event.stopPropagation());
    let width = root.offsetWidth;
    new ResizeObserver(() => {
      if (root.offsetWidth == width) return;
      width = root.offsetWidth;
      out.style.minHeight = "";
      draw();
    }).observe(root);
    motion();
    draw();
  };

  return () => {
    for (const [name, spec] of mbReplays.splice(0))
      for (const root of all(document, `[data-mb-name="${name}"].mb-replay:not([data-live])`)) start(root, spec);
  };
})();
globalThis.mbReplays ??= [];
mbReplay();
