/* Draws the plots in the page's own colours, and again when these change (dark, print). */
(() => {
  "use strict";
  if (typeof Plotly === "undefined") return;
  const PRINTED_WIDTH = 660; // fits A4 and Letter between the margins
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const coarse = matchMedia("(pointer: coarse)").matches;

  function theme(layout) {
    const update = {
      "font.color": colour("--muted"),
      "font.family": getComputedStyle(document.body).fontFamily,
      "font.size": 13,
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": colour("--muted"),
      "modebar.activecolor": colour("--accent"),
      "hoverlabel.bgcolor": colour("--paper"),
      "hoverlabel.bordercolor": colour("--line"),
      "hoverlabel.font.color": colour("--ink"),
    };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      update[axis + ".gridcolor"] = colour("--grid");
      update[axis + ".linecolor"] = colour("--line");
      update[axis + ".zerolinecolor"] = colour("--grid");
    }
    return update;
  }

  const drawn = [];
  for (const box of document.querySelectorAll("[data-plot]")) {
    const figure = JSON.parse(document.getElementById(box.dataset.plot).textContent);
    const movable = box.dataset.movable === "yes" && !coarse;
    figure.layout.dragmode = movable ? "pan" : false;
    const config = {
      responsive: true,
      displaylogo: false,
      displayModeBar: movable,
      scrollZoom: false,
      showSendToCloud: false, // the default offers to upload the data
      plotlyServerURL: "",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    };
    Plotly.newPlot(box, figure.data, figure.layout, config).then(() => {
      drawn.push(box);
      return Plotly.relayout(box, theme(box.layout));
    });
  }

  for (const button of document.querySelectorAll("button[data-colouring]")) {
    button.addEventListener("click", () => {
      const box = document.getElementById(button.getAttribute("aria-controls"));
      const wanted = button.dataset.colouring;
      Plotly.restyle(box, { visible: box.data.map((trace) => trace.meta === wanted) });
      for (const other of button.parentElement.querySelectorAll("button"))
        other.setAttribute("aria-pressed", String(other === button));
    });
  }

  const repaint = (size = {}) =>
    drawn.forEach((box) => Plotly.relayout(box, { ...theme(box.layout), ...size }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => repaint());
  addEventListener("beforeprint", () => {
    root.dataset.printing = "";
    repaint({ autosize: false, width: PRINTED_WIDTH });
  });
  addEventListener("afterprint", () => {
    delete root.dataset.printing;
    repaint({ autosize: true, width: null });
  });
})();
