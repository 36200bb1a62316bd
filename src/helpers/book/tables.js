// Sorts and filters every .mb-table on the page; without it the table is plain and complete.
globalThis.mbTables ??= (root) => {
  if (root.dataset.on) return;
  root.dataset.on = "1";
  const body = root.querySelector("tbody"), rows = [...body.rows], total = rows.length;
  const heads = [...root.querySelectorAll("thead th")];
  const input = root.querySelector("input"), count = root.querySelector("output");
  const text = rows.map((row) => row.textContent.toLowerCase());
  let sorted = "";
  const say = (shown) => { count.textContent = `${shown} of ${total} rows${sorted}`; };
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => text[i].includes(word));
      shown += !row.hidden;
    });
    say(shown);
  };
  const value = (row, column) => {
    const cell = row.cells[column], raw = cell.dataset.v ?? cell.textContent.trim();
    return raw === "" ? null : heads[column].className ? raw.toLowerCase() : +raw;
  };
  heads.forEach((head, column) => {
    const name = head.firstChild, button = document.createElement("button");
    button.type = "button";
    name.replaceWith(button);
    button.append(name);
    button.onclick = () => {
      const first = head.className ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      const sign = order === "ascending" ? 1 : -1;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const keyed = rows.map((row, i) => [value(row, column), i, row]);
      keyed.sort(([a, i], [b, j]) =>
        a === null || b === null ? (a === null) - (b === null) || i - j : sign * ((a > b) - (a < b)) || i - j);
      body.append(...keyed.map((k) => k[2]));
      sorted = `, sorted by ${name.textContent.trim()}, ${order}`;
      filter();
    };
  });
  input.oninput = filter;
  root.querySelector(".mb-bar").hidden = false;
  filter();
};
document.querySelectorAll(".mb-table[data-rows]").forEach(mbTables);
