// What a visitor of the report would see: tables that sort, pictures that load, an image under the pointer.
addEventListener("load", () => setTimeout(() => {
  const table = document.querySelector("table.sortable");
  const order = () => [...table.tBodies[0].rows].map((row) => row.cells[1].dataset.value ?? "");
  table.tHead.rows[0].cells[1].querySelector("button").click();
  const down = order();
  table.tHead.rows[0].cells[1].querySelector("button").click();
  const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
  const data = JSON.parse(document.querySelector(".explore script").textContent);
  const [x, y] = Object.values(Object.values(data.maps)[0])[0][0];
  const scale = box.width / 800;
  const at = { clientX: box.left + (20 + 0.76 * x) * scale, clientY: box.top + (780 - 0.76 * y) * scale };
  canvas.dispatchEvent(new PointerEvent("pointermove", at));
  // What runs out of the page, and what runs out of a box that can be scrolled.
  const cut = () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    const beyond = [...document.querySelectorAll("section table, section img, section canvas")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1);
    const scrolled = [...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth + 1);
    return [...beyond, ...scrolled].map((one) => `${one.tagName} ${one.className} ${one.textContent.trim().slice(0, 40)}`);
  };
  const found = {
    errors: window.problems, down, up: order(),
    unloaded: [...document.images].filter((image) => !image.complete || !image.naturalWidth).map((image) => image.alt),
    images: document.images.length, canvases: document.querySelectorAll("canvas").length,
    under: document.querySelector(".under span").textContent, label: data.classes[data.labels[0]],
    shown: getComputedStyle(document.querySelector(".under")).display,
    drawn: canvas.getContext("2d").getImageData(0, 0, 800, 800).data.some((value) => value),
    requests: performance.getEntriesByType("resource").map(({ name }) => name).filter((name) => !name.startsWith("data:")),
    wide: document.documentElement.scrollWidth > innerWidth, cut: cut(),
  };
  document.title = "found " + JSON.stringify(found);
}, 300));
