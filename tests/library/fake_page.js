// The few parts of a browser's document that the engine touches, for V8 without a browser.
class Fake {
  constructor(tag, parts = {}) {
    Object.assign(this, { tag, parts, style: {}, dataset: {}, attributes: {}, listeners: {}, value: "" });
    this.viewBox = { baseVal: { width: 0 } };
    this.type = tag == "input" ? "range" : tag;
  }
  querySelectorAll(selector) { return this.parts[selector] ?? []; }
  querySelector(selector) { return this.querySelectorAll(selector)[0]; }
  getAttribute(name) { return this.attributes[name]; }
  setAttribute(name, value) { this.attributes[name] = String(value); }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  append() {}
  add() {}
}
class FakeLabel extends Fake {
  set innerHTML(html) {
    const select = html.includes("<select>");
    this.parts = { b: [new Fake("b")], i: [new Fake("i")] };
    this.firstChild = new Fake("span");
    this.lastChild = new Fake(select ? "select" : "input");
    this.lastChild.parentNode = this;
    inputs.push(this.lastChild);
  }
}
let inputs = [], root;
globalThis.Option = class {};
globalThis.ResizeObserver = class { observe() {} };
globalThis.document = {
  createElement: tag => new FakeLabel(tag),
  querySelectorAll: () => (root.dataset.live === undefined ? [root] : []),
};
// a page with one explorable whose pictures have so many marks
globalThis.newPage = (marks) => {
  inputs = [];
  const svg = () => {
    const parts = {};
    for (let i = 0; i < marks; i++) parts[`[data-m="${i}"]`] = [new Fake("mark")];
    return new Fake("svg", parts);
  };
  root = new Fake("div", { output: [new Fake("output")], ".mb-x-settings": [new Fake("p")],
    ".mb-x-controls": [new Fake("div")], svg: [svg(), svg()] });
};
// move the controls, then tell what the page shows
globalThis.move = positions => {
  for (const input of inputs) if (input.name in positions) input.value = positions[input.name];
  inputs[0].listeners.input();
  return JSON.stringify({
    state: root.mbState, output: root.parts.output[0].textContent,
    settings: root.parts[".mb-x-settings"][0].textContent,
    marks: root.parts.svg.map(svg => Object.values(svg.parts).map(([mark]) =>
      ({ ...mark.attributes, text: mark.textContent ?? "" }))),
  });
};
