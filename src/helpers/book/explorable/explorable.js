// Explorables: matplotlib drew the figure, this moves its marks.
// An instance queues [name, spec, compute]. compute(v, format, argmax) is the formula, traced from
// Python; spec.controls say what the reader can change; spec.sizes hold, for the wide and the
// narrow drawing, how values become pixels.
globalThis.mbExplorable ??= (() => {
  // Python's format(x, ".Nf"): toFixed, except that an exact tie goes to the even digit
  const format = (x, decimals, comma, percent) => {
    if (percent) x *= 100;
    let text = x.toFixed(decimals), long = x.toFixed(decimals + 24);
    if (/50{23}$/.test(long)) {
      long = long.slice(0, -24).replace(/\.$/, "");
      if (/[02468]$/.test(long)) text = long;
    }
    if (comma) text = text.replace(/^-?\d+/, whole => whole.replace(/\B(?=(\d{3})+$)/g, ","));
    return percent ? text + "%" : text;
  };
  // the first x with the largest f(x)
  const argmax = (xs, f) => xs.reduce((best, x) => f(x) > f(best) ? x : best);

  // one figure: where its marks stand, as SVG attributes
  const place = (svg, { axes, marks }, values) => marks.forEach(([kind, axis, dx, dy], i) => {
    const element = svg.querySelector(`[data-m="${i}"]`), g = values[i];
    const pixel = ([origin, step, log], z) =>
      +(origin + step * (log ? Math.log10(Math.max(z, 1e-300)) : z)).toFixed(2);
    const X = z => pixel(axes[axis][0], z), Y = z => pixel(axes[axis][1], z);
    const set = (name, value) => element.setAttribute(name, value);
    if (kind == "line") set("d", g.map(([x, y], j) => (j ? "L" : "M") + X(x) + " " + Y(y)).join(""));
    else if (kind == "bar") set("d", `M${X(g[0])} ${Y(g[2])}H${X(g[1])}V${Y(g[3])}H${X(g[0])}z`);
    else if (kind == "dot") set("cx", X(g[0])), set("cy", Y(g[1]));
    else {
      element.textContent = g[2];
      set("x", X(g[0]) + dx), set("y", Y(g[1]) + dy);
      // keep a label inside the picture
      const box = element.getBBox?.(), width = svg.viewBox.baseVal.width;
      const over = box?.width && (Math.min(0, width - 2 - box.x - box.width) || Math.max(0, 2 - box.x));
      if (over) set("x", X(g[0]) + dx + over);
    }
  });

  const start = (root, spec, compute) => {
    root.dataset.live = "";
    const all = selector => [...root.querySelectorAll(selector)];
    const [out] = all("output"), [settings] = all(".mb-x-settings"), svgs = all("svg");
    // controls exist only where they work
    const inputs = Object.entries(spec.controls).map(([name, c]) => {
      const label = document.createElement("label");
      label.innerHTML = "<span></span>" + (c.select ? "<select></select>"
        : "<span><b></b> <i></i></span><input type=range min=0>");
      label.firstChild.textContent = c.label;
      const input = label.lastChild;
      if (c.select) c.names.forEach((text, i) => input.add(new Option(text, i)));
      else {
        input.max = c.stops.length - 1;
        input.setAttribute("aria-label", c.label);
        label.querySelector("i").textContent = c.unit;
      }
      input.name = name;
      input.value = c.start;
      all(".mb-x-controls")[0].append(label);
      return input;
    });
    const draw = () => {
      const v = {}, now = [];
      for (const input of inputs) {
        const c = spec.controls[input.name], i = +input.value, shown = `${c.names[i]} ${c.unit}`.trim();
        v[input.name] = c.stops[i];
        now.push(c.label + ": " + shown);
        if (!c.select) {
          input.setAttribute("aria-valuetext", shown);
          input.parentNode.querySelector("b").textContent = c.names[i];
        }
      }
      // tests compare this with Python
      const state = root.mbState = compute(v, format, argmax);
      out.textContent = state.readout;
      // once two lines, always two lines: the controls must not jump under a finger
      if (out.offsetHeight > (parseFloat(out.style.minHeight) || 0))
        out.style.minHeight = out.offsetHeight + "px";
      settings.textContent = now.join(" · ");
      svgs.forEach((svg, i) => {
        svg.setAttribute("aria-label", spec.alt + " Now: " + state.readout);
        place(svg, spec.sizes[i], state.marks);
      });
    };
    inputs.forEach(input => input.addEventListener("input", draw));
    // a notebook must not take the arrow keys
    root.addEventListener("keydown", event => event.stopPropagation());
    // labels can be measured only in the drawing that is shown
    let width;
    new ResizeObserver(() => {
      if (root.offsetWidth == width) return;
      width = root.offsetWidth;
      out.style.minHeight = "";
      draw();
    }).observe(root);
    draw();
  };

  return () => {
    for (const [name, spec, compute] of mbExplorables.splice(0))
      for (const root of document.querySelectorAll(`[data-mb-name="${name}"]:not([data-live])`))
        start(root, spec, compute);
  };
})();
globalThis.mbExplorables ??= [];
mbExplorable();
