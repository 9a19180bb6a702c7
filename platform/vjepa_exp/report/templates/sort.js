// A press on a header sorts the rows by that column: numbers the largest first, text by letter; the next press turns the
// order round, the third restores that of the paper. Where a narrow page has no header, a list of columns does the same.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], original = [...body.rows];
  const headers = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const raw = (row, i) => row.cells[i].dataset.value ?? row.cells[i].textContent.trim();
  const isNumber = (text) => text !== "" && Number.isFinite(Number(text));
  const sort = (i, direction) => {
    const known = original.filter((row) => raw(row, i) !== "");
    const numeric = known.every((row) => isNumber(raw(row, i)));
    const sign = (direction === "descending") ? -1 : 1;
    const compare = (a, b) => numeric ? raw(a, i) - raw(b, i) : raw(a, i).localeCompare(raw(b, i));
    const sorted = direction ? known.sort((a, b) => sign * compare(a, b)) : original;
    body.append(...sorted, ...original.filter((row) => !sorted.includes(row)));
    headers.forEach((header) => header.removeAttribute("aria-sort"));
    if (direction) headers[i].setAttribute("aria-sort", direction);
  };
  const orders = (i) => {
    const known = original.map((row) => raw(row, i)).filter((text) => text !== "");
    const down = known.length && known.every(isNumber);
    return down ? ["descending", "ascending", null] : ["ascending", "descending", null];
  };
  headers.forEach((header, i) => {
    const button = document.createElement("button");
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const order = orders(i), now = order.indexOf(header.getAttribute("aria-sort"));
      sort(i, order[(now + 1) % 3]);
    });
  });
  if (table.classList.contains("scores") && original.length > 1) {
    const label = document.createElement("label"), select = document.createElement("select");
    label.className = "sort";
    select.add(new Option("as in the paper", ""));
    [...original[0].cells].forEach((cell, i) => { if (i) select.add(new Option(cell.dataset.label, i)); });
    select.addEventListener("change", () => {
      const i = Number(select.value);
      sort(i, select.value === "" ? null : orders(i)[0]);
    });
    label.append("Order of the rows: ", select);
    table.before(label);
  }
}
