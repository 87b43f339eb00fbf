for (const head of document.querySelectorAll("th[data-sort]")) {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const row = head.parentElement, body = head.closest("table").tBodies[0];
    const column = [...row.cells].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of row.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (r) => r.cells[column].dataset.value;
    const order = (a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      const by = head.classList.contains("figure") ? key(a) - key(b) : key(a).localeCompare(key(b));
      return down ? -by : by;
    };
    body.append(...[...body.rows].sort(order));
  });
}
